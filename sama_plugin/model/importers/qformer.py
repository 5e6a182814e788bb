"""The Q-Former of InstructBLIP, with which SAMA's spatial Q-Former starts.

The published file holds a whole InstructBLIP without its language model; kept are the learned
queries, the LayerNorm of the vision features and the Q-Former without its text half, as in the
released training code. Used by `sama import`.
"""

from __future__ import annotations

import torch

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.rules import Rule, drop, prefixed
from sama_plugin.model.importers.shards import Checkpoint
from sama_plugin.nn.names import our_name
from sama_plugin.nn.spatial import SpatialQFormer

HEAD_WIDTH = 64
_TEXT = "text half; the spatial Q-Former reads frames only"
_LAYER = "Qformer.bert.encoder.layer"


def matches(source: Checkpoint) -> bool:
    """InstructBLIP files name their queries `query_tokens` beside a `Qformer`."""
    return "query_tokens" in source and f"{_LAYER}.0.attention.self.query.weight" in source


def rules(source: Checkpoint) -> tuple[Rule, ...]:
    """The table; other parts of an InstructBLIP are left out."""
    kept = []
    for name in source.shapes:
        if name.startswith("Qformer.bert."):
            target = our_name("spatial_" + name)
            if target is not None and ".text_ffn." not in target:
                kept.append(Rule(name.replace(".", r"\."), (f"adapter:{target}",)))
    return (
        *kept,
        Rule("query_tokens", ("adapter:aggregator.spatial.queries",)),
        Rule(r"ln_vision\.(weight|bias)", (r"adapter:aggregator.spatial.norm.\1",)),
        drop(r"Qformer\.cls\..*", "predicts words"),
        drop(r".*\.position_ids", "counts from zero, computed"),
        drop(r"Qformer\.bert\..*", _TEXT),
        drop(
            r"(visual_encoder|llm_model|llm_proj|t5_model|t5_proj|opt_model|opt_proj)\..*", "host"
        ),
    )


def expected(source: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the spatial Q-Former, without the projection that depends on the host."""
    shapes = source.shapes
    try:
        _, queries, hidden = shapes["query_tokens"]
        encoder_width = shapes["ln_vision.weight"][0]
        ffn = shapes[f"{_LAYER}.0.intermediate_query.dense.weight"][0]
    except KeyError as error:
        raise CheckpointError(
            f"{source.path} has a Q-Former without {error.args[0]}; give the file "
            "that InstructBLIP publishes"
        ) from error
    numbers = {int(n.split(".")[4]) for n in shapes if n.startswith(_LAYER)}
    crossed = sorted(n for n in numbers if f"{_LAYER}.{n}.crossattention.self.key.weight" in shapes)
    frequency = crossed[1] - crossed[0] if len(crossed) > 1 else len(numbers)
    with torch.device("meta"):
        module = SpatialQFormer(
            encoder_width,
            encoder_width,
            hidden,
            max(1, hidden // HEAD_WIDTH),
            ffn,
            len(numbers),
            frequency,
            queries,
            None,
        )
    names = prefixed(
        "adapter", {f"aggregator.spatial.{n}": t for n, t in module.state_dict().items()}
    )
    return {n: s for n, s in names.items() if ".spatial.project." not in n}
