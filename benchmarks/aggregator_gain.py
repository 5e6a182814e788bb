"""What the context aggregator is worth: two arms from one base, same data, same steps, same seeds.

    python benchmarks/aggregator_gain.py                  # half an hour of training an arm
    python benchmarks/aggregator_gain.py --steps 2000 --scored 400
    python benchmarks/aggregator_gain.py --steps 2000 --seeds 0 1 2

The arms differ in `aggregator.kind` alone: `sama` gives the language model context tokens from F =
8 frames (its aggregator starts from the packaged one), `none` gives it none. Both show it K = 2
frames, so that what happens in between is seen by the aggregator or by nobody. Scored on held-out
clips, where looks come with motions that training never showed: questions about what a thing does
and what happens to it (right or wrong), and expressions that only motion or history tells from a
look-alike (J&F over the clip).

The budget is a number of steps. `--minutes` finds it by timing the slower arm. An interrupted run
is taken up where it was, training at its last checkpoint, scoring at the next clip; what is done is
kept in `--work`. The result goes to `benchmarks/results/aggregator_gain.json`, which the demo
quotes. Intervals are 95 %, from the spread between clips: cases of a clip are not independent.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence

import numpy as np

from sama_plugin.atomic import atomic_path
from sama_plugin.infer.load import load_sama
from sama_plugin.miniworld.cases import Case
from sama_plugin.miniworld.demo import versions
from sama_plugin.miniworld.evaluate import FIRST_SEED, score_clip
from sama_plugin.miniworld.lesson import lesson, mini_config, prepare
from sama_plugin.settings import to_dict
from sama_plugin.train.config import TrainConfig
from sama_plugin.train.run import train
from sama_plugin.train.saving import newest_checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "aggregator_gain.json"
ARMS = ("sama", "none")
FEW = ("frames.aggregator=8", "frames.llm=2", "frames.prompted=2")
KINDS = ("does", "history", "motion look-alike", "history look-alike")
"""What is scored: the first two are questions about a region, the others expressions to ground."""
PER_TASK = 12
PROBE = 12

Scores = dict[int, list[tuple[str, float]]]
"""Clip to (kind, value) of its cases, in the same order for every arm."""


@dataclass(frozen=True)
class Budget:
    """What both arms get. clips: training clips. scored: held-out clips."""

    steps: int
    batch: int
    clips: int
    scored: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """A trained and scored arm, all seeds together."""

    scores: list[Scores]  # one a seed
    facts: list[dict[str, Any]]  # steps, seconds, parameters, commit; one a seed


class Clock:
    """Seconds of training, those before an interruption included: kept beside the checkpoints."""

    def __init__(self, path: Path):
        self.path, self.began = path, time.perf_counter()
        self.before = json.loads(path.read_text()) if path.is_file() else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def callback(self) -> Any:
        """Notes the time whenever a checkpoint is written."""
        from transformers import TrainerCallback

        clock = self

        class Note(TrainerCallback):
            def on_save(self, args: Any, state: Any, control: Any, **other: Any) -> None:
                write_json(clock.path, clock.seconds)

        return Note()


def main() -> None:
    options = parser().parse_args()
    overrides = tuple(options.overrides)
    world = prepare(options.work / f"world-{options.clips}", options.clips)
    steps = options.steps or steps_in(options.minutes, world, options, overrides)
    budget = Budget(steps, options.batch, options.clips, options.scored, tuple(options.seeds))
    arms = {arm: run_arm(arm, budget, world, options, overrides) for arm in ARMS}
    report = compare(arms, budget, options.model, overrides)
    write_json(options.out, report)
    print(table(report))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of the slower")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--batch", type=int, default=8, help="samples a step")
    parser.add_argument("--clips", type=int, default=2000, help="training clips")
    parser.add_argument("--scored", type=int, default=250, help="held-out clips")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run an arm for each")
    parser.add_argument("--model", default="mini", help="the base: packaged name, or a host folder")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "out" / "bench_aggregator")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="a.b=value",
        help="plugin setting of both arms; may be repeated",
    )  # fmt: skip
    return parser


def run_of(
    arm: str, seed: int, steps: int, batch: int, world: Path, model: str, overrides: Sequence[str]
) -> TrainConfig:
    """The training run of an arm; its folder is filled in by `place`."""
    sama = mini_config(*FEW, *overrides, f"aggregator.kind={arm}")
    sama = dataclasses.replace(sama, seed=seed)
    config = lesson(world, "", steps, sama=sama, batch_size=batch, seed=seed)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=model))


def place(config: TrainConfig, folder: Path) -> TrainConfig:
    """The run with its output folder, which is named by everything that decides its result."""
    settings = json.dumps(to_dict(config), sort_keys=True)
    name = hashlib.sha256(settings.encode()).hexdigest()[:10]
    out = folder / f"{config.sama.aggregator.kind}-{config.train.seed}-{name}"
    return dataclasses.replace(config, train=dataclasses.replace(config.train, out=str(out)))


def steps_in(
    minutes: float, world: Path, options: argparse.Namespace, overrides: Sequence[str]
) -> int:
    """Steps that the arm with the aggregator makes in that time; timed once, then remembered."""
    config = run_of("sama", 0, PROBE, options.batch, world, options.model, overrides)
    known = place(config, options.work)
    known = Path(f"{known.train.out}.seconds.json")
    if not known.is_file():
        with tempfile.TemporaryDirectory(prefix="sama_probe_") as folder:
            began = time.perf_counter()
            train(place(config, Path(folder)))
            write_json(known, (time.perf_counter() - began) / PROBE)
    return max(1, int(60 * minutes / json.loads(known.read_text())))


def run_arm(
    arm: str, budget: Budget, world: Path, options: argparse.Namespace, overrides: Sequence[str]
) -> Arm:
    """Train and score an arm for every seed; finished parts are read from the work folder."""
    scores, facts = [], []
    for seed in budget.seeds:
        config = run_of(arm, seed, budget.steps, budget.batch, world, options.model, overrides)
        config = place(config, options.work)
        facts.append(taught(config))
        scores.append(scored(config, budget.scored))
    return Arm(scores, facts)


def taught(config: TrainConfig) -> dict[str, Any]:
    """Train unless that was done; returns the run's facts."""
    folder = Path(config.train.out)
    done = folder / "facts.json"
    if not done.is_file():
        clock = Clock(folder / "seconds.json")
        resume = newest_checkpoint(folder) is not None
        result = train(config, resume=resume, callbacks=[clock.callback()])
        facts = {
            "steps": result.steps,
            "seconds": round(clock.seconds, 1),
            "parameters": parameters(result.adapter),
            "commit": commit(),
        }
        write_json(done, facts)
    return json.loads(done.read_text())


def scored(config: TrainConfig, clips: int) -> Scores:
    """Scores of the first `clips` held-out clips; those scored before are not scored again."""
    path = Path(config.train.out) / "scores.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    seeds = range(FIRST_SEED, FIRST_SEED + clips)
    missing = [seed for seed in seeds if str(seed) not in found]
    sama = load_sama(config.model.path, Path(config.train.out)) if missing else None
    for seed in missing:
        scores, _, _ = score_clip(sama, seed, PER_TASK, wanted)
        found[str(seed)] = [(kind_of(score.kind), score.value) for score in kept(scores)]
        write_json(path, found)
    return {seed: [(kind, value) for kind, value in found[str(seed)]] for seed in seeds}


def wanted(case: Case) -> bool:
    """Whether a case asks about motion or history."""
    return case.task in ("region_qa", "grounding") and kind_of(case.kind) in KINDS


def kept(scores: Iterable[Any]) -> list[Any]:
    """One score a case: the shuffled control and the second name of a grounding score go."""
    return [score for score in scores if score.metric in ("region_qa", "grounding_jf")]


def kind_of(kind: str) -> str:
    """The kind without the way of pointing: "does by box" is "does"."""
    return kind.partition(" by ")[0]


def compare(
    arms: dict[str, Arm], budget: Budget, model: str, overrides: Sequence[str]
) -> dict[str, Any]:
    """The report: both arms and their difference, over all kinds and by kind."""
    scores = {arm: arms[arm].scores for arm in ARMS}
    gain = difference(scores["sama"], scores["none"])
    return {
        "gain": gain["value"],
        "gain_points": round(100 * gain["value"], 2),
        "low": gain["low"],
        "high": gain["high"],
        "n": gain["n"],
        "gain_by_kind": {kind: difference(*scores.values(), kind) for kind in KINDS},
        "arms": {
            arm: {
                **summary(one.scores),
                "kinds": {kind: summary(one.scores, kind) for kind in KINDS},
                "runs": one.facts,
            }
            for arm, one in arms.items()
        },
        "budget": dataclasses.asdict(budget),
        "settings": [*FEW, *overrides],
        "model": model,
        "seeds": {
            "training": list(budget.seeds),
            "first_training_clip": 0,
            "first_scored_clip": FIRST_SEED,
        },
        "commit": commit(),
        "versions": versions(),
    }


def summary(runs: Sequence[Scores], kind: Optional[str] = None) -> dict[str, Any]:
    """Mean score with its interval; n counts cases, each once a seed."""
    return mean_interval([_values([run[clip] for run in runs], kind) for clip in runs[0]])


def difference(
    ours: Sequence[Scores], theirs: Sequence[Scores], kind: Optional[str] = None
) -> dict[str, Any]:
    """Mean difference of the same cases with its interval."""
    gaps = []
    for clip in ours[0]:
        one = _values([run[clip] for run in ours], kind)
        two = _values([run[clip] for run in theirs], kind)
        gaps.append(one - two)
    return mean_interval(gaps)


def mean_interval(groups: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean of all values and its 95 % interval, groups (clips) drawn independently."""
    n = sum(map(len, groups))
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    mean = sum(group.sum() for group in groups) / n
    spread = 1.96 * np.sqrt(sum((group - mean).sum() ** 2 for group in groups)) / n
    found = {"value": mean, "low": mean - spread, "high": mean + spread}
    return {**{name: round(float(value), 4) for name, value in found.items()}, "n": n}


def _values(runs: Sequence[list[tuple[str, float]]], kind: Optional[str]) -> np.ndarray:
    return np.array(
        [value for cases in runs for name, value in cases if kind in (None, name)], dtype=float
    )


def parameters(adapter: Path) -> int:
    """Trained numbers in an adapter folder."""
    from safetensors import safe_open

    total = 0
    for path in sorted(adapter.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        total += sum(int(np.prod(shape)) for shape in shapes)
    return total


def commit() -> str:
    """Commit of this checkout, marked where tracked files differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def write_json(path: Path, record: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    rows = [f"{'':20}{'sama':>8}{'none':>8}{'gain':>8}{'95 %':>18}{'n':>7}"]
    gains = {**report["gain_by_kind"], "all": {**report, "value": report["gain"]}}
    for kind, gain in gains.items():
        arms = [report["arms"][arm] for arm in ARMS]
        values = [(arm if kind == "all" else arm["kinds"][kind])["value"] for arm in arms]
        if gain["n"]:
            cells = "".join(f"{100 * value:8.1f}" for value in (*values, gain["value"]))
            interval = f"{100 * gain['low']:.1f} to {100 * gain['high']:.1f}"
            rows.append(f"{kind:20}{cells}{interval:>18}{gain['n']:7}")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
