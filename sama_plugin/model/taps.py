"""The four taps and the call that makes them act.

Taps are hooks installed once, at attach. They return at once, same bits, until a `Call` is active;
then

1. *visual* keeps every frame's projected tokens and hands on only the rows the language model
   reads,
2. *rows* replaces the vectors of our token ids at the input embedding, and our columns of the
   logits (appending them when the ids lie past the host's table; the host is never resized),
3. *decoder* overwrites region and context placeholders (and image placeholders, when the session
   already holds the frames' tokens) in `inputs_embeds`; the sequence length never changes,
4. *head* reads the final hidden states, which are the input of the output embedding; those at
   visual tokens are kept for pointing. States after the frames look at them again before the head
   uses them.

Slots are found by the ids seen at the embedding in the same forward pass; their number must be that
of the vectors. Used by `attach.py` (training) and `generate.py` (inference).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor, nn

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.tokens import TokenIds
from sama_plugin.errors import SlotError
from sama_plugin.hosts.base import Head, HostAdapter, VisualRows
from sama_plugin.model.looking import Looking, samples_of
from sama_plugin.model.sama import SamaModules, VisualCache
from sama_plugin.nn.pointing import ReadFrames, Seen


@dataclass
class Call:
    """State of one plugin call: one training forward, or one generation (prefill and its decode
    steps).
    """

    batch: Optional[SamaBatch]
    cache: Optional[VisualCache] = None  # frames encoded before; then no pixels are expected
    ids: Optional[Tensor] = None  # (B, L) of the forward pass under way
    visual: Optional[VisualRows] = None  # all NF frames, where this call encoded them
    states: list[Tensor] = field(default_factory=list)  # final hidden ones, of each forward pass
    read: Optional[ReadFrames] = None  # frames as the language model read them in this call
    shown: Optional[Seen] = None  # those an earlier call of this conversation read
    looking: Optional[Looking] = None  # either, as places to look at
    looks: bool = True  # False for answers of the host without what the plugin has learned
    positions: Optional[Tensor] = None  # of the tokens, where the host was given them
    written: tuple[int, int] = (0, 0)  # region slots and context slots
    router: Optional[tuple[Tensor, ...]] = None  # of a mixture of experts that reports it
    reading_question: bool = False

    @property
    def features(self) -> Optional[Tensor]:
        """(NF, N, C) projected visual tokens of this call's frames."""
        return None if self.visual is None else self.visual.features

    @property
    def hidden(self) -> Tensor:
        """(B, L, C) final hidden states of the latest forward pass."""
        return self.states[-1]


class Taps:
    """Installs the hooks on a host and removes them again."""

    def __init__(
        self,
        model: nn.Module,
        adapter: HostAdapter,
        modules: SamaModules,
        ids: TokenIds,
        image_id: int,
        scale: float = 1.0,
    ):
        self.model, self.adapter, self.modules = model, adapter, modules
        self.ids, self.image_id = ids, image_id
        self.call: Optional[Call] = None
        self.scale = scale
        self.head: Head = adapter.head(model)
        embedding, head = adapter.input_embeddings(model), adapter.output_embeddings(model)
        self.input_table, self.table = embedding.weight.shape[0], head.weight.shape[0]
        self._handles = [
            adapter.tap_visual(model, self._on_visual),
            embedding.register_forward_pre_hook(self._on_ids),
            embedding.register_forward_hook(self._on_embeddings),
            adapter.decoder(model).register_forward_pre_hook(self._on_decoder, with_kwargs=True),
            adapter.decoder(model).register_forward_hook(self._on_decoded),
            head.register_forward_pre_hook(self._on_hidden),
            head.register_forward_hook(self._on_logits),
        ]

    def remove(self) -> None:
        """Take every hook away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def vocabulary(self) -> int:
        """Columns of the logits during a call."""
        return max(self.table, max(self.ids.in_order()) + 1)

    def _on_visual(self, visual: VisualRows) -> Optional[VisualRows]:
        call = self.call
        if call is None or call.batch is None:
            return None
        rows, found = call.batch.frame_owner.shape[0], visual.features.shape[0]
        if found != rows:
            raise SlotError(
                f"the vision tower returned {found} frames where the frame plans of "
                f"{_names(call.batch)} hold {rows}; pixel_values and the plugin's batch must come "
                "from one collator"
            )
        call.visual = visual
        return visual.rows(call.batch.keep_rows)

    def _on_ids(self, module: nn.Module, args: tuple) -> Any:
        call = self.call
        if call is None or call.reading_question or args[0].dim() != 2:
            return None
        call.ids = args[0]
        return (args[0].masked_fill(args[0] >= self.input_table, 0), *args[1:])

    def _on_embeddings(self, module: nn.Module, args: tuple, output: Tensor) -> Any:
        call = self.call
        if call is None or call.reading_question or args[0].dim() != 2:
            return None
        rows = self._sized(self.modules.input_rows()).to(output.dtype)  # (n, C)
        ours = torch.tensor(self.ids.in_order(), device=output.device)
        match = call.ids[..., None] == ours  # (B, L, n)
        return torch.where(match.any(-1, keepdim=True), rows[match.long().argmax(-1)], output)

    def _on_decoder(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        call = self.call
        if call is not None:
            call.positions = kwargs.get("position_ids")
        embeds = kwargs.get("inputs_embeds")
        if call is None or embeds is None or call.batch is None or len(call.states):
            return None
        visual = call.features
        if visual is None and call.cache is not None:
            visual = call.cache.features
        question = self._question(call)
        region, context, idle = self.modules.slots(visual, call.batch, question, call.cache)
        if call.features is None and call.cache is not None:
            embeds, kwargs = self._write_cached(call, embeds, kwargs)
        regions, contexts = call.ids == self.ids.region, call.ids == self.ids.context
        embeds = _write(embeds, regions, self._sized(region), "region", call.batch)
        embeds = _write(embeds, contexts, self._sized(context), "context", call.batch)
        call.written = (region.shape[0], context.shape[0])
        kwargs["inputs_embeds"] = embeds + idle.to(embeds.dtype)
        return args, kwargs

    def _write_cached(self, call: Call, embeds: Tensor, kwargs: dict) -> tuple[Tensor, dict]:
        """Frames that were encoded before, at the image placeholders of this part of the prompt."""
        kept = call.cache.visual.rows(call.batch.keep_rows)
        slots = call.ids == self.image_id
        rows = self.adapter.language_rows(self.model, kept.features)
        embeds = _write(embeds, slots, rows, "image", call.batch)
        return embeds, self.adapter.with_deep(kwargs, slots, kept)

    def _on_decoded(self, module: nn.Module, args: tuple, output: Any) -> None:
        call = self.call
        if call is None:
            return
        call.router = getattr(output, "router_logits", None)
        if call.batch is not None and call.read is None:
            call.read = self._read_frames(call, output[0])
        if call.looking is None and call.looks and self.modules.look is not None:
            call.looking = self._looking(call, output[0])

    def _looking(self, call: Call, hidden: Tensor) -> Optional[Looking]:
        """What the answer can look at. In training also where nothing was read: every rank meets
        the same modules in the same order.
        """
        frames = call.read if call.read is not None else call.shown
        if frames is None and (call.batch is None or not torch.is_grad_enabled()):
            return None
        seen = self.modules.seen(frames, hidden)
        return Looking(seen, self.modules.look.view(seen))

    def _read_frames(self, call: Call, hidden: Tensor) -> Optional[ReadFrames]:
        """The decoder's output (B, L, C) at the visual tokens; nothing where no frame is shown."""
        batch, tokens = call.batch, self.modules.tokens
        frames = batch.keep_rows.shape[0]
        if not frames:
            return None
        states = hidden[call.ids == self.image_id].unflatten(0, (frames, -1))[:, :tokens]
        return ReadFrames(states, batch.keep_moment, batch.frame_owner[batch.keep_rows])

    def _sized(self, vectors: Tensor) -> Tensor:
        """Vectors in the units of the embedding table as the host's embedding module gives them:
        some families scale what they look up.
        """
        return vectors if self.scale == 1.0 else vectors * self.scale

    def _question(self, call: Call) -> Tensor:
        """(P, L, C) the host's own embeddings of the questions; its weights get no gradient from
        here. Or (P, L) ids, for an aggregator that has a table of its own.
        """
        if self.modules.reads_ids:
            return call.batch.question_ids
        call.reading_question = True
        try:
            with torch.no_grad():
                words = self.adapter.input_embeddings(self.model)(call.batch.question_ids)
                return words if self.scale == 1.0 else words / self.scale
        finally:
            call.reading_question = False

    def _on_hidden(self, module: nn.Module, args: tuple) -> Any:
        call = self.call
        if call is None:
            return None
        call.states.append(args[0])
        if call.looking is None:
            return None
        sample, awaits = samples_of(call.ids, call.batch, call.positions, self.image_id)
        kept = args[0].shape[1]  # of the sequence, its end: logits_to_keep
        told = call.looking.tell(self.modules.look, args[0], sample[:, -kept:], awaits[:, -kept:])
        return (told, *args[1:])

    def _on_logits(self, module: nn.Module, args: tuple, output: Tensor) -> Any:
        if self.call is None:
            return None
        columns = nn.functional.linear(args[0], self.modules.output_rows().to(args[0].dtype)).to(
            output.dtype
        )
        output, columns = self._headed(output), self._headed(columns)
        missing = self.vocabulary - output.shape[-1]
        if missing > 0:
            floor = torch.finfo(output.dtype).min
            output = torch.cat(
                [output, output.new_full((*output.shape[:-1], missing), floor)], dim=-1
            )
        index = torch.tensor(self.ids.in_order(), device=output.device)
        return output.index_copy(-1, index, columns)  # (B, L, V)

    def _headed(self, logits: Tensor) -> Tensor:
        """Logits as the language model's own head would give them."""
        if self.head.plain:
            return logits
        logits = logits * self.head.scale
        cap = self.head.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


def _write(embeds: Tensor, slots: Tensor, vectors: Tensor, kind: str, batch: SamaBatch) -> Tensor:
    """`embeds` (B, L, C) with its `slots` rows, in reading order, replaced by `vectors`; the
    numbers must agree.
    """
    found = int(slots.sum())
    if found != vectors.shape[0]:
        raise SlotError(
            f"{found} {kind} placeholders in the token sequences of {_names(batch)}, "
            f"{vectors.shape[0]} vectors for them; the sequence was cut or edited after it was "
            "encoded"
        )
    if found == 0:
        return embeds
    return embeds.masked_scatter(slots[..., None], vectors.to(embeds.dtype))


def _names(batch: SamaBatch) -> str:
    shown = ", ".join(batch.sample_ids[:4])
    return f"samples {shown}{' and others' if len(batch.sample_ids) > 4 else ''}"
