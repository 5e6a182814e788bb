"""Greedy and sampled decoding inside a plugin call, with KV reuse and [SEG] states.

A loop of our own rather than `host.generate`: the session continues a cache over turns without
re-tokenising, and the state of [SEG] is the final hidden state of the step that *consumes* it, so
one more step runs when generation stops on it. Sampling itself is transformers' logits processors.
Beam search and several sequences are refused: they reorder rows under the masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.stops import NEVER, Stop
from sama_plugin.errors import ConfigError, SlotError
from sama_plugin.model.sama import VisualCache
from sama_plugin.nn.pointing import Seen

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel


@dataclass(frozen=True)
class Sampling:
    """Greedy by default; `temperature > 0` samples, reproducibly, from a generator seeded with
    `seed`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    beams: int = 1
    sequences: int = 1

    def __post_init__(self) -> None:
        allowed = {
            "temperature": 0 <= self.temperature < float("inf"),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
        }
        for name in (name for name, fine in allowed.items() if not fine):
            raise ConfigError(
                f"sampling cannot have {name} {getattr(self, name)}; temperature is 0 (greedy) or "
                "more, top_p in (0, 1], top_k 0 (all) or more"
            )
        if self.beams != 1 or self.sequences != 1:
            raise ConfigError(
                f"grounded calls decode one sequence (beams {self.beams}, sequences "
                f"{self.sequences} were asked for): beam search and several return sequences "
                "reorder rows under the masks. Leave both at 1, or ask again with another seed"
            )


@dataclass
class Generation:
    """Result of `generate`.

    Attributes:
        ids: new token ids, the end of the answer included.
        seg_states: (S, C) final hidden states at the generated [SEG] tokens, in text order.
        past: KV cache; it has consumed the prompt and all new ids but, possibly, the last.
        stopped: whether a stop ended it (otherwise `max_new_tokens` did).
        shown: the frames as they were read, in this call or before.
    """

    ids: list[int]
    seg_states: Tensor
    past: Any
    stopped: bool
    shown: Optional[Seen] = None


@dataclass
class Speech:
    """One answer while it is spoken, token by token; a last [SEG] is still read by the host.

    Attributes:
        choose: logits (V,) and the answer so far to its next token. banned: ids never chosen.
        most: longest answer, in tokens. on_token: called with every token as it is chosen.
        new: the answer so far. states: (C,) final hidden states at its [SEG]s.
        stopped: whether `stop` ended it. speaking: whether the host is to read its last token.
    """

    sama: SamaModel
    choose: Callable[[Tensor, list[int]], int]
    banned: Tensor
    stop: Stop
    most: int
    on_token: Optional[Callable[[int], None]] = None
    new: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    stopped: bool = False
    speaking: bool = True

    def step(self, logits: Tensor, state: Optional[Tensor] = None) -> None:
        """Go on from what the host made of the last token: logits (V,) and final state (C,)."""
        if self.new and self.new[-1] == self.sama.ids.seg:
            self.states.append(state)
        if self.stopped or len(self.new) >= self.most:
            self.speaking = False
            return
        token = self.choose(logits.float().index_fill(0, self.banned, float("-inf")), self.new)
        self.new.append(token)
        if self.on_token is not None:
            self.on_token(token)
        self.stopped = self.stop.reached(self.sama.tokenizer, self.new)
        over = self.stopped or len(self.new) >= self.most
        self.speaking = not over or token == self.sama.ids.seg

    def ended(self, past: Any, shown: Optional[Seen]) -> Generation:
        """The whole answer, with the cache and the frames that go on with it."""
        none = torch.zeros(0, self.sama.modules.width, device=self.sama.device)
        states = torch.stack(self.states) if self.states else none  # (S, C)
        return Generation(self.new, states, past, self.stopped, shown)


def begin(
    sama: SamaModel,
    stop: Stop,
    most: int,
    sampling: Optional[Sampling] = None,
    on_token: Optional[Callable[[int], None]] = None,
) -> Speech:
    """An answer of which nothing is said yet."""
    choose = _chooser(sampling or Sampling(), sama.device)
    return Speech(sama, choose, _never_generated(sama), stop, most, on_token)


@torch.no_grad()
def generate(
    sama: SamaModel,
    input_ids: Sequence[int],
    batch: Optional[SamaBatch],
    *,
    cache: Optional[VisualCache] = None,
    past: Any = None,
    stop: Stop = NEVER,
    max_new_tokens: int = 256,
    sampling: Optional[Sampling] = None,
    on_token: Optional[Callable[[int], None]] = None,
    shown: Optional[Seen] = None,
) -> Generation:
    """Continue `input_ids`, the tokens that `past` has not consumed yet, up to a stop.

    Args:
        batch: slots of `input_ids` (regions, context, frames); None for plain text.
        cache: encoded frames of the video; image, region and context placeholders are written from
            it. past: KV cache; a new one by default.
        stop: what ends the answer.
        on_token: called with every new id, as it is chosen (streaming).
        shown: the frames that `past` has read, as the generation that read them gave them.
    """
    if not len(input_ids):
        raise SlotError("nothing to continue: the new part of the prompt is empty")
    ids = torch.as_tensor(input_ids, dtype=torch.long, device=sama.device)[None]  # (1, L)
    speech = begin(sama, stop, max_new_tokens, sampling, on_token)
    with sama.call(batch.to(sama.device) if batch is not None else None, cache, shown) as call:
        past = past if past is not None else sama.adapter.new_cache(sama.host)
        consumed = past.get_seq_length()
        while speech.speaking:
            consumed += ids.shape[1]
            mask = ids.new_ones(1, consumed)
            step = {"input_ids": ids, "attention_mask": mask, "past_key_values": past}
            output = sama.adapter.read(sama.host, step, use_cache=True, logits_to_keep=1)
            speech.step(output.logits[0, -1], call.hidden[0, -1])
            ids = ids.new_tensor([speech.new[-1:]])  # (1, 1)
    return speech.ended(past, sama.seen(call) or shown)


@torch.no_grad()
def teacher_forced(
    sama: SamaModel,
    ids: Sequence[int],
    batch: Optional[SamaBatch],
    cache: Optional[VisualCache] = None,
) -> tuple[Tensor, Optional[Seen]]:
    """(S, C) states of every [SEG] in `ids`, and the frames as they were read, from one forward
    pass: for text another engine produced, and for tests.
    """
    tokens = torch.as_tensor(ids, dtype=torch.long, device=sama.device)[None]
    with sama.call(batch.to(sama.device) if batch is not None else None, cache) as call:
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        sama.adapter.read(sama.host, inputs, use_cache=False)
        return sama.seg_states(call), sama.seen(call)


def _never_generated(sama: SamaModel) -> Tensor:
    """Placeholders: the model may read them, never write them."""
    ids = sama.ids
    banned = [ids.region, ids.context, ids.region_open, ids.region_close]
    banned += [sama.image_id] if sama.image_id is not None else []
    return torch.tensor(banned, device=sama.device)


def _chooser(sampling: Sampling, device: torch.device) -> Callable[[Tensor, list[int]], int]:
    if sampling.temperature <= 0:
        return lambda logits, new: int(logits.argmax())
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    generator = torch.Generator(device=device).manual_seed(sampling.seed)

    def sample(logits: Tensor, new: list[int]) -> int:
        seen = torch.tensor([new], dtype=torch.long, device=device)
        probabilities = warpers(seen, logits[None]).softmax(-1)
        return int(torch.multinomial(probabilities[0], 1, generator=generator))

    return sample
