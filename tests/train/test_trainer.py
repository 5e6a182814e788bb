"""The thin Trainer: loss parts, rates by part, accumulation, gradient checkpointing, 4 bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sama_plugin.data.batch import empty_batch
from sama_plugin.errors import ConfigError, PluginError
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import attach
from sama_plugin.model.config import LoraSettings
from sama_plugin.train.canary import UNLABELLED, Canary
from sama_plugin.train.config import HostConfig
from sama_plugin.train.groups import Rates, parameter_groups
from sama_plugin.train.meter import PARTS
from sama_plugin.train.run import build_trainer
from sama_plugin.train.uniform import uniform_inputs
from tests.data.factories import grounded_sample, text_sample, write_clip
from tests.model.conftest import tiny_config
from tests.train.factories import tiny_run, write_data


@pytest.fixture(scope="module")
def grounded(tmp_path_factory):
    """A file with one grounded sample."""
    folder = tmp_path_factory.mktemp("grounded")
    return write_data(folder, [grounded_sample(write_clip(folder / "clip.npy"))])


def first_line(trainer):
    trainer.train()
    return trainer.state.log_history[0]


def test_parts_are_averaged_and_add_up_to_the_loss(tmp_path):
    config = tiny_run(write_data(tmp_path), tmp_path / "out", steps=3, log_every=3, accumulate=2)
    trainer = build_trainer(config)
    trainer.args.logging_first_step = False
    line = first_line(trainer)
    parts = [line[f"loss_{part}"] for part in PARTS]
    *spent, router, base = parts
    assert all(part > 0 for part in spent) and router == base == 0  # no experts, base not asked
    assert sum(parts) == pytest.approx(line["loss"], rel=1e-5)


def test_accumulation_takes_the_mean_of_text_and_mask_losses(grounded, tmp_path):
    once = first_line(build_trainer(tiny_run(grounded, tmp_path / "1", steps=1)))
    thrice = first_line(build_trainer(tiny_run(grounded, tmp_path / "3", steps=1, accumulate=3)))
    for key in ("loss", "loss_text", "loss_mask_bce", "grad_norm"):  # mask points are random
        assert thrice[key] == pytest.approx(once[key], rel=0.03), key


def test_gradient_checkpointing_changes_no_gradient(grounded, tmp_path):
    plain, saved = (
        first_line(
            build_trainer(
                tiny_run(grounded, tmp_path / str(flag), steps=1, gradient_checkpointing=flag)
            )
        )
        for flag in (False, True)
    )
    assert saved["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    assert saved["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-5)


def test_a_quantised_host_trains_a_step(grounded, tmp_path):
    pytest.importorskip("bitsandbytes")
    model, tokenizer = tiny_host()
    model.save_pretrained(tmp_path / "host")
    tokenizer.save_pretrained(tmp_path / "host")
    config = tiny_run(grounded, tmp_path / "out", steps=1)
    config.model = HostConfig(path=str(tmp_path / "host"), quantize="4bit")
    trainer = build_trainer(config)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    line = first_line(trainer)
    moved = {
        name
        for name, parameter in trainer.model.named_parameters()
        if not torch.equal(parameter.detach(), before[name])
    }
    kinds = {type(module).__name__ for module in trainer.model.modules()}
    assert "Linear4bit" in kinds
    assert 0 < line["loss"] < 20
    assert any(".lora_B." in name for name in moved) and any(".sama." in name for name in moved)
    assert all(".lora_" in name or ".sama." in name for name in moved)


def test_tensorboard_when_asked(grounded, tmp_path):
    config = tiny_run(grounded, tmp_path / "out", steps=1, tensorboard=True)
    build_trainer(config).train()
    assert list((tmp_path / "out").rglob("events.out.tfevents.*"))


def test_groups_by_part_and_decay():
    sama = attach(*tiny_host(), tiny_config())
    model = add_lora(sama, LoraSettings(r=2, alpha=4))
    rates = Rates(plugin=1.0, lora=2.0, mask_decoder=3.0)
    groups = parameter_groups(model.named_parameters(), rates, base=9.0, decay=0.1)
    found = {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}
    assert found == {
        "plugin": (1.0, 0.1),
        "plugin (no decay)": (1.0, 0.0),
        "lora": (2.0, 0.1),
        "mask_decoder": (3.0, 0.1),
        "mask_decoder (no decay)": (3.0, 0.0),
    }
    grouped = [id(p) for group in groups for p in group["params"]]
    trained = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trained)
    undecayed = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert id(sama.modules.input_rows.weight) in undecayed
    assert {id(p) for p in model.parameters() if p.requires_grad and p.dim() < 2} <= undecayed


def test_segmenter_encodes_labelled_frames_only(tmp_path, monkeypatch):
    config = tiny_run(write_data(tmp_path), tmp_path / "out", steps=1, batch_size=5)
    trainer = build_trainer(config)
    encode, encoded = trainer.sama.segmenter.encode, []

    def counting(pixels):
        encoded.append(pixels.shape[0])
        return encode(pixels)

    monkeypatch.setattr(trainer.sama.segmenter, "encode", counting)
    trainer.train()
    prompted = config.sama.frames.prompted
    assert encoded == [2 * prompted]  # of five samples, two are grounded; all their targets share


@pytest.fixture(scope="module")
def watched(grounded, tmp_path_factory):
    """A trainer and one of its batches."""
    config = tiny_run(grounded, tmp_path_factory.mktemp("watched"), mask_decoder=True)
    trainer = build_trainer(config)
    return trainer, next(iter(trainer.get_train_dataloader()))


def test_canary_sings_when_the_batch_is_dropped(watched):
    trainer, batch = watched
    canary, message = Canary(trainer.sama), "2 region slots in samples grounded, 0 were written"
    with pytest.raises(PluginError, match=message), canary.watch(batch):
        pass  # a forward pass that never reaches the plugin


def test_canary_sings_when_masks_give_no_loss(watched):
    trainer, batch = watched
    region = batch["input_ids"] == trainer.sama.ids.region
    batch = {**batch, "input_ids": batch["input_ids"].masked_fill(region, 0)}
    canary, message = Canary(trainer.sama), "masks of samples grounded gave no mask loss"
    with pytest.raises(PluginError, match=message), canary.watch(batch):
        pass


def test_canary_sings_when_the_loss_is_not_finite(watched):
    trainer, batch = watched
    broken = trainer.sama.modules.seg_head[2].weight
    kept = broken.detach().clone()
    trainer.canary = Canary(trainer.sama)
    message = "micro-step 1: the loss of samples grounded is not finite: text [1-9].*dice nan.*bf16"
    try:
        broken.data.fill_(float("nan"))
        with pytest.raises(PluginError, match=message):
            trainer.compute_loss(trainer.model, dict(batch))
    finally:
        broken.data.copy_(kept)


@pytest.mark.parametrize(("part", "value"), [("text", "nan"), ("mask_bce", "inf")])
def test_canary_names_every_part_that_is_not_finite(watched, part, value):
    trainer, batch = watched
    plain = {**batch, "input_ids": torch.zeros_like(batch["input_ids"])}
    canary = Canary(trainer.sama)
    canary.steps = 6
    message = f"micro-step 7: .*{part} {value}.*learning rate"
    with pytest.raises(PluginError, match=message), canary.watch(plain):
        parts = {"text": 2.0, "mask_bce": 1.0, part: float(value)}
        trainer.sama.last_losses = {name: torch.tensor(one) for name, one in parts.items()}


def test_canary_sings_when_no_mask_is_ever_labelled(watched):
    trainer, batch = watched
    seg = torch.tensor([[trainer.sama.ids.seg]])
    unlabelled = {"input_ids": seg, "labels": seg, "sama": empty_batch(1, 16, 16)}
    canary = Canary(trainer.sama)
    with pytest.raises(PluginError, match=f"{UNLABELLED} batches with .SEG. tokens had no mask"):
        for _ in range(UNLABELLED):
            with canary.watch(unlabelled):
                pass


def test_canary_rests_when_all_was_seen(watched):
    trainer, batch = watched
    trainer.canary = Canary(trainer.sama)
    trainer.compute_loss(trainer.model, dict(batch))
    assert trainer.canary.resting


def test_every_rank_runs_every_module_on_text_alone(watched):
    trainer, _ = watched
    sama = trainer.sama
    inputs = trainer.data_collator([text_sample()])
    inputs.pop("sama"), inputs.pop("pixel_values", None)
    ran = set()
    modules = {
        "vision": sama.host.model.multi_modal_projector,
        **{name: module for name, module in sama.modules.named_children()},
        "mask_decoder": sama.modules.mask_decoder.transformer,
    }
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
        for name, module in modules.items()
    ]
    for sharded in (False, True):
        ran.clear()
        trainer.model.zero_grad()
        sama.host(**uniform_inputs(inputs, sama, sharded)).loss.backward()
        assert ran == set(modules) - (set() if sharded else {"vision"})
        trained = [p for p in sama.modules.parameters() if p.requires_grad]
        assert trained and all(parameter.grad is not None for parameter in trained)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label smoothing"),
        ({"no_such_thing": 1}, "no such argument"),
        ({"logging_step": 1}, "did you mean 'logging_steps'"),
        ({"logging_steps": 1}, "logging_steps is already set by another setting"),
    ],
)
def test_settings_that_would_train_something_else_are_refused(grounded, tmp_path, change, message):
    config = tiny_run(grounded, tmp_path / "out")
    config.train = dataclasses.replace(config.train, extra=change)
    with pytest.raises((ConfigError, PluginError), match=message):
        build_trainer(config)
