"""Meta's and transformers' SAM2 are the same network under a table of names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from sama_plugin.errors import CheckpointError, ConfigError
from sama_plugin.segment.base import Prompt, build_segmenter
from sama_plugin.segment.following import STOCK
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.sam2_hf_config import build_hf_sam2
from sama_plugin.segment.sam2_names import TABLE, to_hf, to_meta
from sama_plugin.segment.sizes import SIZES, Sam2Sizes, build_sam2
from sama_plugin.segment.store import FeatureStore

from .golden_cases import BACKENDS, needs_sam2_video
from .test_propagate import OBJECTS
from .tiny import TINY, noise_video

GENERATIONS = ["2.0", "2.1"]


@pytest.fixture(autouse=True)
def both_installed():
    """Nothing here means anything without transformers' side."""
    needs_sam2_video()


def random_state(sizes: Sam2Sizes) -> dict:
    """Weights of a tiny SAM2; what is made as zeros is random too, so that nothing hides."""
    torch.manual_seed(5)
    state = build_sam2(sizes).state_dict()
    drawn = {n: 0.02 * torch.randn_like(v) if not v.any() else v for n, v in state.items()}
    drawn["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 2.0
    return drawn


def both(generation: str = "2.1"):
    state = random_state(replace(TINY, generation=generation))
    return [make(replace(TINY, generation=generation), state) for make in BACKENDS.values()]


def agree(one, other, atol=2e-4):
    for name, value in vars(one).items():
        torch.testing.assert_close(getattr(other, name), value, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_name_has_its_place_and_returns(generation):
    state = random_state(replace(TINY, generation=generation))
    hf = to_hf(state)
    build_hf_sam2(replace(TINY, generation=generation)).load_state_dict(hf)  # strict
    back = to_meta(hf)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", ["mini", "sam2_hiera_tiny", "sam2.1_hiera_tiny"])
def test_sizes_in_use_have_the_same_tensors(name):
    with torch.device("meta"):
        hf = to_meta(build_hf_sam2(SIZES[name]).state_dict())
    meta = build_sam2(SIZES[name]).state_dict()
    assert {n: v.shape for n, v in hf.items()} == {n: v.shape for n, v in meta.items()}


def test_the_table_is_one_to_one():
    for side in zip(*TABLE):
        assert len(set(side)) == len(side)


@pytest.mark.parametrize(
    "convert, change, word",
    [
        (to_hf, {"sam_mask_decoder.extra.weight": torch.zeros(1)}, "sam_mask_decoder.extra"),
        (to_meta, {"mask_decoder.extra.weight": torch.zeros(1)}, "mask_decoder.extra"),
        (
            to_meta,
            {
                "shared_image_embedding.positional_embedding": torch.zeros(2, 2),
                "prompt_encoder.shared_embedding.positional_embedding": torch.ones(2, 2),
            },
            "differ",
        ),
        (to_hf, {"sam_prompt_encoder.point_embeddings.1.weight": torch.zeros(1, 4)}, "1 of the"),
    ],
)
def test_what_cannot_be_converted_says_why(convert, change, word):
    with pytest.raises(CheckpointError, match=word):
        convert(change)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_both_encode_decode_adopt_and_remember_alike(generation):
    meta, hf = both(generation)
    frames = noise_video(2).array
    seen, features = (segmenter.encode(segmenter.preprocess(frames)) for segmenter in (meta, hf))
    for name in ("embedding", "position", "high_res"):
        torch.testing.assert_close(getattr(features, name), getattr(seen, name), atol=1e-4, rtol=0)
    one = torch.ones(2, 1, dtype=torch.int32)
    prompts = [
        Prompt(),
        Prompt(torch.rand(2, 1, 2) * 64, one),
        Prompt.box(torch.tensor([[4.0, 4, 30, 30], [9, 9, 60, 50]])),
        Prompt(vectors=torch.randn(2, 2, 32)),
        Prompt(mask=torch.randn(2, 1, 16, 16)),
    ]
    for prompt in prompts:
        for keys in ({}, {"multimask": False}, {"multimask": False, "stability_fallback": False}):
            found = meta.decode(seen, prompt, **keys)
            agree(found, hf.decode(seen, prompt, **keys))
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, 16:48, 16:48] = 1
    agree(meta.adopt(seen, masks), hf.adopt(seen, masks))
    score, logits = torch.tensor([1.0, -1.0]), torch.randn(2, 1, 64, 64)
    for binarise in (True, False):
        keys = {"binarise": binarise}
        agree(meta.remember(seen, logits, score, **keys), hf.remember(seen, logits, score, **keys))
    points = torch.rand(3, 2) * 64
    torch.testing.assert_close(hf.embed_clicks(points), meta.embed_clicks(points))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_both_propagate_alike(generation):
    runs = []
    for segmenter in both(generation):
        store = FeatureStore(segmenter, noise_video(9))
        runs.append(list(propagate(segmenter, store, OBJECTS, 9, options=STOCK)))
    for one, other in zip(*runs):
        assert (one.frame, one.objects) == (other.frame, other.objects)
        for name in ("logits", "iou", "score", "pointer"):
            torch.testing.assert_close(
                getattr(other, name), getattr(one, name), atol=2e-3, rtol=1e-3
            )


def test_transformers_backend_handles_empty_batches_and_copies():
    hf = both()[1]
    copy = hf.clone_mask_decoder()
    features = hf.encode(torch.zeros(0, 3, 64, 64))
    vectors = torch.zeros(0, 1, 32, requires_grad=True)
    decoded = hf.decode(features, Prompt(vectors=vectors), mask_decoder=copy)
    assert decoded.logits.shape == (0, 1, 16, 16)
    (decoded.all_logits.sum() + decoded.iou.sum() + decoded.score.sum() + vectors.sum()).backward()
    unused = {name for name, p in copy.named_parameters() if p.grad is None}
    assert unused == set(hf.decoder_parameters_unused_by_vectors)


def test_each_backend_reads_the_others_file(tmp_path):
    torch.manual_seed(0)
    meta = build_segmenter("mini", "random")
    ours, theirs = tmp_path / "meta.safetensors", tmp_path / "model.safetensors"
    save_file(meta.module.state_dict(), str(ours))
    hf = build_segmenter("hf_mini", str(ours))
    hf.module.save_pretrained(str(tmp_path))
    assert theirs.exists()
    again = build_segmenter("mini", str(tmp_path))
    assert again.fingerprint == meta.fingerprint
    assert hf.fingerprint == "hf_" + meta.fingerprint
    with pytest.raises(ConfigError, match="does not fit"):
        build_segmenter("hf_sam2.1_hiera_tiny", str(ours))
    theirs.write_bytes(theirs.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        build_segmenter("hf_mini", str(tmp_path))
