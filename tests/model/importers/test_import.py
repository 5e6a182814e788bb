"""`sama import` on tiny checkpoints of every published layout: all weights arrive, none is lost in
silence, nothing is half-written.
"""

from __future__ import annotations

import argparse
import json
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sama_plugin.cli import import_
from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError, OutputError
from sama_plugin.hosts.precision import dtype_option
from sama_plugin.model.importers import sam2
from sama_plugin.model.importers.bring import LAYOUTS, bring
from sama_plugin.model.importers.shards import Checkpoint, ShardWriter
from sama_plugin.nn.names import released_name

from . import synthetic

LANGUAGES = ["Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM", "InternLM2ForCausalLM"]


def equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not different


def host_of(folder):
    from transformers import InternVLForConditionalGeneration

    model, info = InternVLForConditionalGeneration.from_pretrained(
        str(folder / "host"), output_loading_info=True, **dtype_option(torch.float32)
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("architecture", LANGUAGES)
def test_internvl_becomes_native(tmp_path, architecture):
    model = synthetic.native_model(architecture)
    state = synthetic.remote_state(model, architecture)
    source = synthetic.write(tmp_path / "source", state, architecture, shards=3)
    done = bring(source, tmp_path / "to", shard_bytes=20_000)
    assert done.layout == "internvl" and not done.plan.dropped and not done.plan.filled
    assert len(list((tmp_path / "to/host").glob("model-*.safetensors"))) > 1
    host = host_of(tmp_path / "to")
    equal(host.state_dict(), model.state_dict())
    ids, pixels = torch.tensor([[1, 10, 10, 10, 10, 2]]), torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        found, expected = (m(input_ids=ids, pixel_values=pixels).logits for m in (host, model))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("keep_head", [True, False])
def test_a_tied_head_is_dropped_or_absent(tmp_path, keep_head):
    model = synthetic.native_model("Qwen2ForCausalLM", tied=True)
    state = synthetic.remote_state(model, "Qwen2ForCausalLM")
    if keep_head:
        table = state["language_model.model.embed_tokens.weight"]
        state["language_model.lm_head.weight"] = table.clone()
    language = synthetic.language("Qwen2ForCausalLM", tied=True)
    source = synthetic.write(tmp_path / "s", state, "Qwen2ForCausalLM", llm_config=language)
    done = bring(source, tmp_path / "to")
    assert list(done.plan.dropped) == ["language_model.lm_head.weight"] * keep_head
    equal(host_of(tmp_path / "to").state_dict(), model.state_dict())


@pytest.mark.parametrize("architecture", ["Qwen2ForCausalLM", "InternLM2ForCausalLM"])
def test_sama_becomes_host_segmenter_and_adapter(tmp_path, architecture, vocabulary):
    modules = synthetic.sama_modules()
    state, model = synthetic.sama_state(modules, architecture)
    source = synthetic.write(tmp_path / "source", state, architecture, shards=2)
    done = bring(source, tmp_path / "to", vocabulary=vocabulary)
    assert done.layout == "sama"
    assert set(done.plan.moves) | set(done.plan.dropped) == set(state)
    assert len(done.plan.dropped) == 5
    equal(host_of(tmp_path / "to").state_dict(), model.state_dict())
    equal(load_file(tmp_path / "to/segmenter.safetensors"), synthetic.sam2_state())

    adapter = load_file(tmp_path / "to/sama_adapter/modules.safetensors")
    ours = {n: v for n, v in modules.state_dict().items() if released_name(n) is not None}
    equal({n: adapter[n] for n in ours}, ours)
    decoder = {n: v for n, v in synthetic.sam2_state().items() if n.startswith("sam_mask_decoder.")}
    copy = {n: v for n, v in adapter.items() if n.startswith("mask_decoder.")}
    equal({"sam_" + n: v for n, v in copy.items()}, decoder)
    embeddings, head = model.get_input_embeddings().weight, model.lm_head.weight
    assert torch.equal(adapter["input_rows.weight"], embeddings[[11, 12, 13, 14, 15, 10, 10]])
    assert torch.equal(adapter["output_rows.weight"], head[[11, 12, 13, 14, 15, 10, 10]])

    region = modules["region"]
    shape = region.shape(torch.zeros(1, 8, 8))[0]
    torch.testing.assert_close(adapter["region.absent"], torch.stack([region.visual.bias, shape]))
    filled = {"adapter:region.absent", "adapter:region.absent_rows"}
    assert set(done.plan.filled) == filled
    assert done.plan.notes == ()
    described = json.loads((tmp_path / "to/sama_adapter/config.json").read_text())
    assert described["tokens"] == list(NEW_TOKENS) and described["width"] == synthetic.WIDTH
    assert described["settings"]["compat"] == "released"
    assert (tmp_path / "to/sama_adapter/vocabulary.txt").exists()
    report = json.loads((tmp_path / "to/import_report.json").read_text())
    named = {*report["used"], *report["renamed"], *report["dropped"]}
    assert named == set(state) and set(report["filled"]) == filled


def test_sa2va_has_no_aggregator(tmp_path):
    modules = synthetic.sama_modules(aggregator=False)
    state, model = synthetic.sama_state(modules, "Qwen2ForCausalLM")
    done = bring(synthetic.write(tmp_path / "s", state, "Qwen2ForCausalLM"), tmp_path / "to")
    assert done.layout == "sa2va"
    adapter = load_file(tmp_path / "to/sama_adapter/modules.safetensors")
    equal({n: adapter[n] for n in modules.state_dict()}, modules.state_dict())
    assert not done.plan.filled
    described = json.loads((tmp_path / "to/sama_adapter/config.json").read_text())
    kinds = [described["settings"][part]["kind"] for part in ("aggregator", "region")]
    assert kinds == ["none", "sa2va"]
    report = json.loads((tmp_path / "to/import_report.json").read_text())
    assert len(report["notes"]) == 1 and "counted from 1" in report["notes"][0]


def test_sam2_of_both_families(tmp_path):
    from sama_plugin.segment.sam2_names import to_hf

    state = synthetic.sam2_state()
    torch.save({"model": state}, tmp_path / "tiny.pt")
    assert bring(tmp_path / "tiny.pt", tmp_path / "one").layout == "sam2"
    equal(load_file(tmp_path / "one/segmenter.safetensors"), state)
    source = synthetic.write(tmp_path / "hf", to_hf(state))
    assert bring(source, tmp_path / "two").layout == "hf_sam2"
    equal(load_file(tmp_path / "two/segmenter.safetensors"), state)


def test_sam2_is_read_by_meta_s_classes_where_transformers_has_none(monkeypatch):
    newer = sam2.expected(synthetic.SIZES_INSIDE)
    monkeypatch.setattr(sam2, "transformers", SimpleNamespace())
    monkeypatch.delattr(sam2, "build_hf_sam2")
    assert sam2.expected(synthetic.SIZES_INSIDE) == newer


def test_instructblip_gives_the_spatial_qformer(tmp_path):
    spatial = synthetic.sama_modules()["aggregator"].spatial
    state = {"ln_vision.weight": spatial.norm.weight, "ln_vision.bias": spatial.norm.bias}
    state["query_tokens"] = spatial.queries
    for name, value in spatial.qformer.state_dict().items():
        released = released_name(f"aggregator.spatial.qformer.{name}")
        state[released.replace("spatial_Qformer", "Qformer")] = value
    kept = {name: value.detach().clone() for name, value in state.items()}
    extra = {
        "Qformer.bert.embeddings.word_embeddings.weight": torch.zeros(9, 16),
        "Qformer.bert.embeddings.position_ids": torch.arange(4)[None],
        "Qformer.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(20, 16),
        "llm_proj.weight": torch.zeros(4, 16),
    }
    torch.save({"model": {**kept, **extra}}, tmp_path / "blip.pth")
    done = bring(tmp_path / "blip.pth", tmp_path / "to")
    assert done.layout == "qformer" and set(done.plan.dropped) == set(extra)
    found = load_file(tmp_path / "to/qformer.safetensors")
    start = "aggregator.spatial."
    ours = {start + n: v for n, v in spatial.state_dict().items() if not n.startswith("project.")}
    equal(found, ours)


def test_videorefer_gives_its_region_encoder(tmp_path):
    start = "model.region_encoder.feat_linear"
    state = {f"{start}.0.weight": torch.randn(6, 4), f"{start}.0.bias": torch.randn(6)}
    state.update({f"{start}.2.weight": torch.randn(6, 6), f"{start}.2.bias": torch.randn(6)})
    rest = {"model.layers.0.mlp.up_proj.weight": torch.zeros(2, 2), "lm_head.weight": torch.ones(2)}
    done = bring(synthetic.write(tmp_path / "s", {**state, **rest}), tmp_path / "to")
    assert done.layout == "videorefer" and set(done.plan.dropped) == set(rest)
    found = load_file(tmp_path / "to/region_encoder.safetensors")
    equal(found, {name.replace("model.region_encoder", "region"): v for name, v in state.items()})


def broken(kind: str, state: dict, config: dict) -> None:
    """Spoil a SAMA checkpoint in one way."""
    if kind == "extra key":
        state["Qformer_mask_proj_v2.weight"] = torch.zeros(2)
    elif kind == "missing key":
        del state["Qformer_temp_proj.bias"]
    elif kind == "no [SEG] head":
        for name in [name for name in state if name.startswith("text_hidden_fcs.")]:
            del state[name]
    elif kind == "missing host key":
        del state["vision_model.encoder.layers.1.ls2"]
    elif kind == "swapped shape":
        state["mlp1.1.weight"] = state["mlp1.1.weight"].T.contiguous()
    elif kind == "other family":
        config["llm_config"] = {**synthetic.language("Qwen2ForCausalLM"), "architectures": ["Phi3"]}
    elif kind == "other segmenter":
        start = "grounding_encoder.sam2_model.image_encoder.trunk.blocks."
        for name in [name for name in state if name.startswith(start + "0.")]:
            state[name.replace(start + "0.", start + "4.")] = state[name]
    elif kind == "other shuffle":
        config["ps_version"] = "v1"


@pytest.mark.parametrize(
    "kind, word",
    [
        ("extra key", "Qformer_mask_proj_v2"),
        ("missing key", "no tensors for: adapter:aggregator.inject.project.bias"),
        ("no [SEG] head", "has no text_hidden_fcs.0.weight, a layer of the [SEG] head"),
        ("missing host key", "lambda_2"),
        ("swapped shape", "other shapes"),
        ("other family", "Phi3"),
        ("other shuffle", "v1"),
        ("other segmenter", "a SAM2 2.0 with embed_dim 8, stages (1, 1, 1, 2)"),
    ],
)
def test_a_spoilt_checkpoint_is_refused_and_nothing_is_written(tmp_path, kind, word, vocabulary):
    state, _ = synthetic.sama_state(synthetic.sama_modules(), "Qwen2ForCausalLM")
    config: dict = {}
    broken(kind, state, config)
    source = synthetic.write(tmp_path / "source", state, "Qwen2ForCausalLM", **config)
    with pytest.raises(CheckpointError, match=re.escape(word)):
        bring(source, tmp_path / "to", vocabulary=vocabulary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_damaged_files_are_refused(tmp_path):
    model = synthetic.native_model("Qwen2ForCausalLM")
    state = synthetic.remote_state(model, "Qwen2ForCausalLM")
    source = synthetic.write(tmp_path / "s", state, "Qwen2ForCausalLM", shards=3)
    shard = source / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        bring(source, tmp_path / "to")
    shard.unlink()
    with pytest.raises(CheckpointError, match="00002-of-00003.safetensors, not in the folder"):
        bring(source, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_pickles_that_run_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("never",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="evil.pth"):
        bring(tmp_path / "evil.pth", tmp_path / "to")


def test_files_of_old_torch_are_read(tmp_path):
    state = synthetic.sam2_state()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert bring(tmp_path / "old.pth", tmp_path / "to").layout == "sam2"
    equal(load_file(tmp_path / "to/segmenter.safetensors"), state)


@pytest.mark.parametrize(
    "held, words",
    [
        (torch.zeros(2), "holds a Tensor, not tensors by name"),
        ([torch.zeros(2)], "holds a list, not tensors by name"),
        ({1: torch.zeros(2)}, "holds Tensor under 1 where"),
        ({"weight": 3}, "holds int under 'weight' where"),
    ],
)
def test_a_file_of_anything_else_is_refused(tmp_path, held, words):
    torch.save(held, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=words):
        bring(tmp_path / "other.pt", tmp_path / "to")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_description_that_is_none_is_refused(tmp_path, name):
    source = synthetic.write(tmp_path / "s", synthetic.sam2_state())
    (source / name).write_text("[1]")
    with pytest.raises(CheckpointError, match=f"{name} holds a list where"):
        bring(source, tmp_path / "to")


@pytest.mark.parametrize("named", ["sa2va", "internvl", "sam2", "hf_sam2", "qformer", "videorefer"])
def test_a_layout_that_does_not_fit_is_refused(tmp_path, named):
    """A SAMA read as a Sa2VA would lose its vocabulary."""
    names = ("spatial_Qformer_query_tokens", "text_hidden_fcs.0.weight", "grounding_encoder.x")
    state = {name: torch.zeros(1, 2, 16) for name in names}
    source = synthetic.write(tmp_path / "s", state)
    with pytest.raises(CheckpointError, match=f"not of the layout {named}, .* those of sama"):
        bring(source, tmp_path / "to", layout=named)


def test_a_folder_that_is_used_stays(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to/thesis.txt").write_text("all of it")
    torch.save({"model": synthetic.sam2_state()}, tmp_path / "tiny.pt")
    with pytest.raises(OutputError, match="not empty"):
        bring(tmp_path / "tiny.pt", tmp_path / "to")
    assert (tmp_path / "to/thesis.txt").read_text() == "all of it"


def test_something_else_is_named(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=", ".join(LAYOUTS)):
        bring(tmp_path / "other.pt", tmp_path / "to")


def test_shards_are_read_one_by_one(tmp_path):
    with ShardWriter(tmp_path, limit=100) as writer:
        for number in range(5):
            writer.put(f"t{number}", torch.full((20,), float(number)))
    source = Checkpoint(tmp_path)
    assert len(list(tmp_path.glob("model-*-of-00005.safetensors"))) == 5
    assert [float(tensor[0]) for _, tensor in source.tensors()] == [0, 1, 2, 3, 4]


def test_the_verb_prints_what_happened(tmp_path, capsys):
    torch.save({"model": synthetic.sam2_state()}, tmp_path / "tiny.pt")
    parser = argparse.ArgumentParser()
    import_.add_arguments(parser)
    assert (
        import_.run(parser.parse_args([str(tmp_path / "tiny.pt"), "--to", f"{tmp_path}/to"])) == 0
    )
    assert "sam2: " in capsys.readouterr().out
