"""From data sources to what a Trainer eats: one mixture and the collator for the attached host.

Used by `sama train` and by the launcher's bridge.
"""

from __future__ import annotations

import functools
from typing import Any, Optional, Sequence

from sama_plugin.data.collate import Collator
from sama_plugin.data.encode import Encoder, wording_of
from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.data.packing import check_packs, packed
from sama_plugin.data.quarantine import TolerantCollator
from sama_plugin.data.questions import question_reader
from sama_plugin.data.regions import region_rule
from sama_plugin.data.sources import SourceConfig, open_source
from sama_plugin.dialog.pointing import pointing_of
from sama_plugin.model.attach import SamaModel


def training_material(
    sama: SamaModel,
    sources: Sequence[SourceConfig],
    *,
    seed: int = 0,
    max_length: Optional[int] = None,
    epoch_samples: Optional[int] = None,
    packing: bool = False,
) -> tuple[MixtureDataset, TolerantCollator]:
    """(dataset, collator) of a run; the collator sets bad records aside.

    Args:
        seed: decides order and pointing. max_length: tokens of the longest sample.
        epoch_samples: samples of an epoch, shared by weight; None for every source in full.
        packing: lay the samples of a batch into one row.

    Raises:
        HostError: `packing` with a host that would not keep the samples apart. DataError: a source
            is unreadable, empty or mostly bad.
    """
    if packing:
        check_packs(sama.host)
    opened = [open_source(source) for source in sources]
    collate = collator(sama, max_length)
    if packing:
        collate.layout = packed
    dataset = MixtureDataset(opened, seed=seed, samples=epoch_samples)
    return dataset, TolerantCollator(collate)


def collator(sama: SamaModel, max_length: Optional[int] = None, tokenizer: Any = None) -> Collator:
    """The collator for an attached host; worker processes are forked, so it may hold the model.

    Args:
        tokenizer: whose chat template words the conversations; by default the model's.
    """
    config, adapter = sama.config, sama.adapter
    encoder = Encoder(
        tokenizer or sama.tokenizer,
        adapter,
        sama.modules.tokens,
        max_length=max_length,
        max_question=config.aggregator.max_question,
        wording=wording_of(adapter, config.compat),
        questions=question_reader(config.aggregator),
        pointing=pointing_of(config.region.kind),
    )
    pad_id = sama.tokenizer.pad_token_id
    grid = adapter.grid(sama.host)
    return Collator(
        encoder,
        functools.partial(adapter.pixels, model=sama.host),
        sama.segmenter.preprocess if sama.modules.seg_head is not None else None,
        grid,
        config.frames,
        shape_size=config.region.shape_size,
        label_size=config.seg.label_size,
        pad_id=pad_id if pad_id is not None else sama.tokenizer.eos_token_id,
        context=config.aggregator.kind != "none",
        regions=region_rule(config.region, grid, config.compat, config.seed),
    )
