"""The end of an answer as a token and as words: found, held back, completed."""

from __future__ import annotations

import pytest

from sama_plugin.dialog.stops import Stop
from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.model.importers.description import TEMPLATES
from tests.tiny_tokenizer import tiny_tokenizer

PHI3, CHATML = TEMPLATES["phi3_chat"], TEMPLATES["qwen_chat"]
END = "<|end|>"


def stop_of(template):
    tokenizer = tiny_tokenizer(template, plugin=True)
    encoder = TextEncoder(tokenizer)
    return Stop.of(ChatTemplate.probe(tokenizer), encoder), encoder


def test_words_end_an_answer_where_the_template_has_no_token():
    stop, encoder = stop_of(PHI3)
    assert stop.text == END and len(stop.end) > 1
    assert stop.ids == (encoder.tokenizer.eos_token_id,)
    template = ChatTemplate.probe(encoder.tokenizer)
    assert (template.end, template.assistant_close) == (END, "\n")
    assert (template.user_open, template.assistant_open) == (
        "<|user|>\n",
        "<|end|>\n<|assistant|>\n",
    )


def test_a_token_ends_an_answer_where_there_is_one():
    stop, encoder = stop_of(CHATML)
    end = encoder.ids["<|im_end|>"]
    assert stop == Stop((end,), "", (end,))
    tokenizer = tiny_tokenizer(PHI3)
    tokenizer.add_tokens([END], special_tokens=True)
    known = Stop.of(ChatTemplate.probe(tokenizer), TextEncoder(tokenizer))
    assert (known.text, len(known.ids)) == ("", 1)


@pytest.mark.parametrize("words", ["", "a dog", "a < b, then <|", "ends in <|en, not", "é漢"])
def test_the_end_is_reached_with_its_last_token_only(words):
    stop, encoder = stop_of(PHI3)
    said = encoder.plain(words + END)
    reached = [stop.reached(encoder.tokenizer, said[: n + 1]) for n in range(len(said))]
    assert reached == [False] * (len(said) - 1) + [True]
    assert stop.reached(encoder.tokenizer, [*said[:1], *stop.ids])


@pytest.mark.parametrize(
    "text, before",
    [
        ("a dog<|end|>", "a dog"),
        ("a dog<|end|>\nmore", "a dog"),
        ("a dog<|en", "a dog"),
        ("a <b", "a <b"),
        ("a <", "a "),
        ("", ""),
    ],
)
def test_what_stands_before_the_end(text, before):
    assert stop_of(PHI3)[0].before(text) == before
    assert stop_of(CHATML)[0].before(text) == text


@pytest.mark.parametrize("cut", range(9))
def test_a_cut_answer_gets_the_rest_of_its_end(cut):
    stop, encoder = stop_of(PHI3)
    said = encoder.plain("the cup stops" + END)
    kept = said[: len(said) - cut]
    whole = stop.completed(encoder, kept, stopped=cut == 0)
    assert list(whole[: len(kept)]) == kept
    text = encoder.tokenizer.decode(whole)
    assert text == encoder.tokenizer.decode(kept).split("<")[0] + END


def test_the_tokenizers_own_end_makes_way_for_the_templates():
    stop, encoder = stop_of(PHI3)
    said = encoder.plain("the cup")
    assert stop.completed(encoder, [*said, *stop.ids], True) == (*said, *stop.end)
    assert stop.completed(encoder, [], False) == stop.end
