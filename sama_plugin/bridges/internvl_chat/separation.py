"""How this host's language model is told where the samples of a packed row end.

It depends on the attention at hand: the tree's own packed attention reads cumulative lengths
(flash-attn needed), newer transformers read the positions, older ones and eager attention want a
four-dimensional mask, in one of three forms, or one for each kind of layer. None of this is guessed
from versions: each way is tried on the real model, on three short sequences, before the first step.
A way is right if a sample's logits do not change by a bit when its neighbour's words do, and are
those of the sample alone. If none is, packing is refused with what each did. A mask of ours takes
the place of the model's own, so it holds the model's sliding window too.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Optional

import torch
from torch import Tensor

from sama_plugin.data.packing import boundaries
from sama_plugin.errors import PluginError
from sama_plugin.model.attach import SamaModel

SIZES = (5, 7)
"""Tokens of the neighbour and of the sample that is watched."""
ALIKE = 0.99
"""Least cosine between a sample's logits packed and alone; half precision stays far above."""
ROUTED = 0.02
"""Share of the largest logit by which a mixture of experts may differ: its products are grouped by
what all tokens chose."""


@dataclass(frozen=True)
class Separation:
    """One way; `tell` adds to the inputs of the host's forward what it needs."""

    name: str
    tell: Callable[[Mapping[str, Any], torch.dtype], dict[str, Any]]


def separation_of(sama: SamaModel) -> Separation:
    """The first way that keeps samples of a row apart on the attached host.

    Raises:
        PluginError: none does.
    """
    said = []
    with _at_rest(sama.host):
        for way in ways(sama):
            try:
                wrong = _fault(sama, way)
            except Exception as error:  # anything that somebody else's attention can raise
                wrong = f"{type(error).__name__}: {error}"
            if wrong is None:
                return way
            said.append(f"{way.name}: {wrong}")
    attention = getattr(_attention(sama), "config", None)
    raise PluginError(
        f"--use_packed_ds True: {sama.adapter.family(sama.host)} with attention "
        f"{getattr(attention, '_attn_implementation', None)!r} does not keep the samples of a row "
        f"apart ({'; '.join(said)}). Install flash-attn for the tree's own packed attention, try "
        "--plugin.attention sdpa, or train with --use_packed_ds False --group_by_length True"
    )


def ways(sama: SamaModel) -> list[Separation]:
    """Those that the host's attention may understand."""
    attention = _attention(sama)
    if type(attention).__name__.endswith("ForPackedTraining"):
        return [Separation("lengths in the place of the mask", _lengths_as_mask)]
    replaced = "forward" in vars(attention)
    return [
        *([Separation("lengths", _lengths)] if replaced else []),
        Separation("positions", lambda inputs, dtype: dict(inputs)),
        *_masks(sama.adapter.decoder(sama.host).config),
    ]


def _masks(config: Any) -> list[Separation]:
    """Ways by a mask, for a model whose layers see what `config` says."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    window = None if getattr(config, "use_sliding_window", True) is False else window
    kinds = set(kinds or ())
    if kinds - {FULL, SLIDING} or (window and not kinds and hasattr(config, "max_window_layers")):
        return []  # layers that a mask does not describe, or that only the model's code tells apart
    layered = kinds == {FULL, SLIDING}
    if kinds == {FULL}:
        window = None

    def told(form: Form) -> Callable[[Mapping[str, Any], torch.dtype], dict[str, Any]]:
        def tell(inputs: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
            positions = inputs["position_ids"]
            mask: Any = form(visible(positions, window), dtype)
            if layered:
                mask = {SLIDING: mask, FULL: form(visible(positions), dtype)}
            return {**inputs, "attention_mask": mask}

        return tell

    more = " for each kind of layer" if layered else ""
    return [Separation(f"{name}{more}", told(form)) for name, form in FORMS.items()]


def _attention(sama: SamaModel) -> Any:
    layer = sama.adapter.decoder(sama.host).layers[0]
    return getattr(layer, "self_attn", getattr(layer, "attention", None))


def _lengths_as_mask(inputs: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {**inputs, "attention_mask": _cumulative(inputs["position_ids"])}


def _lengths(inputs: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {**inputs, "cu_seqlens": _cumulative(inputs["position_ids"])}


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return hidden.masked_fill(~seen, torch.finfo(dtype).min)


Form = Callable[[Tensor, torch.dtype], Tensor]
FORMS: dict[str, Form] = {
    "a boolean mask": lambda seen, dtype: seen,
    "an additive mask": _additive,
    "a mask of ones": lambda seen, dtype: seen.to(dtype),
}
"""What is visible (1, 1, L, L) as the attention wants it."""
FULL, SLIDING = "full_attention", "sliding_attention"


def visible(position_ids: Tensor, window: Optional[int] = None) -> Tensor:
    """(1, 1, L, L) bool: which token may look at which, from positions (1, L); within a `window`,
    at itself and the `window - 1` before it."""
    sample = (position_ids[0] == 0).cumsum(0)  # (L,)
    place = torch.arange(len(sample), device=sample.device)
    back = place[:, None] - place  # (L, L)
    seen = (sample[:, None] == sample) & (back >= 0)
    return (seen if window is None else seen & (back < window))[None, None]


def _cumulative(position_ids: Tensor) -> Tensor:
    """(1, samples + 1) int32: where each begins, and the end."""
    ends = [end for _, end in boundaries(position_ids)]
    return torch.tensor([[0, *ends]], dtype=torch.int32, device=position_ids.device)


def _fault(sama: SamaModel, way: Separation) -> Any:
    """What is wrong with a way, or None."""
    neighbour, own = SIZES
    rng = torch.Generator().manual_seed(0)
    words = torch.randint(0, min(sama.image_id, 500), (2 * neighbour + own,), generator=rng)
    first, other, watched = words.split([neighbour, neighbour, own])
    beside = _logits(sama, way, first, watched)[neighbour:]
    changed = _logits(sama, way, other, watched)[neighbour:]
    alone = _logits(sama, way, watched)
    allowed = ROUTED * float(beside.abs().max()) if _routes(sama) else 0.0
    drift = float((beside - changed).abs().max())
    if not drift <= allowed:
        return f"a sample's logits move by {drift:.2g} with the words of its neighbour"
    alike = float(torch.cosine_similarity(beside, alone, dim=-1).min())
    if not alike >= ALIKE:
        return f"a packed sample is not what it is alone (cosine {alike:.2g})"
    return None


def _logits(sama: SamaModel, way: Separation, *samples: Tensor) -> Tensor:
    """(L, V) of a row of samples, through the host's own forward."""
    device, host = sama.device, sama.host
    inputs = {
        "input_ids": torch.cat(samples)[None].to(device),
        "position_ids": torch.cat([torch.arange(len(one)) for one in samples])[None].to(device),
        "use_cache": False,
    }
    told = way.tell(inputs, language_dtype(sama))
    return host(**sama.adapter.forward_inputs(host, told)).logits[0].float()


def language_dtype(sama: SamaModel) -> torch.dtype:
    """The type that the language model computes in."""
    return sama.adapter.input_embeddings(sama.host).weight.dtype


def _routes(sama: SamaModel) -> bool:
    config = sama.adapter.decoder(sama.host).config
    return any(getattr(config, name, 0) for name in ("num_experts", "num_local_experts"))


@contextlib.contextmanager
def _at_rest(host: Any) -> Iterator[None]:
    """No dropout, no gradients; every module gets its mode back."""
    modes = [(module, module.training) for module in host.modules()]
    host.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
