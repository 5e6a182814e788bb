"""One door for published weights: find the layout, check every key, write everything or nothing.

    DIR/host/                  a native InternVL or Qwen-VL, as transformers loads it
    DIR/segmenter.safetensors  a SAM2 for either backend
    DIR/sama_adapter/          what the plugin adds
    DIR/qformer.safetensors, DIR/region_encoder.safetensors   parts to start from
    DIR/import_report.json     what became of every tensor

Which of them appear depends on the layout. Used by `sama import`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import torch

from sama_plugin import __version__
from sama_plugin.atomic import atomic_dir
from sama_plugin.data.questions import read_vocabulary
from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError, ConfigError, OutputError
from sama_plugin.model.checkpoint import FOLDER, FORMAT, SEG_CONVENTION, VOCABULARY
from sama_plugin.model.config import SamaConfig
from sama_plugin.model.importers import internvl, qformer, sam2, sama, videorefer
from sama_plugin.model.importers.rules import Plan, carry_out, make_plan
from sama_plugin.model.importers.shards import SHARD_BYTES, Checkpoint, ShardWriter
from sama_plugin.segment.arrange import fingerprint, read_weights
from sama_plugin.segment.sam2_names import is_hf, meta_name, to_meta
from sama_plugin.settings import to_dict

REPORT = "import_report.json"
WHOLE = 1 << 60  # bytes a shard: one file


@dataclass(frozen=True)
class Brought:
    """What `bring` did: layout, folder and the fate of every tensor."""

    layout: str
    folder: Path
    plan: Plan


def layout_of(source: Checkpoint, named: Optional[str] = None) -> str:
    """Name of the layout in `LAYOUTS`.

    Raises:
        CheckpointError: none fits, or the one that was `named` does not.
    """
    fitting = [name for name, (matches, _) in LAYOUTS.items() if matches(source)]
    if named in fitting or (fitting and named is None):
        return named or fitting[0]
    if fitting:
        raise CheckpointError(
            f"{source.path} is not of the layout {named}, its names are those of {fitting[0]}; "
            "leave --layout out"
        )
    shown = ", ".join(list(source.shapes)[:4])
    raise CheckpointError(
        f"{source.path} is of no layout that can be imported ({', '.join(LAYOUTS)}); it has "
        f"{len(source.shapes)} tensors: {shown} ..."
    )


def bring(
    source: Path,
    to: Path,
    layout: Optional[str] = None,
    vocabulary: Optional[Path] = None,
    shard_bytes: int = SHARD_BYTES,
) -> Brought:
    """Import `source` into the new folder `to`.

    Args:
        layout: name of the layout; found out when None.
        vocabulary: BERT's `vocab.txt`, copied into the adapter of a SAMA checkpoint.
        shard_bytes: size of written shards; memory holds one.

    Raises:
        CheckpointError: damaged files, unknown or missing keys, other shapes. Nothing is written.
        OutputError: `to` exists and holds something. ConfigError: no such layout or file.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise OutputError(f"{to} exists and is not empty; give a new folder")
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"no layout {layout!r}; known: {', '.join(LAYOUTS)}")
    opened = Checkpoint(Path(source))
    layout = layout_of(opened, layout)
    _check_vocabulary(layout, vocabulary)
    with atomic_dir(to) as folder:
        plan = LAYOUTS[layout][1](opened, folder, shard_bytes)
        if vocabulary is not None:
            shutil.copyfile(vocabulary, folder / FOLDER / VOCABULARY)
        report = {"layout": layout, "source": str(source), **plan.report()}
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return Brought(layout, to, plan)


def _check_vocabulary(layout: str, vocabulary: Optional[Path]) -> None:
    if layout != "sama":
        if vocabulary is not None:
            raise ConfigError(f"a vocabulary belongs to the layout sama; this one is {layout}")
        return
    if vocabulary is None:
        raise ConfigError(
            "SAMA's aggregator reads questions as BERT's word pieces: give --vocabulary vocab.txt, "
            "which is published with bert-base-uncased"
        )
    read_vocabulary(vocabulary)


def _internvl(source: Checkpoint, folder: Path, limit: int) -> Plan:
    native = internvl.native_config(source)
    plan = make_plan(source, internvl.rules(source), internvl.expected(native))
    host = _sub(folder, "host")
    with ShardWriter(host, limit) as writer:
        carry_out(plan, source, {"host": writer})
    internvl.write_description(source, native, host)
    return plan


def _sama(source: Checkpoint, folder: Path, limit: int) -> Plan:
    config, inside = sama.config_of(source), sama.host_of(source)
    native = inside.native_config(source)
    expected = sama.expected(source, config)
    plan = make_plan(source, sama.rules(source, expected), expected, sama.filled(source, expected))
    plan.notes = sama.notes(source)
    rows = sama.rows_of(source)
    host, adapter = _sub(folder, "host"), _sub(folder, FOLDER)
    made = {**rows, **_made(source, config, plan)}
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(ShardWriter(host, limit))
        two = stack.enter_context(ShardWriter(folder, WHOLE, "segmenter"))
        three = stack.enter_context(ShardWriter(adapter, WHOLE, "modules"))
        carry_out(plan, source, {"host": one, "segmenter": two, "adapter": three})
        for name, tensor in made.items():
            three.put(name, tensor)
    inside.write_description(source, native, host)
    described = _describe(config, inside.describe(native), folder / sama.SEGMENTER)
    (adapter / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    return plan


def _made(source: Checkpoint, config: SamaConfig, plan: Plan) -> dict[str, torch.Tensor]:
    """Values of the filled adapter parameters."""
    names = [name.partition(":")[2] for name in plan.filled]
    loaded = {
        targets[0].partition(":")[2]: source.read(name).float()
        for name, (targets, _) in plan.moves.items()
        if targets[0].startswith("adapter:region.")
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        region = sama.modules_of(source, config)
    return sama.fill(region, loaded, names)


def _describe(config: SamaConfig, host: Mapping[str, Any], segmenter: Path) -> dict[str, Any]:
    identity = config.seg.segmenter
    return {
        "format": FORMAT,
        "plugin_version": __version__,
        **host,
        "tokens": list(NEW_TOKENS),
        "inject_scale": 1.0,
        "seg_convention": SEG_CONVENTION,
        "segmenter": identity,
        "segmenter_fingerprint": fingerprint(identity, read_weights(segmenter)),
        "lora": False,
        "settings": to_dict(config),
    }


def _sam2(source: Checkpoint, folder: Path, limit: int) -> Plan:
    sizes = sam2.sizes_of(source.shapes)
    plan = make_plan(source, sam2.rules(False, False), sam2.expected(sizes))
    with ShardWriter(folder, WHOLE, "segmenter") as writer:
        carry_out(plan, source, {"segmenter": writer})
    return plan


def _hf_sam2(source: Checkpoint, folder: Path, limit: int) -> Plan:
    """The whole SAM2 is in memory here (under 1 GB): its point embeddings are stacked."""
    state = to_meta(dict(source.tensors()))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expected = sam2.expected(sam2.sizes_of(shapes))
    found = {f"segmenter:{name}": shape for name, shape in shapes.items()}
    if found != expected:
        wrong = sorted({n for n, s in {**expected, **found}.items() if found.get(n) != s})
        wrong += sorted(set(expected) - set(found))
        raise CheckpointError(
            f"{source.path} is no whole SAM2: missing, left over or of another shape: "
            f"{', '.join(wrong[:6])}"
        )
    plan = Plan()
    for name in source.shapes:
        new = meta_name(name) or "sam_prompt_encoder (stacked or kept twice)"
        plan.moves[name] = ((f"segmenter:{new}",), lambda tensor: (tensor,))
    with ShardWriter(folder, WHOLE, "segmenter") as writer:
        for name, tensor in state.items():
            writer.put(name, tensor)
    return plan


def _qformer(source: Checkpoint, folder: Path, limit: int) -> Plan:
    plan = make_plan(source, qformer.rules(source), qformer.expected(source))
    with ShardWriter(folder, limit, "qformer") as writer:
        carry_out(plan, source, {"adapter": writer})
    return plan


def _videorefer(source: Checkpoint, folder: Path, limit: int) -> Plan:
    plan = make_plan(source, videorefer.rules(source), videorefer.expected(source))
    with ShardWriter(folder, limit, "region_encoder") as writer:
        carry_out(plan, source, {"adapter": writer})
    return plan


def _sub(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


Work = Callable[[Checkpoint, Path, int], Plan]
LAYOUTS: dict[str, tuple[Callable[[Checkpoint], bool], Work]] = {
    "sama": (sama.is_sama, _sama),
    "sa2va": (sama.is_sa2va, _sama),
    "internvl": (internvl.matches, _internvl),
    "sam2": (lambda source: "image_encoder.trunk.patch_embed.proj.weight" in source, _sam2),
    "hf_sam2": (lambda source: is_hf(source.shapes), _hf_sam2),
    "qformer": (qformer.matches, _qformer),
    "videorefer": (videorefer.matches, _videorefer),
}
