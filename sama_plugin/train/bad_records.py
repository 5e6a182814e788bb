"""Records that were set aside while training: counted over all ranks, written down, budgeted.

A batch names the records whose places are blank (`data/quarantine.py`). At the end of every
optimiser step the ranks tell each other what they met in it; when there was something, the first
process appends it to `bad_records.jsonl` in the run's folder. A record counts once, however often
its turn comes. More than `budget` of a source (what was set aside while it was parsed included), or
all of it, stops the run on every rank in the same step. What a worker has read ahead counts when it
is trained on, so a resumed run counts what a straight one does.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, NoReturn, Sequence

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback

from sama_plugin.atomic import atomic_path
from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.data.report import BadRecord
from sama_plugin.data.sources import BUDGET
from sama_plugin.errors import DataError
from sama_plugin.logs import get_logger

FILE = "bad_records.jsonl"
log = get_logger("train")


@dataclass(frozen=True)
class Allowance:
    """How many bad records of a source a run stands."""

    budget: int = BUDGET
    parsed: int = 0  # of these, set aside before training
    samples: int = 0  # what is left to train on; 0 where that is not known


def allowances(dataset: Any) -> dict[str, Allowance]:
    """Of the sources of a mixture, by name; those that share a name share what they stand."""
    found: dict[str, Allowance] = {}
    for source in dataset.sources if isinstance(dataset, MixtureDataset) else ():
        before = found.get(source.config.name, Allowance(budget=0))
        found[source.config.name] = Allowance(
            before.budget + source.config.budget,
            before.parsed + source.report.lost,
            before.samples + len(source),
        )
    return found


class BadRecords:
    """The bad records of a run.

    Args:
        allowed: by source; others may lose `BUDGET` records.
        folder: of the run.

    Attributes:
        steps: every bad record, with the step in which it was met first.
    """

    def __init__(self, allowed: Mapping[str, Allowance], folder: Path):
        self.allowed, self.file = dict(allowed), folder / FILE
        self.steps: dict[BadRecord, int] = {}
        self._met: list[BadRecord] = []  # by this rank, in the step under way

    def see(self, bad: Sequence[BadRecord]) -> None:
        """What a micro-step of this rank set aside."""
        self._met += bad

    def count(self) -> dict[str, int]:
        """For log lines: nothing while nothing is bad."""
        return {"bad_records": len(self.steps)} if self.steps else {}

    def start(self, step: int, first: bool) -> None:
        """Go on after `step` with what was written until then; every rank must call it.

        Args:
            first: whether this process reads and writes the file.
        """
        found = [self._kept(step) if first else {}]
        self.steps = broadcast_object_list(found)[0]
        self._met = []

    def settle(self, step: int, accelerator: Any) -> None:
        """Count the step that ended; every rank must call it.

        Raises:
            DataError: a source has lost more than its budget, or everything; on every rank.
        """
        met, self._met = self._met, []
        number = torch.tensor([len(met)], device=accelerator.device)
        if not int(accelerator.reduce(number, reduction="sum")):
            return
        before = len(self.steps)
        for bad in gather_object(met):
            self.steps.setdefault(bad, step)
        fresh = list(self.steps)[before:]
        if fresh and accelerator.is_main_process:
            self._write(fresh)
        for source in dict.fromkeys(bad.source for bad in fresh):
            self._check(source)

    def _check(self, source: str) -> None:
        allowed = self.allowed.get(source, Allowance())
        bad = [one for one in self.steps if one.source == source]
        if len(bad) + allowed.parsed > allowed.budget:
            self._stop(bad, f"more than the budget of {allowed.budget}", allowed)
        if allowed.samples and len(bad) >= allowed.samples:
            self._stop(bad, "all there are", allowed)

    def _stop(self, bad: Sequence[BadRecord], how_many: str, allowed: Allowance) -> NoReturn:
        parsed = f" and {allowed.parsed} while parsing" if allowed.parsed else ""
        raise DataError(
            f"source {bad[0].source!r}: {len(bad)} bad records{parsed}, {how_many}; first: "
            f"{bad[0].message}. They are listed in {self.file}; put the files right and resume, "
            "or give the source another budget",
            file=bad[0].file or None,
            reason="budget",
        )

    def _write(self, fresh: Sequence[BadRecord]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as out:
            out.writelines(_line(bad, self.steps[bad]) for bad in fresh)
        log.warning(
            "step %d: %d bad records set aside, %d in all, listed in %s; first of them: %s",
            *(self.steps[fresh[0]], len(fresh), len(self.steps), self.file, fresh[0].message),
        )

    def _kept(self, step: int) -> dict[BadRecord, int]:
        """What the file says of the steps that count; it is cut to that."""
        if not self.file.is_file():
            return {}
        kept: dict[BadRecord, int] = {}
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                met = int(entry.pop("step"))
                bad = BadRecord(**entry)
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a run that was killed: its step did not count
            if met <= step:
                kept[bad] = met
        if not kept:
            self.file.unlink()
            return kept
        with atomic_path(self.file) as temporary:
            lines = "".join(_line(bad, met) for bad, met in kept.items())
            temporary.write_text(lines, encoding="utf-8")
        return kept


class FollowBadRecords(TrainerCallback):
    """Tells `BadRecords` where training begins, and which steps end."""

    def __init__(self, records: BadRecords, accelerator: Any):
        self.records, self.accelerator = records, accelerator

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.records.start(state.global_step, self.accelerator.is_main_process)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.records.settle(state.global_step, self.accelerator)


def _line(bad: BadRecord, step: int) -> str:
    return json.dumps({"step": step, **dataclasses.asdict(bad)}, ensure_ascii=False) + "\n"
