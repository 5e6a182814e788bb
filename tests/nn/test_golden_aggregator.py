"""The aggregator against numbers of the released one, part by part and as a whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sama_plugin.nn import released
from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.layout import lay_out
from sama_plugin.nn.question import write_region_rows
from tests.nn.conftest import (
    GoldenCase,
    golden_cases,
    load,
    released_modules,
    released_spatial,
)

REGION_ROWS = ("region.visual_rows", "region.shape_rows")
SCALES = {"train": released.training_scale, "infer": released.inference_scale}


@golden_cases("sama_spatial_qformer")
def test_spatial_qformer(case):
    spatial = released_spatial(case.sizes()).eval()
    load(nn.ModuleDict({"aggregator": nn.ModuleDict({"spatial": spatial})}), case, "aggregator")
    frames = case.inputs["frame_features"]
    with torch.no_grad():
        case.close(spatial.project(frames), "projected")
        case.close(spatial.norm(spatial.project(frames)), "normalized")
        case.close(spatial(frames, torch.zeros(len(frames))), "spatial_tokens")


@golden_cases("sama_temporal_qformer")
def test_temporal_qformer(case):
    sizes = case.sizes(E=8, sp_layers=1, sp_freq=1)
    modules = released_modules(sizes, text_layers=sizes["tp_layers"])
    load(modules, case, "aggregator.temporal", "aggregator.question", *REGION_ROWS)
    aggregator, flags = modules["aggregator"], case.meta["flags"]
    vectors, ids, mask = (case.inputs[k] for k in ("spatial_tokens", "text_ids", "text_mask"))
    prompt_owner = torch.zeros(len(ids), dtype=torch.long)
    region_prompt = regions_of(flags["region_counts_per_prompt"])
    with torch.no_grad():
        region_rows = torch.zeros(0, 2, sizes["h"])
        if len(region_prompt):
            frames = flags["region_frame_per_region"] or [
                flags["region_frame_per_prompt"][prompt] for prompt in region_prompt
            ]
            masks = [case.inputs[k] for k in ("region_masks_grid", "region_masks_112")]
            features = case.inputs["dense_frame_features"]
            region_rows = encode(modules, features, frames, frames, *masks).aggregator_rows
            case.close(region_rows[:, 0], "visual_rows")
            case.close(region_rows[:, 1], "shape_rows")

        kind = (ids == sizes["mask_row_id"]) + 2 * (ids == sizes["shape_row_id"])
        rows = write_region_rows(aggregator.question(ids), kind, region_rows)
        scale = SCALES[flags["path"]](prompt_owner, region_prompt)
        bias = scale[:, None] * released.missing_region_row(modules["region"])
        if "dummy_visual_row" in case.outputs:
            added = case.wanted("dummy_visual_row") + case.wanted("dummy_shape_row")  # (1, h)
            torch.testing.assert_close(bias, added.expand_as(bias), rtol=1e-4, atol=0)
        else:
            assert bias.eq(0).all()
        frame_owner = torch.zeros(len(vectors), dtype=torch.long)
        layout = lay_out(
            frame_owner, prompt_owner, vectors.shape[1], sizes["window"], sizes["stride"]
        )
        lengths = layout.window_mask.sum(1).tolist()
        assert lengths == case.meta["hyper"]["window_lengths"]

        queries = aggregator.temporal.queries.expand(len(ids), -1, -1)
        case.close(torch.cat([queries, rows], 1) + bias[:, None], "embeddings_pre_layernorm")
        hidden = all_rows(aggregator.temporal, rows, mask.bool(), vectors, layout, bias)
        context = aggregator.temporal(rows, mask.bool(), vectors, layout, bias)  # (A, Q, h)
    real = torch.cat([torch.ones(queries.shape[:2], dtype=torch.bool), mask.bool()], 1)
    for window in range(len(lengths)):
        wanted = case.wanted(f"window{window}.last_hidden")
        found = hidden[layout.reading_window == window].where(real[..., None], wanted)
        case.close(found, f"window{window}.last_hidden")
    case.close(context.unflatten(0, (len(ids), -1)).flatten(1, 2), "context")


@golden_cases("sama_context_injection")
def test_context_injection(case):
    inject = ContextInjection(case.sizes()["D"], case.sizes()["h"])
    load(nn.ModuleDict({"aggregator": nn.ModuleDict({"inject": inject})}), case, "aggregator")
    features = case.inputs["frame_features"]  # (F, N, C)
    context = case.inputs["context"]  # (P, M, h)
    zeros = torch.zeros(len(features), dtype=torch.long)
    layout = lay_out(zeros, torch.zeros(len(context), dtype=torch.long), 1, 10**6, 10**6)
    shape = (len(context), len(features), -1)
    means = outputs_of(inject.final, into=lambda args, out: args[0])
    with torch.no_grad():
        literal = inject.literal(features, context)
        case.close(inject.injected(features, context)[0, 0], "infer_injected_frame0_prompt0")
        folded = inject(features, context, layout).view(shape)
    for tokens, mean in zip((literal, folded), means):
        case.close(tokens, "train_tokens")
        case.close(tokens, "infer_tokens")
        case.close(mean.view(shape), "infer_injected_mean")


@golden_cases("sama_aggregator_e2e")
def test_whole_aggregator_on_all_samples_at_once(case):
    modules = released_modules(case.sizes())
    load(modules, case, "aggregator", *REGION_ROWS)
    for path in SCALES:
        whole_aggregator(case, modules, path)


def whole_aggregator(case: GoldenCase, modules: nn.ModuleDict, path: str) -> None:
    sizes = case.sizes()
    samples = [Sample(case, modules, n, path) for n in range(len(case.meta["samples"]))]
    length = max(s.ids.shape[1] for s in samples)
    ids = torch.cat([pad(s.ids, length) for s in samples])
    frame_owner = torch.cat([torch.full((len(s.features),), i) for i, s in enumerate(samples)])
    prompt_owner = torch.cat([torch.full((len(s.ids),), i) for i, s in enumerate(samples)])
    first = [sum(len(s.ids) for s in samples[:i]) for i in range(len(samples))]
    region_prompt = torch.cat([s.region_prompt + start for s, start in zip(samples, first)])
    scale = SCALES[path](prompt_owner, region_prompt)
    vectors = outputs_of(modules["aggregator"].spatial)
    context = outputs_of(modules["aggregator"].temporal)
    with torch.no_grad():
        tokens = modules["aggregator"](
            torch.cat([s.features for s in samples]),
            frame_owner,
            torch.zeros(len(frame_owner)),
            prompt_owner,
            ids,
            torch.cat([pad(s.mask, length) for s in samples]).bool(),
            (ids == sizes["mask_row_id"]) + 2 * (ids == sizes["shape_row_id"]),
            torch.cat([s.region_rows for s in samples]),
            row_bias=scale[:, None] * released.missing_region_row(modules["region"]),
        )
    windows = [-(-len(s.features) * sizes["sp_q"] // sizes["stride"]) for s in samples]
    for number, (sample, part, spatial, read) in enumerate(
        zip(
            samples,
            tokens.split([len(s.ids) * len(s.features) for s in samples]),
            vectors[0].split([len(s.features) for s in samples]),
            context[0].split([len(s.ids) * count for s, count in zip(samples, windows)]),
        )
    ):
        prompts = len(sample.ids)
        shape = (prompts, len(sample.features), sizes["D"])
        case.close(spatial, f"sample{number}.spatial_tokens")
        read = read.unflatten(0, (prompts, -1)).flatten(1, 2)
        case.close(read, f"sample{number}.{path}.context")
        case.close(part.view(shape), f"sample{number}.{path}.aggregator_tokens")


class Sample:
    """Inputs of one sample of an end-to-end case."""

    def __init__(self, case: GoldenCase, modules: nn.ModuleDict, number: int, path: str):
        facts = case.meta["samples"][number]
        self.features, self.ids, self.mask = (
            case.inputs[f"sample{number}.{part}"]
            for part in ("frame_features", "text_ids", "text_mask")
        )
        self.region_prompt = regions_of(facts["region_counts_per_prompt"])
        self.region_rows = torch.zeros(0, 2, case.sizes()["h"])
        if len(self.region_prompt) == 0:
            return
        chosen = facts["infer_region_frame_per_region"]
        if path == "train":
            chosen = [facts["train_region_frame_per_prompt"][p] for p in self.region_prompt]
        masks = [case.inputs[f"sample{number}.region_masks_{size}"] for size in ("grid", "112")]
        frames = [facts["dense_indices"][j] for j in chosen]
        with torch.no_grad():
            encoded = encode(modules, self.features, frames, chosen, *masks)
        self.region_rows = encoded.aggregator_rows


def encode(modules, features: Tensor, frames, columns, grid_masks: Tensor, masks_112: Tensor):
    """Every region on one frame: features row `frames[r]`, mask column `columns[r]`."""
    regions = torch.arange(len(columns))
    columns = torch.tensor(columns)
    return modules["region"](
        features,
        torch.tensor(frames),
        grid_masks[regions, columns].flatten(1).float(),
        masks_112[regions, columns].float(),
        regions,
        len(regions),
    )


def regions_of(counts) -> Tensor:
    """Prompt of each region."""
    counts = torch.tensor(counts or [], dtype=torch.long)
    return torch.arange(len(counts)).repeat_interleave(counts)


def all_rows(temporal, rows, mask, vectors, layout, bias) -> Tensor:
    """Text rows too, which the module itself cuts off."""
    kept = outputs_of(temporal.qformer)
    temporal(rows, mask, vectors, layout, bias)
    return kept[0]


def outputs_of(module: nn.Module, into=lambda args, out: out) -> list[Tensor]:
    """A list that grows by what the module gives (or by `into` of its arguments and that)."""
    kept: list[Tensor] = []
    module.register_forward_hook(lambda _, args, out: kept.append(into(args, out)))
    return kept


def pad(rows: Tensor, length: int) -> Tensor:
    return nn.functional.pad(rows, (0, length - rows.shape[1]))
