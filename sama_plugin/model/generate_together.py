"""Several conversations continued in one batch: each is read alone, then all speak together.

Reading differs in length and in slots, so every prompt goes through the host by itself, into its
own KV cache. Speaking is one token a step for everybody: the caches are laid into one, padded on
the left, and every row keeps its own positions, so that the text is that of `generate`. Afterwards
each conversation gets its own cache back. Used by `infer/together.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.stops import NEVER, Stop
from sama_plugin.logs import warn_once
from sama_plugin.model import generate as alone
from sama_plugin.model.generate import Generation, Sampling
from sama_plugin.model.sama import VisualCache
from sama_plugin.nn.pointing import ReadFrames

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


@dataclass
class _Row:
    """A conversation while it speaks."""

    request: Request
    choose: Callable[[Tensor, list[int]], int]
    past: Any
    logits: Tensor  # (V,) of the next token
    read: Optional[ReadFrames]
    new: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    consumed: int = 0  # new tokens that went through the host
    stopped: bool = False
    speaking: bool = True


@torch.no_grad()
def generate_together(
    sama: SamaModel,
    requests: Sequence[Request],
    *,
    stop: Stop = NEVER,
    max_new_tokens: int = 256,
    sampling: Optional[Sampling] = None,
) -> list[Generation]:
    """What `generate` gives for each request, tokens of all of them chosen step by step."""
    if len(requests) > 1 and not speaks_together(sama):
        warn_once(
            "generate_together",
            f"host {sama.adapter.name!r} keeps positions or caches of its own kind; conversations "
            "are continued one after the other",
        )
    if len(requests) < 2 or not speaks_together(sama):
        options = {"stop": stop, "max_new_tokens": max_new_tokens, "sampling": sampling}
        return [alone.generate(sama, **vars(request), **options) for request in requests]
    forbidden = alone._never_generated(sama)
    rows = [_row(sama, request, sampling or Sampling()) for request in requests]
    lengths = [row.past.get_seq_length() for row in rows]
    shared = _laid_together(sama, [row.past for row in rows], max(lengths))
    steps = 0
    with sama.call(None) as call:
        while True:
            for row in rows:
                if row.speaking:
                    _choose(sama, row, forbidden, stop, max_new_tokens)
            if not any(row.speaking for row in rows):
                break
            tokens = torch.tensor([[row.new[-1] if row.new else 0] for row in rows])
            output = _step(sama, tokens.to(sama.device), lengths, steps, shared)
            steps += 1
            for number, row in enumerate(rows):
                if row.speaking:
                    _take(sama, row, output.logits[number, -1], call.hidden[number, -1])
    pasts = _taken_apart(sama, shared, lengths, [row.consumed for row in rows])
    return [_generation(sama, row, past) for row, past in zip(rows, pasts)]


def speaks_together(sama: SamaModel) -> bool:
    """Whether this host's conversations can be laid into one cache."""
    return sama.adapter.name in COUNTED and all(
        type(layer).__name__ == "DynamicLayer" for layer in sama.adapter.new_cache(sama.host).layers
    )


@torch.no_grad()
def read_prompt(sama: SamaModel, request: Request) -> tuple[Any, Tensor, Optional[ReadFrames]]:
    """(KV cache, logits (V,) of the next token, frames if it shows any) of a prompt that is read
    alone.
    """
    ids = torch.as_tensor(request.input_ids, dtype=torch.long, device=sama.device)[None]
    past = request.past if request.past is not None else sama.adapter.new_cache(sama.host)
    mask = ids.new_ones(1, past.get_seq_length() + ids.shape[1])
    batch = request.batch.to(sama.device) if request.batch is not None else None
    with sama.call(batch, request.cache) as call:
        step = {"input_ids": ids, "attention_mask": mask, "past_key_values": past}
        output = sama.adapter.read(sama.host, step, use_cache=True, logits_to_keep=1)
    return past, output.logits[0, -1], call.read


def copied(sama: SamaModel, past: Any) -> Any:
    """A KV cache with the same contents, of its own."""
    other = sama.adapter.new_cache(sama.host)
    for number, layer in enumerate(past.layers):
        other.update(layer.keys, layer.values, number)
    return other


def _row(sama: SamaModel, request: Request, sampling: Sampling) -> _Row:
    past, logits, read = read_prompt(sama, request)
    return _Row(request, alone._chooser(sampling, sama.device), past, logits, read)


def _step(sama: SamaModel, tokens: Tensor, lengths: list[int], steps: int, shared: Any) -> Any:
    """One token of every row through the host."""
    longest, device = max(lengths), tokens.device
    own = torch.tensor(lengths, device=device)[:, None]  # (B, 1)
    columns = torch.arange(longest + steps + 1, device=device)
    inputs = {
        "input_ids": tokens,
        "attention_mask": (columns >= longest - own).long(),  # (B, longest + steps + 1)
        "position_ids": own + steps,
        "past_key_values": shared,
    }
    return sama.adapter.read(sama.host, inputs, use_cache=True, logits_to_keep=1)


def _choose(sama: SamaModel, row: _Row, forbidden: Tensor, stop: Stop, most: int) -> None:
    """The row's next token, or its end; a last [SEG] is still consumed."""
    if row.stopped or len(row.new) >= most:
        row.speaking = False
        return
    token = row.choose(row.logits.float().index_fill(0, forbidden, float("-inf")), row.new)
    row.new.append(token)
    if row.request.on_token is not None:
        row.request.on_token(token)
    row.stopped = stop.reached(sama.tokenizer, row.new)
    over = row.stopped or len(row.new) >= most
    row.speaking = not over or token == sama.ids.seg


def _take(sama: SamaModel, row: _Row, logits: Tensor, state: Tensor) -> None:
    row.consumed += 1
    row.logits = logits
    if row.new[-1] == sama.ids.seg:
        row.states.append(state)


def _generation(sama: SamaModel, row: _Row, past: Any) -> Generation:
    none = torch.zeros(0, sama.modules.width, device=sama.device)
    states = torch.stack(row.states) if row.states else none
    return Generation(row.new, states, past, row.stopped, row.read)


def _laid_together(sama: SamaModel, pasts: Sequence[Any], longest: int) -> Any:
    """One cache of B rows, each (1, H, L, D) padded on the left to the longest."""
    shared = sama.adapter.new_cache(sama.host)
    for number in range(len(pasts[0].layers)):
        layers = [past.layers[number] for past in pasts]
        parts = [
            torch.cat([F.pad(part, (0, 0, longest - part.shape[2], 0)) for part in kind])
            for kind in ([one.keys for one in layers], [one.values for one in layers])
        ]
        shared.update(*parts, number)
    return shared


def _taken_apart(
    sama: SamaModel, shared: Any, lengths: Sequence[int], consumed: Sequence[int]
) -> list[Any]:
    """A cache for each row, without padding and without what came after its end."""
    longest, pasts = max(lengths), []
    for row, (length, spoken) in enumerate(zip(lengths, consumed)):
        past = sama.adapter.new_cache(sama.host)
        columns = slice(longest - length, longest + spoken)
        for number, layer in enumerate(shared.layers):
            kept = (part[row : row + 1, :, columns].clone() for part in (layer.keys, layer.values))
            past.update(*kept, number)
        pasts.append(past)
    return pasts
