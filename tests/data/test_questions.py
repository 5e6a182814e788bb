"""Word pieces of questions: equal to BERT's own tokenizer with the eight pieces SAMA adds."""

from __future__ import annotations

import pytest

from sama_plugin.data.questions import (
    ADDED_PIECES,
    SHAPE_ROW,
    TEXT,
    VISUAL_ROW,
    WordpieceQuestions,
    question_reader,
)
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import ConfigError
from sama_plugin.model.config import AggregatorConfig
from tests.tiny_vocabulary import SIZE, write_vocabulary


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("bert") / "vocab.txt")


@pytest.mark.parametrize(
    "words",
    [
        f"What does the person {REGION_MARK} do with {REGION_MARK}?",
        f"{REGION_MARK}",
        "How old is the CAFÉ's walking unknowable person?",
        f"Walks, the\n\tperson {REGION_MARK}{REGION_MARK} .",
        "",
    ],
)
def test_equal_to_berts_own_tokenizer(vocabulary, words):
    from transformers import BertTokenizer

    bert = BertTokenizer(str(vocabulary), do_lower_case=True)
    bert.add_special_tokens({"bos_token": ADDED_PIECES[0]})
    bert.add_tokens(list(ADDED_PIECES[1:]), special_tokens=True)
    expected = bert(words.replace(REGION_MARK, "<vp><mask><pos></vp>"))["input_ids"]
    question = WordpieceQuestions(vocabulary).read(words)
    mask, pos = SIZE + 1, SIZE + 2
    rows = {VISUAL_ROW: mask, SHAPE_ROW: pos}
    found = [rows.get(kind, number) for number, kind in zip(question.ids, question.kinds)]
    assert found == expected
    assert question.kinds.count(VISUAL_ROW) == words.count(REGION_MARK)


def test_typed_marks_stay_words(vocabulary):
    question = WordpieceQuestions(vocabulary).read("<mask> [SEP] </p>")
    assert set(question.kinds) == {TEXT} and max(question.ids) < SIZE
    assert question.ids.count(102) == 1


def test_long_questions_lose_their_first_words_and_no_region(vocabulary):
    words = f"{REGION_MARK} {'what ' * 30} old {REGION_MARK}?"
    whole = WordpieceQuestions(vocabulary).read(words)
    short = WordpieceQuestions(vocabulary, most=14).read(words)
    assert len(short.ids) == 14 and short.kinds.count(SHAPE_ROW) == 2
    assert short.ids[:5] == whole.ids[:5] and short.ids[-8:] == whole.ids[-8:]


def test_other_vocabularies_are_refused(vocabulary, tmp_path):
    (tmp_path / "short.txt").write_text("[PAD]\n[CLS]\n")
    with pytest.raises(ConfigError, match=r"2 different pieces without \[SEP\], \[UNK\]"):
        WordpieceQuestions(tmp_path / "short.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        WordpieceQuestions(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="aggregator.vocabulary"):
        question_reader(AggregatorConfig(question="wordpiece"))
    assert question_reader(AggregatorConfig()) is None
    assert question_reader(AggregatorConfig(question="wordpiece", kind="none")) is None
