"""The taps: K of F frames, slots written exactly, [SEG] read, gradients where they belong."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sama_plugin.data.batch import SamaBatch, empty_batch
from sama_plugin.errors import SlotError
from sama_plugin.model.attach import attach
from tests.model.conftest import tiny_config

TOKENS = 16


def long(*values):
    return torch.tensor(values, dtype=torch.long)


def one_turn(sama, *, targets=1, regions=1):
    """A hand-made batch: one sample, four frames (two for the language model), one turn, and its
    token ids.
    """
    ids, context = sama.ids, 4
    question = sama.tokenizer("what is it?").input_ids
    kinds = [0] * len(question) + [1, 2] * regions
    image = [sama.image_id] * (2 * TOKENS)
    answer = (
        sama.tokenizer("it is ").input_ids + [ids.seg] * targets + [sama.tokenizer.eos_token_id]
    )
    prompt = image + [ids.context] * context + question + [ids.region] * (2 * regions)
    tokens = torch.tensor([prompt + answer])
    labels = torch.tensor([[-100] * len(prompt) + answer])
    size = sama.segmenter.image_size
    batch = SamaBatch(
        frame_owner=long(0, 0, 0, 0),
        frame_index=long(0, 1, 2, 3),
        frame_time=torch.arange(4.0),
        aggregator_rows=long(0, 1, 2, 3),
        keep_rows=long(1, 3),
        keep_moment=torch.tensor([1 / 3, 1.0]),
        prompt_owner=long(0),
        question_ids=torch.tensor([question + [0, 0] * regions]),
        question_mask=torch.ones(1, len(kinds), dtype=torch.bool),
        question_kind=torch.tensor([kinds]),
        region_prompt=torch.zeros(regions, dtype=torch.long),
        entry_owner=torch.arange(regions),
        entry_row=torch.full((regions,), 2),
        entry_weights=torch.rand(regions, TOKENS, generator=torch.Generator().manual_seed(1)),
        entry_shape=torch.rand(regions, 16, 16, generator=torch.Generator().manual_seed(2)),
        sample_ids=["clip-7"],
    )
    if targets:
        batch = dataclasses.replace(
            batch,
            segment_pixels=torch.randn(
                2, 3, size, size, generator=torch.Generator().manual_seed(4)
            ),
            segment_moment=torch.tensor([0.0, 1.0]),
            target_owner=torch.zeros(targets, dtype=torch.long),
            label_target=torch.arange(targets).repeat_interleave(2),
            label_segment=long(0, 1).repeat(targets),
            label_mask=torch.zeros(2 * targets, 32, 32).index_fill(1, torch.arange(8, 20), 1.0),
            label_present=torch.tensor([True, False] * targets),
        )
    return {"input_ids": tokens, "labels": labels, "attention_mask": torch.ones_like(tokens)}, batch


def test_k_of_f_frames_equals_k_alone_bit_for_bit(tiny, frames):
    model, tokenizer = tiny
    text = "<img>" + "<IMG_CONTEXT>" * (2 * TOKENS) + "</img>\nwhat is it?"
    ids = tokenizer(text, return_tensors="pt").input_ids
    keep = long(1, 3)
    with torch.no_grad():
        alone = model(input_ids=ids, pixel_values=frames[keep]).logits
        sama = attach(model, tokenizer, tiny_config())
        batch = dataclasses.replace(
            empty_batch(1, TOKENS, 16),
            frame_owner=long(0, 0, 0, 0),
            keep_rows=keep,
            keep_moment=torch.zeros(2),
        )
        with sama.call(batch) as call:
            through = model(input_ids=ids, pixel_values=frames).logits
    assert call.features.shape == (4, TOKENS, 48)
    assert torch.equal(through[..., : alone.shape[-1]], alone)


def test_slots_are_overwritten_and_counted(sama, frames):
    inputs, batch = one_turn(sama, targets=0)
    with torch.no_grad():
        first = sama.host(**inputs, pixel_values=frames, sama=batch).logits
        moved = dataclasses.replace(batch, entry_row=long(0))
        second = sama.host(**inputs, pixel_values=frames, sama=moved).logits
    before = (inputs["input_ids"][0] == sama.ids.region).nonzero()[0].item()
    assert torch.isfinite(first).all()
    assert not torch.equal(first[:, before:], second[:, before:])


def test_too_few_placeholders_name_the_sample(sama, frames):
    inputs, batch = one_turn(sama, targets=0)
    keep = inputs["input_ids"][0] != sama.ids.region
    keep[inputs["input_ids"][0].eq(sama.ids.region).nonzero()[0]] = True
    cut = {name: value[:, keep] for name, value in inputs.items()}
    with pytest.raises(SlotError, match=r"1 region placeholders.*clip-7, 2 vectors"):
        sama.host(**cut, pixel_values=frames, sama=batch)
    assert sama.taps.call is None


def test_wrong_number_of_frames_is_an_error(sama, frames):
    inputs, batch = one_turn(sama, targets=0)
    with pytest.raises(SlotError, match="returned 3 frames.*hold 4"):
        sama.host(**inputs, pixel_values=frames[:3], sama=batch)


def test_seg_count_mismatch_is_an_error(sama, frames):
    inputs, batch = one_turn(sama, targets=1)
    inputs["input_ids"][inputs["input_ids"] == sama.ids.seg] = sama.ids.phrase_open
    with pytest.raises(SlotError, match="0 \\[SEG\\] tokens.*1 mask targets"):
        sama.host(**inputs, pixel_values=frames, sama=batch)


@pytest.mark.parametrize("aggregator", ["sama", "none"])
def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(tiny, frames, aggregator):
    model, tokenizer = tiny
    sections = tiny_config()
    sama = attach(
        model,
        tokenizer,
        tiny_config(aggregator=dataclasses.replace(sections.aggregator, kind=aggregator)),
    )
    model.requires_grad_(False)
    trained = set(sama.mark_trainable())
    inputs, batch = one_turn(sama)
    if aggregator == "none":
        keep = inputs["input_ids"][0] != sama.ids.context
        inputs = {name: value[:, keep] for name, value in inputs.items()}
    sama.host(**inputs, pixel_values=frames, sama=batch).loss.backward()
    for name, parameter in sama.modules.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
        if name in trained and "absent" not in name:
            assert torch.isfinite(parameter.grad).all(), name
    assert all(p.grad is None for n, p in model.named_parameters() if not n.startswith("sama."))
    assert all(p.grad is None for p in sama.segmenter.module.parameters())
    assert sama.modules.input_rows.weight.grad.abs().sum() > 0
    assert sama.modules.seg_head.state_dict() and sama.last_losses.keys() == {
        "text",
        "mask_bce",
        "mask_dice",
        "object_score",
        "place",
        "click",
        "look",
    }


def test_text_only_batch_still_calls_every_module(sama):
    sama.host.requires_grad_(False)
    trained = set(sama.mark_trainable())
    ids = sama.tokenizer("what is it?", return_tensors="pt").input_ids
    batch = empty_batch(1, TOKENS, 16)
    sama.host(input_ids=ids, labels=ids, sama=batch).loss.backward()
    for name, parameter in sama.modules.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name


def test_new_ids_past_the_table_are_readable_and_predictable(sama):
    ids = torch.tensor([[sama.ids.phrase_open, sama.ids.seg]])
    with torch.no_grad(), sama.call(None):
        logits = sama.host(input_ids=ids).logits
    assert logits.shape[-1] == sama.host.get_output_embeddings().weight.shape[0] + 7
    assert torch.isfinite(logits).all()
