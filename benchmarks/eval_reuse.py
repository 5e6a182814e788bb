"""What grouping by video is worth: mini SAMA-Bench-G with ten questions a clip, against one
question at a time on a video that is opened anew.

    python benchmarks/eval_reuse.py                   # the packaged mini and its adapter
    python benchmarks/eval_reuse.py --untrained       # fresh plugin modules: same work, other words

Both sides go through the same code; only the grouping differs. They take turns at going first.
Processor seconds of one thread are counted, which is wall time where nothing else runs. Exit code 1
if an answer differs, or if grouping is less than four times faster.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sama_plugin.data.formats import sama_bench
from sama_plugin.eval.asking import Prediction, answer_cases
from sama_plugin.eval.cases import Case
from sama_plugin.eval.harness import read_material
from sama_plugin.infer.load import fold_lora, load_host, load_sama
from sama_plugin.miniworld.benchmarks import SAMA_BENCH_G, SPLIT
from sama_plugin.miniworld.dialogues import FOLLOW_UPS, dialogues
from sama_plugin.miniworld.lesson import mini_config
from sama_plugin.miniworld.scene import Scene, SceneFolder
from sama_plugin.model.attach import SamaModel, attach

AIM = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--questions", type=int, default=10, help="about each clip")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--adapter", type=Path, help="default: the packaged one")
    parser.add_argument("--untrained", action="store_true", help="fresh plugin modules")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sama = untrained() if options.untrained else fold_lora(load_sama("mini", options.adapter))
    settings = {"masks": True, "max_new_tokens": options.max_new_tokens}
    seconds, found = {"apart": 0.0, "grouped": 0.0}, {"apart": [], "grouped": []}
    with tempfile.TemporaryDirectory() as name:
        groups = questions(Path(name), options.clips, options.questions)
        timed(sama, [groups[0][:2]], settings)  # first calls of kernels, imports
        for number, cases in enumerate(groups):
            sides = {"apart": [[case] for case in cases], "grouped": [cases]}
            for side in sorted(sides, reverse=number % 2 == 1):
                took, said = timed(sama, sides[side], settings)
                seconds[side] += took
                found[side] += said
    apart, grouped = seconds["apart"], seconds["grouped"]
    same = [answers(one) for one in found["apart"]] == [answers(one) for one in found["grouped"]]
    masks = sum(len(one.tracks) for one in found["grouped"])
    failed = sum(bool(one.error) for one in found["grouped"])
    print(
        f"{len(found['grouped'])} questions about {len(groups)} clips, {masks} masks in the answers"
    )
    print(f"one at a time: {apart:6.1f} s   (wall: {parts(found['apart'])})")
    print(f"grouped:       {grouped:6.1f} s   (wall: {parts(found['grouped'])})")
    print(f"{apart / grouped:.1f} times faster, answers {'identical' if same else 'DIFFER'}")
    return 0 if same and not failed and apart / grouped >= AIM else 1


def questions(folder: Path, clips: int, each: int) -> list[list[Case]]:
    """So many different questions about each of the first held-out clips, in a file of the real
    layout."""
    scenes = SceneFolder(folder, SPLIT)
    groups = []
    for number in range(clips):
        file = folder / f"questions{number}.json"
        sama_bench.write([conversation(scenes.scene(number), number, each)], file, folder)
        groups.append(read_material(SAMA_BENCH_G.suite, file, folder).cases)
    return groups


def conversation(scene: Scene, seed: int, each: int) -> Any:
    """Questions that the mini world draws for its own benchmark, each once."""
    rng, turns = np.random.default_rng([seed, each]), {}
    while len(turns) < each:
        for turn in dialogues(scene.clip, rng):
            if turn.kind not in FOLLOW_UPS:
                turns.setdefault((turn.question, turn.regions), turn)
    return scene.sample("talk", [scene.grounded(turn) for turn in list(turns.values())[:each]])


def untrained() -> SamaModel:
    """The packaged host with fresh plugin modules."""
    return attach(*load_host("mini"), mini_config())


def timed(
    sama: SamaModel, groups: list[list[Case]], settings: dict[str, Any]
) -> tuple[float, list[Prediction]]:
    """(seconds, answers) of groups that are each asked in a session of their own."""
    began = time.process_time()
    found = [one for cases in groups for one in answer_cases(sama, cases, **settings)]
    return time.process_time() - began, found


def answers(one: Prediction) -> tuple[str, list[dict]]:
    """What must not depend on the grouping: words and masks. Scores may differ in their last digit,
    because a prefix that is cached is multiplied in other shapes."""
    return one.text, [track.rles for track in one.tracks]


def parts(found: list[Prediction]) -> str:
    """Wall seconds by what they were spent on."""
    total: Counter = Counter()
    for one in found:
        total.update(one.seconds)
    return ", ".join(f"{name} {value:.1f}" for name, value in total.items())


if __name__ == "__main__":
    sys.exit(main())
