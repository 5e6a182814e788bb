"""Memory of the evaluator: SAMA-Bench-G with ten masks an answer, 300 frames at 720p.

    python benchmarks/eval_memory.py                        # 1,000 questions: gigabytes of answers
    python benchmarks/eval_memory.py --cases 100            # a minute

Writes a benchmark file in the real layout and a predictions file, both of ellipses that move, then
scores them in a process of its own and prints its largest resident size. Nothing is decoded by a
model. Exit code 1 if it is above 1.5 GB or a score is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sama_plugin.data.formats.files import write_json
from sama_plugin.eval import harness
from sama_plugin.eval.benchmarks import Means
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.phrases import word_overlap
from sama_plugin.media.masks import encode
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld.memory import peak_gigabytes

HEIGHT, WIDTH, MASKS = 720, 1280, 10
QUESTIONS = 10
"""Questions about each video."""
AIM = 1.5e9
SUITE, SETTINGS = "sama-bench-g", {"benchmark": "memory"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_benchmark(folder, options.cases, options.frames)
        stored = (folder / harness.PREDICTIONS).stat().st_size
        began = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            used, miou = pool.apply(score, (folder,))
        seconds = time.perf_counter() - began
    print(f"{options.cases} questions, {MASKS} masks of {options.frames} frames at {HEIGHT}p")
    print(f"answers on disk: {stored / 1e9:.2f} GB; scored in {seconds:.0f} s; mIoU {miou:g}")
    print(f"largest resident size: {used / 1e9:.2f} GB (aim: below {AIM / 1e9:g})")
    return 0 if used < AIM and miou == 1 else 1


def write_benchmark(folder: Path, cases: int, frames: int) -> None:
    """Annotations, mask dictionary, frame files that are never opened, and perfect answers."""
    tracks = [ellipses(number, frames) for number in range(MASKS)]
    stems = [f"{frame:05d}" for frame in range(frames)]
    records, dictionary = [], {}
    for video in range(-(-cases // QUESTIONS)):
        place = folder / f"mevis/clip{video}"
        place.mkdir(parents=True)
        for stem in stems:
            (place / f"{stem}.jpg").touch()
        first = video * MASKS
        for number, track in enumerate(tracks):
            dictionary[str(first + number)] = [track.rles[frame] for frame in range(frames)]
        records.append(record(video, first, stems, min(QUESTIONS, cases - video * QUESTIONS)))
    write_json(folder / "sama_bench.json", records)
    write_json(folder / "mevis_mask_dict.json", dictionary)
    material = read(folder)
    answers = (answer for answer in map(perfect, material.cases))
    harness.answer_missing(material, lambda found: (next(answers) for _ in found), folder, SETTINGS)


def ellipses(number: int, frames: int) -> MaskTrack:
    """An ellipse that crosses the picture in its own row."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    middle = (number + 0.5) * HEIGHT / MASKS
    shape = ((y - middle) / 34) ** 2
    columns = np.linspace(80, WIDTH - 80, frames)
    rles = {n: encode(shape + ((x - c) / 70) ** 2 < 1) for n, c in enumerate(columns)}
    return MaskTrack((HEIGHT, WIDTH), frames, rles)


def record(video: int, first: int, stems: list[str], questions: int) -> dict[str, Any]:
    """One video of the benchmark file with its questions, each about all things."""
    ids = list(range(first, first + MASKS))
    phrases = "".join(f"<p> thing {number} </p> [SEG]" for number in range(MASKS))
    turns = []
    for number in range(questions):
        ask = {"from": "human", "value": f"Where is everything? ({number})"}
        turns += [{**ask, "question_id": f"{video}_{number}"}, {"from": "gpt", "value": phrases}]
    return {
        "video": f"mevis/clip{video}",
        "video_id": f"clip{video}",
        "height": HEIGHT,
        "width": WIDTH,
        "frames": stems,
        "anno_map": ids,
        "obj_masks": [[] for _ in range(questions)],
        "groundtruth": [[[one] for one in ids] for _ in range(questions)],
        "conversation": turns,
    }


def perfect(case: Any) -> harness.Prediction:
    """The reference as an answer."""
    turn = case.sample.turns[-1]
    tracks = tuple(target.track for target in turn.targets)
    return harness.Prediction(case.key, turn.assistant, tracks=tracks)


def read(folder: Path) -> harness.Material:
    return harness.read_material(SUITE, folder / "sama_bench.json", folder)


def score(folder: Path) -> tuple[float, float]:
    """(largest resident bytes, corrected mIoU) of this process, which does nothing else."""
    import os

    os.environ["PATH"] = ""  # without Java: caption metrics run in a process of their own
    material = read(folder)
    predictions = harness.read_predictions(material, folder, SETTINGS)
    means = Means(NoJudge(), word_overlap, "words")
    summary = harness.score(SUITE, material, predictions, means, folder, SETTINGS)
    rows = {(row["metric"], row["reading"]): row["value"] for row in summary["metrics"]}
    return peak_gigabytes() * 1e9, rows["mIoU", "corrected"]


if __name__ == "__main__":
    sys.exit(main())
