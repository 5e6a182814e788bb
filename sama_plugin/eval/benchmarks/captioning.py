"""Caption metrics and CLAIR of a benchmark's answers, in both readings; used by all that describe.

Released: every video is a corpus of its own and the videos are averaged. Corrected: one corpus for
the whole benchmark, mean over captions, so that CIDEr's word statistics are those of the benchmark.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from sama_plugin.eval import clair
from sama_plugin.eval.captions import CaptionMetricsMissing, score_groups
from sama_plugin.eval.cases import Case, by_video
from sama_plugin.eval.judge import Judge, Question
from sama_plugin.eval.scoreboard import Scoreboard

WHOLE = ""
Texts = Mapping[str, tuple[str, str]]
"""(reference, prediction) by case."""


def add_captions(
    board: Scoreboard, cases: Sequence[Case], texts: Texts, *, readings: Sequence[str]
) -> None:
    """BLEU, METEOR, ROUGE-L, CIDEr; what cannot be computed is named, never 0.

    Args:
        readings: "corrected" or "offline" for the whole corpus, and "released" for that of every
            video.
    """
    videos = by_video(cases)
    keys = {video: [case.key for case in group] for video, group in videos.items()}
    groups = {WHOLE: [case.key for case in cases], **(keys if "released" in readings else {})}
    pairs = {name: _columns(texts, chosen) for name, chosen in groups.items()}
    try:
        scores = score_groups(pairs)
    except CaptionMetricsMissing as error:
        board.missing["BLEU, METEOR, ROUGE-L, CIDEr"] = str(error)
        return
    whole = next(reading for reading in readings if reading != "released")
    for case, row in zip(cases, scores[WHOLE].captions):
        for metric, value in row.items():
            board.add(metric, whole, case.key, case.video, value, kind=case.kind)
    for video, group in videos.items() if "released" in readings else ():
        for metric, value in scores[video].corpus.items():
            board.add(metric, "released", video, video, value, kind=group[0].kind)


def add_corpus(board: Scoreboard, cases: Sequence[Case], texts: Texts) -> None:
    """The same where the public protocol has one corpus: its scores are the released reading (BLEU
    and METEOR of a corpus are no means), the mean over captions is the corrected one."""
    try:
        whole = score_groups({WHOLE: _columns(texts, [case.key for case in cases])})[WHOLE]
    except CaptionMetricsMissing as error:
        board.missing["BLEU, METEOR, ROUGE-L, CIDEr"] = str(error)
        return
    for metric, value in whole.corpus.items():
        board.whole(metric, "released", value, len(cases))
    for case, row in zip(cases, whole.captions):
        for metric, value in row.items():
            board.add(metric, "corrected", case.key, case.video, value, kind=case.kind)


def add_clair(board: Scoreboard, cases: Sequence[Case], texts: Texts, judge: Judge) -> None:
    """CLAIR by the judge. Released: unclipped, up to three tries, a video's mean is 0 if one reply
    raises; corrected: unparsed replies are counted and left out."""
    if judge.name == "none":
        board.missing["CLAIR"] = "no judge (--judge none)"
        return
    board.notes.append(f"CLAIR by {judge.name}, prompt {clair.PROMPT_ID} (our wording)")
    for video, group in by_video(cases).items():
        released = []
        for case in group:
            reference, prediction = texts[case.key]
            replies = _replies(judge, clair.prompt(prediction, reference))
            if not replies:
                board.counts["not judged"] += 1
                continue
            strict = next((v for v in map(clair.read_strict, replies) if v.score is not None), None)
            if strict is None:
                board.counts["judge replies unparsed"] += 1
            else:
                board.add("CLAIR", "corrected", case.key, video, strict.score, kind=case.kind)
            released.append(_released(replies))
        if released:  # upstream a video has a score whatever its replies are
            value = 0.0 if None in released else sum(released) / len(released)
            board.add("CLAIR", "released", video, video, value, kind=group[0].kind)
    if ("CLAIR", "corrected") not in board.parts:
        board.missing["CLAIR (corrected)"] = "no reply of the judge could be read"


def _released(replies: Sequence[str]):
    """The score as coded upstream; None where that code raises."""
    try:
        return clair.read_tries(replies)[0].score
    except clair.NO_NUMBER:
        return None


def _replies(judge: Judge, text: str) -> list[str]:
    """Up to three replies, fewer once one can be read."""
    replies: list[str] = []
    for attempt in range(clair.TRIES):
        reply = judge.ask(Question(clair.PROMPT_ID, clair.SYSTEM, text, attempt))
        if reply.text is None:
            break
        replies.append(reply.text)
        if clair.read_strict(reply.text).score is not None:
            break
    return replies


def _columns(texts: Texts, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    return [texts[key][0] for key in keys], [texts[key][1] for key in keys]
