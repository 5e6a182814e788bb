"""One batch of every kind of sample: what each index points at, and that order and neighbours do
not matter.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sama_plugin.data.collate import Collator
from sama_plugin.data.encode import Encoder
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import DataError
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.hosts.internvl.preprocess import pixels
from sama_plugin.media.frames import FramePlan, FramePolicy
from sama_plugin.media.masks import resize_area
from sama_plugin.media.prompts import RegionPrompt
from tests.data.factories import (
    FRAMES,
    grounded_sample,
    plain_sample,
    region,
    square,
    text_sample,
    track,
    write_clip,
)
from tests.tiny_tokenizer import tiny_tokenizer

GRID = (2, 2)
POLICY = FramePolicy(aggregator=4, llm=2, prompted=3)
CHAT = FramePolicy(aggregator=0, llm=2, prompted=3)
TOKENIZER = tiny_tokenizer(plugin=True)
ENCODER = Encoder(TOKENIZER, InternVLAdapter(), tokens_per_frame=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.npy")


def collator(**changes):
    settings = dict(
        encoder=ENCODER,
        pixels=lambda frames: pixels(frames, 8),
        segment_pixels=lambda frames: pixels(frames, 16),
        grid=GRID,
        frames=POLICY,
        shape_size=6,
        label_size=8,
        pad_id=TOKENIZER.pad_token_id,
    )
    return Collator(**{**settings, **changes})


@pytest.fixture
def batch(source):
    return collator()([grounded_sample(source), (plain_sample(source), CHAT), text_sample()])


def test_sequences_are_padded_on_the_right(batch):
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert ids.shape == mask.shape == labels.shape
    for row, real in enumerate(mask.sum(1).tolist()):
        assert mask[row, :real].all() and not mask[row, real:].any()
        assert (ids[row, real:] == TOKENIZER.pad_token_id).all()
        assert (labels[row, real:] == IGNORE).all()


def test_frames(batch):
    sama = batch["sama"]
    rows = [1, 3, 4, 7, 10]  # four for the aggregator, and frame 3 for the region
    assert sama.frame_index.tolist() == rows + [3, 9]
    assert sama.frame_owner.tolist() == [0] * 5 + [1] * 2
    assert sama.frame_index[sama.aggregator_rows].tolist() == [1, 4, 7, 10]
    assert sama.frame_index[sama.keep_rows].tolist() == [4, 10, 3, 9]
    assert batch["pixel_values"].shape == (7, 3, 8, 8)
    assert (sama.frame_time.diff()[:4] > 0).all()
    assert sama.sample_ids == ["grounded", "plain", "text"]


def test_pixels_are_those_of_the_frames(batch, source):
    clip = np.load(source)
    expected = pixels(clip[batch["sama"].frame_index.numpy()], 8)
    assert torch.equal(batch["pixel_values"], expected)


def test_slots_agree_with_the_batch(batch):
    sama, ids = batch["sama"], batch["input_ids"]
    image = TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert (ids == image).sum() == 4 * len(sama.keep_rows)
    assert (ids == ENCODER.ids.region).sum() == 2 * sama.regions
    contexts = [(sama.frame_owner[sama.aggregator_rows] == p).sum() for p in sama.prompt_owner]
    assert (ids == ENCODER.ids.context).sum() == sum(contexts)
    assert (ids == ENCODER.ids.seg).sum() == len(sama.target_owner)


def test_only_turns_with_context_or_regions_are_prompts(batch, source):
    assert batch["sama"].prompt_owner.tolist() == [0, 0]
    pointed = dataclasses.replace(grounded_sample(source), id="chat")
    sama = collator()([(pointed, CHAT)])["sama"]
    assert sama.prompt_owner.tolist() == [0], "its second turn has neither"
    assert len(sama.aggregator_rows) == 0 and sama.regions == 1


def test_questions_are_padded(batch):
    sama = batch["sama"]
    lengths = sama.question_mask.sum(1).tolist()
    for row, turn in enumerate(grounded_sample("x").turns):
        question = ENCODER.question(turn.user)
        assert lengths[row] == len(question.ids)
        assert sama.question_ids[row, : lengths[row]].tolist() == list(question.ids)
        assert sama.question_kind[row, : lengths[row]].tolist() == list(question.kinds)
    assert sama.region_prompt.tolist() == [0]


def test_region_entries(source):
    sample = grounded_sample(source, region=region(3, 7))
    sama = collator()([text_sample(), sample])["sama"]
    assert sama.entry_owner.tolist() == [0, 0]
    assert sama.frame_index[sama.entry_row].tolist() == [3, 7]
    for row, frame in enumerate((3, 7)):
        grid = torch.from_numpy(resize_area(square(frame), *GRID)).reshape(-1)
        assert torch.equal(sama.entry_weights[row], grid)
        assert torch.equal(
            sama.entry_shape[row], torch.from_numpy(resize_area(square(frame), 6, 6))
        )


def test_mask_labels(batch):
    sama = batch["sama"]
    # prompted frames of three parts of 12: 2, 6, 10; the unknown target has no entry
    assert sama.segment_pixels.shape == (3, 3, 16, 16)
    assert sama.target_owner.tolist() == [0, 0, 0]
    assert sama.label_target.tolist() == [0, 0, 0, 2, 2, 2]
    assert sama.label_segment.tolist() == [0, 1, 2, 0, 1, 2]
    assert sama.label_present.tolist() == [True, True, False, True, True, True]
    areas = sama.label_mask.mean((1, 2))
    expected = [square(f).mean() for f in (2, 6)] + [0] + [square(f).mean() for f in (2, 6, 10)]
    assert torch.allclose(areas, torch.tensor(expected, dtype=torch.float32))


def test_prompted_frames_move_to_known_ones(source):
    sample = grounded_sample(source, track=track(known=(0, 5, 11)))
    prepared = collator().prepare(sample)
    assert prepared.clip.plan.prompted == (0, 5, 11)
    assert tuple(prepared.clip.segments) == (0, 5, 11)


def test_no_segmenter_frames_without_known_masks(source):
    sample = grounded_sample(source)
    turn = dataclasses.replace(sample.turns[1], targets=(sample.turns[1].targets[0],) * 2)
    unknown = dataclasses.replace(sample, turns=(dataclasses.replace(turn, user="cup?"),))
    sama = collator()([unknown])["sama"]
    assert sama.segment_pixels.shape == (0, 3, 16, 16) and len(sama.target_owner) == 2
    assert sama.label_mask.shape == (0, 8, 8) and sama.label_present.shape == (0,)
    plain = collator()([plain_sample(source), text_sample()])["sama"]
    assert plain.segment_pixels is None and plain.target_owner is None
    without = collator(segment_pixels=None)([sample])["sama"]
    assert without.segment_pixels is None


def test_text_alone_has_no_pixels():
    batch = collator()([text_sample()])
    assert "pixel_values" not in batch
    assert batch["sama"].frame_owner.shape == (0,) and batch["sama"].question_ids.shape == (0, 1)
    assert batch["sama"].entry_weights.shape == (0, 4)


def test_without_aggregator_there_is_no_context(source):
    batch = collator(context=False)([grounded_sample(source)])
    assert not (batch["input_ids"] == ENCODER.ids.context).any()
    assert len(batch["sama"].aggregator_rows) == 0


def test_a_region_nowhere_to_be_seen_has_no_entry(source):
    sample = grounded_sample(source, region=Region(()))
    sama = collator()([sample])["sama"]
    assert sama.regions == 1 and sama.entry_owner.shape == (0,)


def test_a_given_plan_is_used(source):
    plan = FramePlan(total=FRAMES, aggregator=(0, 5), llm=(5,), prompted=(2,), extra=(3,))
    sama = collator()([(grounded_sample(source), plan)])["sama"]
    assert sama.frame_index.tolist() == [0, 3, 5]
    wrong = dataclasses.replace(plan, total=FRAMES + 1)
    with pytest.raises(DataError, match="another clip"):
        collator()([(grounded_sample(source), wrong)])


def test_order_of_samples_only_moves_blocks(source):
    first, second = grounded_sample(source), grounded_sample(source, name="other", region=region(8))
    one, two = collator()([first, second]), collator()([second, first])
    assert torch.equal(one["input_ids"], two["input_ids"].flip(0))
    rows = one["sama"].frame_owner == 0
    assert torch.equal(one["pixel_values"][rows], two["pixel_values"][two["sama"].frame_owner == 1])
    swapped = two["sama"].entry_owner.flip(0)
    assert torch.equal(one["sama"].entry_weights, two["sama"].entry_weights[swapped])


def test_several_images_of_different_sizes(tmp_path):
    from PIL import Image

    paths = []
    for number, size in enumerate([(20, 10), (8, 30)]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", size, (10 * number, 0, 0)).save(paths[-1])
    sample = Sample("i", Media("images", tuple(paths)), (Turn("<image> <image> same?", "no"),))
    batch = collator()([sample])
    assert batch["pixel_values"].shape == (2, 3, 8, 8)
    assert batch["sama"].keep_rows.tolist() == [0, 1]


@pytest.mark.parametrize(
    "prompt,message",
    [
        (RegionPrompt.from_mask(FRAMES, square(0)), "the clip has 12 frames"),
        (RegionPrompt.from_mask(3, np.ones((4, 4), bool)), "4 x 4"),
        (RegionPrompt.from_box(3, (0, 0, 500, 4)), "leaves the frame"),
    ],
)
def test_regions_that_do_not_fit_name_the_sample(source, prompt, message):
    with pytest.raises(DataError, match=f"grounded.*{message}"):
        collator()([grounded_sample(source, region=Region((prompt,)))])


def test_media_that_went_away_names_the_sample(tmp_path):
    with pytest.raises(DataError, match="grounded"):
        collator()([grounded_sample(str(tmp_path / "gone.npy"))])


def test_masks_of_another_size_name_the_sample(source):
    small = track()
    small = type(small).from_masks(np.ones((FRAMES, 4, 4), bool))
    with pytest.raises(DataError) as caught:
        collator()([grounded_sample(source, track=small)])
    assert (caught.value.record, caught.value.reason) == ("grounded", "size_mismatch")
