"""Packed samples give the losses and gradients of the same samples in rows of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sama_plugin.data.packing import bins, boundaries, check_packs, packed
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import ConfigError, HostError
from sama_plugin.miniworld.host import tiny_host
from sama_plugin.model.attach import attach
from sama_plugin.train.material import collator
from tests.data.factories import grounded_sample, plain_sample, text_sample, write_clip
from tests.hosts.test_backbones import build
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def sama():
    return attach(*tiny_host(seed=0), tiny_config())


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    source = write_clip(tmp_path_factory.mktemp("clip") / "clip.npy")
    return [grounded_sample(source), plain_sample(source), text_sample(), grounded_sample(source)]


def run(sama, collate, samples):
    """Loss parts and gradients of one step."""
    torch.manual_seed(0)
    sama.modules.zero_grad()
    host = sama.host
    host.zero_grad()
    for parameter in host.parameters():
        parameter.requires_grad_(True)
    output = host(**collate(samples))
    output.loss.backward()
    named = [*sama.modules.named_parameters(), *host.named_parameters()]
    gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return output, dict(sama.last_losses), gradients


def test_losses_and_gradients_are_those_of_single_rows(sama, samples):
    collate = collator(sama)
    alone, parts, gradients = run(sama, collate, samples)
    collate.layout = packed
    together, packed_parts, packed_gradients = run(sama, collate, samples)
    assert together.logits.shape[0] == 1
    torch.testing.assert_close(together.loss, alone.loss, rtol=1e-4, atol=1e-5)
    assert set(packed_parts) == set(parts)
    for name, value in parts.items():
        torch.testing.assert_close(
            torch.as_tensor(packed_parts[name]), torch.as_tensor(value), rtol=1e-4, atol=1e-5
        )
    assert set(packed_gradients) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            packed_gradients[name],
            gradient,
            rtol=1e-3,
            atol=1e-5,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_neighbours_do_not_change_a_sample(sama, samples):
    collate = collator(sama)
    collate.layout = packed
    alone = sama.host(**collate(samples[:1])).logits[0]
    batch = collate(samples[::-1])
    start, end = boundaries(batch["position_ids"])[-1]
    logits = sama.host(**batch).logits[0, start:end]
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_rows_hold_everything_once(sama, samples):
    collate = collator(sama)
    lengths = [len(collate.prepare(sample).encoded) for sample in samples]
    rows = collate(samples)
    collate.layout = packed
    batch = collate(samples)
    ends = boundaries(batch["position_ids"])
    assert [end - start for start, end in ends] == lengths
    for row, (start, end) in enumerate(ends):
        assert batch["input_ids"][0, start:end].equal(rows["input_ids"][row, : end - start])
        assert batch["labels"][0, start] == IGNORE


@pytest.mark.parametrize("capacity", [7, 10, 100])
def test_bins(capacity):
    lengths = [3, 7, 2, 5, 5, 1, 7]
    rows = bins(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
    assert len(rows) == -(-sum(lengths) // capacity) + (capacity == 7) * 0
    assert rows == bins(lengths, capacity)


def test_what_cannot_be_packed_is_named():
    with pytest.raises(ConfigError, match="sample 1 has 9 tokens"):
        bins([1, 9], 8)
    config = SimpleNamespace(_attn_implementation="sdpa", rope_scaling={"mrope_section": [1, 2]})
    with pytest.raises(HostError, match="several axes"):
        check_packs(SimpleNamespace(config=config))
    config = SimpleNamespace(_attn_implementation="their_own")
    with pytest.raises(HostError, match="their_own"):
        check_packs(SimpleNamespace(config=config))


def test_the_tiny_host_packs(sama):
    check_packs(sama.host)


@pytest.mark.parametrize("family", ["gpt_oss", "qwen3", "mixtral"])
def test_a_decoder_that_ignores_positions_is_found_by_trying(family):
    host = build(family)[0].train()
    if family == "gpt_oss":
        with pytest.raises(HostError, match="gpt_oss with attention 'eager' lets packed samples"):
            check_packs(host)
    else:
        check_packs(host)
    assert host.training
