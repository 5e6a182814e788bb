"""Imported checkpoints at work: SAMA holds a conversation, Sa2VA on Qwen computes what it did."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sama_plugin.infer.load import load_sama
from sama_plugin.infer.session import VideoSession
from sama_plugin.model.importers.bring import bring
from tests.hosts import tiny as hosts
from tests.tiny_tokenizer import tiny_tokenizer

from . import synthetic

MARKS = ["[SEG]", "<p>", "</p>", "<vp>", "</vp>"]
CLIP = np.random.default_rng(0).integers(0, 256, (9, 40, 60, 3), dtype=np.uint8)


def released_tokenizer(folder, base=None):
    tokenizer = base or tiny_tokenizer()
    tokenizer.add_tokens(MARKS, special_tokens=True)
    tokenizer.save_pretrained(str(folder))
    (folder / "added_tokens.json").unlink(missing_ok=True)
    return tokenizer


@pytest.fixture
def sama_folder(tmp_path, vocabulary):
    """A released SAMA with a tokenizer that can speak, imported."""
    modules = synthetic.sama_modules()
    rows = len(released_tokenizer(tmp_path))
    state, model = synthetic.sama_state(modules, "Qwen2ForCausalLM", rows)
    source = synthetic.write(tmp_path / "source", state, "Qwen2ForCausalLM", template="phi3_chat")
    released_tokenizer(source)
    bring(source, tmp_path / "to", vocabulary=vocabulary)
    return tmp_path / "to", model, modules


def test_an_imported_sama_holds_a_conversation(sama_folder):
    folder, model, modules = sama_folder
    sama = load_sama(str(folder / "host"), folder / "sama_adapter")
    for name, value in sama.host.state_dict().items():
        if not name.startswith("sama."):
            torch.testing.assert_close(value, model.state_dict()[name], atol=0, rtol=0)
    assert sama.tokenizer.chat_template.startswith("{% for message")
    assert "<|assistant|>" in sama.tokenizer.chat_template

    session = VideoSession(sama, CLIP)
    assert session.stop.text == "<|end|>" and sama.tokenizer.eos_token_id in session.stop.ids
    assert session.plan.policy.startswith("released")
    assert session.plan.llm == session.plan.aggregator[:5]
    session.region("dog", frame=3, box=(5, 5, 30, 30))
    session.ask("What does @dog do?", max_new_tokens=3)
    session.ask("Who is there?", max_new_tokens=3)
    asked = [turn.question for turn in session.turns]
    assert [len(question.ids) for question in asked] == [10, 6]
    assert asked[0].kinds.count(1) == asked[0].kinds.count(2) == 1
    assert asked[1].ids[0] == 101 and asked[1].ids[-1] == 102


def test_its_aggregator_is_the_released_one(sama_folder):
    """The loaded modules, called by hand, give what the source's modules give."""
    folder, _, modules = sama_folder
    sama = load_sama(str(folder / "host"), folder / "sama_adapter")
    features = torch.randn(3, 4, synthetic.WIDTH)
    arguments = (
        features,
        torch.zeros(3, dtype=torch.long),
        torch.arange(3.0),
        torch.zeros(1, dtype=torch.long),
        torch.tensor([[101, 1003, 0, 0, 102]]),
        torch.ones(1, 5, dtype=torch.bool),
        torch.tensor([[0, 0, 1, 2, 0]]),
        torch.randn(1, 2, synthetic.HIDDEN),
    )
    with torch.no_grad():
        found, expected = (m(*arguments) for m in (sama.modules.aggregator, modules["aggregator"]))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def old_names(name: str) -> str:
    """As transformers before 4.52 wrote them."""
    if name.startswith("model.visual."):
        return name[len("model.") :]
    return name.replace("model.language_model.", "model.")


@pytest.mark.parametrize(
    "family, spelling", [("qwen3_vl", str), ("qwen2_5_vl", str), ("qwen2_5_vl", old_names)]
)
def test_sa2va_on_qwen(tmp_path, family, spelling):
    modules = synthetic.sama_modules(aggregator=False, width=hosts.WIDTH)
    model, tokenizer = hosts.TINY[family].build(0)
    tokenizer.add_tokens(MARKS, special_tokens=True)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    state = {f"model.{spelling(n)}": v for n, v in model.state_dict().items()}
    state.update(synthetic.sam2_state("grounding_encoder.sam2_model."))
    state.update(synthetic.head_state(modules))
    source = synthetic.write(tmp_path / "source", state, shards=2)
    described = {**model.config.to_dict(), "model_type": "sa2va_chat", "architectures": ["Sa2VA"]}
    (source / "config.json").write_text(json.dumps(described, default=str))
    tokenizer.save_pretrained(str(source))
    done = bring(source, tmp_path / "to")
    assert done.layout == "sa2va" and not done.plan.dropped
    assert "never learnt" in done.plan.notes[0]
    sama = load_sama(str(tmp_path / "to/host"), tmp_path / "to/sama_adapter")
    ids = torch.tensor([tokenizer("what does the dog do")["input_ids"]])
    with torch.no_grad():
        found, expected = (m(input_ids=ids).logits for m in (sama.host, model))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    table = model.get_input_embeddings().weight
    seg = tokenizer.convert_tokens_to_ids("[SEG]")
    assert torch.equal(sama.modules.input_rows.weight[0], table[seg])
    session = VideoSession(sama, CLIP)
    assert session.plan.llm == (0, 1, 2, 3, 4)
    session.ask("What does the dog do?", max_new_tokens=2)
