"""Every region encoder in sessions and in training: the same numbers on both paths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import ConfigError
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from sama_plugin.model.config import AggregatorConfig, RegionConfig
from sama_plugin.train.material import collator
from tests.model.conftest import tiny_config

KINDS = ("sama", "videorefer", "pixelrefer", "sa2va")


def attached(kind, **changes):
    region = RegionConfig(kind=kind, shape_size=16, shape_hidden=16, unions=2, cells=5)
    if kind == "sa2va":
        changes["aggregator"] = AggregatorConfig(kind="none")
    return attach(*tiny_host(seed=0), tiny_config(region=region, **changes))


def talk(session):
    """A thing on three frames, two of them outside the plan, and a small one, twice."""
    square = [
        RegionPrompt.from_box(frame, (4 + 4 * frame, 10, 18 + 4 * frame, 22)) for frame in (0, 2, 5)
    ]
    session.region("square", prompts=square)
    session.region("dot", frame=3, points=[(50, 40)])
    session.ask("what do @square and @dot do?", masks=False, max_new_tokens=12)
    session.ask("and @dot?", masks=False, max_new_tokens=12)


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_equal_the_training_path_and_every_parameter_learns(kind, clip, tmp_path):
    sama = attached(kind)
    np.save(tmp_path / "clip.npy", clip)
    with VideoSession(sama, clip) as session:
        talk(session)
        cached = torch.cat([turn.seg_states for turn in session.turns])
        turns = tuple(
            Turn(turn.words, sama.tokenizer.decode(turn.answer_ids), turn.regions)
            for turn in session.turns
        )
        extra = {frame for turn in session.turns for frame in turn.plan.extra}
        plan = dataclasses.replace(session.plan, extra=tuple(sorted(extra)))
        ids = torch.tensor([session.ids])
        crops = 0 if kind != "pixelrefer" else 4
        assert session.encodes[0] == len(plan.rows) + crops
    sample = Sample("replay", Media("video", str(tmp_path / "clip.npy")), turns)
    batch = collator(sama)([(sample, plan)])
    assert int((ids == sama.ids.region).sum()) == batch["sama"].region_vectors
    inputs = {"attention_mask": torch.ones_like(ids), "pixel_values": batch["pixel_values"]}
    with sama.call(batch["sama"]) as call:
        sama.host(input_ids=ids, **inputs, use_cache=False)
        states = sama.seg_states(call)
    assert len(cached) > 0 and torch.allclose(states, cached, atol=1e-5)

    sama.host.train()
    sama.mark_trainable()
    del batch["attention_mask"]
    sama.host(**batch).loss.backward()
    grads = {name: p.grad for name, p in sama.modules.region.named_parameters()}
    assert all(grad is not None for grad in grads.values())
    still = {name for name, grad in grads.items() if not grad.any()}
    # Without an absent region nothing is absent; a residual layer that starts at zero hides the
    # one before it.
    assert all("absent" in name or name.startswith("feat_linear.0") for name in still)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_regions_gives_zero_gradients(kind, clip, tmp_path):
    sama = attached(kind)
    np.save(tmp_path / "clip.npy", clip)
    media = Media("video", str(tmp_path / "clip.npy"))
    sample = Sample("plain", media, (Turn("what is red?", "the square"),))
    sama.mark_trainable()
    sama.host(**collator(sama)([sample])).loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in sama.modules.region.parameters())


def test_released_videorefer_works_in_sessions_and_refuses_to_train(clip, tmp_path):
    sama = attached("videorefer", compat="released")
    with VideoSession(sama, clip) as session:
        talk(session)
        turn = session.turns[0]
        slots = turn.prompt_ids.count(sama.ids.region)
        assert 2 <= slots <= 3 and len(session.answers) == 2
        regions = turn.regions
    np.save(tmp_path / "clip.npy", clip)
    media = Media("video", str(tmp_path / "clip.npy"))
    sample = Sample("x", media, (Turn("<region> and <region>", "words", regions),))
    with pytest.raises(ConfigError, match="cannot be trained"):
        collator(sama)([sample])


def test_a_crop_is_encoded_once_a_video(clip):
    with VideoSession(attached("pixelrefer"), clip) as session:
        talk(session)
        before = session.encodes[0]
        session.ask("@dot and @dot again, and @square?", masks=False, max_new_tokens=12)
        assert session.encodes[0] == before


def test_released_sama_reads_the_released_prompt_and_bias(clip):
    sama = attached("sama", compat="released")
    with VideoSession(sama, clip) as session:
        talk(session)
        first = sama.tokenizer.decode(session.turns[0].prompt_ids)
        assert "Frame" not in first and "<|context|>what do <vp>" in first  # no newline: regions
        session.restart()
        session.ask("what is there?", masks=False, max_new_tokens=12)
        turn = session.turns[0]
        assert "<|context|>\nwhat is" in sama.tokenizer.decode(turn.prompt_ids)
        batch = session._visual.batch([turn], first=True)
    stray = sama.modules._released_bias(batch)
    assert stray.shape == (1, 16) and stray.any()
    sama.modules.train()
    torch.testing.assert_close(sama.modules._released_bias(batch), 1e-6 * stray)
    assert attached("sama").modules._released_bias(batch) is None
