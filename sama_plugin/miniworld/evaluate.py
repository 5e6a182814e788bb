"""Scores of a model on held-out clips of the mini world, through the same session that people use.

Each clip is opened once; every case starts a fresh conversation on it. Worker processes share the
clips; results do not depend on their number. Registered as benchmark "mini".
"""

from __future__ import annotations

import multiprocessing
import string
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence

import numpy as np

from sama_plugin.dialog.sample import Turn
from sama_plugin.eval.similarity import boundary_accuracy, region_similarity
from sama_plugin.eval.tubes import mean_iou, phrase_hits
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.miniworld.cases import Case, clip_cases, with_regions_of
from sama_plugin.miniworld.memory import peak_gigabytes
from sama_plugin.model.attach import SamaModel

METRICS = (
    "grounding_jf",
    "grounding_jf_motion",
    "region_qa",
    "region_qa_shuffled",
    "dialogue_miou",
    "dialogue_recall",
    "chat_accuracy",
    "no_target_accuracy",
)
FIRST_SEED = 1_000_000
OPEN_ANSWER, SPARE = 24, 12
"""Most new tokens: of an answer without reference, and beyond the reference of one that has it
(longer ones are wrong anyway, and a model that rambles should not cost minutes)."""


@dataclass(frozen=True)
class Score:
    """One number of one case.

    `kind` is finer than `metric`; `value` lies in [0, 1]; `weight` is what it counts in a mean (the
    number of references of a recall).
    """

    metric: str
    kind: str
    value: float
    weight: float = 1.0


def everything(case: Case) -> bool:
    """Every case is wanted."""
    return True


def score_clip(
    sama: SamaModel,
    seed: int,
    per_task: int = 5,
    wanted: Callable[[Case], bool] = everything,
) -> tuple[list[Score], int, int]:
    """Scores of one clip's wanted cases; also (frames encoded by the segmenter, frames of the
    clip).
    """
    clip = clip_cases(seed, per_task)
    other = clip_cases(seed + 1, per_task)
    cases = [case for case in clip.cases if wanted(case)]
    chats = [case for case in cases if case.task == "chat"]
    scores: list[Score] = []
    with VideoSession(sama, clip.frames) as session:
        for case in cases:
            if case.task != "chat":
                scores += _SCORERS[case.task](session, case)
            if case.task == "region_qa":
                shuffled = with_regions_of(case, other)
                scores += [
                    Score("region_qa_shuffled", score.kind, score.value)
                    for score in _score_answer(session, shuffled)
                ]
        encodes = session.encodes[1]
    if chats:
        policy = FramePolicy(aggregator=0, llm=sama.config.frames.llm, prompted=0)
        with VideoSession(sama, clip.frames, frames=policy) as session:
            scores += [score for case in chats for score in _score_answer(session, case)]
    return scores, encodes, len(clip.frames)


def evaluate(
    model: str,
    adapter: Optional[Path],
    clips: int,
    *,
    workers: int = 1,
    per_task: int = 5,
    first_seed: int = FIRST_SEED,
    wanted: Callable[[Case], bool] = everything,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score `clips` held-out clips.

    Args:
        model, adapter: as for `infer.load.load_sama`.
        per_task: at most so many cases of each task a clip.
        wanted: which of them are scored; a function of a module, so that workers can import it.

    Returns:
        {"scores": {metric: {"value", "n", "low", "high", "kinds"}}, "encodes_per_frame", "clips",
        "peak_rss_gb": the workers' together, if there are several}.
    """
    seeds = range(first_seed, first_seed + clips)
    results = []
    jobs = [(seed, per_task, wanted) for seed in seeds]
    for result in _run(model, adapter, jobs, workers):
        results.append(result)
        progress(len(results), clips)
    scores = [score for (found, _, _), _ in results for score in found]
    used = [(encodes, frames) for (_, encodes, frames), _ in results if encodes]
    peak = max((peak for _, peak in results), default=0.0)
    return {
        "scores": {metric: _summary(scores, metric) for metric in METRICS},
        "encodes_per_frame": max((encodes / frames for encodes, frames in used), default=0.0),
        "clips": clips,
        "peak_rss_gb": peak * max(1, workers),
    }


def _score_grounding(session: VideoSession, case: Case) -> list[Score]:
    target = case.sample.turns[0].targets[0].track
    answer = _ask(session, case)[-1]
    found = _masks([phrase.track for phrase in answer.phrases], target)
    wanted = target.tube(range(target.total))
    both = region_similarity(wanted, found).mean() + boundary_accuracy(wanted, found).mean()
    scores = [Score("grounding_jf", case.kind, float(both) / 2)]
    if "look-alike" in case.kind:
        scores.append(Score("grounding_jf_motion", case.kind, float(both) / 2))
    return scores


def _score_absent(session: VideoSession, case: Case) -> list[Score]:
    answer = _ask(session, case)[-1]
    right = not answer.phrases and normal(answer.text).startswith("there is no")
    return [Score("no_target_accuracy", case.kind, float(right))]


def _score_answer(session: VideoSession, case: Case) -> list[Score]:
    answer = _ask(session, case)[-1]
    right = normal(answer.text) == normal(case.sample.turns[-1].assistant)
    return [
        Score("region_qa" if case.task == "region_qa" else "chat_accuracy", case.kind, float(right))
    ]


def _score_dialogue(session: VideoSession, case: Case) -> list[Score]:
    scores = []
    for turn, answer in zip(case.sample.turns, _ask(session, case)):
        if not turn.targets:
            continue
        size = turn.targets[0].track
        wanted = [(target.phrase, _masks([target.track], size)) for target in turn.targets]
        found = [(phrase.text, _masks([phrase.track], size)) for phrase in answer.phrases]
        miou = mean_iou([tube for _, tube in found], [tube for _, tube in wanted])
        scores.append(Score("dialogue_miou", "turn", miou))
        hits = phrase_hits(found, wanted)
        scores.append(Score("dialogue_recall", "phrase", hits / len(wanted), len(wanted)))
    return scores


_SCORERS = {
    "grounding": _score_grounding,
    "absent": _score_absent,
    "region_qa": _score_answer,
    "dialogue": _score_dialogue,
}


def _ask(session: VideoSession, case: Case) -> list:
    """A fresh conversation with the case's turns; regions are named and mentioned as a user
    would.
    """
    session.restart()
    answers = []
    for turn in case.sample.turns:
        words = turn.user
        for region in turn.regions:
            name = f"r{len(session.regions)}"
            session.region(name, prompts=region.prompts)
            words = words.replace("<region>", f"@{name}", 1)
        answers.append(session.ask(words, max_new_tokens=_longest(session, turn)))
    return answers


def _longest(session: VideoSession, turn: Turn) -> int:
    """Most new tokens of an answer to `turn`."""
    if not turn.assistant:
        return OPEN_ANSWER
    return len(session.sama.tokenizer(turn.assistant).input_ids) + SPARE


def _masks(tracks: Iterable[MaskTrack], like: MaskTrack) -> np.ndarray:
    """Union of tracks as bool (T, H, W); all empty when there is none."""
    masks = np.zeros((like.total, *like.size), bool)
    for track in tracks:
        masks |= track.tube(range(like.total))
    return masks


def normal(text: str) -> str:
    """Lower case, without punctuation and repeated blanks."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _summary(scores: list[Score], metric: str) -> dict[str, Any]:
    chosen = [score for score in scores if score.metric == metric]
    kinds: dict[str, list[Score]] = {}
    for score in chosen:
        kinds.setdefault(score.kind, []).append(score)
    value, low, high = _mean_interval(chosen)
    return {
        "value": value,
        "n": len(chosen),
        "low": low,
        "high": high,
        "kinds": {
            kind: {"value": _mean_interval(group)[0], "n": len(group)}
            for kind, group in sorted(kinds.items())
        },
    }


def _mean_interval(scores: list[Score]) -> tuple[float, float, float]:
    """Weighted mean and its 95 % interval (normal approximation over cases)."""
    if not scores:
        return float("nan"), float("nan"), float("nan")
    values = np.array([score.value for score in scores])
    weights = np.array([score.weight for score in scores])
    mean = float((values * weights).sum() / weights.sum())
    spread = np.sqrt((weights**2 * (values - mean) ** 2).sum()) / weights.sum()
    return mean, max(0.0, mean - 1.96 * spread), min(1.0, mean + 1.96 * spread)


_Job = tuple[int, int, Callable[[Case], bool]]
_MODEL: dict[str, SamaModel] = {}


def _run(model: str, adapter: Optional[Path], jobs: Sequence[_Job], workers: int):
    if workers <= 1:
        _open(model, adapter, 0)
        yield from map(_work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open, (model, adapter, 1)) as pool:
        yield from pool.map(_work, jobs)


def _open(model: str, adapter: Optional[Path], threads: int) -> None:
    import torch

    from sama_plugin.infer.load import fold_lora, load_sama

    if threads:
        torch.set_num_threads(threads)
    _MODEL["sama"] = fold_lora(load_sama(model, adapter))


def _work(job: _Job) -> tuple[tuple[list[Score], int, int], float]:
    return score_clip(_MODEL["sama"], *job), peak_gigabytes()
