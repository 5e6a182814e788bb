"""Released SAMA and Sa2VA checkpoints: a host, a segmenter and an adapter.

One folder of theirs holds an InternVL (or, in Sa2VA, a Qwen-VL), a SAM2 and, in SAMA, the
aggregator and the region projections. The host becomes a native one, the SAM2 a file for either
backend, and the rest a `sama_adapter/` whose rows of new tokens are read off the embedding tables.
What released models do not have is filled: a region nobody sees is what their code computes for an
empty mask. Names: `nn/names.py`. Used by `sama import`.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError
from sama_plugin.media.frames import FramePolicy
from sama_plugin.model.checkpoint import VOCABULARY
from sama_plugin.model.config import AggregatorConfig, RegionConfig, SamaConfig, SegConfig
from sama_plugin.model.importers import internvl, qwen_vl, sam2
from sama_plugin.model.importers.rules import Rule, drop, prefixed
from sama_plugin.model.importers.shards import Checkpoint, token_ids
from sama_plugin.nn.aggregator import build_aggregator
from sama_plugin.nn.names import our_name, released_name
from sama_plugin.nn.region import build_region_encoder
from sama_plugin.nn.seg import SegHead

HEAD_WIDTH = 64  # of the released Q-Formers: 768 / 12
SEGMENTER = "segmenter.safetensors"
ROWS = ("input_rows.weight", "output_rows.weight")
_ABSENT = "what the released code computes for a mask that covers nothing"
_NEW = "the released model has no such part; initial values"


_UNTRAINED_REGIONS = (
    "Sa2VA on Qwen never learnt to look at regions: the region encoder is new and untrained. Masks "
    "come out as released; what is pointed at is read as noise until the encoder is trained"
)
_COUNTED_REGIONS = (
    "the regions of each question are counted from 1, as in Sa2VA's own code: region1 of a later "
    "question may be another thing than region1 of the first. It learnt regions as masks in images"
)


def is_sama(source: Checkpoint) -> bool:
    """SAMA has an aggregator."""
    return "spatial_Qformer_query_tokens" in source


def is_sa2va(source: Checkpoint) -> bool:
    """Sa2VA has a SAM2 and the [SEG] head, and no aggregator."""
    grounding = any(name.startswith("grounding_encoder.") for name in source.shapes)
    return grounding and "text_hidden_fcs.0.weight" in source and not is_sama(source)


def host_of(source: Checkpoint) -> Any:
    """The importer of the host inside: `internvl` or `qwen_vl`.

    Raises:
        CheckpointError: neither.
    """
    for host in (internvl, qwen_vl):
        if host.matches(source):
            return host
    raise CheckpointError(
        f"{source.path} has a [SEG] head, but neither an InternVL (mlp1, vision_model) nor a "
        "Qwen-VL (model.model.language_model); is a shard missing?"
    )


def config_of(source: Checkpoint) -> SamaConfig:
    """Settings that give the modules the checkpoint's sizes, and the released behaviour.

    Raises:
        CheckpointError: parts of the aggregator are missing, or the SAM2 is of no known size.
    """
    for name in ("text_hidden_fcs.0.weight", "text_hidden_fcs.2.weight"):
        if name not in source:
            raise CheckpointError(
                f"{source.path} has no {name}, a layer of the [SEG] head; the checkpoint is not "
                "whole: is a shard missing?"
            )
    sizes = sam2.sizes_of(sam2.shapes_inside(source.shapes))
    seg = SegConfig(
        segmenter=sam2.name_of(sizes, source.path),
        weights=f"../{SEGMENTER}",
        moments=False,
        pointing=False,
        looking=False,
    )
    shared = {"seg": seg, "start_rows": "mean"}
    if not is_sama(source):
        pointed = host_of(source) is internvl  # Sa2VA on Qwen never learnt to look at regions
        return SamaConfig(
            aggregator=AggregatorConfig(kind="none"),
            region=RegionConfig(kind="sa2va" if pointed else "sama"),
            frames=FramePolicy(aggregator=0, llm=5, prompted=5, how="first"),
            compat="released" if pointed else "default",
            **shared,
        )
    shapes = source.shapes
    try:
        _, spatial_queries, hidden = shapes["spatial_Qformer_query_tokens"]
        _, temporal_queries, _ = shapes["temporal_Qformer_query_tokens"]
        layer = "spatial_Qformer.bert.encoder.layer"
        ffn = shapes[f"{layer}.0.intermediate_query.dense.weight"][0]
        shape_hidden, pixels = shapes["Qformer_mask_proj.layers.0.weight"]
        aggregator = AggregatorConfig(
            hidden=hidden,
            heads=max(1, hidden // HEAD_WIDTH),
            ffn=ffn,
            spatial_layers=_layers(shapes, "spatial_Qformer"),
            temporal_layers=_layers(shapes, "temporal_Qformer"),
            spatial_queries=spatial_queries,
            temporal_queries=temporal_queries,
            encoder_width=shapes["spatial_Qformer_ln.weight"][0],
            question="wordpiece",
            vocabulary=VOCABULARY,
            time_embedding=False,
            focus=False,
        )
    except KeyError as error:
        raise CheckpointError(
            f"{source.path} has an aggregator without {error.args[0]}; the checkpoint is not whole"
        ) from error
    region = RegionConfig(shape_size=math.isqrt(pixels), shape_hidden=shape_hidden)
    frames = FramePolicy(aggregator=32, llm=5, prompted=5, compat="released")
    return SamaConfig(
        aggregator=aggregator, region=region, frames=frames, compat="released", **shared
    )


def modules_of(source: Checkpoint, config: SamaConfig) -> nn.ModuleDict:
    """The plugin's modules of these settings; build them under a device of your choice."""
    width = source.shapes["text_hidden_fcs.0.weight"][1]
    prompt_dim = source.shapes["text_hidden_fcs.2.weight"][0]
    hidden = config.aggregator.hidden
    return nn.ModuleDict(
        {
            "region": build_region_encoder(config.region, width, hidden),
            "aggregator": build_aggregator(config.aggregator, width),
            "seg_head": SegHead(width, prompt_dim),
        }
    )


def notes(source: Checkpoint) -> tuple[str, ...]:
    """What users of the imported model should know about pointing at things."""
    if is_sama(source):
        return ()
    return (_COUNTED_REGIONS if host_of(source) is internvl else _UNTRAINED_REGIONS,)


def rules(source: Checkpoint, ours: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Host, segmenter and adapter; `ours` are the adapter's expected names."""
    found = []
    for name in source.shapes:
        target = our_name(name)
        if target is None:
            continue
        pattern = name.replace(".", r"\.")
        if f"adapter:{target}" not in ours and ".text_ffn." in target:
            found.append(drop(pattern, "text feed-forward of the last layer, which nothing reads"))
        else:
            found.append(Rule(pattern, (f"adapter:{target}",)))
    computed = drop(r".*\.position_ids", "counts from zero, computed")
    return (computed, *found, *sam2.rules(True, True), *host_of(source).rules(source))


def expected(source: Checkpoint, config: SamaConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all three parts."""
    with torch.device("meta"):
        ours = prefixed("adapter", modules_of(source, config).state_dict())
    sizes = sam2.sizes_of(sam2.shapes_inside(source.shapes))
    host = host_of(source)
    return {
        **ours,
        **sam2.expected_copy(sizes),
        **sam2.expected(sizes),
        **host.expected(host.native_config(source)),
    }


def filled(source: Checkpoint, names: Mapping[str, Any]) -> dict[str, str]:
    """Adapter parameters that the released model does not have, with the reason."""
    reasons = {}
    for name in names:
        inner = name.partition(":")[2]
        if not name.startswith("adapter:region."):
            continue
        if not is_sama(source):
            reasons[name] = _NEW
        elif released_name(inner) is None:
            reasons[name] = _ABSENT
    return reasons


def rows_of(source: Checkpoint) -> dict[str, Tensor]:
    """Input and output rows of our tokens, (7, C) each.

    The two placeholders have no token of their own in released models: they take the row of the
    image placeholder, which is overwritten in the input and never said in the output.

    Raises:
        CheckpointError: the tokenizer lacks one of the tokens.
    """
    ids, host = token_ids(source.path), host_of(source)
    names = [name if name in ids else host.IMAGE_TOKEN for name in NEW_TOKENS]
    lacking = [name for name in NEW_TOKENS[:-2] if name not in ids]
    if lacking or host.IMAGE_TOKEN not in ids:
        raise CheckpointError(
            f"the tokenizer of {source.path} has no {', '.join(lacking) or host.IMAGE_TOKEN}; "
            "copy the tokenizer files of the checkpoint beside its weights"
        )
    wanted = [ids[name] for name in names]
    table, head = host.embedding_names(source)
    head = table if host.tied(source) else head
    rows = {}
    for part, tensor in zip(ROWS, (table, head)):
        if max(wanted) >= source.shapes[tensor][0]:
            raise CheckpointError(
                f"{source.path}: token id {max(wanted)} is past the {source.shapes[tensor][0]} "
                f"rows of {tensor}; tokenizer and weights are of different checkpoints"
            )
        rows[part] = source.read(tensor)[wanted].clone()
    return rows


@torch.no_grad()
def fill(modules: nn.ModuleDict, loaded: Mapping[str, Tensor], names: list[str]) -> dict:
    """Values of the filled parameters `names`, given the ones that were loaded."""
    modules.load_state_dict(dict(loaded), strict=False)
    region = modules["region"]
    if "region.visual.weight" in loaded:
        empty = torch.zeros(1, region.shape.size, region.shape.size)
        region.absent.copy_(torch.stack([region.visual.bias, region.shape(empty)[0]]))
        rows = torch.stack([region.visual_rows.bias, region.shape_rows(empty)[0]])
        region.absent_rows.copy_(rows)
    state = modules.state_dict()
    return {name: state[name] for name in names}


def _layers(shapes: Mapping[str, Any], part: str) -> int:
    start = f"{part}.bert.encoder.layer."
    return len({name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)})
