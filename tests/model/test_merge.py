"""Folding an adapter into its host changes nothing but where the numbers are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sama_plugin.cli import main
from sama_plugin.errors import HostError
from sama_plugin.infer.load import load_sama
from sama_plugin.infer.session import VideoSession
from sama_plugin.model.adapters import add_lora, lora_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config, save_adapter
from sama_plugin.model.export import write_export
from sama_plugin.model.merge import merge
from tests.hosts import tiny as hosts
from tests.model.conftest import tiny_config

CLIP = np.random.default_rng(1).integers(0, 256, (6, 40, 60, 3), dtype=np.uint8)


def taught(family: str, folder):
    """A host on disk, an adapter with LoRA that differs from zero, and the attached model."""
    model, tokenizer = hosts.TINY[family].build(0)
    model.save_pretrained(str(folder / "host"))
    tokenizer.save_pretrained(str(folder / "host"))
    sama = attach(model, tokenizer, tiny_config())
    wrapped = add_lora(sama, sama.config.lora)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or name.endswith(("input_rows.weight", "output_rows.weight")):
                parameter.normal_(std=0.2)
    save_adapter(sama, folder / "sama_adapter")
    return sama, wrapped.eval()


def logits(sama, ids):
    with torch.no_grad(), sama.call(None):
        return sama.host(input_ids=ids).logits


@pytest.mark.parametrize("family", ["internvl", "internvl_qwen3", "qwen3_vl", "llava"])
def test_merged_equals_adapted(tmp_path, family):
    sama, wrapped = taught(family, tmp_path)
    words = sama.tokenizer("what does the dog do")["input_ids"]
    ids = torch.tensor([[*words, *sama.ids.in_order()]])
    expected = logits(sama, ids)
    tied = sama.host.get_input_embeddings().weight is sama.host.get_output_embeddings().weight
    assert lora_layers(sama.host)

    (tmp_path / "to").mkdir()
    done = merge(sama, wrapped, tmp_path / "to")
    assert done.lora and done.rows == 7 and done.untied == tied and not lora_layers(done.host)
    with torch.no_grad():
        plain = done.host(input_ids=ids).logits
    torch.testing.assert_close(plain, expected, atol=2e-4, rtol=1e-4)

    again = attach(done.host, done.tokenizer, read_config(tmp_path / "to/sama_adapter"))
    load_adapter(again, tmp_path / "to/sama_adapter")
    assert again.ids == sama.ids
    torch.testing.assert_close(logits(again, ids), expected, atol=2e-4, rtol=1e-4)


def test_the_verb_writes_a_host_that_talks_as_before(tmp_path, capsys):
    sama, _ = taught("internvl", tmp_path)
    question = "Segment the dog."
    expected = VideoSession(sama, CLIP).ask(question, max_new_tokens=4).text
    host, adapter = str(tmp_path / "host"), str(tmp_path / "sama_adapter")
    command = ["merge", "--model", host, "--adapter", adapter, "--to", str(tmp_path / "to")]
    assert main(command) == 0
    assert "14 LoRA layers and 7 token rows" in capsys.readouterr().out
    merged = load_sama(str(tmp_path / "to"))
    assert not lora_layers(merged.host)
    assert VideoSession(merged, CLIP).ask(question, max_new_tokens=4).text == expected
    assert main(command) == 2 and "exists already" in capsys.readouterr().err


def test_an_export_is_one_folder_for_the_auto_classes(tmp_path):
    from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

    sama, wrapped = taught("internvl", tmp_path)
    expected = VideoSession(sama, CLIP).ask("Segment the dog.", max_new_tokens=4)
    size = sama.adapter.image_size(sama.host)
    folder = tmp_path / "to"
    folder.mkdir()
    write_export(sama, wrapped, folder, tmp_path / "host")

    moved = folder.rename(tmp_path / "moved")
    settings = json.loads((moved / "sama_adapter/config.json").read_text())["settings"]
    assert settings["seg"]["weights"] == "segmenter.safetensors"
    processor = AutoProcessor.from_pretrained(str(moved))
    model, info = AutoModelForImageTextToText.from_pretrained(str(moved), output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    _, info = AutoModel.from_pretrained(str(moved), output_loading_info=True)  # without the head
    assert not info["missing_keys"] and all("lm_head" in name for name in info["unexpected_keys"])
    picture = np.zeros((size, size, 3), np.uint8)
    inputs = processor(images=[picture], text=["<IMG_CONTEXT>\nwhat is it"], return_tensors="pt")
    assert inputs["pixel_values"].shape[1:] == (3, size, size)
    said = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert said.shape[1] > inputs["input_ids"].shape[1]

    again = load_sama(str(moved))
    assert again.segmenter.fingerprint == sama.segmenter.fingerprint
    answer = VideoSession(again, CLIP).ask("Segment the dog.", max_new_tokens=4)
    assert answer.text == expected.text


def test_a_quantised_host_is_refused(tmp_path):
    sama, wrapped = taught("internvl", tmp_path)

    class Linear4bit(torch.nn.Linear):
        pass

    sama.host.model.language_model.layers[0].extra = Linear4bit(1, 1)
    with pytest.raises(HostError, match="quantised"):
        merge(sama, wrapped, tmp_path)
    assert lora_layers(sama.host) and not (tmp_path / "README.md").exists()


def spoil(kind: str, folder) -> None:
    file = folder / "model.safetensors"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-64])
    elif kind == "other width":
        described = json.loads((folder / "config.json").read_text())
        described["text_config"]["hidden_size"] *= 2
        (folder / "config.json").write_text(json.dumps(described))
    elif kind == "a layer too many":
        described = json.loads((folder / "config.json").read_text())
        text = described["text_config"]
        text["num_hidden_layers"] -= 1
        text["layer_types"] = text["layer_types"][:-1]
        (folder / "config.json").write_text(json.dumps(described))
    else:
        state = load_file(file)
        del state[next(name for name in state if name.endswith("layers.0.mlp.down_proj.weight"))]
        save_file(state, str(file), metadata={"format": "pt"})


@pytest.mark.parametrize(
    "kind, words",
    [
        ("truncated", "nor a checkpoint that transformers can load"),
        ("other width", "nor a checkpoint that transformers can load"),
        ("a tensor missing", "lacks 1 tensor(s) of a InternVLForConditionalGeneration: model.lang"),
        ("a layer too many", "has no place for: model.language_model.layers.1.input_layernorm.w"),
    ],
)
@pytest.mark.parametrize("verb", ["merge", "export"])
def test_a_damaged_host_is_refused_and_nothing_is_written(tmp_path, capsys, verb, kind, words):
    taught("internvl", tmp_path)
    spoil(kind, tmp_path / "host")
    before = sorted(tmp_path.rglob("*"))
    command = ["--model", str(tmp_path / "host"), "--adapter", str(tmp_path / "sama_adapter")]
    assert main([verb, *command, "--to", str(tmp_path / "to")]) == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_segmenter_is_refused_and_nothing_is_written(tmp_path, capsys):
    taught("internvl", tmp_path)
    file = tmp_path / "sama_adapter/config.json"
    file.write_text(file.read_text().replace('"segmenter": "mini"', '"segmenter": "sam9_huge"'))
    command = ["--model", str(tmp_path / "host"), "--adapter", str(tmp_path / "sama_adapter")]
    assert main(["export", *command, "--to", str(tmp_path / "to")]) == 2
    assert "unknown segmenter 'sam9_huge'; known: " in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
