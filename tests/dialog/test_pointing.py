"""Where the regions of a question stand."""

from __future__ import annotations

import pytest

from sama_plugin.dialog import pointing, spans
from sama_plugin.dialog.released import region_header
from sama_plugin.dialog.wording import TextEncoder
from tests.tiny_tokenizer import tiny_tokenizer

ENCODER = TextEncoder(tiny_tokenizer(plugin=True))
ASKED = "does <region> stop behind <region>?"


def text_of(segments):
    return ENCODER.tokenizer.decode(spans.lay(segments, ENCODER).ids)


def slots_as_images(text):
    return text.replace("<|region|>", "<IMG_CONTEXT>")


def test_inline_regions_stand_at_their_marks():
    assert text_of(pointing.inline(ASKED, (1, 2), True)) == (
        "does <vp><|region|></vp> stop behind <vp><|region|><|region|></vp>?"
    )


@pytest.mark.parametrize("cells", [(3,), (2, 1), (0, 4)])
def test_listed_regions_are_sa2vas_header_and_numbers(cells):
    words = ASKED if len(cells) == 2 else "what does <region> do?"
    found = slots_as_images(text_of(pointing.listed(words, cells, True)))
    asked = "does region1 stop behind region2?" if len(cells) == 2 else "what does region1 do?"
    assert found == "\n" + region_header(cells) + asked
    alone = slots_as_images(text_of(pointing.listed(words, cells, False)))
    assert "\n" + alone == found


def test_a_question_without_regions_has_no_list():
    assert text_of(pointing.listed("who?", (), True)) == "who?"
    assert pointing.pointing_of("sa2va") is pointing.listed
    assert pointing.pointing_of("sama") is pointing.inline
