"""Words from ids: what is streamed equals what is stored, and only real marks are marks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sama_plugin.dialog.parse import parse_answer
from sama_plugin.dialog.tokens import PHRASE_CLOSE, PHRASE_OPEN, SEG, token_ids
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.infer.answers import (
    AnswerStream,
    PhraseEnd,
    PhraseStart,
    TextPiece,
    marked_text,
    read_answer,
)
from tests.tiny_tokenizer import tiny_tokenizer

TOKENIZER = tiny_tokenizer(plugin=True)
IDS = token_ids(TOKENIZER)
ENCODER = TextEncoder(TOKENIZER)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")


def stream(ids):
    events = []
    reader = AnswerStream(TOKENIZER, IDS, events.append)
    for token in ids:
        reader.feed(token)
    reader.finish()
    return events


def words(events):
    return "".join(event.text for event in events if isinstance(event, TextPiece))


ANSWERS = [
    "The <p> red ball </p> [SEG] rolls behind <p> the cup </p> [SEG].",
    "No marks at all, only  words.",
    "<p> dogs </p> [SEG] [SEG] and a <p> cat </p>.",
    "[SEG]",
    "It is <p>here</p>[SEG], <p>there </p> [SEG] !",
    "<p> never closed [SEG] and on",
    "",
    "  héllo <p> 漢字 </p> [SEG] € ",
]


@pytest.mark.parametrize("text", ANSWERS)
def test_streamed_words_are_the_stored_words(text):
    ids = [*ENCODER.literal(text), END]
    answer = read_answer(TOKENIZER, IDS, ids)
    assert answer == parse_answer(text)
    assert words(stream(ids)) == answer.plain


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([PHRASE_OPEN, PHRASE_CLOSE, SEG, " ", "a", " b", ".", ",", "é", "\n"]))
)
def test_any_order_of_marks_streams_as_it_is_parsed(pieces):
    text = "".join(pieces)
    ids = ENCODER.literal(text)
    assert words(stream(ids)) == read_answer(TOKENIZER, IDS, ids).plain == parse_answer(text).plain


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=20))
def test_any_ids_can_be_read(ids):
    answer = read_answer(TOKENIZER, IDS, ids)
    assert words(stream(ids)) == answer.plain
    assert answer.n_seg == ids.count(IDS.seg) == len(answer.grounded)


def test_marks_that_the_model_spells_out_are_text():
    ids = ENCODER.plain("write <p> x </p> [SEG] or <seg>") + [IDS.seg]
    answer = read_answer(TOKENIZER, IDS, ids)
    assert answer.plain == "write <p> x </p> [SEG] or <seg>"
    assert answer.n_seg == 1
    assert marked_text(TOKENIZER, IDS, ids) == "write <p> x </p> [SEG] or <seg>[SEG]"


def test_events_frame_the_phrase():
    events = stream(ENCODER.literal("See <p> the cup </p> [SEG]."))
    start, end = events.index(PhraseStart()), events.index(PhraseEnd("the cup"))
    assert words(events[:start]) == "See "
    assert words(events[start:end]) == "the cup"
    assert words(events[end:]) == "."
