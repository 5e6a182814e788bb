"""Region masks and region vectors against numbers of the released models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sama_plugin.data.regions import box_filled, nearest
from sama_plugin.nn import released
from sama_plugin.nn.pooling import mask_pool
from sama_plugin.nn.region import SamaRegionEncoder
from tests.nn.conftest import GoldenCase, golden_cases, load


@golden_cases("sama_region_tokens")
def test_sama_region_tokens(case):
    if "masks" in case.inputs:
        pooling_resizes_masks_to_the_grid(case)
    else:
        masks_are_boxed_and_resized(case)
        region_vectors(case)


def pooling_resizes_masks_to_the_grid(case: GoldenCase) -> None:
    features, masks = case.inputs["features"], case.inputs["masks"]  # (B, C, h, w), (B, Q, H, W)
    batch, queries = masks.shape[:2]
    cells = released.touched(masks.flatten(0, 1).bool(), *features.shape[2:]).flatten(1)  # (BQ, N)
    tokens = features.flatten(2).transpose(1, 2).repeat_interleave(queries, 0)  # (BQ, N, C)
    pooled, area = mask_pool(tokens, cells.float())
    case.close(pooled.unflatten(0, (batch, queries)), "pooled")
    assert pooled[area == 0].eq(0).all()


def each(change, masks: Tensor) -> Tensor:
    """A function of one mask (H, W) on all of (..., H, W) bool."""
    found = [torch.from_numpy(change(mask)).bool() for mask in masks.flatten(0, -3).numpy()]
    return torch.stack(found).unflatten(0, masks.shape[:-2])


def resized(masks: Tensor, side: int) -> Tensor:
    return each(lambda mask: nearest(mask, side, side), masks)


def masks_are_boxed_and_resized(case: GoldenCase) -> None:
    masks, sizes = case.inputs["masks_full_resolution"].bool(), case.sizes()
    boxed = each(box_filled, masks)
    for size, key in ((sizes["grid"], "grid"), (sizes["shape_grid"], "112")):
        case.same(resized(boxed, size), f"masks_{key}_box")
        if f"masks_{key}_unboxed" in case.outputs:
            case.same(resized(masks, size), f"masks_{key}_unboxed")


def region_vectors(case: GoldenCase) -> None:
    """Pooled features and both vectors of both sides, each on the frame that was drawn for it."""
    sizes, flags = case.sizes(), case.meta["flags"]
    encoder = SamaRegionEncoder(sizes["D"], sizes["h"], sizes["shape_grid"], sizes["mlp_hid"])
    load(nn.ModuleDict({"region": encoder}), case, "region")
    features, dense = case.inputs["frame_features"], flags["dense_indices"]
    # At inference masks cover all video frames; in training only the dense ones.
    columns = range(len(dense))
    if flags["path"] == "infer":
        columns = [flags["sparse_indices"][row] for row in dense]

    def entries(chosen):
        regions = torch.arange(len(chosen))
        column = torch.tensor([columns[j] for j in chosen], dtype=torch.long)
        weights = case.outputs["masks_grid_box"][regions, column].flatten(1).float()
        shapes = case.outputs["masks_112_box"][regions, column].float()
        rows = torch.tensor([dense[j] for j in chosen], dtype=torch.long)
        return rows, weights, shapes, regions, len(chosen)

    def sides(chosen, ending):
        rows, weights, *_ = entries(chosen)
        case.close(mask_pool(features[rows], weights)[0], f"pooled_features{ending}")
        if f"pooled_features{ending}_bf16" in case.outputs:
            rough, _ = mask_pool(features[rows].bfloat16(), weights)
            atol = case.meta["tolerance_bf16_pooling"]["atol"]
            case.near(rough.float(), f"pooled_features{ending}_bf16", atol)
        with torch.no_grad():
            return encoder(features, *entries(chosen))

    shared = flags.get("region_frame_per_region")
    host = sides(shared or flags["llm_region_frame_per_region"], "" if shared else "_llm").tokens
    case.close(host[:, 0], "llm_visual_tokens")
    case.close(host[:, 1], "llm_shape_tokens")
    chosen = shared or flags["aggregator_region_frame_per_region"]
    rows = sides(chosen, "" if shared else "_aggregator").aggregator_rows
    case.close(rows[:, 0], "aggregator_visual_rows")
    case.close(rows[:, 1], "aggregator_shape_rows")
    order_of_vectors(case, features[dense], host)


def order_of_vectors(case: GoldenCase, frames: torch.Tensor, host: torch.Tensor) -> None:
    """Dense frames, then turn by turn: context (weights not in the case), regions."""
    turns = case.meta["flags"].get("region_counts_per_turn", [len(host)])
    written = case.wanted("spliced_context_embeddings")
    context = written.new_full((case.sizes()["frames"], written.shape[1]), float("nan"))
    parts = [frames.flatten(0, 1)]
    for regions in host.split(turns):
        parts += [context, regions.flatten(0, 1)]
    found = torch.cat(parts)
    assert found.shape == written.shape
    found = found.where(found.isfinite(), written)
    case.close(found, "spliced_context_embeddings")


@golden_cases("sa2va_region_vp")
def test_sa2va_region_prompts(case):
    tiles, masks = case.inputs["tile_features"], case.inputs["masks_full_resolution"].bool()
    grid = case.sizes()["grid"]
    covered = resized(masks, grid)
    case.same(covered, "masks_grid")
    cells = [one.nonzero()[:, 0] for one in covered.flatten(1)]
    assert [len(one) for one in cells] == case.meta["cells_per_region"]
    for number, one in enumerate(cells):
        if len(one):
            case.same(one, f"region{number}.selected_indices")
    case.same(tiles[-1, torch.cat(cells)], "region_embeddings")
    case.same(torch.arange(len(tiles)) == len(tiles) - 1, "overall_tile_flags")
    regions = "".join(
        f", region{number}<vp>{{{len(one)}}}</vp>" if len(one) else f", region{number}<vp></vp>"
        for number, one in enumerate(cells, start=1)
    )
    assert f"in the picture: {regions[2:]}.\n" in case.meta["full_prompt"]
