"""Region masks and region vectors against numbers of the released model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sama_plugin.nn import released
from sama_plugin.nn.pooling import mask_pool
from sama_plugin.nn.region import SamaRegionEncoder
from tests.nn.conftest import load

CASES = ["infer_three_regions", "train_four_turns_landscape", "train_one_turn_small_portrait"]


@pytest.mark.parametrize("name", CASES)
def test_masks_are_boxed_and_resized(golden, name):
    case = golden("sama_region_tokens", name)
    masks = case.inputs["masks_full_resolution"].bool()
    for size, key in ((16, "grid"), (112, "112")):
        boxed = released.nearest(released.box_filled(masks), size, size)
        assert torch.equal(boxed, case.outputs[f"masks_{key}_box"].bool())
        if f"masks_{key}_unboxed" in case.outputs:
            plain = released.nearest(masks, size, size)
            assert torch.equal(plain, case.outputs[f"masks_{key}_unboxed"].bool())


@pytest.mark.parametrize("name", CASES)
def test_region_vectors(golden, name):
    case = golden("sama_region_tokens", name)
    sizes, flags = case.sizes(), case.meta["flags"]
    encoder = SamaRegionEncoder(sizes["D"], sizes["h"], sizes["shape_grid"], sizes["mlp_hid"])
    load(nn.ModuleDict({"region": encoder}), case, "region")
    dense = flags["dense_indices"]
    # At inference masks cover all video frames; in training only the dense ones.
    columns = (
        [flags["sparse_indices"][row] for row in dense] if flags["path"] == "infer" else range(5)
    )

    def encoded(chosen):
        regions = torch.arange(len(chosen))
        column = torch.tensor([columns[j] for j in chosen])
        weights = case.outputs["masks_grid_box"][regions, column].flatten(1).float()
        shapes = case.outputs["masks_112_box"][regions, column].float()
        rows = torch.tensor([dense[j] for j in chosen])
        features = case.inputs["frame_features"]
        pooled, _ = mask_pool(features[rows], weights)
        with torch.no_grad():
            return pooled, encoder(features, rows, weights, shapes, regions, len(chosen))

    shared = flags.get("region_frame_per_region")
    pooled, host_side = encoded(shared or flags["llm_region_frame_per_region"])
    case.close(pooled, "pooled_features" if shared else "pooled_features_llm")
    case.close(host_side.tokens[:, 0], "llm_visual_tokens")
    case.close(host_side.tokens[:, 1], "llm_shape_tokens")
    pooled, aggregator_side = encoded(shared or flags["aggregator_region_frame_per_region"])
    case.close(pooled, "pooled_features" if shared else "pooled_features_aggregator")
    case.close(aggregator_side.aggregator_rows[:, 0], "aggregator_visual_rows")
    case.close(aggregator_side.aggregator_rows[:, 1], "aggregator_shape_rows")


def test_pooling_resizes_masks_to_the_grid(golden):
    case = golden("sama_region_tokens", "mask_pooling_with_resize")
    features, masks = case.inputs["features"], case.inputs["masks"]  # (B, C, h, w), (B, Q, H, W)
    batch, queries = masks.shape[:2]
    cells = released.touched(masks.flatten(0, 1).bool(), *features.shape[2:]).flatten(1)  # (BQ, N)
    tokens = features.flatten(2).transpose(1, 2).repeat_interleave(queries, 0)  # (BQ, N, C)
    pooled, area = mask_pool(tokens, cells.float())
    case.close(pooled.unflatten(0, (batch, queries)), "pooled")
    assert (
        area.view(batch, queries)[:, -1].eq(0).all()
        and pooled.view(batch, queries, -1)[:, -1].eq(0).all()
    )
