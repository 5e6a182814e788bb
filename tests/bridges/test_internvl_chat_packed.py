"""Packed rows of the internvl_chat bridge equal their samples in rows of their own."""

from __future__ import annotations

import itertools
import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from sama_plugin.bridges.internvl_chat.install import import_host
from sama_plugin.bridges.internvl_chat.packed_batch import PackedCollator
from sama_plugin.bridges.internvl_chat.packed_rows import PackedRow, PackedRows, PackLimits
from sama_plugin.bridges.internvl_chat.prepare import Preparation
from sama_plugin.bridges.internvl_chat.separation import (
    Separation,
    _masks,
    language_dtype,
    separation_of,
    visible,
    ways,
)
from sama_plugin.bridges.internvl_chat.videos import LocalVideos
from sama_plugin.errors import DataError, PluginError
from sama_plugin.patching.ledger import Ledger
from tests.bridges.test_internvl_chat import files, leave_nothing, run  # noqa: F401
from tests.data.factories import text_sample
from tests.hosts.internvl_chat.lookalike import internvl_chat
from tests.hosts.test_backbones import TABLE
from tests.model.conftest import tiny_config


def prepare(files, made):  # noqa: F811
    """(sama, datasets, collator, the script's len2weight) for a (model, tokenizer)."""
    import_host("internvl.train.internvl_chat_finetune")
    import internvl.train.internvl_chat_finetune as script

    model, tokenizer = made
    preparation = Preparation(tiny_config(), None, None, Ledger())
    arguments = script.DataTrainingArguments(meta_path=str(files / "meta.json"))
    preparation.before(arguments, tokenizer, model)
    datasets = script.build_datasets(arguments, tokenizer, LocalVideos(), model)
    return preparation.sama, preparation.after(datasets), preparation.collate, script.len2weight


@pytest.fixture
def prepared(files):  # noqa: F811
    return prepare(files, internvl_chat())


def row_of(items, **more):
    """A row of these samples."""
    alone = [next(iter(PackedRows([[item]], [1], PackLimits(9999, 999, 1)))) for item in items]
    tokens, images = sum(one.tokens for one in alone), sum(one.images for one in alone)
    return PackedRow(list(items), tokens, images, **more)


def packed(collate, weigh, items, length=0, **more):
    return PackedCollator()([row_of(items, **more)], collate, weigh, length)


def told(sama, batch, way=None):
    way = way or separation_of(sama)
    return way.tell(batch, language_dtype(sama))


def learn(sama, batch):
    """(text loss, sum of the other parts, gradients) of one step."""
    torch.manual_seed(0)  # points at which masks are compared
    host = sama.host.requires_grad_(True)
    host.zero_grad(set_to_none=True)
    loss = host(**batch).loss
    loss.backward()
    grads = {name: p.grad.clone() for name, p in host.named_parameters() if p.grad is not None}
    text = sama.last_losses["text"]
    return text, loss.detach() - text, grads


GROUNDED, PICTURE, PICTURES, WORDS, FILM = 0, 2, 3, 4, 5


def test_a_packed_row_is_its_samples_in_rows_of_their_own(prepared):
    """One grounded, one plain: losses and every gradient."""
    sama, datasets, collate, len2weight = prepared
    items = [datasets[GROUNDED], datasets[PICTURE]]
    row = packed(collate, partial(len2weight, loss_reduction="token"), items)
    assert row["input_ids"].shape[0] == 1 and int((row["position_ids"] == 0).sum()) == 2
    text, masks, grads = learn(sama, told(sama, row))
    wanted_text, wanted_masks, wanted = learn(sama, collate(items))
    assert wanted_masks > 0
    torch.testing.assert_close(text, wanted_text, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(masks, wanted_masks, rtol=1e-5, atol=1e-6)
    assert grads.keys() == wanted.keys()
    assert any(name.startswith("sama.region") and grad.any() for name, grad in grads.items())
    assert any(name.startswith("sama.aggregator") and grad.any() for name, grad in grads.items())
    for name, grad in wanted.items():
        torch.testing.assert_close(
            grads[name], grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("reduction", "power"), [("token", 0.0), ("sample", -1), ("square", -0.5)])
def test_tokens_weigh_as_the_script_says(prepared, reduction, power):
    """The text loss of a row from those of its samples alone, and its gradient."""
    sama, datasets, collate, len2weight = prepared
    items = [datasets[GROUNDED], datasets[PICTURE], datasets[WORDS], datasets[FILM]]
    text, whole, whole_weight = 0.0, {}, 0.0
    for item in items:
        alone = collate([item])
        count = int((alone["labels"][:, 1:] != -100).sum())
        loss, _, grads = learn(sama, {**alone, "sama": without_masks(alone["sama"], sama)})
        weight = count * float(count) ** power
        text, whole_weight = text + weight * loss, whole_weight + weight
        for name, grad in grads.items():
            whole[name] = whole.get(name, 0) + weight * grad
    row = packed(collate, partial(len2weight, loss_reduction=reduction), items)
    found, _, grads = learn(sama, told(sama, {**row, "sama": without_masks(row["sama"], sama)}))
    torch.testing.assert_close(found, text / whole_weight, rtol=1e-5, atol=1e-6)
    for name, grad in whole.items():
        torch.testing.assert_close(grads[name], grad / whole_weight, rtol=1e-3, atol=1e-5)


def without_masks(batch, sama):
    """The batch without mask labels, so that the text alone is learnt from."""
    import dataclasses

    if batch.label_target is None:
        return batch
    none = {
        name: getattr(batch, name)[:0]
        for name in ("label_target", "label_segment", "label_mask", "label_present")
    }
    return dataclasses.replace(batch, **none)


@pytest.mark.parametrize("window", [None, 40])
def test_every_way_that_is_right_gives_the_same(files, window):  # noqa: F811
    """Positions, and masks that hold the window of a model whose layers slide."""
    more = {} if window is None else {"sliding_window": window}
    made = internvl_chat(family="qwen2" if window is None else "mistral", text=more)
    sama, datasets, collate, len2weight = prepare(files, made)
    row = packed(
        collate, partial(len2weight, loss_reduction="token"), [datasets[GROUNDED], datasets[WORDS]]
    )
    by_name = {way.name: way for way in ways(sama)}
    found = {}
    with torch.no_grad():
        for name in ("positions", "a boolean mask", "an additive mask"):
            found[name] = sama.host(**told(sama, row, by_name[name])).logits
    for name, logits in found.items():
        torch.testing.assert_close(logits, found["positions"], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        pytest.param(family, attention, marks=pytest.mark.slow)
        for family in TABLE
        if family in CONFIG_MAPPING_NAMES
        for attention in ("sdpa", "eager")
        if attention == "eager" or family not in ("gemma2", "gpt_oss")  # they have no sdpa
    ],
)
def test_every_backbone_packs(files, family, attention):  # noqa: F811
    """A way is found for each, and the losses are those of the samples in rows of their own."""
    made = internvl_chat(family=family, text=TABLE[family][0])
    made[0].language_model.set_attn_implementation(attention)
    sama, datasets, collate, len2weight = prepare(files, made)
    items = [datasets[GROUNDED], datasets[FILM], datasets[WORDS]]
    row = packed(collate, partial(len2weight, loss_reduction="token"), items)
    text, masks, _ = learn(sama, told(sama, row))
    wanted_text, wanted_masks, _ = learn(sama, collate(items))
    torch.testing.assert_close(text, wanted_text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masks, wanted_masks, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(prepared):
    """`--strict_mode True`: rows of one length and one number of images."""
    sama, datasets, collate, len2weight = prepared
    weigh, items = partial(len2weight, loss_reduction="sample"), [datasets[0], datasets[3]]
    bare = packed(collate, weigh, items)
    images, tokens = bare["pixel_values"].shape[0] + 3, bare["input_ids"].shape[1] + 17
    full = packed(collate, weigh, items, tokens, fill_images=images)
    assert full["input_ids"].shape[1] == tokens and full["pixel_values"].shape[0] == images
    assert len(full["loss_weight"][0]) == tokens
    for left, right in zip(learn(sama, told(sama, bare))[:2], learn(sama, told(sama, full))[:2]):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_a_padded_row_of_words_alone(prepared):
    sama, _, collate, len2weight = prepared
    words = [collate.made.ours.prepare(text_sample())] * 2
    row = packed(collate, partial(len2weight, loss_reduction="token"), words, 200, fill_images=4)
    assert "pixel_values" not in row and row["input_ids"].shape == (1, 200)
    found, wanted = learn(sama, told(sama, row)), learn(sama, collate(words))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-6)


def test_attention_that_mixes_neighbours_is_refused(prepared, monkeypatch):
    sama, *_ = prepared
    mode = sama.host.language_model.training
    blind = Separation("nothing", lambda inputs, dtype: {**inputs, "position_ids": None})
    where = "sama_plugin.bridges.internvl_chat.separation.ways"
    monkeypatch.setattr(where, lambda sama: [blind])
    with pytest.raises(PluginError, match="nothing: a sample's logits move by .*use_packed_ds Fal"):
        separation_of(sama)
    assert sama.host.language_model.training is mode


def test_what_may_look_at_what():
    seen = visible(torch.tensor([[0, 1, 0, 1, 2]]))[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], *([0, 0, *one] for one in tri(3))]
    near = visible(torch.tensor([[0, 1, 0, 1, 2]]), 2)[0, 0].int().tolist()
    assert near == [*seen[:4], [0, 0, 0, 1, 1]]


def test_packed_attention_of_the_trees_is_told_lengths(prepared):
    """By the class (internvl_chat) or by a method on the layer (gpt_oss), where they put theirs."""
    sama, *_ = prepared
    attention = sama.adapter.decoder(sama.host).layers[0].self_attn
    row = {"position_ids": torch.tensor([[0, 1, 0, 1, 2]])}
    attention.forward = attention.forward
    way, *others = ways(sama)
    assert way.tell(row, torch.float32)["cu_seqlens"].tolist() == [[0, 2, 5]]
    assert separation_of(sama).name == others[0].name  # the lookalike takes no lengths
    del attention.forward
    kind = type(attention)
    attention.__class__ = type("Qwen2FlashAttention2ForPackedTraining", (kind,), {})
    (way,) = ways(sama)
    told_lengths = way.tell(row, torch.float32)["attention_mask"]
    assert told_lengths.tolist() == [[0, 2, 5]] and told_lengths.dtype is torch.int32
    with pytest.raises(PluginError, match="lengths in the place of the mask: "):
        separation_of(sama)  # this host's own attention does not understand them


def test_layers_that_no_mask_describes_get_none():
    kinds = SimpleNamespace(layer_types=["full_attention", "linear_attention"])
    hidden = SimpleNamespace(sliding_window=8, max_window_layers=1)
    assert _masks(kinds) == _masks(hidden) == []
    off = SimpleNamespace(sliding_window=8, max_window_layers=1, use_sliding_window=False)
    assert len(_masks(off)) == 3


def tri(size):
    return torch.tril(torch.ones(size, size, dtype=torch.int)).tolist()


# ---- which samples share a row

HOST = {"pixel_values": torch.zeros(1, 3, 2, 2), "image_flags": torch.ones(1)}


class Numbers(list):
    """A dataset of host items: (tokens, images) each."""

    ds_name = "numbers"

    def __getitem__(self, index):
        tokens, images = list.__getitem__(self, index)
        pixels = torch.zeros(images, 3, 2, 2)
        return {"input_ids": torch.full((tokens,), index), "pixel_values": pixels}


def ids(rows):
    return [[int(item["input_ids"][0]) for item in row.items] for row in rows]


def test_rows_hold_every_sample_once_within_the_limits():
    sizes = [(3, 1), (5, 2), (2, 0), (7, 1), (4, 4), (1, 1), (6, 3), (8, 2)]
    limits = PackLimits(tokens=8, images=4, open_rows=2)
    rows = list(PackedRows([Numbers(sizes)], [1.0], limits))
    assert sorted(itertools.chain(*ids(rows))) == list(range(8)) and len(rows) < 8
    for row in rows:
        assert row.tokens == sum(len(item["input_ids"]) for item in row.items) <= 8
        assert row.images == sum(len(item["pixel_values"]) for item in row.items) <= 4


def test_ranks_share_the_records_unless_the_dataset_is_divided_already():
    limits = PackLimits(tokens=1, images=1, open_rows=0)
    part = Numbers([(1, 0)] * 7)
    parts = [ids(PackedRows([part], [1.0], limits, rank, 2)) for rank in (0, 1)]
    assert sorted(itertools.chain(*parts[0], *parts[1])) == list(range(7))
    part.total_ranks = 2
    divided = ids(PackedRows([part], [1.0], limits, 1, 2))
    assert sorted(itertools.chain(*divided)) == list(range(7))


def test_a_dataset_begins_again_when_the_script_says_so():
    limits = PackLimits(tokens=1, images=1, open_rows=0, again=True)
    rows = itertools.islice(PackedRows([Numbers([(1, 0)] * 3)], [1.0], limits), 7)
    first, *_ = found = [one for [one] in ids(rows)]
    assert sorted(found[:3]) == sorted(found[3:6]) == [0, 1, 2] and first in (0, 1, 2)


def test_what_fits_no_row(prepared, caplog):
    _, datasets, _, _ = prepared
    small = PackLimits(tokens=20, images=40, open_rows=2)
    with pytest.raises(DataError, match="grounded.*tokens.*--max_packed_tokens"):
        list(PackedRows([[datasets[GROUNDED]]], [1.0], small))
    rows = ids(PackedRows([Numbers([(30, 0), (2, 0)])], [1.0], small))
    assert rows == [[1]] and "a record is left out: 30 tokens" in caplog.text


def test_a_host_that_reads_nothing_is_an_error():
    class Empty(Numbers):
        def __getitem__(self, index):
            raise StopIteration

    with pytest.raises(DataError, match="dataset numbers: the host could not read record 0"):
        list(PackedRows([Empty([(1, 1)])], [1.0], PackLimits(9, 9, 9)))


# ---- the launched script


@pytest.mark.parametrize("strict", [True, False])
def test_the_script_trains_on_packed_rows(files, tmp_path, capsys, strict):  # noqa: F811
    changes = {"per_device_train_batch_size": 1, "strict_mode": strict, "replacement": True}
    trainer = run(files, tmp_path, use_packed_ds=True, **changes)
    assert trainer.canary.masks_seen and trainer.canary.regions_seen
    assert trainer.separation.name == "positions"
    assert "rows of whole samples in its place" in capsys.readouterr().err
    again = pickle.loads(pickle.dumps((trainer.train_dataset, trainer.data_collator)))
    shapes = {again[1]([row])["input_ids"].shape[1] for row in itertools.islice(again[0], 3)}
    assert (shapes == {2048}) is strict


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 2}, "use_packed_ds True with 2 rows a batch"),
        ({"allow_overflow": True}, "--allow_overflow True: samples are cut"),
        ({"group_by_length": True, "per_device_train_batch_size": 1}, "--group_by_length"),
    ],
)
def test_what_is_refused(files, tmp_path, changes, message):  # noqa: F811
    """By us, or by a transformers that still knows the flag."""
    with pytest.raises((PluginError, ValueError), match=message):
        run(files, tmp_path, use_packed_ds=True, **changes)
