"""Put another language model under a native InternVL, and carry over what can be of an adapter.

    sama swap-llm --host InternVL3-1B-hf --llm Qwen3-0.6B --out out/swapped
    sama swap-llm --host mini --llm FOLDER --adapter out/mini --out out/swapped

Writes the new host to OUT, what stayed and what starts again to OUT/swap.json and, with --adapter,
a plugin checkpoint to OUT/sama_adapter. Nothing is trained: parts that start again are named.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", required=True, help="native InternVL: folder, hub id or 'mini'")
    parser.add_argument("--llm", required=True, help="causal language model: folder or hub id")
    parser.add_argument("--out", required=True, help="folder of the new host; must not exist")
    parser.add_argument("--adapter", help="a sama_adapter folder, or an output folder with one")
    parser.add_argument("--seed", type=int, default=0, help="of weights that start again")


def run(args: argparse.Namespace) -> int:
    from sama_plugin.errors import ConfigError
    from sama_plugin.hosts.internvl.swap import swap_language_model
    from sama_plugin.infer.load import find_adapter_folder, load_host

    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"--out {out} exists already; name a new folder")
    adapter = find_adapter_folder(args.host, args.adapter) if args.adapter else None
    host, _ = load_host(args.host)
    language, tokenizer = _load_language(args.llm, host.dtype)
    swapped = swap_language_model(host, language, tokenizer, args.seed)
    report = {
        "kept": list(swapped.kept),
        "taken": list(swapped.taken),
        "fresh": list(swapped.fresh),
        "notes": list(swapped.notes),
    }
    _save(swapped, out, Path(args.host))
    if adapter is not None:
        _carry(swapped, adapter, out / "sama_adapter", report)
    _write_report(report, out, args)
    return 0


def _load_language(path: str, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sama_plugin.errors import ConfigError
    from sama_plugin.hosts.precision import dtype_option

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        return AutoModelForCausalLM.from_pretrained(path, **dtype_option(dtype)), tokenizer
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"--llm {path!r} cannot be loaded: {error}") from error


def _save(swapped: Any, out: Path, host: Path) -> None:
    """Model, tokenizer (with the names the native processor asks for) and the old processor."""
    from transformers import AutoTokenizer

    from sama_plugin.atomic import atomic_dir
    from sama_plugin.hosts.internvl.swap import NAMED_TOKENS

    with atomic_dir(out) as folder:
        swapped.model.save_pretrained(folder)
        swapped.tokenizer.save_pretrained(folder)
        named = AutoTokenizer.from_pretrained(folder, extra_special_tokens=NAMED_TOKENS)
        named.save_pretrained(folder)
        for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
            if (host / name).is_file():
                (folder / name).write_bytes((host / name).read_bytes())


def _carry(swapped: Any, adapter: Path, folder: Path, report: dict[str, Any]) -> None:
    from sama_plugin.model.attach import attach
    from sama_plugin.model.carry import carry_modules
    from sama_plugin.model.checkpoint import read_config, save_adapter

    sama = attach(swapped.model, swapped.tokenizer, read_config(adapter))
    carried = carry_modules(sama, adapter)
    notes = f"Carried over from {adapter} by `sama swap-llm`; not trained on this host."
    save_adapter(sama, folder, notes=notes)
    report["kept"] += [f"plugin {part}: {n:,} weights" for part, n in carried.kept.items()]
    report["fresh"] += [f"plugin {part}: {n:,} weights" for part, n in carried.fresh.items()]
    report["fresh"].append("LoRA (it belonged to the old language model)")


def _write_report(report: dict[str, Any], out: Path, args: argparse.Namespace) -> None:
    import json

    from sama_plugin.atomic import atomic_path

    with atomic_path(out / "swap.json") as path:
        path.write_text(json.dumps({"host": args.host, "llm": args.llm, **report}, indent=2) + "\n")
    for title, key in (
        ("kept", "kept"),
        ("from the language model", "taken"),
        ("starts again, to be trained", "fresh"),
        ("note", "notes"),
    ):
        for line in report[key]:
            print(f"{title}: {line}")
    print(f"written to {out}")
