"""VideoRefer's mask extractor and token merge, against numbers of the released one."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sama_plugin.nn.pooling import mask_pool
from sama_plugin.nn.released import touched
from sama_plugin.nn.videorefer_released import ReleasedVideoReferEncoder, merge_by_threshold
from tests.nn.conftest import GoldenCase, golden_cases

PREFIX = "model.region_encoder."


@golden_cases("videorefer_mask_extractor")
def test_object_tokens(case):
    sizes = case.sizes()
    encoder = ReleasedVideoReferEncoder(
        sizes["feature_width"], sizes["llm_width"], 8, 4, 4, sizes["region_token_num_u"]
    )
    weights = {name[len(PREFIX) :]: value for name, value in case.weights.items()}
    missing = encoder.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys and all(n.startswith("rows.") for n in missing.missing_keys)

    rows, masks, owner = entries(case)
    grid = sizes["grid"]
    cells = torch.cat([touched(one, grid, grid) for one in masks]).flatten(1).float()  # (M, N)
    features = case.inputs["frame_features"]
    pooled, _ = mask_pool(features[rows], cells)
    case.close(pooled, "pooled")
    objects = len(case.meta["objects"])
    lengths = torch.bincount(owner, minlength=objects).tolist()
    merged = [merge_by_threshold(one, encoder.unions) for one in pooled.split(lengths)]
    case.close(torch.cat(merged), "merged")
    case.same([len(one) for one in merged], "tokens_per_object")
    counts = [
        encoder.count(features[rows[owner == number]], cells[owner == number])
        for number in range(objects)
    ]
    assert counts == case.meta["tokens_per_object"]
    with torch.no_grad():
        encoded = encoder(features, rows, cells, torch.zeros(len(rows), 4, 4), owner, objects)
    case.close(encoded.tokens, "tokens")


def entries(case: GoldenCase):
    """Frame rows, each sample's masks as the vision tower sees them, and objects of all entries."""
    frames = [one for sample in case.meta["ann_indices"] for one in sample]
    rows = torch.tensor([frame for one in frames for frame in one])
    owner = torch.tensor([number for number, one in enumerate(frames) for _ in one])
    samples = range(len(case.meta["ann_indices"]))
    masks = [case.inputs[f"sample{number}.masks"].bool() for number in samples]
    seen = {"square": lambda one: one, "pad": padded_to_a_square}
    prepare = seen[case.sizes()["image_aspect_ratio"]]
    return rows, [prepare(one) for one in masks], owner


def padded_to_a_square(masks):
    height, width = masks.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(masks, (left, side - width - left, top, side - height - top))
