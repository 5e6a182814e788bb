"""An imported Sa2VA is pointed at things in a session as its own code does it: the visual tokens
under the mask, in a sentence before the question. The same text and tokens, put together by hand,
give the same answer.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sama_plugin.data.regions import region_rule
from sama_plugin.dialog.sample import Region
from sama_plugin.errors import ConfigError
from sama_plugin.infer.load import load_sama
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.model import generate
from sama_plugin.model.config import RegionConfig, SamaConfig
from sama_plugin.model.importers.bring import bring
from sama_plugin.segment.base import SEGMENTERS
from sama_plugin.segment.sizes import SIZES

from . import synthetic
from .test_imported import released_tokenizer

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
ELBOW = np.zeros((40, 40), bool)
ELBOW[:38, :18] = ELBOW[18:38, :38] = True  # cells 0, 2 and 3 of 2 x 2
CORNER = (19, 0, 38, 18)  # cell 1
LENGTH = 3


@pytest.fixture(scope="module")
def sa2va(tmp_path_factory):
    """A released Sa2VA on InternVL, imported, and the native host it came from."""
    folder = tmp_path_factory.mktemp("sa2va")
    with pytest.MonkeyPatch.context() as patch:
        builder = "sama_plugin.segment.sam2:build_named"
        patch.setitem(SIZES, synthetic.SEGMENTER, synthetic.SIZES_INSIDE)
        patch.setitem(SEGMENTERS._targets, synthetic.SEGMENTER, builder)
        rows = len(released_tokenizer(folder))
        modules = synthetic.sama_modules(aggregator=False)
        state, model = synthetic.sama_state(modules, "Qwen2ForCausalLM", rows)
        source = folder / "source"
        language = synthetic.language("Qwen2ForCausalLM")
        described = {"llm_config": {**language, "max_position_embeddings": 2048}}
        synthetic.write(source, state, "Qwen2ForCausalLM", template="qwen_chat", **described)
        released_tokenizer(source)
        done = bring(source, folder / "to")
        yield load_sama(str(folder / "to/host"), folder / "to/sama_adapter"), model, done


def by_hand(sama, model, cells: tuple[tuple[int, ...], ...], question: str, said: list[int]):
    """Sa2VA's prompt and splice, then `said`: logits (len(said), V) of each of its tokens."""
    tokenizer, image = sama.tokenizer, "<IMG_CONTEXT>"
    regions = ", ".join(
        f"region{n}<vp>{image * len(one)}</vp>" for n, one in enumerate(cells, start=1)
    )
    text = (
        f"<|im_start|>user\n<img>{image * 4}</img>\n"
        f"There are {len(cells)} part regions in the picture: {regions}.\n{question}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer(text, add_special_tokens=False).input_ids
    ids = torch.tensor([ids + said[:-1]])
    pixels = sama.adapter.pixels(IMAGE, sama.host)
    with torch.no_grad():
        features = model.model.get_image_features(pixel_values=pixels)
        features = getattr(features, "pooler_output", features).reshape(4, -1)  # (N, C)
        embeddings = model.get_input_embeddings()(ids)
        places = ids[0] == tokenizer.convert_tokens_to_ids(image)
        embeddings[0, places] = features[[*range(4), *(cell for one in cells for cell in one)]]
        hidden = model.model.language_model(inputs_embeds=embeddings).last_hidden_state
        return model.lm_head(hidden[0, -len(said) :])


def test_a_region_prompt_is_answered_as_by_sa2va(sa2va, monkeypatch):
    sama, model, done = sa2va
    assert not done.plan.filled, "Sa2VA's regions need no part that it does not have"
    seen, script = [], sama.tokenizer("the cup runs", add_special_tokens=False).input_ids

    def choose(logits, new):
        seen.append(logits)
        return script[len(new)]

    monkeypatch.setattr(generate, "_chooser", lambda *_: choose)
    with VideoSession(sama, IMAGE) as session:
        session.region("elbow", frame=0, mask=ELBOW)
        session.region("corner", frame=0, box=CORNER)
        session.ask("what is @elbow near @corner?", max_new_tokens=LENGTH, masks=False)
        text = sama.tokenizer.decode(session.turns[0].prompt_ids)
        assert "region1<vp><|region|><|region|><|region|></vp>, region2<vp><|region|></vp>" in text
    asked, said = "what is region1 near region2?", script[:LENGTH]
    wanted = by_hand(sama, model, ((0, 2, 3), (1,)), asked, said)
    found = torch.stack(seen)[:, : wanted.shape[1]]
    known = found.isfinite()
    assert known.sum() >= found.numel() - 3 * LENGTH, "only image and region tokens are banned"
    torch.testing.assert_close(found[known], wanted[known], atol=2e-5, rtol=0)
    other = by_hand(sama, model, ((0, 1, 2), (3,)), asked, said)
    assert (other - wanted)[known].abs().max() > 2e-3, "the cells do not matter: proves nothing"


def test_a_later_question_lists_its_own_regions(sa2va):
    sama = sa2va[0]
    with VideoSession(sama, IMAGE) as session:
        session.region("elbow", frame=0, mask=ELBOW)
        session.region("corner", frame=0, box=CORNER)
        session.ask("what is @elbow?", max_new_tokens=2, masks=False)
        session.ask("and @corner?", max_new_tokens=LENGTH, masks=False)
        text = sama.tokenizer.decode(session.turns[1].prompt_ids)
        assert text.endswith(
            "<|im_start|>user\nThere are 1 part regions in the picture: region1<vp><|region|></vp>"
            ".\nand region1?<|im_end|>\n<|im_start|>assistant\n"
        )
        fresh = VideoSession(sama, IMAGE)
        fresh.restore(session.turns[0], session.answers[0])
        fresh.region("corner", frame=0, box=CORNER)
        again = fresh.ask("and @corner?", max_new_tokens=LENGTH, masks=False)
        assert again.ids == session.answers[1].ids


@pytest.mark.parametrize("compat, cells", [("default", [0, 0, 0, 1]), ("released", [0, 0, 0, 0])])
def test_a_thing_between_the_cells(compat, cells):
    """Nearest neighbour looks at pixels 0 and 20 of 40 only."""
    rule = region_rule(RegionConfig(kind="sa2va"), (2, 2), compat)
    small = Region((RegionPrompt.from_box(0, (30, 30, 34, 34)),))
    assert rule.slots(small, (40, 40)) == sum(cells)
    assert rule.entries([small], (40, 40)).weights.tolist() == [cells]


def test_an_aggregator_is_refused():
    with pytest.raises(ConfigError, match="nothing to an aggregator"):
        SamaConfig(region=RegionConfig(kind="sa2va"))
