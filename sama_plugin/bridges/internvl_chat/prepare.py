"""What happens inside the script's `build_datasets`: attach, and give its datasets our records.

Everything that would silently train something else is refused here, with what to do.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sama_plugin.bridges.internvl_chat.collate import AwaitedCollator, MixedCollator
from sama_plugin.bridges.internvl_chat.own_data import OwnData
from sama_plugin.bridges.internvl_chat.packed_rows import PackedRows, PackLimits
from sama_plugin.bridges.internvl_chat.records import host_class, sama_records
from sama_plugin.data.collate import Collator
from sama_plugin.data.sources import BUDGET
from sama_plugin.errors import PluginError
from sama_plugin.hosts.internvl.preprocess import pixels
from sama_plugin.model.attach import SamaModel, attach
from sama_plugin.model.config import SamaConfig
from sama_plugin.patching.ledger import Ledger
from sama_plugin.segment.arrange import squeezed
from sama_plugin.train.bad_records import Allowance
from sama_plugin.train.material import collator


@dataclass
class Preparation:
    """One run's choices, and the attached model once there is one.

    Attributes:
        data: our JSONL beside the host's meta file; None for records in the meta file alone.
        root: folder of its media.
        resampled: whether the script draws datasets by the square root of their size.
        meta: the script's meta file.
        allowed: how many bad records of ours a run stands, by dataset; known after `after`.
    """

    config: SamaConfig
    data: Optional[str]
    root: Optional[str]
    ledger: Ledger
    sama: Optional[SamaModel] = None
    collate: AwaitedCollator = field(default_factory=AwaitedCollator)
    resampled: bool = False
    meta: str = ""
    allowed: dict[str, Allowance] = field(default_factory=dict)

    def before(self, data_args: Any, tokenizer: Any, model: Any) -> None:
        """Attach the plugin to the script's model, with the script's tokenizer object.

        Raises:
            PluginError: packing that cuts samples.
        """
        if getattr(data_args, "use_packed_ds", False) and data_args.allow_overflow:
            raise PluginError(
                "--allow_overflow True: samples are cut where a packed row ends, and regions would "
                "lose their frames. Leave it out; a row then holds whole samples only"
            )
        self.meta = data_args.meta_path
        self.resampled = getattr(data_args, "use_data_resampling", False)
        self.sama = attach(model, tokenizer, self.config, share_tokenizer=True)
        self.ledger.note(
            f"the script's {type(model).__name__}",
            f"attached ({self.sama.adapter.name}, {self.sama.adapter.family(model)}, segmenter "
            f"{self.sama.segmenter.id}); new tokens added to its tokenizer",
        )
        ours = portable_collator(self.sama, tokenizer, data_args.max_seq_length)
        self.collate.mixed = MixedCollator(ours, self.sama.modules.tokens)

    def after(self, datasets: Any) -> Any:
        """The host's datasets, knowing our records; with `data`, one more among them.

        Raises:
            PluginError: records that are not those of the annotation files.
        """
        ours = self.collate.mixed.ours
        entries = read_meta(self.meta) if self.meta else {}
        if any(hasattr(part, "total_ranks") for part in datasets.datasets):
            check_shares(self.meta)
        for part in datasets.datasets:
            self.ledger.swap_class(
                part,
                sama_records(host_class(part)),
                "records with regions or targets are read by the plugin",
            )
            entry = entries.get(part.ds_name, {})
            part.start_sama(ours, str(entry.get("annotation", part.ds_name)))
            self.allowed[part.ds_name] = allowance(part, entry.get("budget", BUDGET))
        own = None if self.data is None else OwnData(self.data, self.root, ours)
        if own is not None:
            self.allowed[own.source.config.name] = Allowance(samples=len(own))
            self.ledger.note(
                "the script's datasets", f"{len(own)} samples of {self.data} beside them"
            )
        if hasattr(datasets, "max_packed_tokens"):
            self.ledger.note("the script's packer", "rows of whole samples in its place")
            return _packed(datasets, own, 0.5 if self.resampled else 1.0)
        return datasets if own is None else _joined(datasets, own)


def allowance(part: Any, budget: Any) -> Allowance:
    """How many bad records of ours a dataset of the host may have, by `budget` of its meta entry.

    Raises:
        PluginError: that is no number of records.
    """
    if type(budget) is not int or budget < 0:
        raise PluginError(
            f"dataset {part.ds_name}: budget {budget!r} in the meta file; give the number of bad "
            "records that the run may set aside, 0 or more"
        )
    shared = hasattr(part, "total_ranks")  # then its length is that of one rank's share
    return Allowance(budget, samples=0 if shared else len(part))


def read_meta(path: str) -> dict[str, Any]:
    """Entries of the script's meta file by dataset."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def check_shares(meta: str) -> None:
    """The script of pre-training writes each rank's share of an annotation file to a folder beside
    it and reads that ever after; PluginError where the annotation is newer.
    """
    for name, entry in read_meta(meta).items():
        annotation = Path(entry["annotation"])
        stem = annotation.name.replace(".jsonl", "")
        for share in (annotation.parent / f"{stem}_temp").glob("*.jsonl"):
            if share.stat().st_mtime < annotation.stat().st_mtime:
                raise PluginError(
                    f"dataset {name}: {annotation} was changed after {share} was cut from it, and "
                    f"the script reads the old records. Delete {share.parent}"
                )


def portable_collator(sama: SamaModel, tokenizer: Any, max_length: int) -> Collator:
    """The collator of the attached host, without the host: it goes to spawned workers.

    Chats are worded by the checkpoint's conversation template, on a copy of the tokenizer.
    """
    worded = sama.adapter.chat_tokenizer(sama.host, copy.deepcopy(tokenizer))
    made = collator(sama, max_length, worded)
    made.pixels = functools.partial(pixels, size=sama.adapter.image_size(sama.host))
    if made.segment_pixels is not None:
        made.segment_pixels = functools.partial(squeezed, side=sama.segmenter.image_size)
    return made


def _packed(packer: Any, own: Optional[OwnData], power: float) -> PackedRows:
    """Rows of the same datasets, by the same weights and limits; ours weighs as the host's do, by
    its number of records to the `power`."""
    parts, weights = list(packer.datasets), list(packer.dataset_weight)
    if own is not None:
        weights.append(len(own) ** power * sum(weights) / sum(len(one) ** power for one in parts))
        parts.append(own)
    limits = PackLimits(
        tokens=packer.max_packed_tokens,
        images=packer.num_images_expected,
        open_rows=packer.max_buffer_size,
        fill=packer.strict_mode,
        again=packer.replacement,
    )
    return PackedRows(parts, weights, limits, packer.data_rank, packer.data_world_size)


def _joined(datasets: Any, own: OwnData) -> Any:
    if type(datasets).__name__ != "ConcatDataset":
        raise PluginError(
            f"--plugin.data beside a {type(datasets).__name__} (--use_data_resampling True): its "
            "weights are made from the meta file. Put the records into the meta file (`sama data "
            "convert --to internvl_meta`), or leave out --use_data_resampling"
        )
    return type(datasets)([*datasets.datasets, own])
