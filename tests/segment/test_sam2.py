"""The SAM2 backend: sizes, weights, prompts, copies of the mask decoder, empty batches."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sam2
import torch
import yaml
from safetensors.torch import save_file
from sam2.modeling.backbones.hieradet import Hiera

from sama_plugin.errors import ConfigError
from sama_plugin.segment.base import SEGMENTERS, Prompt, build_segmenter
from sama_plugin.segment.sam2 import Sam2Segmenter
from sama_plugin.segment.sizes import SIZES, build_sam2

from .golden_cases import needs_sam2_video
from .tiny import TINY, noise_video, tiny_segmenter


def features_of(segmenter, total=2):
    return segmenter.encode(segmenter.preprocess(noise_video(total).array))


RELEASED = sorted(set(SIZES) - {"mini"})


@pytest.mark.parametrize("name", RELEASED)
def test_every_size_equals_the_released_configuration(name):
    """Against the YAML files in Meta's package, with the trunk's own defaults filled in."""
    sizes, config = SIZES[name], released_configuration(name)
    trunk = {k: v.default for k, v in inspect.signature(Hiera).parameters.items()}
    trunk.update(config["image_encoder"]["trunk"])
    assert (sizes.embed_dim, sizes.heads) == (trunk["embed_dim"], trunk["num_heads"])
    assert sizes.stages == tuple(trunk["stages"]) and sizes.windows == tuple(trunk["window_spec"])
    assert sizes.global_blocks == tuple(trunk["global_att_blocks"])
    assert sizes.background == tuple(trunk["window_pos_embed_bkg_spatial_size"])
    assert sizes.channels == config["image_encoder"]["neck"]["backbone_channel_list"]
    attention = config["memory_attention"]
    assert (sizes.width, sizes.memory_layers) == (attention["d_model"], attention["num_layers"])
    assert sizes.memory_ffn == attention["layer"]["dim_feedforward"]
    assert sizes.memory_width == config["memory_encoder"]["out_dim"]
    assert (sizes.memory_frames, sizes.image_size) == (config["num_maskmem"], config["image_size"])


@pytest.mark.parametrize("name", ["sam2_hiera_tiny", "sam2.1_hiera_tiny"])
def test_flags_equal_the_released_ones(name):
    config = released_configuration(name)
    module = build_sam2(replace(TINY, generation=SIZES[name].generation))
    skipped = ("image_size", "num_maskmem", "compile_image_encoder", "no_obj_embed_spatial")
    flags = {
        k: v for k, v in config.items() if isinstance(v, (bool, int, float)) and k not in skipped
    }
    names = {"use_high_res_features_in_sam", "multimask_max_pt_num", "pred_obj_scores_mlp"}
    assert names <= set(flags)
    assert {k: getattr(module, k) for k in flags} == flags
    spatial = config.get("no_obj_embed_spatial", False)
    assert (module.no_obj_embed_spatial is not None) == spatial


def released_configuration(name: str) -> dict:
    generation, size = name.split("_hiera_")
    letter = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}[size]
    path = Path(sam2.__file__).parent / "configs" / generation / f"{generation}_hiera_{letter}.yaml"
    return yaml.safe_load(path.read_text())["model"]


def test_mini_is_small_enough_to_be_packaged():
    assert sum(p.numel() for p in build_sam2(SIZES["mini"]).parameters()) < 5e6
    assert set(SIZES) <= set(SEGMENTERS.names())


def test_vectors_are_appended_after_two_empty_points():
    segmenter = tiny_segmenter()
    vectors = torch.randn(2, 1, 32)
    sparse, _ = segmenter._embed(Prompt(vectors=vectors), 2)
    nothing = segmenter.module.sam_prompt_encoder.not_a_point_embed.weight[0]
    assert sparse.shape == (2, 3, 32)
    torch.testing.assert_close(sparse[:, :2], nothing.expand(2, 2, -1))
    torch.testing.assert_close(sparse[:, 2:], vectors)


@pytest.mark.parametrize("points, candidates", [(0, 3), (1, 3), (2, 1), (4, 1)])
def test_number_of_points_decides_between_one_mask_and_three(points, candidates):
    segmenter = tiny_segmenter()
    prompt = Prompt()
    if points:
        prompt = Prompt(torch.rand(2, points, 2) * 64, torch.ones(2, points, dtype=torch.int32))
    decoded = segmenter.decode(features_of(segmenter), prompt)
    assert decoded.all_logits.shape == (2, candidates, 16, 16)
    assert decoded.logits.shape == (2, 1, 16, 16) and decoded.iou.shape == decoded.score.shape == (
        2,
    )


def test_empty_batches_keep_every_parameter_in_the_graph():
    segmenter = tiny_segmenter()
    copy = segmenter.clone_mask_decoder()
    features = segmenter.encode(torch.zeros(0, 3, 64, 64))
    assert len(features) == 0
    vectors = torch.zeros(0, 1, 32, requires_grad=True)
    decoded = segmenter.decode(features, Prompt(vectors=vectors), mask_decoder=copy)
    assert decoded.logits.shape == (0, 1, 16, 16)
    (decoded.all_logits.sum() + decoded.iou.sum() + decoded.score.sum() + vectors.sum()).backward()
    _check_gradients(segmenter, copy, zero=True)


def test_a_copy_learns_and_the_original_does_not():
    segmenter = tiny_segmenter()
    copy = segmenter.clone_mask_decoder()
    vectors = torch.randn(2, 1, 32, requires_grad=True)
    features = features_of(segmenter)
    stock = segmenter.decode(features, Prompt(vectors=vectors))
    decoded = segmenter.decode(features, Prompt(vectors=vectors), mask_decoder=copy)
    torch.testing.assert_close(decoded.logits, stock.logits)
    (decoded.all_logits.sum() + decoded.iou.sum() + decoded.score.sum()).backward()
    assert vectors.grad.abs().sum() > 0
    _check_gradients(segmenter, copy, zero=False)
    assert all(p.grad is None and not p.requires_grad for p in segmenter.module.parameters())


def _check_gradients(segmenter, copy, zero: bool):
    unused = {name for name, p in copy.named_parameters() if p.grad is None}
    assert unused == set(segmenter.decoder_parameters_unused_by_vectors)
    if zero:
        assert all(p.grad.abs().sum() == 0 for p in copy.parameters() if p.grad is not None)


def test_half_precision_module_decodes():
    torch.manual_seed(0)
    segmenter = Sam2Segmenter("tiny", build_sam2(TINY)).to(torch.bfloat16)
    decoded = segmenter.decode(features_of(segmenter), Prompt(vectors=torch.randn(2, 1, 32)))
    assert decoded.logits.dtype == torch.bfloat16 and decoded.logits.isfinite().all()


def test_rows_repeat_frames_for_objects():
    segmenter = tiny_segmenter()
    features = features_of(segmenter)
    vectors = torch.randn(3, 1, 32)
    pairs = torch.tensor([1, 0, 1])
    together = segmenter.decode(features.rows(pairs), Prompt(vectors=vectors))
    for row, frame in enumerate(pairs):
        alone = segmenter.decode(features.rows(frame[None]), Prompt(vectors=vectors[row : row + 1]))
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-4, rtol=1e-4)


def test_given_masks_are_adopted():
    segmenter = tiny_segmenter()
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, 16:48, 16:48] = 1
    decoded = segmenter.adopt(features_of(segmenter), masks)
    inside = decoded.logits[0, 0, 5:11, 5:11]
    torch.testing.assert_close(inside, torch.full_like(inside, 10.0))
    torch.testing.assert_close(decoded.logits[1], torch.full_like(decoded.logits[1], -10.0))
    assert decoded.score.tolist() == [10, -10] and decoded.iou.tolist() == [1, 1]
    torch.testing.assert_close(decoded.pointer[1:], segmenter.module.no_obj_ptr)


def test_preprocess_squeezes_like_pil():
    from PIL import Image

    segmenter, frames = tiny_segmenter(), noise_video(1).array
    expected = np.asarray(Image.fromarray(frames[0]).resize((64, 64), Image.BICUBIC), np.float32)
    expected = (expected / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = segmenter.preprocess(frames)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert segmenter.preprocess(frames[:0]).shape == (0, 3, 64, 64)


def test_weights_load_strictly_and_are_fingerprinted(tmp_path):
    random = build_segmenter("mini", "random")
    state = {k: v.half().contiguous() for k, v in random.module.state_dict().items()}
    path = tmp_path / "mini.safetensors"
    save_file(state, str(path))
    torch.save({"model": {k: v.float() for k, v in state.items()}}, tmp_path / "mini.pt")
    first, second = (
        build_segmenter("mini", str(path)),
        build_segmenter("mini", str(tmp_path / "mini.pt")),
    )
    assert first.fingerprint == second.fingerprint != random.fingerprint
    assert first.fingerprint.startswith("mini:")
    save_file({"a": torch.zeros(1)}, str(path))
    with pytest.raises(ConfigError, match="does not fit"):
        build_segmenter("mini", str(path))


@pytest.mark.parametrize("held", [torch.zeros(2), [1], {}, {"model": 3}, {"epoch": 4}])
def test_a_file_without_weights_is_named(tmp_path, held):
    torch.save(held, tmp_path / "mini.pt")
    with pytest.raises(ConfigError, match="mini.pt hold no tensors by name"):
        build_segmenter("mini", str(tmp_path / "mini.pt"))


@pytest.mark.parametrize("name", ["mini", "hf_mini"])
def test_weights_of_another_size_are_named_in_one_line(tmp_path, name):
    if name == "hf_mini":
        needs_sam2_video()
    torch.save({"model": build_sam2(TINY).state_dict()}, tmp_path / "tiny.pt")
    with pytest.raises(
        ConfigError, match=r"same size and generation\? \d+ tensors differ"
    ) as caught:
        build_segmenter(name, str(tmp_path / "tiny.pt"))
    assert len(str(caught.value)) < 600 and "tiny.pt" in str(caught.value)


@pytest.mark.parametrize(
    "name, weights, message",
    [
        ("sam2.1_hiera_tiny", None, "needs weights"),
        ("mini", "nowhere.pt", "do not exist"),
        ("sam2.1_hiera_tinny", None, "did you mean 'sam2.1_hiera_tiny'"),
    ],
)
def test_what_cannot_be_built_says_why(name, weights, message):
    with pytest.raises(ConfigError, match=message):
        build_segmenter(name, weights)
