"""The bridge to internvl_chat, on a tree that looks like it (`tests/hosts/internvl_chat/tree`).

The lookalike's functions are none of those that were read, so every launch here lets them through
by name; the real trees are in `tests/hosts/internvl_chat/test_upstream.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from sama_plugin.bridges.internvl_chat.claims import claims
from sama_plugin.bridges.internvl_chat.install import import_host
from sama_plugin.bridges.internvl_chat.patches import touched
from sama_plugin.bridges.internvl_chat.prepare import Preparation
from sama_plugin.bridges.internvl_chat.videos import LocalVideos
from sama_plugin.data.formats.internvl_meta import write
from sama_plugin.errors import PluginError
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config
from sama_plugin.patching.importing import Target
from sama_plugin.patching.launch import launch
from sama_plugin.patching.ledger import Ledger
from sama_plugin.settings import dump_yaml
from tests.conftest import REPOSITORY
from tests.data.factories import grounded_sample, write_clip
from tests.hosts.conformance import disturbed, last_states
from tests.hosts.internvl_chat.lookalike import TREE, internvl_chat
from tests.model.conftest import tiny_config

SCRIPT = TREE / "internvl/train/internvl_chat_finetune.py"
UNREAD = ("build_datasets", "collator", "packed_collator", "init_dist")
CHAT = [{"from": "human", "value": "what is it?"}, {"from": "gpt", "value": "a red ball"}]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoint, media, meta file and plugin config."""
    folder = tmp_path_factory.mktemp("internvl_chat")
    model, tokenizer = internvl_chat()
    model.save_pretrained(folder / "host")
    tokenizer.save_pretrained(folder / "host")
    media = folder / "media"
    media.mkdir()
    clip = write_clip(media / "clip.npy")
    Image.fromarray(np.full((40, 90, 3), 99, np.uint8)).save(media / "wide.png")
    write([grounded_sample(clip)] * 2, folder / "grounded.jsonl", media)
    plain = [
        {"id": "image", "image": "wide.png", "conversations": CHAT},
        {"id": "images", "image": ["wide.png"] * 3, "conversations": CHAT},
        {"id": "text", "conversations": CHAT},
        {"id": "video", "video": "clip.npy", "conversations": CHAT},
    ]
    (folder / "plain.jsonl").write_text("".join(json.dumps(one) + "\n" for one in plain))
    meta = {
        name: {"root": str(media), "annotation": str(folder / f"{name}.jsonl")}
        for name in ("grounded", "plain")
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    dump_yaml(tiny_config(), folder / "plugin.yaml")
    return folder


@pytest.fixture(autouse=True)
def leave_nothing():
    """The script starts a process group and patches the Trainer for good; both end here."""
    before, loader = dict(os.environ), transformers.Trainer.get_train_dataloader
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)
    transformers.Trainer.get_train_dataloader = loader
    for script in ("finetune", "pretrain"):
        sys.modules.pop(f"internvl.train.internvl_chat_{script}", None)


def run(files, out, *more, allow=UNREAD, script=SCRIPT, **changes):
    values = {
        "model_name_or_path": files / "host",
        "meta_path": files / "meta.json",
        "output_dir": out,
        "use_llm_lora": 4,
        "max_steps": 2,
        "per_device_train_batch_size": 3,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        **changes,
    }
    host = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    config = str(files / "plugin.yaml")
    ours = ["--plugin", "sama", "--plugin.config", config]
    ours += [f"--plugin.allow-unverified=internvl_chat.{name}" for name in allow]
    return launch([str(script), *host, *ours, *more])


def test_the_script_learns_saves_and_everything_is_put_back(files, tmp_path, capsys):
    import internvl.model.internvl_chat as tree

    method = vars(tree.InternVLChatModel).get("from_pretrained")
    trainer = run(files, tmp_path)
    said = capsys.readouterr().err
    assert "allowed internvl.train.internvl_chat_finetune:build_datasets: not verified" in said
    assert "attached (internvl_chat, qwen2, segmenter" in said
    assert vars(tree.InternVLChatModel).get("from_pretrained") is method
    assert trainer.canary.masks_seen and trainer.canary.regions_seen

    saved = load_file(tmp_path / "model.safetensors")
    assert not any("sama." in name for name in saved)
    assert any("lora_B" in name for name in saved)
    config = read_config(tmp_path / "sama_adapter")
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (4, 8, 0.05)
    model = tree.InternVLChatModel.from_pretrained(str(tmp_path)).eval()
    sama = attach(model, trainer.sama.tokenizer, config)
    load_adapter(sama, tmp_path / "sama_adapter")
    inputs = trainer.data_collator([trainer.train_dataset[0]])
    trainer.sama.host.eval()
    assert torch.equal(last_states(sama, inputs), last_states(trainer.sama, inputs))


@pytest.fixture
def prepared(files):
    """(sama, datasets, collator) as `build_datasets` leaves them, without a launch."""
    import_host("internvl.train.internvl_chat_finetune")
    import internvl.train.internvl_chat_finetune as script

    model, tokenizer = internvl_chat()
    preparation = Preparation(tiny_config(), None, None, Ledger())
    arguments = script.DataTrainingArguments(meta_path=str(files / "meta.json"))
    preparation.before(arguments, tokenizer, model)
    datasets = script.build_datasets(arguments, tokenizer, LocalVideos(), model)
    return preparation.sama, preparation.after(datasets), preparation.collate


def test_items_of_the_host_beside_ours_equal_the_same_alone(prepared):
    sama, datasets, collate = prepared
    disturbed(sama)
    items = [datasets[number] for number in (2, 0, 4, 5)]  # image, ours, text, video
    whole = collate(items)
    assert whole["sama"].samples == 4 and whole["input_ids"].shape[0] == 4
    with torch.no_grad():
        together = sama.host(**whole).logits
        for row, item in enumerate([items[1], items[0], items[2], items[3]]):  # ours first
            alone = collate([item])
            length = alone["input_ids"].shape[1]
            logits = sama.host(**alone).logits[0]
            assert torch.allclose(together[row, :length], logits, atol=2e-4), row


def test_the_host_s_items_are_the_host_s_own(prepared, files):
    sama, datasets, collate = prepared
    host = type(datasets.datasets[1]).sama_host
    twin = host.__new__(host)
    twin.__dict__ = datasets.datasets[1].__dict__
    for number in range(3):
        ours, theirs = datasets.datasets[1][number], twin[number]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    batch = collate([datasets[2], datasets[4]])
    assert batch["attention_mask"].sum() == sum(len(datasets[n]["input_ids"]) for n in (2, 4))


def test_datasets_and_collator_pickle_without_the_model(prepared):
    _, datasets, collate = prepared
    packet = pickle.dumps((datasets, collate))
    assert len(packet) < 2_000_000
    again, laid = pickle.loads(packet)
    first, second = laid([again[0]]), collate([datasets[0]])
    assert torch.equal(first["input_ids"], second["input_ids"])
    assert torch.equal(first["pixel_values"], second["pixel_values"])
    assert first["sama"].sample_ids == ["grounded/grounded"]


def test_a_bad_record_of_the_host_s_is_said(prepared, caplog):
    _, datasets, _ = prepared
    plain = datasets.datasets[1]
    plain.raw_data = [*plain.raw_data[:1], '{"id": "bad", "image": "no.png", "conversations": []}']
    assert "input_ids" in plain[1]
    assert "the host cannot read record 'bad'" in caplog.text


@pytest.mark.parametrize(
    ("allow", "more", "changes", "message"),
    [
        ((), (), {}, "(?s)build_datasets.*none of: InternVL 2410d1d.*--plugin.allow-unverified"),
        (UNREAD, ("--plugin.data", "gone.jsonl"), {}, "--plugin.data gone.jsonl: no such file"),
        (UNREAD, ("--plugin.compat", "of"), {}, "--plugin.compat of: one of auto, off"),
    ],
)
def test_what_is_refused(files, tmp_path, allow, more, changes, message):
    with pytest.raises(PluginError, match=message):
        run(files, tmp_path, *more, allow=allow, **changes)


def test_preference_training_is_refused():
    file = TREE / "internvl/train/internvl_chat_mpo.py"
    with pytest.raises(PluginError, match="trains by preferences"):
        claims(Target("internvl.train.internvl_chat_mpo", TREE, file))


def test_frames_of_local_videos_are_known(tmp_path):
    clip = write_clip(tmp_path / "clip.npy")
    frames = LocalVideos()(clip, image_type="video", max_num_frames=4, min_num_frames=4)
    assert len(frames) == 4 == len(set(frames.indices)) and list(frames.indices) == sorted(
        frames.indices
    )
    middle = LocalVideos()(clip, image_type="video", max_num_frames=2, sample="middle")
    assert middle.indices == (3, 9)


def test_the_list_of_what_is_touched_is_current():
    path = REPOSITORY / "patches" / "internvl_chat" / "README.md"
    assert path.read_text(encoding="utf-8") == touched()
