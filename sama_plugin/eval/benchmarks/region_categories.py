"""Name the category of a region (LVIS and PACO, 1,000 images each): S-Sim and S-IoU.

`--data lvis_val_1k_category.json` (or `paco_...`) `--root IMAGES`: records with `categories` and
`annotations` of equal length. S-IoU is the overlap of the words; S-Sim the similarity of the
embeddings by `--similarity PATH` (all-MiniLM-L6-v2 in the public protocol; the default `words` is
another metric, and the summary says so). Both read what follows a first colon and drop punctuation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report, count_entries
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.prompts import RegionPrompt

MASKS = False
PUBLISHED = "region_categories"
HEADLINE = ("S-IoU", "released")
ASK = f"What is the category of {REGION_MARK}? Using only one word or phrase."


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample a region, named IMAGE#NUMBER."""
    library = Library(root)
    for record in files.load_records(data):
        local = RecordReport(
            report, str(data), record.get("file_name"), count_entries(record, "annotations")
        )
        try:
            media = Media("image", library.find(record["file_name"], field="file_name"))
            pairs = _pairs(record)
        except MALFORMED as error:
            local.drop(error)
            continue
        for number, (category, annotation) in enumerate(pairs):
            try:
                rle = read_segmentation(annotation["segmentation"], frame_size(record))
                if rle is None:
                    raise DataError("nothing is drawn", reason="all_masks_absent")
                turn = Turn(ASK, category, (Region((RegionPrompt.from_mask(0, rle),)),))
                name = f"{record['file_name']}#{number}"
                yield Sample(name, media, (turn,), source=str(data)).validate()
            except MALFORMED as error:
                local.drop(error, f"annotations[{number}]")


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    board.notes.append(f"S-Sim: {means.similarity_name}")
    for case in cases:
        wanted = case.sample.turns[-1].assistant or ""
        said = spoken(predictions[case.key].plain)
        similar = float(means.similarity([wanted], [said])[0, 0]) if said else 0.0
        board.add("S-Sim", "released", case.key, case.video, similar)
        board.add("S-IoU", "released", case.key, case.video, shared_words(wanted, said))
    return board


def spoken(text: str) -> str:
    """What an answer says, as the public script reads it."""
    text = text.strip().split(":")[1] if ":" in text else text.strip()
    return " ".join(re.sub(r"[.:,]", " ", text).split())


def shared_words(one: str, other: str) -> float:
    """Words in both over words in either, lower case; 0 where neither has one."""
    sides = set(one.lower().split()), set(other.lower().split())
    either = sides[0] | sides[1]
    return len(sides[0] & sides[1]) / len(either) if either else 0.0


def _pairs(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    names, annotations = record["categories"], record["annotations"]
    if len(names) != len(annotations):
        raise DataError(
            "one category a region",
            field="categories",
            found=len(names),
            expected=len(annotations),
            reason="region_count_mismatch",
        )
    return [(re.sub("[_:]", " ", name), one) for name, one in zip(names, annotations)]
