"""Qwen2.5-VL and Qwen3-VL: patches, positions, deepstack."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sama_plugin.errors import HostError
from sama_plugin.hosts.qwen_vl.patches import to_patches
from sama_plugin.hosts.qwen_vl.positions import rope_positions
from sama_plugin.model.attach import attach
from sama_plugin.model.generate import teacher_forced
from sama_plugin.model.sama import VisualCache
from tests.hosts.conformance import Conformance, grounded, hold, noise, prompt
from tests.hosts.tiny import SIDE, TINY
from tests.model.conftest import tiny_config

BOTH = pytest.mark.parametrize("host", ["qwen2_5_vl", "qwen3_vl"])


class TestQwen25VL(Conformance):
    host = "qwen2_5_vl"


class TestQwen3VL(Conformance):
    host = "qwen3_vl"
    relative = "internvl_qwen3"


@BOTH
def test_patches_are_those_of_the_hosts_own_processor(host):
    processing = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    sama = hold(*TINY[host].build())
    vision = sama.host.config.vision_config
    frames = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3)).astype(np.uint8)
    mean, std = sama.adapter.statistics
    processor = processing.Qwen2VLImageProcessor(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
        image_mean=list(mean),
        image_std=list(std),
    )
    wanted = processor(images=list(frames), return_tensors="pt")
    rows, grid = to_patches(sama.adapter.pixels(frames, sama.host), vision)
    assert torch.equal(grid, wanted["image_grid_thw"])
    assert torch.allclose(rows, wanted["pixel_values"], atol=1e-5)


@BOTH
def test_positions_are_the_hosts_own(host):
    sama = hold(*TINY[host].build())
    ids = torch.tensor([prompt(sama, 3, "what is it? and the cup?")])
    inputs = TINY[host].native(sama.host, ids, noise(3))
    inputs.pop("pixel_values")
    mask = torch.ones_like(ids)
    wanted, delta = sama.host.model.get_rope_index(ids, attention_mask=mask, **inputs)
    found, after = rope_positions(ids, sama.image_id, sama.adapter.grid(sama.host))
    assert torch.equal(found, wanted)
    assert int(after[0]) - ids.shape[1] == int(delta)


def test_positions_go_on_where_a_cache_left_off():
    grid, image = (3, 5), 9
    ids = torch.tensor([[1, 2, *[image] * 15, 3, *[image] * 15, 4, 5]])
    whole, after = rope_positions(ids, image, grid)
    for cut in (2, 17, 18, 33):
        first, between = rope_positions(ids[:, :cut], image, grid)
        second, end = rope_positions(ids[:, cut:], image, grid, int(between))
        assert torch.equal(torch.cat([first, second], dim=-1), whole) and end == after


def test_deepstack_reaches_cached_frames_and_no_region(tmp_path):
    sama = hold(*TINY["qwen3_vl"].build())
    inputs = grounded(sama, tmp_path)
    visual, seen = sama.encode_frames(inputs["pixel_values"]), {}
    hook = sama.adapter.decoder(sama.host).register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    ids = inputs["input_ids"]
    cache = VisualCache(visual.features, None, visual.deep)
    states, _ = teacher_forced(sama, ids[0].tolist(), inputs["sama"], cache)
    flat = VisualCache(visual.features, None, torch.zeros_like(visual.deep))
    without, _ = teacher_forced(sama, ids[0].tolist(), inputs["sama"], flat)
    hook.remove()
    assert visual.deep.shape == (5, 2, 16, 48) and not torch.equal(states, without)
    assert torch.equal(seen["visual_pos_masks"], ids == sama.image_id)


@BOTH
def test_frame_side_sets_the_grid(host):
    config = dataclasses.replace(tiny_config(), frame_side=96)
    sama = attach(*TINY[host].build(), config)
    assert sama.adapter.grid(sama.host) == (6, 6) and sama.modules.tokens == 36
    assert sama.encode_frames(torch.zeros(1, 3, 96, 96)).features.shape == (1, 36, 48)


@pytest.mark.parametrize(("host", "side"), [("qwen3_vl", 100), ("internvl", 100)])
def test_a_frame_side_the_host_cannot_read_is_refused(host, side):
    with pytest.raises(HostError, match=f"frame_side {side}"):
        attach(*TINY[host].build(), dataclasses.replace(tiny_config(), frame_side=side))
