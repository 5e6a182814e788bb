"""The page shows every sample, its frames, and exactly the tokens that training reads."""

from __future__ import annotations

import html
import re

import pytest
from PIL import Image

from sama_plugin.data.decode import read_clip
from sama_plugin.data.encode import Encoder
from sama_plugin.data.peek import peek, token_html
from sama_plugin.data.report import BadRecord
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.media.frames import FramePolicy
from tests.data.factories import grounded_sample, plain_sample, text_sample, write_clip
from tests.tiny_tokenizer import tiny_tokenizer

POLICY = FramePolicy(aggregator=4, llm=2, prompted=3)
ENCODER = Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), tokens_per_frame=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("peek") / "clip.npy")


def test_the_token_string_is_complete(source):
    sample = grounded_sample(source)
    encoded = ENCODER.encode(sample, read_clip(sample, POLICY).plan)
    page = token_html(encoded, ENCODER)
    text = re.sub(r"(<[^<> ]+>) × (\d+)", lambda m: m[1] * int(m[2]), _plain(page))
    assert text == ENCODER.text.tokenizer.decode(encoded.input_ids)
    learnt = _plain("".join(re.findall(r'<span class="\w+ learnt">.*?</span>', page, re.S)))
    supervised = [token for token in encoded.labels if token >= 0]
    assert learnt == ENCODER.text.tokenizer.decode(supervised)


def test_the_page(source, tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    Image.new("RGB", (10, 20)).save(tmp_path / "b.png")
    media = Media("images", (str(tmp_path / "a.png"), str(tmp_path / "b.png")))
    images = Sample("two <b>", media, (Turn("<image><image> same?", "no"),))
    samples = [grounded_sample(source), plain_sample(source), text_sample(), images]
    path = peek([(sample, POLICY) for sample in samples], ENCODER, tmp_path / "page.html")
    page = path.read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["grounded", "plain", "text", "two &lt;b&gt;"]
    pictures = [len(re.findall("<img", part)) for part in page.split("<section")[1:]]
    assert pictures == [2, 1, 0, 2]


def test_what_training_cannot_read_says_why(source, tmp_path):
    gone = plain_sample(str(tmp_path / "gone.npy"), "lost")
    bad = BadRecord("mine", "a.jsonl", "line 3", "bad_json_line", "no <JSON>")
    samples = [(one, POLICY) for one in (gone, bad, plain_sample(source))]
    page = peek(samples, ENCODER, tmp_path / "page.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["lost", "line 3", "plain"]
    first, second = re.findall("set aside: (.*?)</p>", page)
    assert "gone.npy" in first and second == "no &lt;JSON&gt;"


def _plain(page: str) -> str:
    return html.unescape(re.sub(r"</?span[^>]*>", "", page))
