"""Everything a launch of the host's script needs, tiny: checkpoint, data, flags.

Run as a script inside the environment under test (`python -m tests.hosts.internvl_chat.upstream
make FOLDER TREE`), because it uses that environment's transformers and the tree's own classes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

from tests.conftest import REPOSITORY

SIDE, TOKENS = 56, 4
SCRIPT = "internvl/train/internvl_chat_finetune.py"
LLM = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "tie_word_embeddings": False,
}
ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def make(folder: Path, tree: Path, family: str) -> None:
    """A random checkpoint of the tree's own class in `folder/host`, data beside it."""
    import torch

    from tests.tiny_tokenizer import tiny_tokenizer

    kind, _ = tree_classes(tree)
    tokenizer = tiny_tokenizer()
    extra = ("<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
    tokenizer.add_tokens(list(extra), special_tokens=True)
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": SIDE,
        "patch_size": 14,
        "use_flash_attn": False,
        "drop_path_rate": 0.0,
        "qk_normalization": False,
    }
    llm = {
        **LLM,
        "model_type": family,
        "architectures": [ARCHITECTURES[family]],
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **({"head_dim": 12} if family == "qwen3" else {}),
    }
    config = kind.config_class(
        vision,
        llm,
        force_image_size=SIDE,
        downsample_ratio=0.5,
        template="internvl2_5",
        ps_version="v2",
        select_layer=-1,
        dynamic_image_size=True,
        use_thumbnail=True,
        min_dynamic_patch=1,
        max_dynamic_patch=2,
    )
    config.llm_config._attn_implementation = config.llm_config.attn_implementation = "eager"
    torch.manual_seed(0)
    model = kind(config).to(torch.float32)
    model.save_pretrained(folder / "host")
    tokenizer.save_pretrained(folder / "host")


def write_data(folder: Path) -> Path:
    """A meta file with our records, plain ones of every kind, and one that the host cannot read."""
    import numpy as np
    from PIL import Image

    from sama_plugin.data.formats.internvl_meta import write
    from tests.data.factories import grounded_sample, write_clip

    media = folder / "media"
    media.mkdir(parents=True)
    clip = write_clip(media / "clip.npy")
    Image.fromarray(np.full((40, 90, 3), 99, np.uint8)).save(media / "wide.png")
    write([grounded_sample(clip)] * 4, folder / "grounded.jsonl", media)
    chat = [{"from": "human", "value": "what is it?"}, {"from": "gpt", "value": "a red ball"}]
    plain = [
        {"id": "image", "image": "wide.png", "conversations": chat},
        {
            "id": "images",
            "image": ["wide.png", "wide.png"],
            "conversations": [{"from": "human", "value": "<image>\n<image>\nwhat is it?"}, chat[1]],
        },
        {"id": "text", "conversations": chat},
        {"id": "video", "video": "clip.npy", "conversations": chat},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in plain)
    (folder / "plain.jsonl").write_text(lines)
    meta = {
        name: {
            "root": str(media),
            "annotation": str(folder / f"{name}.jsonl"),
            "data_augment": False,
            "repeat_time": 1,
            "length": 4,
        }
        for name in ("grounded", "plain")
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder / "meta.json"


def write_config(folder: Path) -> Path:
    """Sizes of the plugin."""
    from sama_plugin.settings import dump_yaml
    from tests.model.conftest import tiny_config

    dump_yaml(tiny_config(), folder / "plugin.yaml")
    return folder / "plugin.yaml"


def flags(folder: Path, out: Path, steps: int, **changes: Any) -> list[str]:
    """The LoRA recipe's flags, at tiny values."""
    values = {
        "model_name_or_path": folder / "host",
        "conv_style": "internvl2_5",
        "use_fast_tokenizer": False,
        "output_dir": out,
        "meta_path": folder / "meta.json",
        "overwrite_output_dir": True,
        "force_image_size": SIDE,
        "max_dynamic_patch": 2,
        "down_sample_ratio": 0.5,
        "drop_path_rate": 0.0,
        "freeze_llm": True,
        "freeze_mlp": True,
        "freeze_backbone": True,
        "use_llm_lora": 4,
        "vision_select_layer": -1,
        "dataloader_num_workers": 0,
        "bf16": False,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "evaluation_strategy": "no",
        "save_strategy": "no",
        "learning_rate": 4e-3,
        "weight_decay": 0.05,
        "warmup_ratio": 0.03,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "max_seq_length": 2048,
        "do_train": True,
        "grad_checkpoint": True,
        "group_by_length": True,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "ps_version": "v2",
        "report_to": "none",
        "max_steps": steps,
        "use_cpu": True,
        **changes,
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def environment(overlay: Optional[str]) -> dict[str, str]:
    """This process's environment, `overlay` (a folder of packages) before everything else."""
    paths = [path for path in (overlay, str(REPOSITORY)) if path]
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths), "LAUNCHER": "pytorch"}


def python(arguments: Sequence[Any], cwd: Path, overlay: Optional[str] = None) -> str:
    """Run python; its output, or an error with it."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(overlay),
        capture_output=True,
        text=True,
        timeout=900,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"exit {done.returncode}: {said[-6000:]}"
    return said


def chat(folder: Path, tree: Path) -> dict[str, Any]:
    """What a trained checkpoint says and masks, reloaded by the tree's own class."""
    from transformers import AutoTokenizer

    import sama_plugin
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.model.checkpoint import load_adapter, read_config
    from tests.data.factories import grounded_sample

    kind, _ = tree_classes(tree)
    out = folder / "out"
    model, told = kind.from_pretrained(str(out), output_loading_info=True)
    model = model.float().eval()
    tokenizer = AutoTokenizer.from_pretrained(str(out))
    sama = sama_plugin.attach(model, tokenizer, read_config(out / "sama_adapter"))
    load_adapter(sama, out / "sama_adapter")
    turn = grounded_sample("").turns[0]
    with VideoSession(sama, str(folder / "media" / "clip.npy")) as session:
        session.region("ball", prompts=turn.regions[0].prompts)
        first = session.ask("what does @ball do?", max_new_tokens=12)

        def insist(module: Any, args: Any, logits: Any) -> Any:
            """The tiny model says what it likes; masks are asked for whatever it says."""
            logits[..., sama.ids.seg] += 1e4
            return logits

        sama.adapter.output_embeddings(model).register_forward_hook(insist)
        second = session.ask("and the cup?", max_new_tokens=2)
        return {
            "answers": [first.text, second.text],
            "phrases": [len(answer.phrases) for answer in (first, second)],
            "masks": [sum(p.track is not None for p in a.phrases) for a in (first, second)],
            "missing": sorted(told["missing_keys"]),
            "unexpected": sorted(told["unexpected_keys"]),
        }


def tokens(folder: Path, tree: Path) -> dict[str, Any]:
    """Ids and labels of one plain chat about one image: the host's own way, and ours."""
    from transformers import AutoTokenizer

    from sama_plugin.data.encode import Encoder
    from sama_plugin.dialog.sample import Media, Sample, Turn
    from sama_plugin.dialog.tokens import add_tokens
    from sama_plugin.hosts.base import find_adapter
    from sama_plugin.media.frames import FramePlan

    kind, module = tree_classes(tree)
    model = kind.from_pretrained(str(folder / "host"))
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "host"))
    tokenizer.model_max_length = 4096
    words = ("what is it?", "a red ball", "and then?", "it stops.")
    people = ("human", "gpt") * 2
    talk = [{"from": who, "value": said} for who, said in zip(people, words)]
    talk[0]["value"] = "<image>\n" + talk[0]["value"]
    unpadded = {"num_image": 1, "group_by_length": True}
    theirs = module.preprocess_internvl2_5("internvl2_5", [talk], tokenizer, [TOKENS], **unpadded)
    add_tokens(tokenizer)
    adapter = find_adapter(model)
    encoder = Encoder(adapter.chat_tokenizer(model, tokenizer), adapter, TOKENS)
    turns = (Turn(words[0], words[1]), Turn(words[2], words[3]))
    plan = FramePlan(total=1, aggregator=(), llm=(0,), prompted=())
    ours = encoder.encode(Sample("x", Media("image", "x.png"), turns), plan)
    return {
        "theirs": [theirs["input_ids"][0].tolist(), theirs["labels"][0].tolist()],
        "ours": [ours.input_ids, ours.labels],
    }


def tree_classes(tree: Path) -> Any:
    """The tree's model class and its module of templates, importable beside newer libraries."""
    import importlib

    from sama_plugin.hosts.internvl_chat import shims
    from sama_plugin.patching.ledger import Ledger
    from sama_plugin.patching.patch import apply

    sys.path.insert(0, str(tree))
    apply(shims.library_shims(), Ledger())
    with shims.placeholders():
        kind = importlib.import_module("internvl.model.internvl_chat").InternVLChatModel
        module = importlib.import_module("internvl.train.dataset")
        apply(shims.tree_shims(), Ledger())
    return kind, module


if __name__ == "__main__":
    verb, where, checkout = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if verb == "make":
        make(where, checkout, sys.argv[4])
        write_data(where)
        write_config(where)
    else:
        print("REPORT " + json.dumps({"chat": chat, "tokens": tokens}[verb](where, checkout)))
