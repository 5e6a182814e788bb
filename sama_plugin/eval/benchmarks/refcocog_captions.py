"""Describe a region of an image (RefCOCOg): METEOR and CIDEr of one corpus.

`--data finetune_refcocog_val_with_mask.json --root IMAGES`: COCO tables whose images carry the
caption and whose annotations carry the region.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.captioning import add_corpus
from sama_plugin.eval.cases import Case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.prompts import RegionPrompt

MASKS = False
PUBLISHED = "refcocog_captions"
HEADLINE = ("METEOR", "corrected")
ASK = f"Please give a short description of {REGION_MARK}."


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an annotation."""
    library, tables = Library(root), files.load_tables(data, ("images", "annotations"))
    images = {image["id"]: image for image in tables["images"]}
    for row in tables["annotations"]:
        local = RecordReport(report, str(data), row["id"])
        try:
            image = images[row["image_id"]]
            media = Media("image", library.find(_file(image["file_name"], library), field="image"))
            rle = read_segmentation(row["segmentation"], frame_size(image))
            if rle is None:
                raise DataError("nothing is drawn", field="segmentation", reason="all_masks_absent")
            region = Region((RegionPrompt.from_mask(0, rle),))
            turn = Turn(ASK, str(image["caption"]).strip(), (region,))
            yield Sample(str(row["id"]), media, (turn,), source=str(data)).validate()
        except MALFORMED as error:
            local.drop(error)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    texts = {
        case.key: (case.sample.turns[-1].assistant or "", predictions[case.key].plain)
        for case in cases
    }
    add_corpus(board, cases, texts)
    return board


def _file(name: str, library: Library) -> str:
    """The file names a picture as COCO 2014 did; many folders hold the bare number."""
    return name if (library.root / name).is_file() else name.rsplit("_", 1)[-1]
