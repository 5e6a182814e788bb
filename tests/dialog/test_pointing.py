"""Where the regions of a question stand."""

from __future__ import annotations

import pytest

from sama_plugin.dialog import pointing, spans
from sama_plugin.dialog.wording import TextEncoder
from tests.tiny_tokenizer import tiny_tokenizer

ENCODER = TextEncoder(tiny_tokenizer(plugin=True))
ASKED = "does <region> stop behind <region>?"


def text_of(segments):
    return ENCODER.tokenizer.decode(spans.lay(segments, ENCODER).ids)


def test_inline_regions_stand_at_their_marks():
    assert text_of(pointing.inline(ASKED, (1, 2), True)) == (
        "does <vp><|region|></vp> stop behind <vp><|region|><|region|></vp>?"
    )


ONE, TWO = "There are 1 part regions in the picture: ", "There are 2 part regions in the picture: "
LISTED = [
    ("what does <region> do?", (3,), f"{ONE}region1<vp>###</vp>.\nwhat does region1 do?"),
    (
        ASKED,
        (2, 1),
        f"{TWO}region1<vp>##</vp>, region2<vp>#</vp>.\ndoes region1 stop behind region2?",
    ),
    (
        ASKED,
        (0, 4),
        f"{TWO}region1<vp></vp>, region2<vp>####</vp>.\ndoes region1 stop behind region2?",
    ),
]


@pytest.mark.parametrize(("words", "cells", "wanted"), LISTED)
def test_listed_regions_stand_before_the_question_that_numbers_them(words, cells, wanted):
    alone, behind = (text_of(pointing.listed(words, cells, it)) for it in (False, True))
    assert alone == wanted.replace("#", "<|region|>") and behind == "\n" + alone


def test_a_question_without_regions_has_no_list():
    assert text_of(pointing.listed("who?", (), True)) == "who?"
    assert pointing.pointing_of("sa2va") is pointing.listed
    assert pointing.pointing_of("sama") is pointing.inline
