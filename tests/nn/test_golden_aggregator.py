"""The aggregator against numbers of the released one, part by part and as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sama_plugin.nn import released
from sama_plugin.nn.injection import ContextInjection
from sama_plugin.nn.layout import lay_out
from sama_plugin.nn.question import write_region_rows
from tests.nn.conftest import GoldenCase, load, released_modules, released_spatial

REGION_ROWS = ("region.visual_rows", "region.shape_rows")
SCALES = {"train": released.training_scale, "infer": released.inference_scale}


@pytest.mark.parametrize("name", ["four_layers_t4", "six_layers_freq2_256tokens"])
def test_spatial_qformer(golden, name):
    case = golden("sama_spatial_qformer", name)
    spatial = released_spatial(case.sizes()).eval()
    load(nn.ModuleDict({"aggregator": nn.ModuleDict({"spatial": spatial})}), case, "aggregator")
    frames = case.inputs["frame_features"]
    with torch.no_grad():
        case.close(spatial.project(frames), "projected")
        case.close(spatial.norm(spatial.project(frames)), "normalized")
        case.close(spatial(frames, torch.zeros(len(frames))), "spatial_tokens")


TEMPORAL = [
    "all_prompts_without_region_train",
    "full_vocabulary_two_windows_infer",
    "no_regions_infer_unscaled_dummy",
    "no_regions_train_scaled_dummy",
    "one_region_train",
    "overlapping_windows_train",
    "several_regions_padding_infer",
    "several_regions_padding_train",
    "two_windows_train",
]


@pytest.mark.parametrize("name", TEMPORAL)
def test_temporal_qformer(golden, name):
    case = golden("sama_temporal_qformer", name)
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
            added = case.outputs["dummy_visual_row"] + case.outputs["dummy_shape_row"]  # (1, h)
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
        wanted = case.outputs[f"window{window}.last_hidden"]
        case.outputs[f"window{window}.real"] = wanted[real]
        case.close(hidden[layout.reading_window == window][real], f"window{window}.real")
    case.close(context.unflatten(0, (len(ids), -1)).flatten(1, 2), "context")


@pytest.mark.parametrize(
    "name", ["eighteen_prompts_chunked", "one_prompt_256tokens", "three_prompts"]
)
@pytest.mark.parametrize("form", ["folded", "literal"])
def test_context_injection(golden, name, form):
    case = golden("sama_context_injection", name)
    inject = ContextInjection(case.sizes()["D"], case.sizes()["h"])
    load(nn.ModuleDict({"aggregator": nn.ModuleDict({"inject": inject})}), case, "aggregator")
    features, context = (
        case.inputs["frame_features"],
        case.inputs["context"],
    )  # (F, N, C), (P, M, h)
    zeros = torch.zeros(len(features), dtype=torch.long)
    layout = lay_out(zeros, torch.zeros(len(context), dtype=torch.long), 1, 10**6, 10**6)
    with torch.no_grad():
        if form == "literal":
            tokens = inject.literal(features, context)
        else:
            tokens = inject(features, context, layout).view(len(context), len(features), -1)
    case.close(tokens, "train_tokens")
    case.close(tokens, "infer_tokens")


@pytest.mark.parametrize("name", ["batch2_grid16", "batch2_mixed_regions"])
@pytest.mark.parametrize("path", ["train", "infer"])
def test_whole_aggregator_on_two_samples_at_once(golden, name, path):
    case = golden("sama_aggregator_e2e", name)
    sizes = case.sizes()
    modules = released_modules(sizes)
    load(modules, case, "aggregator", *REGION_ROWS)
    samples = [Sample(case, modules, number, path) for number in (0, 1)]
    length = max(s.ids.shape[1] for s in samples)
    ids = torch.cat([pad(s.ids, length) for s in samples])
    frame_owner = torch.cat([torch.full((len(s.features),), i) for i, s in enumerate(samples)])
    prompt_owner = torch.cat([torch.full((len(s.ids),), i) for i, s in enumerate(samples)])
    region_prompt = torch.cat(
        [samples[0].region_prompt, samples[1].region_prompt + len(samples[0].ids)]
    )
    with torch.no_grad():
        bias = SCALES[path](prompt_owner, region_prompt)[:, None] * released.missing_region_row(
            modules["region"]
        )
        tokens = modules["aggregator"](
            torch.cat([s.features for s in samples]),
            frame_owner,
            torch.zeros(len(frame_owner)),
            prompt_owner,
            ids,
            torch.cat([pad(s.mask, length) for s in samples]).bool(),
            (ids == sizes["mask_row_id"]) + 2 * (ids == sizes["shape_row_id"]),
            torch.cat([s.region_rows for s in samples]),
            row_bias=bias,
        )
    shapes = [(len(s.ids), len(s.features), sizes["D"]) for s in samples]
    parts = tokens.split([prompts * frames for prompts, frames, _ in shapes])
    for number, (part, shape) in enumerate(zip(parts, shapes)):
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
    kept = []
    handle = temporal.qformer.register_forward_hook(lambda module, args, out: kept.append(out))
    temporal(rows, mask, vectors, layout, bias)
    handle.remove()
    return kept[0]


def pad(rows: Tensor, length: int) -> Tensor:
    return nn.functional.pad(rows, (0, length - rows.shape[1]))
