"""Token ids of whole samples and of single questions, against the host's own template and against
each other.
"""

from __future__ import annotations

import dataclasses

import pytest

from sama_plugin.data.encode import Encoder
from sama_plugin.data.questions import SHAPE_ROW, TEXT, VISUAL_ROW
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.dialog.spans import IGNORE, Layout
from sama_plugin.errors import DataError, SlotError
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.media.frames import FramePlan
from sama_plugin.model.importers.description import TEMPLATES
from tests.data.factories import grounded_sample, plain_sample, text_sample
from tests.tiny_tokenizer import tiny_tokenizer

PLAN = FramePlan(total=12, aggregator=(1, 4, 7, 10), llm=(1, 7), prompted=(3, 9), extra=(3,))
CHAT = FramePlan(total=12, aggregator=(), llm=(3, 9), prompted=())
NOTHING = FramePlan(total=0, aggregator=(), llm=(), prompted=())
IMAGE = "<IMG_CONTEXT>" * 4


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), tokens_per_frame=4)


def decode(encoder, ids):
    return encoder.text.tokenizer.decode(ids)


def test_the_whole_text(encoder):
    encoded = encoder.encode(grounded_sample("clip.npy"), PLAN)
    assert decode(encoder, encoded.input_ids) == (
        f"<|im_start|>user\nFrame1: <img>{IMAGE}</img>\nFrame2: <img>{IMAGE}</img>\n"
        "<|context|><|context|><|context|><|context|>\n"
        "what does <vp><|region|><|region|></vp> do?<|im_end|>\n<|im_start|>assistant\n"
        "<p> the red ball </p> [SEG] runs.<|im_end|>\n"
        "<|im_start|>user\n<|context|><|context|><|context|><|context|>\n"
        "and the cup?<|im_end|>\n<|im_start|>assistant\n"
        "<p> the cup </p> [SEG] stops behind <p> the ball </p> [SEG].<|im_end|>"
    )
    assert {kind: len(found) for kind, found in encoded.layout.slots.items()} == {
        "image": 8,
        "region": 2,
        "context": 8,
        "seg": 3,
    }


def test_labels_are_the_answers_and_their_ends(encoder):
    encoded = encoder.encode(grounded_sample("clip.npy"), PLAN)
    supervised = [token for token in encoded.labels if token != IGNORE]
    assert decode(encoder, supervised) == (
        "<p> the red ball </p> [SEG] runs.<|im_end|>"
        "<p> the cup </p> [SEG] stops behind <p> the ball </p> [SEG].<|im_end|>"
    )
    pairs = zip(encoded.input_ids, encoded.labels)
    assert all(label in (IGNORE, token) for token, label in pairs)
    seg = [encoded.labels[position] for position in encoded.layout.slots["seg"]]
    assert seg == [encoder.ids.seg] * 3


def test_plain_chat_is_the_hosts_own_prompt(encoder):
    """With typed marks split, everything else is bit-equal to the host's template and tokenizer."""
    sample = Sample(
        "x", Media("video", "c"), (Turn("what runs?\n a dog", "the dog."), Turn("hm", "a"))
    )
    prefix = encoder.adapter.visual_prefix(2, 4, True)
    messages = []
    for number, turn in enumerate(sample.turns):
        text = (prefix if number == 0 else "") + turn.user
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": turn.assistant})
    expected = encoder.text.tokenizer.apply_chat_template(messages, return_dict=False)
    found = encoder.encode(sample, CHAT).input_ids
    closing = encoder.text.literal(encoder.template.assistant_close)
    assert found + closing == list(expected)


def test_typed_marks_stay_text_without_targets(encoder):
    encoded = encoder.encode(plain_sample("clip.npy"), CHAT)
    ours = set(encoder.ids.in_order())
    assert not ours & set(encoded.input_ids)
    assert "a mark such as <p> or [SEG]." in decode(encoder, encoded.input_ids)


def test_typed_marks_stay_text_in_grounded_questions(encoder):
    sample = grounded_sample("clip.npy")
    turn = dataclasses.replace(sample.turns[0], user="is [SEG] or <img> at <region>?")
    sample = dataclasses.replace(sample, turns=(turn, sample.turns[1]))
    encoded = encoder.encode(sample, PLAN)
    assert len(encoded.layout.slots["seg"]) == 3 and len(encoded.layout.slots["image"]) == 8


def test_text_only_with_system(encoder):
    text = decode(encoder, encoder.encode(text_sample(), NOTHING).input_ids)
    assert text == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nhi<|im_end|>\n<|im_start|>user\nagain<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|>"
    )


def test_several_images_stand_where_they_are_mentioned(encoder):
    media = Media("images", ("a.png", "b.png"))
    sample = Sample("x", media, (Turn("A: <image>\nB: <image> same?", "no"),))
    plan = FramePlan(total=2, aggregator=(), llm=(0, 1), prompted=())
    text = decode(encoder, encoder.encode(sample, plan).input_ids)
    assert f"A: <img>{IMAGE}</img>\nB: <img>{IMAGE}</img>\n same?" in text


def test_asking_turn_by_turn_gives_the_same_ids(encoder):
    """A session never re-tokenises; what it assembles equals the conversation encoded at once."""
    sample = grounded_sample("clip.npy")
    layout = Layout()
    for number, turn in enumerate(sample.turns):
        layout.extend(encoder.ask(turn, PLAN, sample.media, first=number == 0))
        layout.extend(encoder.answer(turn))
    whole = encoder.encode(sample, PLAN).layout
    assert layout.ids == whole.ids and layout.slots == whole.slots


def test_an_unanswered_turn_ends_with_the_generation_prompt(encoder):
    sample = Sample("x", Media("video", "c"), (Turn("what?"),))
    encoded = encoder.encode(sample, PLAN)
    assert decode(encoder, encoded.input_ids).endswith("<|im_start|>assistant\n")
    assert set(encoded.labels) == {IGNORE}


def test_questions_have_two_rows_a_region(encoder):
    question = encoder.question("what does <region> do behind <region>?")
    kinds = [kind for kind in question.kinds if kind != TEXT]
    assert kinds == [VISUAL_ROW, SHAPE_ROW] * 2
    assert all((kind == TEXT) == bool(token) for token, kind in zip(question.ids, question.kinds))
    words = [token for token, kind in zip(question.ids, question.kinds) if kind == TEXT]
    assert decode(encoder, words) == "what does  do behind ?"


def test_questions_are_never_empty(encoder):
    assert encoder.question("").ids


def test_long_questions_lose_their_first_words_and_no_region():
    encoder = Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), 4, max_question=8)
    question = encoder.question("<region> what does the dog do behind the cup? <region>")
    whole = Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), 4).question(
        "<region> what does the dog do behind the cup? <region>"
    )
    assert len(question.ids) == 8 < len(whole.ids)
    assert [kind for kind in question.kinds if kind] == [VISUAL_ROW, SHAPE_ROW] * 2
    words = [token for token, kind in zip(whole.ids, whole.kinds) if kind == TEXT]
    kept = [token for token, kind in zip(question.ids, question.kinds) if kind == TEXT]
    assert kept == words[-4:]


def test_an_end_of_words_is_learnt_with_its_answer():
    """Phi-3's marks on a tokenizer that does not know them: one run of text, as it is generated."""
    encoder = Encoder(tiny_tokenizer(TEMPLATES["phi3_chat"], plugin=True), InternVLAdapter(), 4)
    layout = encoder.encode(plain_sample("clip.npy"), CHAT).layout
    learnt = [one for one, label in zip(layout.ids, layout.labels) if label != IGNORE]
    assert learnt == encoder.text.plain("a mark such as <p> or [SEG].<|end|>")
    assert decode(encoder, layout.ids).endswith(
        "what is [SEG]?<|end|>\n<|assistant|>\na mark such as <p> or [SEG].<|end|>"
    )


def test_too_long_names_the_sample():
    encoder = Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), 4, max_length=20)
    with pytest.raises(DataError, match="grounded.*at most 20") as caught:
        encoder.encode(grounded_sample("clip.npy"), PLAN)
    assert caught.value.reason == "too_long"


def test_a_placeholder_in_the_wrong_place_is_a_slot_error():
    class Wordy(InternVLAdapter):
        def visual_prefix(self, frames, tokens, video):
            return super().visual_prefix(frames + 1, tokens, video)

    encoder = Encoder(tiny_tokenizer(plugin=True), Wordy(), tokens_per_frame=4)
    with pytest.raises(SlotError, match="'grounded': 12 image slots.*8 planned"):
        encoder.encode(grounded_sample("clip.npy"), PLAN)
