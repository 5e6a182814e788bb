"""Several conversations continued in one batch, with the text that `generate` gives each.

Reading: prompts that follow the same opening (the frames of one video) are read in one pass behind
it; others differ in all and go through the host one by one, each into its own KV cache. Speaking is
one token a step for everybody (`lanes.py`). Afterwards each conversation has a cache of its own.
Used by `infer/together.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.stops import NEVER, Stop
from sama_plugin.logs import warn_once
from sama_plugin.model.generate import Generation, Sampling, Speech, begin, generate
from sama_plugin.model.lanes import Lanes
from sama_plugin.model.sama import VisualCache
from sama_plugin.nn.pointing import Seen

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel

COUNTED = ("internvl",)
"""Hosts whose positions are counts of tokens, so that a row can be told its own."""


@dataclass
class Request:
    """One conversation's part: the arguments of `generate` of the same names."""

    input_ids: Sequence[int]
    batch: Optional[SamaBatch]
    cache: Optional[VisualCache] = None
    past: Any = None
    on_token: Optional[Callable[[int], None]] = None
    shown: Optional[Seen] = None


@dataclass(frozen=True)
class Opening:
    """What several requests have read before: one KV cache, which is left as it is.

    `batch` holds the slots of all of them, in order; `cache` the frames. What the requests bring of
    their own is then not used.
    """

    past: Any
    batch: SamaBatch
    cache: VisualCache


@dataclass
class _Row:
    """A conversation while it speaks."""

    speech: Speech
    shown: Optional[Seen]
    past: Any = None  # its own cache, once it has ended


@torch.no_grad()
def generate_together(
    sama: SamaModel,
    requests: Sequence[Request],
    *,
    opening: Optional[Opening] = None,
    stop: Stop = NEVER,
    max_new_tokens: int = 256,
    sampling: Optional[Sampling] = None,
) -> list[Generation]:
    """What `generate` gives for each request, tokens of all of them chosen step by step.

    Args:
        opening: what all requests follow; only for hosts of `speaks_together`.
    """
    if opening is not None:
        lanes, logits = _read_behind(sama, requests, opening)
        shown = [request.shown for request in requests]
        return _speak(sama, requests, lanes, logits, shown, stop, max_new_tokens, sampling)
    if len(requests) > 1 and not speaks_together(sama):
        warn_once(
            "generate_together",
            f"host {sama.adapter.name!r} keeps positions or caches of its own kind; conversations "
            "are continued one after the other",
        )
    if len(requests) < 2 or not speaks_together(sama):
        options = {"stop": stop, "max_new_tokens": max_new_tokens, "sampling": sampling}
        return [generate(sama, **vars(request), **options) for request in requests]
    pasts, logits, shown = zip(*(read_prompt(sama, request) for request in requests))
    lanes = Lanes.laid(sama, pasts)
    return _speak(sama, requests, lanes, logits, shown, stop, max_new_tokens, sampling)


def speaks_together(sama: SamaModel) -> bool:
    """Whether this host's conversations can be laid into one cache."""
    return sama.adapter.name in COUNTED and all(
        type(layer).__name__ == "DynamicLayer" for layer in sama.adapter.new_cache(sama.host).layers
    )


@torch.no_grad()
def read_prompt(sama: SamaModel, request: Request) -> tuple[Any, Tensor, Optional[Seen]]:
    """(KV cache, logits (V,) of the next token, frames read so far) of a prompt that is read
    alone.
    """
    ids = torch.as_tensor(request.input_ids, dtype=torch.long, device=sama.device)[None]
    past = request.past if request.past is not None else sama.adapter.new_cache(sama.host)
    mask = ids.new_ones(1, past.get_seq_length() + ids.shape[1])
    batch = request.batch.to(sama.device) if request.batch is not None else None
    with sama.call(batch, request.cache, request.shown) as call:
        step = {"input_ids": ids, "attention_mask": mask, "past_key_values": past}
        output = sama.adapter.read(sama.host, step, use_cache=True, logits_to_keep=1)
    return past, output.logits[0, -1], sama.seen(call) or request.shown


def _read_behind(
    sama: SamaModel, requests: Sequence[Request], opening: Opening
) -> tuple[Lanes, Sequence[Tensor]]:
    """All prompts in one pass behind what they share, padded between the two."""
    longest = max(len(request.input_ids) for request in requests)
    words = [list(request.input_ids) for request in requests]
    padding = words[0][-1]  # a word: no slot is counted in the padding
    short = [longest - len(one) for one in words]
    ids = torch.tensor([[padding] * gap + one for gap, one in zip(short, words)])  # (B, n)
    real = torch.arange(longest) >= torch.tensor(short)[:, None]
    lanes = Lanes.after(sama, opening.past, len(requests))
    shown = Seen.together([request.shown for request in requests])
    with sama.call(opening.batch.to(sama.device), opening.cache, shown):
        output = lanes.read(sama, ids.to(sama.device), real.to(sama.device))
    return lanes, output.logits[:, -1]


def _speak(
    sama: SamaModel,
    requests: Sequence[Request],
    lanes: Lanes,
    logits: Sequence[Tensor],
    shown: Sequence[Optional[Seen]],
    stop: Stop,
    most: int,
    sampling: Optional[Sampling],
) -> list[Generation]:
    """One token of every conversation a step, until all have ended; who has ended leaves."""
    rows = [
        _Row(begin(sama, stop, most, sampling, request.on_token), frames)
        for request, frames in zip(requests, shown)
    ]
    for row, first in zip(rows, logits):
        row.speech.step(first)
    speaking = _leave(sama, lanes, rows)
    while speaking:
        frames = Seen.together([row.shown for row in speaking])
        with sama.call(None, shown=frames) as call:
            while all(row.speech.speaking for row in speaking):
                last = [[row.speech.new[-1]] for row in speaking]
                tokens = torch.tensor(last, device=sama.device)  # (B, 1)
                output = lanes.read(sama, tokens, torch.ones_like(tokens, dtype=torch.bool))
                for number, row in enumerate(speaking):
                    row.speech.step(output.logits[number, -1], call.hidden[number, -1])
        speaking = _leave(sama, lanes, speaking)
    return [row.speech.ended(row.past, row.shown) for row in rows]


def _leave(sama: SamaModel, lanes: Lanes, rows: Sequence[_Row]) -> list[_Row]:
    """Those that go on speaking; the others take their caches out of the lanes."""
    for number, row in enumerate(rows):
        if not row.speech.speaking:
            row.past = lanes.alone(sama, number)
    lanes.keep(sama, [number for number, row in enumerate(rows) if row.speech.speaking])
    return [row for row in rows if row.speech.speaking]
