"""What every host must pass: subclass `Conformance`, say which host, done.

Everything goes through the real collator, the real taps and the real checkpoint code; only the
weights are tiny and random. Costly cases are marked slow (`make test-all`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from sama_plugin.data.batch import empty_batch
from sama_plugin.dialog.sample import Media, Sample, Turn
from sama_plugin.infer.record import resume_session
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.model.adapters import add_lora, lora_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config, save_adapter
from sama_plugin.model.generate import generate, teacher_forced
from sama_plugin.model.sama import VisualCache
from sama_plugin.nn.pointing import Pointer
from sama_plugin.segment.base import build_segmenter
from sama_plugin.train.material import collator
from sama_plugin.train.uniform import uniform_inputs
from tests.data.factories import grounded_sample, region, write_clip
from tests.hosts.tiny import SIDE, TINY
from tests.model.conftest import outspoken, tiny_config

FRAMES = 4


@functools.lru_cache(maxsize=1)
def segmenter() -> Any:
    """One random segmenter for all tests; nothing trains it."""
    return build_segmenter("mini", "random")


def hold(model: Any, tokenizer: Any, **changes: Any) -> Any:
    """The plugin attached to a host."""
    config = tiny_config(frame_side=SIDE, **changes)
    return outspoken(attach(model, tokenizer, config, segmenter=segmenter()))


def quiet(sama: Any) -> Any:
    """The handle itself, as fresh: words are not changed by what they look at."""
    torch.nn.init.zeros_(sama.modules.look.told[-1].weight)
    return sama


def noise(frames: int = FRAMES) -> torch.Tensor:
    """Random pixels as the tiny hosts read them."""
    return torch.randn(frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def grounded(sama: Any, folder: Any, *samples: Sample) -> dict[str, Any]:
    """Host inputs of samples (a grounded one by default), from the real collator."""
    samples = samples or (grounded_sample(write_clip(folder / "clip.npy")),)
    return collator(sama)(list(samples))


def prompt(sama: Any, frames: int, question: str = "what is it?") -> list[int]:
    """Token ids of one plain question about `frames` frames, answer not begun."""
    text = sama.adapter.visual_prefix(frames, sama.modules.tokens, True) + question
    return sama.tokenizer(text, add_special_tokens=False).input_ids


def step(sama: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Gradients of one training forward by parameter name."""
    sama.host.zero_grad(set_to_none=True)
    torch.manual_seed(0)  # points at which masks are compared
    sama.host(**inputs).loss.backward()
    return {n: p.grad.clone() for n, p in sama.host.named_parameters() if p.grad is not None}


def last_states(sama: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Final hidden states at every [SEG] of a teacher-forced forward from pixels."""
    batch = inputs["sama"]
    native = sama.adapter.forward_inputs(sama.host, {k: inputs[k] for k in inputs if k != "sama"})
    with torch.no_grad(), sama.call(batch) as call:
        sama.host(**native)
        return sama.seg_states(call)


def disturbed(sama: Any) -> Any:
    """Every trainable weight moved, so that nothing equals a fresh plugin."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sama.host.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return sama


def traces(model: Any) -> dict[str, Any]:
    """Everything attach could leave behind: hooks, attributes and submodules of every module."""
    found = {}
    for name, module in model.named_modules():
        own = vars(module)
        hooks = [len(own[key]) for key in sorted(own) if key.endswith("_hooks")]
        found[name] = (hooks, sorted(own), list(module._modules))
    return found


class Conformance:
    """The suite. `host` is a name in `tiny.TINY`."""

    host = ""

    @property
    def tiny(self) -> Any:
        return TINY[self.host]

    def fresh(self, seed: int = 0) -> tuple[Any, Any]:
        """(model, tokenizer)."""
        return self.tiny.build(seed)

    def native(self, model: Any, ids: list[int], pixels: torch.Tensor) -> dict[str, Any]:
        """What a user of the bare host passes."""
        tokens = torch.tensor([ids])
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        return {**inputs, **self.tiny.native(model, tokens, pixels)}

    def test_attached_but_unused_is_bit_identical_and_detach_leaves_nothing(self):
        model, tokenizer = self.fresh()
        sama = hold(model, tokenizer)
        inputs = self.native(model, prompt(sama, FRAMES), noise())
        sama.detach()
        bare = self._speak(model, inputs)
        census, keys = traces(model), list(model.state_dict())
        sama = hold(model, tokenizer)
        assert traces(model) != census
        attached = self._speak(model, inputs)
        sama.detach()
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(attached, bare))
        assert traces(model) == census and list(model.state_dict()) == keys

    def _speak(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            text = model.generate(**inputs, max_new_tokens=6, do_sample=False)
            return model(**inputs).logits, text

    def test_k_of_f_frames_equal_k_alone_bit_for_bit(self):
        model, tokenizer = self.fresh()
        sama = quiet(hold(model, tokenizer))
        ids, keep = prompt(sama, 2), torch.tensor([1, 3])
        with torch.no_grad():
            alone = model(**self.native(model, ids, noise()[keep])).logits
            batch = empty_batch(1, sama.modules.tokens, 16)
            batch = dataclasses.replace(
                batch,
                frame_owner=torch.zeros(FRAMES, dtype=torch.long),
                keep_rows=keep,
                keep_moment=keep / (FRAMES - 1),
            )
            tokens = torch.tensor([ids])
            inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            inputs = sama.adapter.forward_inputs(model, {**inputs, "pixel_values": noise()})
            with sama.call(batch) as call:
                through = model(**inputs).logits
        assert call.features.shape == (FRAMES, sama.modules.tokens, sama.modules.width)
        assert torch.equal(through[..., : alone.shape[-1]], alone)

    def test_the_grid_is_what_the_vision_side_returns(self):
        model, tokenizer = self.fresh()
        sama = hold(model, tokenizer)
        rows, columns = sama.adapter.grid(model)
        frames = np.zeros((2, 48, 80, 3), np.uint8)
        pixels = sama.adapter.pixels(frames, model)
        assert pixels.shape == (2, 3, sama.adapter.image_size(model), SIDE)
        assert sama.encode_frames(pixels).features.shape == (2, rows * columns, sama.modules.width)

    def test_cells_lie_where_the_grid_says(self):
        """Light in one cell of a frame moves the tokens near it more than the others."""
        model, tokenizer = self.fresh()
        sama = hold(model, tokenizer)
        rows, columns = sama.adapter.grid(model)
        dark = torch.zeros(1, 3, SIDE, SIDE)
        spread = []
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0)):
            lit = dark.clone()
            height, width = SIDE // rows, SIDE // columns
            lit[..., row * height :, column * width :][..., :height, :width] = 3.0
            moved = sama.encode_frames(lit).features - sama.encode_frames(dark).features
            spread.append((int(moved[0].norm(dim=-1).argmax()), row * columns + column))
        assert all(found == wanted for found, wanted in spread), spread

    def test_a_region_is_written_where_its_slots_are(self, tmp_path):
        sama = hold(*self.fresh())
        inputs = grounded(sama, tmp_path)
        batch = inputs["sama"]
        other = dataclasses.replace(batch, entry_row=(batch.entry_row + 1) % len(batch.frame_owner))
        with torch.no_grad():
            logits = sama.host(**inputs).logits
            moved = sama.host(**{**inputs, "sama": other}).logits
        at = int((inputs["input_ids"][0] == sama.ids.region).nonzero()[0])
        context = int((inputs["input_ids"][0] == sama.ids.context).nonzero()[0])
        assert not torch.equal(logits[0, at], moved[0, at])
        assert torch.allclose(logits[0, :context], moved[0, :context], atol=1e-5)

    def test_seg_states_are_the_final_hidden_states(self, tmp_path):
        sama = hold(*self.fresh())
        inputs, seen = grounded(sama, tmp_path), []
        hook = sama.adapter.decoder(sama.host).register_forward_hook(
            lambda module, args, output: seen.append(output.last_hidden_state)
        )
        found = last_states(sama, inputs)
        hook.remove()
        wanted = seen[0][inputs["input_ids"] == sama.ids.seg]
        assert wanted.shape == (3, sama.modules.width) and torch.equal(found, wanted)

    def test_frames_are_kept_as_they_were_read(self, tmp_path):
        """The pointer sees the states of a frame's cells, the first of its placeholders."""
        sama = hold(*self.fresh())
        inputs, seen = grounded(sama, tmp_path), []
        hook = sama.adapter.decoder(sama.host).register_forward_hook(
            lambda module, args, output: seen.append(output.last_hidden_state)
        )
        visual = sama.encode_frames(inputs["pixel_values"])
        cache = VisualCache(visual.features, None, visual.deep)
        with patch.object(Pointer, "seen", autospec=True, side_effect=Pointer.seen) as passed:
            teacher_forced(sama, inputs["input_ids"][0].tolist(), inputs["sama"], cache)
        hook.remove()
        (_, read), _ = passed.call_args
        frames, tokens = len(inputs["sama"].keep_rows), sama.modules.tokens
        wanted = seen[0][inputs["input_ids"] == sama.image_id]
        wanted = wanted.view(frames, sama.adapter.placeholders(tokens), -1)[:, :tokens]
        assert torch.equal(read.states, wanted)
        assert torch.equal(read.moment, inputs["sama"].keep_moment)
        assert read.moment.tolist() == sorted(read.moment.tolist()) and read.moment.max() <= 1

    def test_gradients_reach_every_plugin_parameter_and_no_frozen_one(self, tmp_path):
        sama = hold(*self.fresh())
        sama.host.requires_grad_(False)
        trained = {f"sama.{name}" for name in sama.mark_trainable()}
        grads = step(sama, grounded(sama, tmp_path))
        assert set(grads) == trained
        assert all(torch.isfinite(grad).all() for grad in grads.values())
        for part in ("input_rows", "output_rows", "region", "aggregator", "seg_head", "pointer"):
            assert any(g.abs().sum() > 0 for n, g in grads.items() if n.startswith(f"sama.{part}"))
        assert all(part.grad is None for part in sama.segmenter.module.parameters())

    def test_a_mixed_batch_equals_its_samples(self, tmp_path):
        """Samples of different frames, turns and lengths, padded, against one at a time."""
        sama = hold(*self.fresh())
        clip = write_clip(tmp_path / "clip.npy")
        still = Sample(
            "short", Media("video", clip), (Turn("what is <region>?", "it", regions=(region(5),)),)
        )
        samples = [grounded_sample(clip), (still, FramePolicy(aggregator=2, llm=1, prompted=1))]
        whole = collator(sama)(samples)
        with torch.no_grad():
            together = sama.host(**whole).logits
            for row, sample in enumerate(samples):
                alone = collator(sama)([sample])
                length = alone["input_ids"].shape[1]
                logits = sama.host(**alone).logits[0]
                assert torch.allclose(together[row, :length], logits, atol=2e-4)

    def test_cached_frames_equal_pixels(self, tmp_path):
        """What a session does: the same conversation, frames encoded before."""
        sama = hold(*self.fresh())
        inputs = grounded(sama, tmp_path)
        visual = sama.encode_frames(inputs["pixel_values"])
        ids, cache = (
            inputs["input_ids"][0].tolist(),
            VisualCache(visual.features, None, visual.deep),
        )
        forced, _ = teacher_forced(sama, ids, inputs["sama"], cache)
        assert torch.allclose(forced, last_states(sama, inputs), atol=1e-5)

    def test_greedy_text_is_the_hosts_own(self):
        sama = quiet(hold(*self.fresh()))
        ids = prompt(sama, 2)
        native = self.native(sama.host, ids, noise(2))
        wanted = sama.host.generate(**native, max_new_tokens=6, do_sample=False)[0, len(ids) :]
        ours = torch.tensor(sama.ids.in_order())
        head = sama.host.get_output_embeddings()
        hook = head.register_forward_hook(lambda m, a, logits: logits.index_fill(-1, ours, -1e4))
        visual = sama.encode_frames(noise(2))
        batch = dataclasses.replace(
            empty_batch(1, sama.modules.tokens, 16),
            frame_owner=torch.zeros(2, dtype=torch.long),
            keep_rows=torch.arange(2),
            keep_moment=torch.tensor([0.0, 1.0]),
        )
        cache = VisualCache(visual.features, None, visual.deep)
        found = generate(sama, ids, batch, cache=cache, max_new_tokens=6)
        hook.remove()
        assert found.ids == wanted.tolist()[: len(found.ids)]

    def test_a_continued_cache_equals_reading_everything_again(self):
        """Two turns: the second reads only its own words, at the right positions."""
        sama = hold(*self.fresh())
        ids, visual = prompt(sama, 2), sama.encode_frames(noise(2))
        cache = VisualCache(visual.features, None, visual.deep)
        batch = dataclasses.replace(
            empty_batch(1, sama.modules.tokens, 16),
            frame_owner=torch.zeros(2, dtype=torch.long),
            keep_rows=torch.arange(2),
            keep_moment=torch.tensor([0.0, 1.0]),
        )
        none = {"keep_rows": torch.zeros(0, dtype=torch.long), "keep_moment": torch.zeros(0)}
        later = dataclasses.replace(batch, **none)
        first = generate(sama, ids, batch, cache=cache, max_new_tokens=3)
        more = sama.tokenizer(" and the cup?", add_special_tokens=False).input_ids
        unread = [*ids, *first.ids, *more][first.past.get_seq_length() :]
        whole = generate(sama, [*ids, *first.ids, *more], batch, cache=cache, max_new_tokens=4)
        second = generate(
            sama, unread, later, cache=cache, past=first.past, shown=first.shown, max_new_tokens=4
        )
        assert second.ids == whole.ids

    def test_text_only_calls_every_module(self):
        sama = hold(*self.fresh())
        sama.host.requires_grad_(False)
        trained = {f"sama.{name}" for name in sama.mark_trainable()}
        ids = sama.tokenizer("what is it?", return_tensors="pt").input_ids
        batch = empty_batch(1, sama.modules.tokens, 16)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        assert set(step(sama, {**inputs, "sama": batch})) == trained

    def test_a_frame_nobody_reads_runs_the_vision_side(self):
        """What ZeRO-3 needs of a rank that has text alone (`train/uniform.py`)."""
        sama = hold(*self.fresh())
        ids = sama.tokenizer("what is it?", return_tensors="pt").input_ids
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            alone = sama.host(**uniform_inputs(inputs, sama, sharded=False)).logits
            with_frame = uniform_inputs(inputs, sama, sharded=True)
            assert with_frame["pixel_values"].shape[0] == 1
            assert torch.equal(sama.host(**with_frame).logits, alone)

    def test_a_session_equals_reading_its_record_again(self, tmp_path):
        sama = hold(*self.fresh())
        clip = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3)).astype(np.uint8)

        def talk(session: VideoSession, question: str) -> tuple[int, ...]:
            return session.ask(question, max_new_tokens=4, masks=False).ids

        with VideoSession(sama, clip) as session:
            session.region("square", frame=1, box=(8, 10, 30, 24))
            talk(session, "what does @square do?")
            path = session.save(tmp_path / "talk.json")
            with resume_session(sama, path, source=clip) as again:
                assert talk(again, "and the cup?") == talk(session, "and the cup?")
            session.restart()
            assert session.cached_tokens > 0
            found = talk(session, "what is it?")
        with VideoSession(sama, clip) as fresh:
            assert talk(fresh, "what is it?") == found

    def test_lora_trains_the_language_model_alone(self, tmp_path):
        sama = hold(*self.fresh())
        model = add_lora(sama, sama.config.lora)
        assert all("language_model" in name for name in matched_layers_of(model))
        grads = step(sama, grounded(sama, tmp_path))
        lora = {name for name in grads if "lora_" in name}
        assert len(lora) == 2 * len(lora_layers(sama.host)) > 0
        assert set(grads) == lora | {n for n in grads if n.startswith("sama.")}

    def test_save_and_load_give_the_same_states(self, tmp_path):
        sama = hold(*self.fresh())
        add_lora(sama, sama.config.lora)
        inputs = grounded(disturbed(sama), tmp_path)
        folder = save_adapter(sama, tmp_path / "sama_adapter")
        other = attach(*self.fresh(), read_config(folder), segmenter=segmenter())
        load_adapter(other, folder)
        assert torch.equal(last_states(other, inputs), last_states(sama, inputs))

    def test_an_adapter_of_another_host_loads(self, tmp_path):
        donor = hold(*TINY[self.relative].build(0))
        add_lora(donor, donor.config.lora)
        folder = save_adapter(disturbed(donor), tmp_path / "sama_adapter")
        sama = attach(*self.fresh(), read_config(folder), segmenter=segmenter())
        load_adapter(sama, folder)
        for name, weight in donor.modules.state_dict().items():
            assert torch.equal(sama.modules.state_dict()[name], weight), name
        ours, theirs = lora_layers(sama.host), lora_layers(donor.host)
        assert len(ours) == len(theirs) > 0
        for (_, mine), (_, yours) in zip(sorted(ours.items()), sorted(theirs.items())):
            assert all(torch.equal(left, right) for left, right in zip(mine, yours))

    relative = "internvl"
    """A host with the same language model: whose adapter must load here."""

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_gradient_checkpointing_changes_nothing(self, tmp_path, reentrant):
        sama = hold(*self.fresh())
        add_lora(sama, sama.config.lora)
        inputs = grounded(disturbed(sama), tmp_path)
        sama.host.train()
        plain = step(sama, inputs)
        sama.host.gradient_checkpointing_enable({"use_reentrant": reentrant})
        sama.host.enable_input_require_grads()
        layers = sama.adapter.decoder(sama.host).modules()
        assert any(getattr(layer, "gradient_checkpointing", False) for layer in layers)
        saved = step(sama, inputs)
        assert plain.keys() == saved.keys()
        for name, grad in plain.items():
            assert torch.allclose(grad, saved[name], atol=1e-5), name

    @pytest.mark.slow
    def test_four_bit_weights_take_lora(self, tmp_path):
        from sama_plugin.model.adapters import four_bit

        model, tokenizer = self.fresh()
        model.save_pretrained(tmp_path / "host")
        quantised = type(model).from_pretrained(
            tmp_path / "host", quantization_config=four_bit(torch.float32), dtype=torch.float32
        )
        sama = hold(quantised, tokenizer)
        add_lora(sama, sama.config.lora)
        assert any("4bit" in type(layer).__name__ for layer in quantised.modules())
        names = matched_layers_of(quantised)
        assert names and all("4bit" in type(one.base_layer).__name__ for one in names.values())
        quantised.train()  # in eval mode bitsandbytes has a CPU kernel of its own for wide layers
        grads = step(sama, grounded(sama, tmp_path))
        assert len([name for name in grads if "lora_" in name]) == 2 * len(names)


def matched_layers_of(model: Any) -> dict[str, Any]:
    """LoRA layers by name."""
    return {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
