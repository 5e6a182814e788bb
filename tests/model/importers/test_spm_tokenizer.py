"""InternLM2's tokenizer in its fast form: the ids of sentencepiece, recorded and live; the added
tokens at their places; an imported checkpoint that speaks with it.

`spm_cases.json` holds models of 420 pieces trained by sentencepiece 0.2.3 and the ids it gave.
"""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

from sama_plugin.errors import CheckpointError
from sama_plugin.infer.load import load_sama
from sama_plugin.infer.session import VideoSession
from sama_plugin.model.importers.bring import bring
from sama_plugin.model.importers.spm_model import read_spm
from sama_plugin.model.importers.spm_tokenizer import fast_tokenizer

from . import synthetic

CASES = json.loads((Path(__file__).parent / "spm_cases.json").read_text())
PIECES = 422
RESERVED = b"".join(b"\n\x12\n\x10[UNUSED_TOKEN_%d]" % number for number in (1, 2))
"""Two pieces more, at the end, as the published model has them."""
IN_PLACE = {PIECES - 2: "<|im_end|>", PIECES - 1: "<|im_start|>"}  # of reserved pieces
APPENDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>")
APPENDED += ("</box>", "[SEG]", "<p>", "</p>", "<vp>", "</vp>")
ADDED = {0: "<unk>", 1: "<s>", 2: "</s>", **IN_PLACE, **dict(enumerate(APPENDED, start=PIECES))}
CLIP = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)


def write_tokenizer(folder: Path, added=ADDED, **changes) -> None:
    """The files of InternLM2's remote-code tokenizer."""
    (folder / "tokenizer.model").write_bytes(
        base64.b64decode(CASES["internlm2"]["model"]) + RESERVED
    )
    entries = {str(n): {"content": text, "special": True} for n, text in added.items()}
    described = {
        "tokenizer_class": "InternLM2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "added_tokens_decoder": entries,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        **changes,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "added_tokens.json").unlink(missing_ok=True)


def internlm(folder: Path, **changes) -> Path:
    """A tiny InternVL on InternLM2."""
    model = synthetic.native_model("InternLM2ForCausalLM", rows=PIECES + len(APPENDED))
    state = synthetic.remote_state(model, "InternLM2ForCausalLM")
    synthetic.write(folder, state, "InternLM2ForCausalLM")
    write_tokenizer(folder, **changes)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_ids_are_those_that_sentencepiece_gave(tmp_path, name):
    case = CASES[name]
    (tmp_path / "tokenizer.model").write_bytes(base64.b64decode(case["model"]))
    tokenizer = fast_tokenizer(read_spm(tmp_path / "tokenizer.model"), {}, {})
    found = [tokenizer.encode(text, add_special_tokens=False).ids for text in case["texts"]]
    assert found == case["ids"]
    if name == "internlm2":
        wanted = [text.replace("\u2581", " ") for text in case["texts"]]
        assert [tokenizer.decode(ids) for ids in found] == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"add_dummy_prefix": False},
        {"add_dummy_prefix": True},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"user_defined_symbols": ["[UNUSED_TOKEN_1]", "\u2581\u2581\u2581"]},
    ],
)
def test_ids_are_those_of_sentencepiece_itself(tmp_path, options):
    reason = "without sentencepiece the fast tokenizer is compared with recorded ids only"
    sentencepiece = pytest.importorskip("sentencepiece", reason=reason)
    draw, words = (
        random.Random(0),
        ("the", "dog", "runs", "hé", "漢字", "x1", ",", "ab", "aab"),
    )
    texts = [
        "".join(draw.choice(words) + draw.choice(" ") * draw.randint(0, 2) for _ in "sentence")
    ]
    texts += [" ".join(draw.choices(words, k=9)) for _ in range(300)]
    written = io.BytesIO()
    settings = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
        **settings,
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    ours = fast_tokenizer(read_spm(tmp_path / "tokenizer.model"), {}, {})
    texts += ["", " ", "  a ", "[UNUSED_TOKEN_1]dog", "Ｆｕｌｌ ﬁ 🙂", "\n\t"]
    texts += ["".join(draw.choices("abdeorthgis \u2581漢", k=30)) for _ in range(100)]
    for text in texts:
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), text


def test_an_imported_tokenizer_loads_without_remote_code(tmp_path):
    from transformers import AutoTokenizer

    source = internlm(tmp_path / "source")
    bring(source, tmp_path / "to")
    assert not (tmp_path / "to/host/tokenizer.model").exists()
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "to/host"))
    assert {text: tokenizer.convert_tokens_to_ids(text) for text in ADDED.values()} == {
        text: number for number, text in ADDED.items()
    }
    case = CASES["internlm2"]
    for text, ids in zip(case["texts"], case["ids"]):
        assert tokenizer.encode(text, add_special_tokens=False) == ids
        assert tokenizer.encode(text) == [1, *ids], "the first token opens every text"
    one, other = case["texts"][3:5]
    wanted = [*case["ids"][3], PIECES, *case["ids"][4], PIECES - 2]
    assert tokenizer.encode(f"{one}<img>{other}<|im_end|>", add_special_tokens=False) == wanted
    config = json.loads((tmp_path / "to/host/config.json").read_text())
    assert config["image_token_id"] == PIECES + APPENDED.index("<IMG_CONTEXT>")


def test_an_imported_sama_on_internlm_speaks(tmp_path, vocabulary):
    modules, rows = synthetic.sama_modules(), PIECES + len(APPENDED)
    state, _ = synthetic.sama_state(modules, "InternLM2ForCausalLM", rows)
    language = synthetic.language("InternLM2ForCausalLM")
    described = {"llm_config": {**language, "max_position_embeddings": 2048}}
    source = tmp_path / "source"
    synthetic.write(source, state, "InternLM2ForCausalLM", template="internlm2_chat", **described)
    write_tokenizer(source)
    bring(source, tmp_path / "to", vocabulary=vocabulary)
    sama = load_sama(str(tmp_path / "to/host"), tmp_path / "to/sama_adapter")
    assert sama.ids.seg == PIECES + APPENDED.index("[SEG]")
    with VideoSession(sama, CLIP) as session:
        assert session.stop.ids == (PIECES - 2,)
        session.region("dog", frame=1, box=(5, 5, 30, 30))
        session.ask("what does @dog do?", max_new_tokens=3)
        session.ask("where?", max_new_tokens=3)
        text = sama.tokenizer.decode(session.ids)
        assert session.ids[0] == 1 and session.ids.count(1) == 1
        assert text.startswith("<s><|im_start|>user\n<img><IMG_CONTEXT>")
        assert text.count("<|im_end|>\n<|im_start|>user\n") == 1
        assert "what does <vp>" in text and "</vp> do?<|im_end|>" in text


@pytest.mark.parametrize(
    "kind, word",
    [("cut", "is damaged"), ("unigram", "no byte-pair model"), ("gap", "the next free one is 422")],
)
def test_a_tokenizer_that_cannot_be_right_is_refused(tmp_path, kind, word):
    added = ADDED
    if kind == "gap":
        added = {**{n: text for n, text in ADDED.items() if n < PIECES}, 999: "<IMG_CONTEXT>"}
    source = internlm(tmp_path / "source", added=added)
    file = source / "tokenizer.model"
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:3000])
    if kind == "unigram":
        file.write_bytes(b"\n\x03\n\x01a")
    with pytest.raises(CheckpointError, match=word):
        bring(source, tmp_path / "to")
    assert not (tmp_path / "to").exists()
