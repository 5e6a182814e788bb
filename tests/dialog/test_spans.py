import pytest

from sama_plugin.dialog import spans
from sama_plugin.dialog.spans import IGNORE, Segment
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.errors import SlotError
from sama_plugin.hosts.internvl.prompt import IMAGE_TOKEN, visual_prefix
from tests.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(tiny_tokenizer(plugin=True))


def _example(encoder):
    return spans.lay(
        [
            *spans.literal(encoder, "<|im_start|>user\n", IMAGE_TOKEN),
            *spans.literal(encoder, visual_prefix(2, 3, True), IMAGE_TOKEN),
            *spans.context(4),
            Segment("text", "what does "),
            *spans.region(2),
            Segment("text", " do [SEG]"),
            *spans.literal(encoder, "<|im_end|>\n<|im_start|>assistant\n", IMAGE_TOKEN),
            *spans.grounded("<p> the dog </p> [SEG] runs"),
            Segment("special", "<|im_end|>", supervised=True),
        ],
        encoder,
    )


def test_slots_sit_on_their_tokens(encoder):
    layout = _example(encoder)
    tokens = encoder.tokenizer.convert_ids_to_tokens(layout.ids)
    kinds = {"image": IMAGE_TOKEN, "region": "<|region|>", "context": "<|context|>", "seg": "[SEG]"}
    for kind, token in kinds.items():
        assert layout.slots[kind] == [i for i, found in enumerate(tokens) if found == token]
    assert {kind: len(found) for kind, found in layout.slots.items()} == {
        "image": 6,
        "region": 2,
        "context": 4,
        "seg": 1,
    }


def test_text_is_what_the_host_would_have_encoded(encoder):
    layout = _example(encoder)
    text = encoder.tokenizer.decode(layout.ids)
    assert text == (
        f"<|im_start|>user\nFrame1: <img>{IMAGE_TOKEN * 3}</img>\n"
        f"Frame2: <img>{IMAGE_TOKEN * 3}</img>\n"
        "<|context|><|context|><|context|><|context|>\n"
        "what does <vp><|region|><|region|></vp> do [SEG]<|im_end|>\n<|im_start|>assistant\n"
        "<p> the dog </p> [SEG] runs<|im_end|>"
    )


def test_labels_cover_the_answer_and_its_end_only(encoder):
    layout = _example(encoder)
    supervised = [label for label in layout.labels if label != IGNORE]
    assert encoder.tokenizer.decode(supervised) == "<p> the dog </p> [SEG] runs<|im_end|>"
    assert layout.labels[-len(supervised) :] == layout.ids[-len(supervised) :]


def test_spans_tile_the_sequence(encoder):
    layout = _example(encoder)
    edges = [(span.start, span.end) for span in layout.spans]
    assert edges[0][0] == 0 and edges[-1][1] == len(layout.ids)
    assert all(left[1] == right[0] for left, right in zip(edges, edges[1:]))


def test_neighbouring_text_is_encoded_in_one_run(encoder):
    parts = spans.lay([Segment("text", "do"), Segment("text", "g")], encoder)
    assert parts.ids == encoder.plain("dog")
    apart = spans.lay([Segment("text", "do"), Segment("text", "g", supervised=True)], encoder)
    assert apart.ids == encoder.plain("do") + encoder.plain("g")


def test_wrong_counts_name_the_sample(encoder):
    layout = _example(encoder)
    planned = {"image": 6, "region": 2, "context": 4, "seg": 1}
    spans.check_slots(layout, planned, "clip-7")
    for kind in planned:
        with pytest.raises(SlotError, match=f"clip-7.*{kind}"):
            spans.check_slots(layout, {**planned, kind: 9}, "clip-7")
