"""The aggregator against itself: batched or alone, cached or not, folded or literal."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.data.batch import empty_batch
from sama_plugin.errors import ConfigError, SlotError
from sama_plugin.nn.aggregator import build_aggregator
from sama_plugin.nn.injection import ContextInjection, mean_attention
from sama_plugin.nn.layout import lay_out
from tests.nn.test_zero_length import TOKENS, WIDTH, aggregator_config

OWNERS, ASKERS = torch.tensor([0, 0, 0, 2, 2, 2, 2, 2]), torch.tensor([0, 0, 1, 2])
LENGTHS = (3, 5, 2, 4)  # of the four questions; sample 1 has no frames


@pytest.fixture
def build():
    def make(output_scale=None, **changes):
        torch.manual_seed(0)
        return build_aggregator(aggregator_config(**changes), WIDTH, output_scale).eval()

    return make


def inputs(seed=1):
    """Features, owners, times, askers, questions, masks, kinds and the rows of two regions."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.zeros(4, 5, dtype=torch.long)
    kind[1, 1:3] = kind[3, 2:4] = torch.tensor([1, 2])
    return dict(
        features=torch.randn(8, TOKENS, WIDTH, generator=generator),
        frame_owner=OWNERS,
        frame_time=torch.tensor([0.0, 1.5, 4.0, 0.0, 0.5, 1.0, 1.5, 2.0]),
        prompt_owner=ASKERS,
        question=torch.randn(4, 5, WIDTH, generator=generator),
        question_mask=torch.arange(5) < torch.tensor(LENGTHS)[:, None],
        question_kind=kind,
        region_rows=torch.randn(2, 2, 16, generator=generator),
        sought=torch.randn(4, WIDTH, generator=generator) * torch.tensor([0, 1, 0, 1])[:, None],
    )


def one_prompt(batch, prompt, region):
    """The same prompt as a batch of its own, unpadded."""
    frames, length = batch["frame_owner"] == ASKERS[prompt], LENGTHS[prompt]
    chosen = slice(prompt, prompt + 1)
    return dict(
        features=batch["features"][frames],
        frame_owner=batch["frame_owner"][frames],
        frame_time=batch["frame_time"][frames],
        prompt_owner=ASKERS[chosen],
        question=batch["question"][chosen, :length],
        question_mask=batch["question_mask"][chosen, :length],
        question_kind=batch["question_kind"][chosen, :length],
        region_rows=batch["region_rows"][region],
        sought=batch["sought"][chosen],
    )


def test_a_batch_is_its_prompts_one_by_one(build):
    aggregator, batch = build(), inputs()
    regions = (slice(0, 0), slice(0, 1), slice(0, 0), slice(1, 2))
    alone = [aggregator(**one_prompt(batch, p, r)) for p, r in enumerate(regions)]
    assert [len(part) for part in alone] == [3, 3, 0, 5]
    torch.testing.assert_close(aggregator(**batch), torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window, stride", [(6, 6), (6, 3), (4, 4), (100, 100)])
def test_windows_cover_the_vectors_as_a_plain_loop_does(window, stride):
    layout = lay_out(OWNERS, ASKERS, 3, window, stride)
    expected = []
    for sample in (0, 2):
        vectors = [3 * f + q for f in (sample == OWNERS).nonzero()[:, 0].tolist() for q in range(3)]
        expected += [vectors[s : s + window] for s in range(0, len(vectors), stride)]
    found = [row[mask].tolist() for row, mask in zip(layout.window_vectors, layout.window_mask)]
    assert found == expected


def test_spatial_vectors_can_be_kept(build):
    aggregator, batch = build(), inputs()
    kept = aggregator.spatial(batch["features"], batch["frame_time"])
    assert torch.equal(aggregator(**batch), aggregator(**batch, spatial=kept))


def test_same_input_same_bits_forward_and_backward(build):
    def step():
        aggregator = build()
        context = aggregator(**inputs())
        context.square().sum().backward()
        return [context.detach(), *(p.grad for p in aggregator.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(step(), step()))


@pytest.mark.parametrize("time_embedding", [True, False])
def test_time_tells_frames_apart_only_if_it_is_embedded(build, time_embedding):
    aggregator, batch = build(time_embedding=time_embedding), inputs()
    shifted = aggregator(**{**batch, "frame_time": batch["frame_time"].flip(0)})
    assert torch.equal(aggregator(**batch), shifted) != time_embedding


@pytest.mark.parametrize("changed", ["question", "region_rows"])
def test_context_depends_on_the_question_and_the_regions(build, changed):
    aggregator, batch = build(), inputs()
    other = {**batch, changed: inputs(seed=2)[changed]}
    moved = (aggregator(**batch) - aggregator(**other)).abs().amax(-1) > 1e-6
    plain = slice(0, 3)  # the prompt without a region
    assert moved[3:].all() and moved[plain].all() == (changed == "question")


def test_padding_of_questions_is_invisible(build):
    aggregator, batch = build(), inputs()
    noisy = batch["question"].masked_fill(~batch["question_mask"][..., None], 7.0)
    assert torch.equal(aggregator(**batch), aggregator(**{**batch, "question": noisy}))


@pytest.mark.parametrize("prompts, frames, windows", [(1, 1, 1), (3, 5, 2), (18, 2, 1)])
def test_folded_injection_equals_the_literal_form(prompts, frames, windows):
    torch.manual_seed(0)
    inject = ContextInjection(24, 16)
    features, context = torch.randn(frames, 10, 24), torch.randn(prompts * windows, 4, 16)
    layout = lay_out(
        torch.zeros(frames, dtype=torch.long),
        torch.zeros(prompts, dtype=torch.long),
        vectors=windows * 2,
        window=frames * 2,
        stride=frames * 2,
    )
    whole = context.reshape(prompts, windows * 4, 16)
    folded = inject(features, context, layout)
    literal = inject.literal(features, whole).flatten(0, 1)
    torch.testing.assert_close(folded, literal, atol=1e-5, rtol=1e-5)
    grads = [
        torch.autograd.grad(out.square().mean(), inject.parameters()) for out in (folded, literal)
    ]
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)


def test_attention_shares_sum_to_one():
    shares = mean_attention(torch.randn(3, 5, 8), torch.randn(2, 4, 8) * 9, torch.randn(2, 4))
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 3))


@pytest.mark.parametrize("host_scale", [1e-3, 1.0, 30.0])
def test_context_tokens_start_at_the_size_asked_for(build, host_scale):
    batch = inputs()
    batch["features"], batch["question"] = (
        batch["features"] * host_scale,
        batch["question"] * host_scale,
    )
    assert abs(build(output_scale=0.02)(**batch).std() / 0.02 - 1) < 0.05


def test_count_is_what_forward_gives(build):
    batch = empty_batch(3, TOKENS, 6)
    batch.frame_owner = torch.cat([OWNERS, torch.tensor([2, 2])])
    batch.aggregator_rows, batch.prompt_owner = torch.arange(8), ASKERS
    aggregator = build()
    assert aggregator.count(batch) == len(aggregator(**inputs())) == 11


def test_wrong_numbers_are_named(build):
    aggregator, batch = build(), inputs()
    with pytest.raises(SlotError, match="2 visual rows for 1 regions"):
        aggregator(**{**batch, "region_rows": batch["region_rows"][:1]})
    longer = {k: batch[k].repeat_interleave(2, 1) for k in batch if k.startswith("question")}
    with pytest.raises(SlotError, match="10 tokens, the aggregator reads 9"):
        aggregator(**{**batch, **longer})
    with pytest.raises(ConfigError, match="did you mean 'sama'"):
        build(kind="sam")
