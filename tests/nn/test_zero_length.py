"""Every trainable parameter gets a gradient, zero where there was no work, whatever is missing."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch

from sama_plugin.nn.aggregator import build_aggregator
from sama_plugin.nn.focus import sought
from sama_plugin.nn.losses import object_score_loss, point_sampled_mask_loss
from sama_plugin.nn.question import WordpieceQuestion
from sama_plugin.nn.region import build_region_encoder
from sama_plugin.nn.rows import RowAdapter
from sama_plugin.nn.seg import SegHead

WIDTH, TOKENS = 12, 7
SIZES = dict(shape_size=6, shape_hidden=5, unions=3, cells=4)
REGIONS = {
    kind: SimpleNamespace(kind=kind, **SIZES) for kind in ("sama", "videorefer", "pixelrefer")
}
REGION = REGIONS["sama"]


def aggregator_config(**changes):
    sizes = dict(
        kind="sama",
        hidden=16,
        heads=2,
        ffn=20,
        spatial_layers=2,
        temporal_layers=2,
        spatial_queries=3,
        temporal_queries=4,
        window=6,
        stride=6,
        cross_frequency=2,
        encoder_width=14,
        question="host",
        max_question=9,
        time_embedding=True,
        focus=True,
    )
    return SimpleNamespace(**{**sizes, **changes})


def run(region, aggregator, frames, owners, prompts, length, regions, entries, dtype=torch.float32):
    """One forward over random inputs of the given counts; returns tokens, rows, context."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    features = noise(frames, TOKENS, WIDTH).to(dtype)
    kind = torch.zeros(len(prompts), length, dtype=torch.long)
    for number in range(regions):
        kind[number % len(prompts), 2 * (number // len(prompts)) :][:2] = torch.tensor([1, 2])
    mask = torch.arange(length) <= torch.arange(len(prompts))[:, None] + 1
    entry_owner = torch.arange(entries) % max(regions, 1)
    encoded = region(
        features,
        torch.arange(entries) % max(frames, 1),
        noise(entries, TOKENS).abs().clamp(max=1),
        noise(entries, 6, 6).abs().clamp(max=1),
        entry_owner.sort().values,
        regions,
        torch.rand(entries, TOKENS, 2, generator=generator) if entries else None,
    )
    question = noise(len(prompts), length, WIDTH).to(dtype)
    if isinstance(getattr(aggregator, "question", None), WordpieceQuestion):
        question = (question[..., 0].abs() * 10).long()
    context = aggregator(
        features,
        torch.tensor(owners, dtype=torch.long),
        torch.arange(frames).float(),
        torch.tensor(prompts, dtype=torch.long),
        question,
        mask,
        kind,
        encoded.aggregator_rows,
        sought=sought(
            features,
            torch.arange(entries) % max(frames, 1),
            noise(entries, TOKENS).abs().clamp(max=1),
            entry_owner.sort().values,
            torch.arange(regions) % max(len(prompts), 1),
            len(prompts),
        ),
    )
    return encoded.tokens, encoded.aggregator_rows, context


# frames and their owners, owners of the prompts, question length, regions, (region, frame) entries
BATCHES = {
    "nothing": (0, [], [], 1, 0, 0),
    "full": (5, [0, 0, 1, 1, 1], [0, 0, 1], 6, 2, 4),
    "frames only": (5, [0, 0, 1, 1, 1], [], 1, 0, 0),
    "prompts only": (0, [], [0, 1], 4, 0, 0),
    "no regions": (3, [0, 0, 0], [0, 0], 4, 0, 0),
    "regions without entries": (3, [0, 0, 0], [0], 4, 1, 0),
    "regions without aggregator frames": (0, [], [0, 1], 4, 2, 0),
    "empty questions": (3, [0, 0, 0], [0], 0, 0, 0),
    "one sample asks, the other shows": (3, [0, 0, 0], [1, 1], 4, 1, 2),
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(
    "question, kind",
    [("host", "sama"), ("wordpiece", "sama"), ("host", "videorefer"), ("host", "pixelrefer")],
)
def test_every_parameter_gets_a_gradient(batch, question, kind):
    region = build_region_encoder(REGIONS[kind], WIDTH, 16)
    aggregator = build_aggregator(aggregator_config(question=question), WIDTH, output_scale=0.02)
    tokens, rows, context = run(region, aggregator, *batch)
    (tokens.square().sum() + rows.square().sum() + context.square().sum()).backward()
    grads = {n: p.grad for m in (region, aggregator) for n, p in m.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []
    pairs = sum(batch[1].count(owner) for owner in batch[2])
    assert context.shape == (pairs, WIDTH) and rows.shape == (batch[4], 2, 16)
    if kind == "sama":
        assert tokens.shape == (batch[4], 2, WIDTH)
    else:
        assert tokens.shape[1] == WIDTH and len(tokens) >= batch[4]
    if pairs == 0:
        assert all(p.grad.eq(0).all() for p in aggregator.parameters())
    if batch[4] == 0:
        assert all(p.grad.eq(0).all() for p in region.parameters())


@pytest.mark.parametrize("moments", [False, True])
def test_seg_head_and_rows_without_targets(moments):
    head, rows = SegHead(WIDTH, 8, moments=moments), RowAdapter(3, WIDTH)
    vectors = head(torch.zeros(0, WIDTH), torch.zeros(0))
    logits = (vectors @ torch.ones(8, 20)).unflatten(-1, (4, 5))
    bce, dice = point_sampled_mask_loss(logits, torch.zeros(0, 4, 5), points=8)
    score = object_score_loss(logits.sum((1, 2)), torch.zeros(0, dtype=torch.bool))
    (bce + dice + score + rows()[:0].sum()).backward()
    for parameter in (*head.parameters(), *rows.parameters()):
        assert parameter.grad is not None and parameter.grad.eq(0).all()


@pytest.mark.parametrize("kind", REGIONS)
def test_every_module_is_called_the_same_number_of_times_with_and_without_work(kind):
    region = build_region_encoder(REGIONS[kind], WIDTH, 16)
    aggregator = build_aggregator(aggregator_config(), WIDTH)
    orders = [calls_in_order(region, aggregator, batch) for batch in BATCHES.values()]
    assert len(orders[0]) > 40 and all(order == orders[0] for order in orders)


def calls_in_order(region, aggregator, batch):
    """Names of the modules with parameters of their own, as a forward meets them."""
    called, handles = [], []
    for part in (region, aggregator):
        for name, module in part.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                note = functools.partial(lambda name, *call: called.append(name), name)
                handles.append(module.register_forward_hook(note))
    run(region, aggregator, *batch)
    for handle in handles:
        handle.remove()
    return called


def test_none_gives_nothing_and_trains_nothing():
    aggregator = build_aggregator(SimpleNamespace(kind="none"), WIDTH)
    region = build_region_encoder(REGION, WIDTH, 16)
    tokens, _, context = run(region, aggregator, *BATCHES["full"])
    assert context.shape == (0, WIDTH) and list(aggregator.parameters()) == []
    assert aggregator.count(None) == 0 and aggregator.spatial(tokens, None).shape == (2, 0, 0)


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", REGIONS)
def test_bfloat16_modules_and_autocast(batch, kind):
    for dtype, autocast in ((torch.bfloat16, False), (torch.float32, True)):
        region = build_region_encoder(REGIONS[kind], WIDTH, 16, 0.02).to(dtype)
        aggregator = build_aggregator(aggregator_config(), WIDTH, 0.02).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            parts = run(region, aggregator, *batch, dtype=dtype)
        sum(part.float().square().sum() for part in parts).backward()
        assert all(
            p.grad is not None and p.grad.isfinite().all()
            for m in (region, aggregator)
            for p in m.parameters()
        )
