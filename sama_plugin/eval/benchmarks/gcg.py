"""Grounded captions of images (GranD-f and its relatives): AP50, mIoU, Recall, METEOR, CIDEr.

`--data` is a file of captions with groundings (the training layout of GranD-f, OpenPSG, Flickr,
RefCOCOg), or `val_gcg_coco_caption_gt.json` of the public evaluation, whose masks lie in the file
of the same name with "mask" for "caption". The released caption scores are those of one corpus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

from sama_plugin.data.formats import files
from sama_plugin.data.formats import gcg as captions
from sama_plugin.data.formats.segmentations import read_segmentation
from sama_plugin.data.formats.video_expressions import frame_size
from sama_plugin.data.library import Library
from sama_plugin.data.report import MALFORMED, RecordReport, Report
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.errors import DataError
from sama_plugin.eval import gcg
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import Means, Selection
from sama_plugin.eval.benchmarks.captioning import add_corpus
from sama_plugin.eval.cases import Case
from sama_plugin.eval.phrases import paired
from sama_plugin.eval.sama_bench_g import cleaned, phrases_of
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.media.masks import RLE, encode
from sama_plugin.media.tracks import MaskTrack

MASKS = True
PUBLISHED = "gcg_val"
HEADLINE = ("mIoU", "corrected")
SUFFIXES = ("", ".jpg", ".png")


def read(
    data: Union[str, Path], root: Union[str, Path], report: Report, selection: Selection
) -> Iterator[Sample]:
    """One sample an image."""
    name = Path(data).name
    if "caption" in name and "coco" in name:
        return _evaluation(Path(data), Library(root), report)
    return captions.read(data, root, report=report)


def score(cases: Sequence[Case], predictions: Mapping[str, Prediction], means: Means) -> Scoreboard:
    """See `Benchmark.score`."""
    board = Scoreboard()
    board.notes.append(f"phrase similarity of Recall: {means.similarity_name}")
    pictures, texts = {}, {}
    for case in cases:
        prediction = predictions[case.key]
        picture = _picture(board, case, prediction, means)
        pictures[case.key] = picture
        answer = case.sample.turns[-1].assistant or ""
        texts[case.key] = cleaned(answer), cleaned(prediction.text)
        _add(board, case, picture)
        _add_corrected_recall(board, case, prediction, picture, means)
    for name, value in gcg.average_precision(pictures).items():
        board.whole(name, "released", value, len(cases))
    add_corpus(board, cases, texts)
    return board


def _add(board: Scoreboard, case: Case, picture: gcg.Picture) -> None:
    ious, place = picture.ious(), (case.key, case.video)
    board.add("mIoU", "released", *place, gcg.miou_released(ious))
    board.add("mIoU", "corrected", *place, gcg.miou_corrected(ious))
    phrases = picture.similarity.shape[0]
    rows, columns = (min(pair) for pair in zip(ious.shape, picture.similarity.shape))
    if phrases:
        hits = gcg.recalled_released(ious[:rows, :columns], picture.similarity[:rows, :columns])
        board.add("Recall", "released", *place, len(hits) / phrases, weight=phrases)


def _add_corrected_recall(
    board: Scoreboard, case: Case, prediction: Prediction, picture: gcg.Picture, means: Means
) -> None:
    targets = case.sample.turns[-1].targets
    if targets:
        hits = gcg.recalled_corrected(
            *paired(targets, prediction, picture.ious(), means.similarity)
        )
        place, count = (case.key, case.video), len(targets)
        board.add("Recall", "corrected", *place, len(hits) / count, weight=count)


def _picture(board: Scoreboard, case: Case, prediction: Prediction, means: Means) -> gcg.Picture:
    turn = case.sample.turns[-1]
    wanted = [target.track for target in turn.targets if target.track is not None]
    found = list(prediction.tracks)
    sizes = {track.size for track in (*wanted, *found)}
    if len(sizes) > 1:
        board.fault(
            case.key,
            DataError("masks of different sizes", found=sorted(sizes), reason="size_mismatch"),
        )
        found = []
    similarity = means.similarity(
        [target.phrase.strip().lower() for target in turn.targets], phrases_of(prediction.text)
    )
    return gcg.Picture(tuple(map(_rle, wanted)), tuple(map(_rle, found)), similarity)


def _rle(track: MaskTrack) -> RLE:
    """The mask of a still image; empty where nothing was found."""
    return track.rles.get(0) or encode(track.mask(0))


def _evaluation(data: Path, library: Library, report: Report) -> Iterator[Sample]:
    """Captions and masks of two COCO tables; label i of an image belongs to its i-th mask."""
    masks = data.with_name(data.name.replace("caption", "mask"))
    sizes = {
        row["id"]: row for row in files.load_tables(masks, ("images", "annotations"))["images"]
    }
    drawn: dict[Any, list] = {}
    for row in files.load_tables(masks, ("images", "annotations"))["annotations"]:
        drawn.setdefault(row.get("image_id"), []).append(row)
    for row in files.load_tables(data, ("images", "annotations"))["annotations"]:
        name = str(row.get("image_id"))
        local = RecordReport(report, str(data), name)
        try:
            media = Media("image", _image(name, library))
            tracks = [
                _track(one, frame_size(sizes[row["image_id"]]))
                for one in drawn.get(row["image_id"], [])
            ]
            targets = _targets(row["labels"], tracks)
        except MALFORMED as error:
            local.drop(error)
            continue
        # not validated: the caption of this file has no marks to count
        yield Sample(
            name, media, (Turn(captions.ASK, row["caption"], (), targets),), source=str(data)
        )


def _track(row: Mapping[str, Any], size: Any) -> MaskTrack:
    rle = read_segmentation(row.get("segmentation"), size)
    if rle is None:
        return MaskTrack(size=size, total=1, rles={0: None})
    return MaskTrack(size=tuple(rle["size"]), total=1, rles={0: rle})


def _image(name: str, library: Library) -> str:
    found = [name + end for end in SUFFIXES if (library.root / (name + end)).is_file()]
    return library.find(found[0] if found else f"{name}{SUFFIXES[1]}", field="image_id")


def _targets(labels: Sequence[str], tracks: Sequence[MaskTrack]) -> tuple[Target, ...]:
    if len(labels) != len(tracks):
        raise DataError(
            "labels and masks of an image differ in number",
            field="labels",
            found=len(labels),
            expected=len(tracks),
            reason="region_count_mismatch",
        )
    return tuple(Target(*pair) for pair in zip(labels, tracks))
