"""The trainable part of the plugin as one module, `model.sama`.

    features, questions, regions ─► region encoder ─► region tokens ─┐
                                └─► aggregator     ─► context tokens ┴─► overwritten placeholders
    final hidden state of [SEG] ─► seg head ─► prompt vector ─► mask decoder (our copy) ─► losses

Every module is called exactly once in a training forward, in the order above, on zero-length input
when there is no work: DDP and ZeRO need every rank to meet the same modules in the same order. The
frozen segmenter is not in here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Optional, Union

import torch
from torch import Tensor, nn

from sama_plugin.data.batch import SamaBatch
from sama_plugin.errors import SlotError
from sama_plugin.hosts.base import VisualRows
from sama_plugin.model.config import SamaConfig
from sama_plugin.nn import released
from sama_plugin.nn.aggregator import build_aggregator
from sama_plugin.nn.focus import sought
from sama_plugin.nn.look import Look
from sama_plugin.nn.losses import click_loss, object_score_loss, point_sampled_mask_loss
from sama_plugin.nn.pointing import Pointed, Pointer, ReadFrames, Seen, place_loss
from sama_plugin.nn.region import build_region_encoder
from sama_plugin.nn.rows import RowAdapter
from sama_plugin.nn.seg import SegHead
from sama_plugin.segment.base import Prompt, Segmenter


@dataclass
class VisualCache:
    """Frames of a video that were encoded before: projected tokens and the aggregator's spatial
    pass.
    """

    features: Tensor  # (NF, N, C)
    spatial: Optional[Tensor] = None  # (NA, Qs, h), rows of `SamaBatch.aggregator_rows`
    deep: Optional[Tensor] = None  # (NF, D, N, C), see `VisualRows`

    @property
    def visual(self) -> VisualRows:
        """Its frames as the host gave them."""
        return VisualRows(self.features, self.deep)


class SamaModules(nn.Module):
    """Region encoder, aggregator, token rows, [SEG] head and mask decoder copy.

    Args:
        config: sizes and choices.
        width: C of the host's language model.
        grid: (h, w) of a frame's N = h w visual tokens.
        rows: number of new token ids.
        segmenter: the frozen segmenter (its mask decoder is copied), or None when masks are not
            wanted.
        scale: size of the host's input embeddings, which context tokens start with; None as
            released.
    """

    def __init__(
        self,
        config: SamaConfig,
        width: int,
        grid: tuple[int, int],
        rows: int,
        segmenter: Optional[Segmenter],
        scale: Optional[float] = None,
    ):
        super().__init__()
        self.config, self.width, self.grid = config, width, grid
        self.tokens = grid[0] * grid[1]
        self.input_rows = RowAdapter(rows, width)
        self.region = build_region_encoder(
            config.region, width, config.aggregator.hidden, compat=config.compat
        )
        self.aggregator = build_aggregator(config.aggregator, width, scale)
        self.output_rows = RowAdapter(rows, width)
        self.seg_head: Optional[SegHead] = None
        self.pointer: Optional[Pointer] = None
        self.look: Optional[Look] = None
        self.mask_decoder: Optional[nn.Module] = None
        if segmenter is not None:
            ours = config.compat == "default"
            moments = ours and config.seg.moments
            self.seg_head = SegHead(width, segmenter.prompt_dim, moments=moments)
            if ours and config.seg.pointing:
                self.pointer = Pointer(width, config.seg.pointing_width, grid)
                if config.seg.looking:
                    self.look = Look(width, config.seg.pointing_width)
            if config.seg.train_mask_decoder:
                self.mask_decoder = segmenter.clone_mask_decoder()

    @property
    def dtype(self) -> torch.dtype:
        """Compute type of the modules; inputs are cast to it, outputs to the host's."""
        return self.region.dtype

    @property
    def reads_ids(self) -> bool:
        """Whether the aggregator embeds the words of questions itself."""
        settings = self.config.aggregator
        return settings.kind != "none" and settings.question == "wordpiece"

    def slots(
        self,
        features: Optional[Tensor],
        batch: SamaBatch,
        question: Tensor,
        cache: Optional[VisualCache],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors for region placeholders (X, C), two a region for `sama`, and for context
        placeholders (sum of F over prompts, C).

        The third value is a zero scalar that keeps modules without work in the graph.
        """
        if features is None:
            features = torch.zeros(0, self.tokens, self.width, device=question.device)
        features = features.to(self.dtype)
        encoded = self.region(
            features,
            batch.entry_row,
            batch.entry_weights,
            batch.entry_shape,
            batch.entry_owner,
            batch.regions,
            batch.entry_place,
        )
        rows, prompts = batch.aggregator_rows, batch.prompt_owner.shape[0]
        pointed = batch.entry_row, batch.entry_weights, batch.entry_owner, batch.region_prompt
        context = self.aggregator(
            features[rows],
            batch.frame_owner[rows],
            batch.frame_time[rows],
            batch.prompt_owner,
            question if self.reads_ids else question.to(self.dtype),
            batch.question_mask,
            batch.question_kind,
            encoded.aggregator_rows,
            spatial=cache.spatial if cache is not None else None,
            row_bias=self._released_bias(batch),
            sought=sought(features, *pointed, prompts),
        )
        idle = 0.0 * (encoded.aggregator_rows.sum() + encoded.tokens.sum() + context.sum())
        return encoded.tokens.flatten(0, -2), context, idle

    def _released_bias(self, batch: SamaBatch) -> Optional[Tensor]:
        """(P, h) the stray vector of released SAMA models, see `nn/released.py`; else nothing."""
        kinds = (self.config.compat, self.config.region.kind, self.config.aggregator.kind)
        if kinds != ("released", "sama", "sama"):
            return None
        scale = released.training_scale if self.training else released.inference_scale
        row = released.missing_region_row(self.region)  # (h,)
        return scale(batch.prompt_owner, batch.region_prompt).to(row)[:, None] * row

    def seg_prompt(
        self,
        states: Tensor,
        owner: Tensor,
        read: Union[ReadFrames, Seen, None],
        target: Tensor,
        moment: Tensor,
        segmenter: Segmenter,
    ) -> tuple[Prompt, Optional[Pointed]]:
        """What the segmenter is asked for E (target, keyframe) pairs: one token each. With a
        pointer, where it points; the segmenter's own clicks there are part of the token.

        Args:
            states: (S, C) final hidden states at [SEG]. owner: (S,) long, sample of each.
            read: the frames as the language model read them, or what the pointer saw in them
                already; None where it was shown none.
            target: (E,) long into S. moment: (E,) place of the keyframe in its clip, 0 to 1.
        """
        vectors = self.seg_head(states.to(self.dtype)[target], moment)  # (E, prompt_dim)
        if self.pointer is None:
            return Prompt(vectors=vectors[:, None]), None

        def embed_clicks(points: Tensor) -> Tensor:
            return segmenter.embed_clicks(points * segmenter.image_size)

        seen = self.seen(read, states)
        pointed = self.pointer(states, owner, seen, target, moment, embed_clicks)
        vectors = vectors + pointed.clicks.to(vectors.dtype)
        return Prompt(vectors=vectors[:, None]), pointed

    def seen(self, read: Union[ReadFrames, Seen, None], states: Tensor) -> Seen:
        """Frames that were read, none for None, as places to look at; on the device of `states`."""
        if isinstance(read, Seen):
            return read
        if read is None:
            none = torch.zeros(0, device=states.device)
            read = ReadFrames(states.new_zeros(0, self.tokens, self.width), none, none.long())
        return self.pointer.seen(read)

    def mask_losses(
        self,
        states: Tensor,
        read: Union[ReadFrames, Seen, None],
        batch: SamaBatch,
        segmenter: Segmenter,
    ) -> dict[str, Tensor]:
        """BCE, Dice, object-score and pointing losses of the labelled (target, frame) pairs.

        Masks are judged where the object is present, the object score everywhere (design: absence).
        Pointing is led to the object by its shares (place) and by their middle (click), long before
        a mask overlaps it.

        Args:
            states: (S, C) final hidden states at [SEG], in text order. read: see `seg_prompt`.
        """
        batch = _with_targets(batch, states, segmenter.image_size, self.config.seg.label_size)
        with torch.no_grad():
            frames = segmenter.encode(batch.segment_pixels)
        prompt, pointed = self.seg_prompt(
            states,
            batch.target_owner,
            read,
            batch.label_target,
            batch.segment_moment[batch.label_segment],
            segmenter,
        )
        decoded = segmenter.decode(
            frames.rows(batch.label_segment), prompt, mask_decoder=self.mask_decoder
        )
        seg, present = self.config.seg, batch.label_present
        bce, dice = point_sampled_mask_loss(
            decoded.logits[present, 0],
            batch.label_mask[present],
            points=seg.points,
            oversample=seg.oversample,
            importance=seg.importance,
        )
        score = object_score_loss(decoded.score, present)
        idle = 0.0 * (decoded.iou.sum() + decoded.all_logits.sum() + decoded.score.sum())
        losses = {
            "mask_bce": seg.bce_weight * bce + idle + 0.0 * prompt.vectors.sum(),
            "mask_dice": seg.dice_weight * dice,
            "object_score": seg.score_weight * score,
        }
        if pointed is not None:
            there = present & pointed.found
            shares, masks = pointed.shares[there], batch.label_mask[there]
            losses["place"] = seg.place_weight * place_loss(shares, masks, self.grid)
            losses["click"] = seg.click_weight * click_loss(pointed.points[there], masks)
        return losses


def _with_targets(batch: SamaBatch, states: Tensor, image_size: int, label_size: int) -> SamaBatch:
    """The batch itself, or one with zero targets where it has none; [SEG] tokens must agree."""
    targets = 0 if batch.target_owner is None else batch.target_owner.shape[0]
    if states.shape[0] != targets:
        raise SlotError(
            f"{states.shape[0]} [SEG] tokens in the token sequences, {targets} mask targets in the "
            f"batch ({', '.join(batch.sample_ids[:4])}); the sequence was cut or edited after it "
            "was encoded"
        )
    if targets:
        return batch
    none = torch.zeros(0, dtype=torch.long, device=states.device)
    return dataclasses.replace(
        batch,
        segment_pixels=states.new_zeros(0, 3, image_size, image_size, dtype=torch.float32),
        segment_moment=states.new_zeros(0),
        target_owner=none,
        label_target=none,
        label_segment=none,
        label_mask=states.new_zeros(0, label_size, label_size),
        label_present=none.bool(),
    )
