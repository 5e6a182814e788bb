import pytest
from hypothesis import given
from hypothesis import strategies as st

from sama_plugin.dialog.parse import canonical, canonical_question, parse_answer

CASES = [
    ("There is none.", "There is none.", []),
    ("<p> The dog </p> [SEG] runs.", "The dog runs.", [("The dog", 0)]),
    (
        "<p> The dog </p> [SEG], <p> two cups </p> [SEG].",
        "The dog, two cups.",
        [("The dog", 0), ("two cups", 1)],
    ),
    ("Sure, it is [SEG].", "Sure, it is.", [("", 0)]),
    ("[SEG]", "", [("", 0)]),
    ("<p>the cups</p>[SEG][SEG] move", "the cups move", [("the cups", 0), ("the cups", 1)]),
    ("<p> the dog </p> sleeps", "the dog sleeps", [("the dog", None)]),
    ("<p> the dog [SEG] sleeps", "the dog sleeps", [("the dog", 0)]),
    ("the dog </p> [SEG] sleeps", "the dog sleeps", [("", 0)]),
    ("<p> a <p> b </p> [SEG]", "a b", [("a", None), ("b", 0)]),
    ("<p> the dog", "the dog", [("the dog", None)]),
    ("<p> a </p> and [SEG]", "a and", [("a", None), ("", 0)]),
    ("<g_s> the dog <g_e> <seg> runs", "the dog runs", [("the dog", 0)]),
    ("<p> cups </p> <obj1><obj2> move", "cups move", [("cups", 0)]),
    ("<p></p> [SEG]. Yes", ". Yes", [("", 0)]),
    ("", "", []),
]


@pytest.mark.parametrize("text,plain,phrases", CASES, ids=[case[0] or "empty" for case in CASES])
def test_answers(text, plain, phrases):
    answer = parse_answer(text)
    assert answer.plain == plain
    assert [(phrase.text, phrase.seg_index) for phrase in answer.phrases] == phrases


_PIECES = st.sampled_from(
    ["<p>", "</p>", "[SEG]", "<seg>", "<g_s>", "<obj3>", " ", "a", "dog ", ".", "\n", "<", "p>"]
)


@given(st.lists(_PIECES, max_size=14).map("".join))
def test_every_seg_has_one_phrase_and_spans_are_exact(text):
    answer = parse_answer(text)
    assert answer.n_seg == canonical(text).count("[SEG]")
    assert [phrase.seg_index for phrase in answer.grounded] == list(range(answer.n_seg))
    for phrase in answer.phrases:
        assert answer.plain[phrase.start : phrase.end] == phrase.text
        assert phrase.text == phrase.text.strip()
    assert not any(mark in answer.plain for mark in ("[SEG]", "<seg>", "<p>" * 2))


def test_questions_in_the_older_spelling():
    assert canonical_question("How do <mask> and <mask> meet?") == (
        "How do <region> and <region> meet?"
    )
