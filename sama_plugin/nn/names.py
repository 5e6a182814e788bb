"""Our parameter names and those of released SAMA checkpoints, as one table read in both directions.

Names are relative to `model.sama` (`region.`, `aggregator.`, `seg_head.`). Used by the checkpoint
importer and by the golden tests. Vision tower, language model and segmenter have tables of their
own beside their importers.
"""

from __future__ import annotations

from typing import Optional, Sequence

PARTS = (
    ("aggregator.spatial.project.", "vlm2spatial_Qformer_proj."),
    ("aggregator.spatial.norm.", "spatial_Qformer_ln."),
    ("aggregator.spatial.queries", "spatial_Qformer_query_tokens"),
    ("aggregator.spatial.qformer.norm.", "spatial_Qformer.bert.embeddings.LayerNorm."),
    ("aggregator.spatial.qformer.layers.", "spatial_Qformer.bert.encoder.layer."),
    ("aggregator.question.words.", "temporal_Qformer.bert.embeddings.word_embeddings."),
    ("aggregator.question.positions.", "temporal_Qformer.bert.embeddings.position_embeddings."),
    ("aggregator.temporal.queries", "temporal_Qformer_query_tokens"),
    ("aggregator.temporal.qformer.norm.", "temporal_Qformer.bert.embeddings.LayerNorm."),
    ("aggregator.temporal.qformer.layers.", "temporal_Qformer.bert.encoder.layer."),
    ("aggregator.inject.query.", "Qformer_temp_attn_q."),
    ("aggregator.inject.key.", "Qformer_temp_attn_k."),
    ("aggregator.inject.value.", "Qformer_temp_attn_v."),
    ("aggregator.inject.project.", "Qformer_temp_proj."),
    ("aggregator.inject.final.", "Qformer_final_proj."),
    ("region.visual.", "Qformer_mask_pooling_proj."),
    ("region.visual_rows.", "Qformer_mask_pooling_proj_st."),
    ("region.shape.", "Qformer_mask_proj."),
    ("region.shape_rows.", "Qformer_mask_proj_st."),
    ("seg_head.0.", "text_hidden_fcs.0."),
    ("seg_head.2.", "text_hidden_fcs.2."),
)

LAYER = (
    ("attention.query.", "attention.self.query."),
    ("attention.key.", "attention.self.key."),
    ("attention.value.", "attention.self.value."),
    ("attention.dense.", "attention.output.dense."),
    ("attention.norm.", "attention.output.LayerNorm."),
    ("cross.query.", "crossattention.self.query."),
    ("cross.key.", "crossattention.self.key."),
    ("cross.value.", "crossattention.self.value."),
    ("cross.dense.", "crossattention.output.dense."),
    ("cross.norm.", "crossattention.output.LayerNorm."),
    ("query_ffn.inner.", "intermediate_query.dense."),
    ("query_ffn.outer.", "output_query.dense."),
    ("query_ffn.norm.", "output_query.LayerNorm."),
    ("text_ffn.inner.", "intermediate.dense."),
    ("text_ffn.outer.", "output.dense."),
    ("text_ffn.norm.", "output.LayerNorm."),
)


def released_name(ours: str) -> Optional[str]:
    """Released name of one of our parameters; None if the released model has no such parameter."""
    return _translate(ours, PARTS, LAYER)


def our_name(released: str) -> Optional[str]:
    """Our name of a released parameter; None for the other parts of the checkpoint."""
    return _translate(released, _turned(PARTS), _turned(LAYER))


def _translate(name: str, parts: Sequence, layer: Sequence) -> Optional[str]:
    for prefix, target in parts:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        if not prefix.endswith((".layers.", ".layer.")):
            return target + rest
        number, _, rest = rest.partition(".")
        inner = _translate(rest, layer, ())
        return None if inner is None else f"{target}{number}.{inner}"
    return None


def _turned(table: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((theirs, ours) for ours, theirs in table)
