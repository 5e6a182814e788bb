"""Several samples in one row without padding, each blind to the others.

Positions begin again with every sample and there is no attention mask: that is how transformers
tells packed sequences from one long one (its masks become block-diagonal; flash attention gets the
lengths). Nothing else changes, as slots, regions and masks are found in reading order. Only for
hosts whose decoder takes `position_ids` of one axis; `check_packs` says which. Used as the
collator's `layout`; `bins` groups samples of known length.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor

from sama_plugin.data.encode import Encoded
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.errors import ConfigError, HostError

ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")


def packed(encoded: Sequence[Encoded], pad_id: int) -> dict[str, Any]:
    """`input_ids`, `position_ids`, `labels` (1, L) of all samples, one behind the other; and
    `use_cache` off, without which transformers does not look at the positions.

    The first label of every sample is ignored: the token before it belongs to another.
    """
    labels = [value for one in encoded for value in (IGNORE, *one.labels[1:])]
    return {
        "input_ids": torch.tensor([[value for one in encoded for value in one.input_ids]]),
        "position_ids": torch.cat([torch.arange(len(one)) for one in encoded])[None],
        "labels": torch.tensor([labels]),
        "use_cache": False,
    }


def boundaries(position_ids: Tensor) -> list[tuple[int, int]]:
    """(start, end) of every sample of a packed row, from its positions (1, L)."""
    starts = (position_ids[0] == 0).nonzero().flatten().tolist()
    return list(zip(starts, [*starts[1:], position_ids.shape[1]]))


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of samples that share a row of at most `capacity` tokens: longest first, each into
    the first row with room. Rows keep the order of their first sample, samples theirs.

    Raises:
        ConfigError: a sample alone is longer; truncation could cut a slot.
    """
    for index, length in enumerate(lengths):
        if length > capacity:
            raise ConfigError(f"sample {index} has {length} tokens, a packed row holds {capacity}")
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        row = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= lengths[index]
    return sorted((sorted(row) for row in rows), key=lambda row: row[0])


def check_packs(model: Any) -> None:
    """Raises HostError where a host's decoder would not keep packed samples apart.

    Beside what its configuration says, it is tried on two short samples, because some decoders
    (gpt_oss) make their masks without the positions. Not where the weights are partitioned
    (ZeRO-3), nor for flash attention, which runs on the GPU only and reads the positions itself.
    """
    config = getattr(model.config, "text_config", None) or model.config
    attention = getattr(config, "_attn_implementation", None)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if "mrope_section" in rope:
        raise HostError(
            f"{type(model).__name__} has positions of several axes; packed samples would share them"
            ". Train it without packing"
        )
    if attention not in ATTENTION:
        raise HostError(
            f"{type(model).__name__} attends by {attention!r}, which is not known to keep packed "
            f"samples apart; use one of {', '.join(ATTENTION)}, or train without packing"
        )
    partitioned = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    if not partitioned and not attention.startswith("fl") and _leaks(model):
        raise HostError(
            f"{config.model_type} with attention {attention!r} lets packed samples see each other: "
            "it makes its masks without the positions. Use flash_attention_2 (model.attention), or "
            "train without packing"
        )


@torch.no_grad()
def _leaks(model: Any) -> bool:
    """Whether what stands before a packed sample changes its states."""
    decoder, training = model.get_decoder(), model.training
    weight = model.get_input_embeddings().weight
    words = torch.arange(12, device=weight.device) % weight.shape[0]
    embeds = weight[words].detach()[None]  # (1, 12, C)
    positions = torch.tensor([[*range(5), *range(7)]], device=weight.device)
    other = torch.cat([embeds[:, :5].flip(1), embeds[:, 5:]], dim=1)
    model.eval()
    try:
        first, second = (
            decoder(inputs_embeds=one, position_ids=positions, use_cache=False).last_hidden_state
            for one in (embeds, other)
        )
    finally:
        model.train(training)
    drift = (first - second)[:, 5:].abs().max()
    # not to the bit: experts are grouped by what all tokens chose
    return bool(drift > 0.02 * first[:, 5:].abs().max().clamp(min=1e-6))
