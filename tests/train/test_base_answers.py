"""The base's own answers on plain chat: what is compared, when, and that it holds back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sama_plugin.errors import ConfigError
from sama_plugin.media.frames import FramePolicy
from sama_plugin.train.base_answers import base_logits, divergence, plain_rows
from sama_plugin.train.run import build_trainer
from tests.data.factories import plain_sample, text_sample, write_clip
from tests.train.factories import every_kind, tiny_run, write_data

OURS = torch.tensor([4])


def test_divergence_is_of_learned_tokens_and_words_of_the_base():
    torch.manual_seed(0)
    base, labels = torch.randn(1, 4, 5), torch.tensor([[-100, 2, -100, 1]])
    same = base.clone()
    same[..., OURS] = -1e9  # the adapted model does not say our tokens either
    assert divergence(same, base, labels, OURS).abs() < 1e-6
    elsewhere = same.clone()
    elsewhere[:, [1, 3]] += torch.randn(1, 2, 5)  # what comes after an unlearned token, or the end
    assert divergence(elsewhere, base, labels, OURS).abs() < 1e-6
    other = torch.randn(1, 4, 5)
    kept = base[0, [0, 2], :4].log_softmax(-1)
    said = other[0, [0, 2]].log_softmax(-1)[:, :4]
    wanted = (kept.exp() * (kept - said)).sum(-1).mean()
    torch.testing.assert_close(divergence(other, base, labels, OURS), wanted)
    assert divergence(other, base, torch.full_like(labels, -100), OURS) == 0


@pytest.fixture
def chat(tmp_path):
    clip = write_clip(tmp_path / "clip.npy")
    return write_data(tmp_path, [plain_sample(clip), text_sample()])


def learned(data, out, weight):
    """(log lines, divergence afterwards) of twelve quick steps on plain chat."""
    config = tiny_run(data, out, steps=12, learning_rate=3e-3, batch_size=2, base_weight=weight)
    config.train.lora_learning_rate = 3e-3
    plain = FramePolicy(aggregator=0, llm=2, prompted=0)
    config.data = tuple(dataclasses.replace(source, frames=plain) for source in config.data)
    trainer = build_trainer(config)
    trainer.train()
    batch = next(iter(trainer.get_train_dataloader()))
    ours = torch.tensor(trainer.sama.ids.in_order())
    with torch.no_grad():
        adapted = trainer.model(**batch).logits
    base = base_logits(trainer.sama, trainer.model, batch, plain_rows(batch["sama"]))
    apart = float(divergence(adapted, base, batch["labels"], ours))
    return [line for line in trainer.state.log_history if "loss_base" in line], apart


def test_it_keeps_the_model_near_its_base(chat, tmp_path):
    free, far = learned(chat, tmp_path / "free", 0.0)
    kept, near = learned(chat, tmp_path / "kept", 5.0)
    assert all(line["loss_base"] == 0 for line in free)
    assert kept[-1]["loss_base"] > 0 and 0 < near < 0.5 * far
    for line in kept:
        parts = [value for name, value in line.items() if name.startswith("loss_")]
        assert sum(parts) == pytest.approx(line["loss"], rel=1e-5)


def test_only_plain_samples_are_compared_and_as_if_alone(tmp_path):
    """Of every kind in one batch; the base sees each with its own frames."""
    plain = FramePolicy(aggregator=0, llm=2, prompted=0)
    samples = [(one, plain if one.id == "plain" else None) for one in every_kind(tmp_path)]
    trainer = build_trainer(tiny_run(write_data(tmp_path), tmp_path / "out"))
    collate = trainer.data_collator
    batch = collate(samples)
    rows = plain_rows(batch["sama"])
    assert [samples[row][0].id for row in rows.tolist()] == ["plain", "text"]
    found = base_logits(trainer.sama, trainer.model, batch, rows)
    for logits, row in zip(found, rows.tolist()):
        alone = collate([samples[row]])
        length = alone["input_ids"].shape[1]
        wanted = base_logits(trainer.sama, trainer.model, alone, torch.tensor([0]))[0]
        assert torch.allclose(logits[:length], wanted, atol=1e-5)


def test_what_needs_the_plugin_is_left_alone(tmp_path):
    grounded = [one for one in every_kind(tmp_path) if one.targets or one.regions]
    data = write_data(tmp_path, grounded)
    trainer = build_trainer(tiny_run(data, tmp_path / "out", base_weight=5.0))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss_base" in line]
    assert len(lines) == 2 and all(line["loss_base"] == 0 for line in lines)


@pytest.mark.parametrize("setting", [{"deepspeed": "zero3.json"}, {"packing": True}])
def test_what_it_cannot_do_is_refused(tmp_path, setting):
    with pytest.raises(ConfigError, match="train.base_weight 1.*needs sama.lora.r above 0"):
        tiny_run(tmp_path, tmp_path, base_weight=1.0, **setting)
