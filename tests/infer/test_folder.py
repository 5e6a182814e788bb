"""A conversation's folder: whole, linked relatively, and readable again."""

from __future__ import annotations

import json
import re

import pytest

from sama_plugin.errors import OutputError
from sama_plugin.infer.folder import write_conversation
from sama_plugin.infer.page import ConversationView, PhraseView, TurnView, conversation
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import open_video
from tests.infer.conftest import FRAMES


@pytest.fixture
def written(session, tmp_path):
    """A folder with one grounded turn and one without masks."""
    session.region("square", frame=0, box=(8, 10, 30, 24))
    session.ask("what does <b>@square</b> do?", max_new_tokens=16)
    session.ask("is it blue & round?", masks=False, max_new_tokens=3)
    return write_conversation(session, tmp_path / "out").parent


def test_every_link_of_the_page_is_a_file_beside_it(written):
    html = (written / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {"turn-1.mp4", "turn-1.jpg", "masks/1.1.json", "region-square.jpg"} <= set(links)
    assert all((written / link).is_file() for link in links)
    assert "http" not in html and "<script" not in html


def test_what_the_user_typed_is_escaped_and_mentions_stand_out(written):
    html = (written / "index.html").read_text(encoding="utf-8")
    assert re.search(r'&lt;b&gt;<b class="mention" style="[^"]+">@square</b>&lt;/b&gt;', html)
    assert "is it blue &amp; round?" in html


def test_files_hold_what_was_said(written, session):
    phrase = session.answers[0].phrases[0]
    record = json.loads((written / "masks" / "1.1.json").read_text())
    assert MaskTrack.from_json(record["track"]) == phrase.track
    assert record["phrase"] == phrase.text
    assert len(open_video(written / "turn-1.mp4")) == FRAMES
    turns = json.loads((written / "conversation.json").read_text())["turns"]
    assert [turn["question"] for turn in turns] == [turn.asked for turn in session.turns]


def test_an_interruption_leaves_nothing_half_written_and_the_conversation(
    session, tmp_path, monkeypatch
):
    session.ask("what is it?", max_new_tokens=16)
    from sama_plugin.infer import folder

    def interrupt(self):
        yield from []
        raise KeyboardInterrupt

    monkeypatch.setattr(folder._Look, "frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_conversation(session, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert names == {"conversation.json", "turn-1.jpg"}
    (turn,) = json.loads((tmp_path / "out" / "conversation.json").read_text())["turns"]
    assert turn["answer"] == session.answers[0].text


def test_an_unwritable_folder_is_refused(session, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another"):
        write_conversation(session, tmp_path / "file" / "out")


def test_phrases_are_marked_where_they_stand():
    phrases = (
        PhraseView("1.1", "the cup", 4, 11, "#112233", (0.0, 0.2)),
        PhraseView("1.2", "the cup", 4, 11, "#445566"),
        PhraseView("1.3", "", 12, 12, "#778899"),
    )
    html = conversation(ConversationView("t", turns=(TurnView("q", "See the cup.", phrases),)))
    assert 'See <span class="phrase" style="--c:#112233">the cup<sup>1.1 1.2</sup></span>.' in html
    assert html.count("<rect") == 2
