"""A session with caches equals a run that reads all again; errors and interruptions cost
nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sama_plugin.data.collate import Collator
from sama_plugin.data.encode import Encoder
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.errors import MediaError, RegionError, SamaError, SlotError
from sama_plugin.infer.answers import MaskReady, TextPiece
from sama_plugin.infer.grounding import Grounder
from sama_plugin.infer.record import resume_session
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.video import open_video
from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import RELEASED, ObjectPrompt
from sama_plugin.segment.track import track
from tests.infer.conftest import FRAMES, HEIGHT, WIDTH

BOX = (8, 10, 30, 24)
LENGTH = 16


def talk(session, turns=3):
    """A conversation with regions inside and outside the sparse frames, and an earlier mask."""
    session.region("square", frame=1, box=BOX)
    session.region("edge", frame=0, points=[(40, 30)])
    questions = ["what does @square do?", "is @edge near @square ?", "and @1.1 then?"]
    return [session.ask(text, max_new_tokens=LENGTH) for text in questions[:turns]]


def differing(phrases, others):
    """Share of pixels on which two answers' tracks disagree: not quite zero where a logit is."""
    frames = range(FRAMES)
    pairs = [(a.track.tube(frames), b.track.tube(frames)) for a, b in zip(phrases, others)]
    assert pairs and len(phrases) == len(others)
    return np.mean([one != two for one, two in pairs])


def test_cached_turns_equal_a_run_that_reads_everything_again(sama, clip, session, tmp_path):
    talk(session, turns=2)
    path = session.save(tmp_path / "talk.json")
    again = resume_session(sama, path, source=clip)
    assert again.cached_tokens == 0 < session.cached_tokens
    here, there = (one.ask("and @1.1 then?", max_new_tokens=LENGTH) for one in (session, again))
    assert there.ids == here.ids
    assert differing(here.phrases, there.phrases) < 1e-3
    states = [one.turns[-1].seg_states for one in (session, again)]
    assert torch.allclose(*states, atol=1e-5)


def test_states_equal_teacher_forcing_through_pixels_and_the_collator(
    sama, clip, session, tmp_path
):
    """Another path to the same numbers: the training collator, and pixels through the ViT."""
    talk(session)
    np.save(tmp_path / "clip.npy", clip)
    turns = tuple(Turn(turn.words, "x", turn.regions) for turn in session.turns)
    sample = Sample("replay", Media("video", str(tmp_path / "clip.npy")), turns)
    collator = Collator(
        Encoder(sama.tokenizer, sama.adapter, sama.modules.tokens),
        lambda frames: sama.adapter.pixels(frames, sama.host),
        None,
        sama.adapter.grid(sama.host),
        session.plan,
        shape_size=sama.config.region.shape_size,
    )
    extra = tuple({frame for turn in session.turns for frame in turn.plan.extra})
    batch = collator([(sample, dataclasses.replace(session.plan, extra=extra))])
    ids = torch.tensor([session.ids])
    with torch.no_grad(), sama.call(batch["sama"]) as call:
        sama.host(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=batch["pixel_values"],
            use_cache=False,
        )
        states = sama.seg_states(call)
    cached = torch.cat([turn.seg_states for turn in session.turns])
    assert len(cached) > 0
    assert torch.allclose(states, cached, atol=1e-5)


def test_masks_asked_for_later_equal_masks_asked_for_at_once(sama, clip, session, tmp_path):
    at_once = talk(session, turns=1)[0]
    with VideoSession(sama, clip) as later:
        later.region("square", frame=1, box=BOX)
        answer = later.ask("what does @square do?", masks=False, max_new_tokens=LENGTH)
        assert [phrase.track for phrase in answer.phrases] == [None] * len(at_once.phrases)
        path = later.save(tmp_path / "talk.json")
        assert later.tracks(1) == at_once.phrases
    restored = resume_session(sama, path, source=clip)
    assert differing(restored.tracks(1), at_once.phrases) < 1e-3


def test_a_later_turn_reads_only_its_new_tokens(sama, session):
    read = []
    hook = sama.adapter.decoder(sama.host).register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        talk(session, turns=2)
    finally:
        hook.remove()
    first, second = session.turns
    assert sum(read) == session.cached_tokens
    assert session.cached_tokens >= len(session.ids) - 1
    assert read[0] == len(first.prompt_ids)
    assert len(second.prompt_ids) <= max(read[1:]) <= len(second.prompt_ids) + 2


def test_every_frame_is_encoded_once_for_all_objects_and_turns(session):
    answers = talk(session)
    assert sum(len(answer.phrases) for answer in answers) > 1
    vision, segmenter = session.encodes
    assert segmenter == FRAMES
    assert vision == len({frame for turn in session.turns for frame in turn.plan.rows})


def test_tracks_cover_the_clip_at_the_videos_size(session):
    for phrase in talk(session, turns=1)[0].phrases:
        assert phrase.track.size == (HEIGHT, WIDTH)
        assert phrase.track.frames() == tuple(range(FRAMES))
        assert set(phrase.track.scores) == set(phrase.track.ious) == set(range(FRAMES))
        assert 0 <= phrase.score <= 1
        assert session.answers[0].text[phrase.start : phrase.end] == phrase.text != ""


def test_released_masks_pass_through_the_segmenters_input_size(sama, clip, session, monkeypatch):
    session.ask("what moves?", masks=False)
    states, plan = session.seg_states(1), session.plan
    monkeypatch.setattr(sama.config, "compat", "released")
    large = open_video(clip.repeat(5, axis=1).repeat(5, axis=2))
    grounder = Grounder(sama, large)
    vectors = grounder._vectors(states, session.shown, plan)
    objects = [
        ObjectPrompt({frame: Prompt(vectors=one) for frame, one in zip(plan.prompted, row)})
        for row in vectors
    ]

    def masks(options):
        decoder = sama.modules.mask_decoder
        where = sama.segmenter, grounder.store, objects, large.size
        return [one.rles for one in track(*where, options=options, mask_decoder=decoder)]

    found = [one.track.rles for one in grounder.ground(states, session.shown, plan)]
    assert found == masks(RELEASED) != masks(dataclasses.replace(RELEASED, through_input=False))


def test_keyframes_without_the_thing_give_an_empty_track(sama, session):
    last = sama.modules.mask_decoder.pred_obj_score_head.layers[-1]
    before = last.bias.detach().clone()
    with torch.no_grad():
        last.bias -= 1e4
    try:
        phrases = talk(session, turns=1)[0].phrases
    finally:
        with torch.no_grad():
            last.bias.copy_(before)
    assert phrases
    for phrase in phrases:
        assert phrase.track.visible() == ()
        assert phrase.track.frames() == tuple(range(FRAMES))
        assert phrase.score == 0


def test_an_empty_earlier_mask_is_read_as_an_absent_region(sama, session):
    talk(session, turns=1)
    track = session.answers[0].phrases[0].track
    track.rles.update({frame: None for frame in track.rles})
    answer = session.ask("where is @1.1 ?", max_new_tokens=2)
    assert session.turns[-1].regions[0].prompts == ()
    assert answer.ids


def test_a_region_outside_the_plan_is_encoded_and_recorded_in_its_turn(session):
    talk(session, turns=2)
    assert 0 not in session.plan.rows
    assert session.turns[0].plan == session.plan
    assert session.turns[1].plan.extra == (0,)
    assert session.turns[1].plan.aggregator == session.plan.aggregator


def test_without_sparse_frames_the_prompt_is_the_hosts_own(sama, clip):
    with VideoSession(sama, clip, frames=FramePolicy(aggregator=0, llm=2)) as session:
        session.ask("what is it?", max_new_tokens=2)
    prefix = sama.adapter.visual_prefix(2, sama.modules.tokens, True)
    text = sama.tokenizer.apply_chat_template(
        [{"role": "user", "content": prefix + "what is it?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    plain = sama.tokenizer(text, add_special_tokens=False).input_ids
    assert list(session.turns[0].prompt_ids) == plain


def test_without_prompted_frames_words_come_without_masks(sama, clip):
    with VideoSession(sama, clip, frames=FramePolicy(aggregator=4, llm=2, prompted=0)) as session:
        answer = session.ask("what is it?", max_new_tokens=LENGTH)
        assert [phrase.track for phrase in answer.phrases] == [None, None]
        with pytest.raises(SamaError, match="no prompted frames"):
            session.ask("and @1.1 ?")
    assert session.encodes[1] == 0


def test_an_image_is_one_frame(sama, clip):
    with VideoSession(sama, clip[0]) as session:
        answer = session.ask("what is it?", max_new_tokens=LENGTH)
    assert session.plan.rows == (0,)
    assert all(phrase.track.total == 1 for phrase in answer.phrases)


@pytest.mark.parametrize("typed", ["a <p> b </p>", "say [SEG] now", "<|im_end|>"])
def test_marks_typed_by_the_user_stay_text(sama, session, typed):
    session.ask(typed, max_new_tokens=1)
    special = {sama.ids.seg, sama.ids.phrase_open, sama.ids.phrase_close}
    ids = session.turns[0].prompt_ids
    assert not special.intersection(ids)
    assert typed in sama.tokenizer.decode(ids)
    assert ids.count(sama.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("what is <region>?", "placeholder"),
        ("what is <|region|>?", "placeholder"),
        ("<|context|>", "placeholder"),
        ("what is @dgo ?", "did you mean 'dog'"),
        ("what is @1.1 ?", "@dog"),
        ("what is @3.7 ?", "mask 7 of answer 3"),
        ("what is @dog \udcff?", "no UTF-8"),
    ],
)
def test_a_bad_question_is_refused_and_changes_nothing(session, text, words):
    session.region("dog", frame=1, box=BOX)
    with pytest.raises(RegionError, match=words):
        session.ask(text)
    assert session.turns == [] and session.ids == []


@pytest.mark.parametrize(
    "where, error, words",
    [
        ({"frame": 1}, RegionError, "none"),
        ({"frame": 1, "box": BOX, "points": [(1, 1)]}, RegionError, "box, points"),
        ({"box": BOX}, RegionError, "frame= or time="),
        ({"frame": 1, "time": 0.1, "box": BOX}, RegionError, "frame= or time="),
        ({"frame": FRAMES, "box": BOX}, RegionError, "9 frames"),
        ({"time": 99.0, "box": BOX}, MediaError, "99"),
        ({"frame": 1, "box": (0, 0, WIDTH + 1, 5)}, RegionError, "leaves the frame"),
        ({"frame": 1, "box": (5, 5, 5, 9)}, RegionError, "no area"),
        ({"frame": 1, "mask": np.zeros((HEIGHT, WIDTH), bool)}, RegionError, "empty"),
        ({"frame": 1, "mask": np.ones((WIDTH, HEIGHT), bool)}, RegionError, "48 x 64"),
        ({"prompts": [RegionPrompt.from_box(77, BOX)]}, RegionError, "region 'dog'.* 77"),
        ({"prompts": [RegionPrompt.from_box(1, BOX)], "frame": 2}, RegionError, "beside them"),
    ],
)
def test_a_bad_region_is_refused(session, where, error, words):
    with pytest.raises(error, match=words):
        session.region("dog", **where)
    assert session.names == []


@pytest.mark.parametrize("name", ["", "the dog", "1.1", "3dogs", "dog!", "d" * 65, None])
def test_a_name_that_cannot_be_mentioned_is_refused(session, name):
    with pytest.raises(RegionError, match="cannot be mentioned"):
        session.region(name, frame=1, box=BOX)


def test_a_name_is_given_once(session):
    session.region("dog", frame=1, box=BOX)
    with pytest.raises(RegionError, match="named twice"):
        session.region("dog", frame=2, box=BOX)


def test_addresses_mention_nothing(session):
    session.ask("mail me@home.org, please", max_new_tokens=1)
    assert session.turns[0].regions == ()


def test_a_conversation_that_grows_too_long_is_refused(session):
    with pytest.raises(SlotError, match="the host reads"):
        session.ask("what is it?", max_new_tokens=100_000)
    assert session.turns == []


def test_an_answer_has_words_and_a_number(session):
    with pytest.raises(SlotError, match="max_new_tokens is 0"):
        session.ask("what is it?", max_new_tokens=0)
    with pytest.raises(RegionError, match="no answer 1"):
        session.tracks(1)
    assert session.turns == []


def test_more_objects_than_the_cap_leave_the_words(session):
    options = session.video.grounder.options
    session.video.grounder.options = dataclasses.replace(options, most=1)
    with pytest.raises(RegionError, match="2 objects are more than the 1"):
        session.ask("what moves?", max_new_tokens=12)
    assert len(session.answers) == len(session.turns) == 1 and session.answers[0].text
    session.video.grounder.options = options
    assert [phrase.track is not None for phrase in session.tracks(1)] == [True, True]
    assert len(session.ask("and now?", max_new_tokens=12).phrases) == 2


def test_streamed_events_are_the_answer(session, sama, clip):
    events = list(session.stream("what is it?", max_new_tokens=LENGTH))
    with VideoSession(sama, clip) as other:
        answer = other.ask("what is it?", max_new_tokens=LENGTH)
    assert "".join(one.text for one in events if isinstance(one, TextPiece)) == answer.text
    assert tuple(one.phrase for one in events if isinstance(one, MaskReady)) == answer.phrases
    assert session.turns[0].answer_ids == answer.ids


def test_errors_reach_the_reader_of_a_stream(session):
    with pytest.raises(SamaError, match="not named"):
        list(session.stream("where is @nobody ?"))


def test_an_interrupted_turn_leaves_the_conversation_as_it_was(sama, clip, session):
    talk(session, turns=1)

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.ask("is @square left?", max_new_tokens=LENGTH, stream=interrupt)
    events = session.stream("is @square left?", max_new_tokens=LENGTH)
    next(events)
    events.close()
    assert len(session.turns) == 1
    with VideoSession(sama, clip) as other:
        talk(other, turns=1)
        expected = other.ask("and @1.1 then?", max_new_tokens=LENGTH)
    assert session.ask("and @1.1 then?", max_new_tokens=LENGTH).ids == expected.ids


def test_a_restarted_session_answers_like_a_new_one(sama, clip, session):
    first = talk(session, turns=1)[0]
    for _ in range(2):
        session.restart()
    assert session.turns == [] and session.answers == []
    again = session.ask("what does @square do?", max_new_tokens=LENGTH)
    assert again.ids == first.ids
    assert differing(again.phrases, first.phrases) < 1e-3
    assert session.encodes[1] == FRAMES


def test_a_conversation_does_not_continue_on_another_model(sama, session, tmp_path, monkeypatch):
    path = session.save(tmp_path / "talk.json")
    monkeypatch.setattr(sama.adapter, "family", lambda host: "another", raising=False)
    with pytest.raises(SamaError, match="another"):
        resume_session(sama, path)
