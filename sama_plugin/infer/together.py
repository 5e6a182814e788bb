"""One question to each of several conversations, answered in one batch.

    answers = ask_together([session, other], ["What moves?", "Where is @dog?"])

Every answer is the one its session would have given alone; the model is read once a token instead
of once a token and session. Sessions of one `OpenVideo` share more: frames that open several first
questions are read once, and all that their answers ground is tracked in one pass. If speaking
fails, no conversation has changed. Used by servers and by `eval`.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Iterator, Optional, Sequence

import torch

from sama_plugin.errors import SlotError
from sama_plugin.infer.answers import Answer, Event, Timing
from sama_plugin.infer.session import VideoSession
from sama_plugin.infer.visual import Turn
from sama_plugin.model.generate import Sampling
from sama_plugin.model.generate_together import Opening, generate_together, speaks_together
from sama_plugin.model.lanes import branched

Emit = Callable[[Event], None]


def ask_together(
    sessions: Sequence[VideoSession],
    texts: Sequence[str],
    *,
    masks: bool = True,
    max_new_tokens: int = 256,
    sampling: Optional[Sampling] = None,
    stream: Optional[Callable[[int, Event], None]] = None,
) -> list[Answer]:
    """`session.ask(text)` of every pair; `Answer.seconds` is an equal share of the batch's.

    Args:
        sessions: of one attached model, each once. texts: one question each.
        stream: called with (place of the session, event).

    Raises:
        SlotError: the lists do not match, or sessions of several models. Else as `ask`.
    """
    _check(sessions, texts)
    if not sessions:
        return []
    began = time.perf_counter()
    told = [_told(stream, number) for number in range(len(sessions))]
    opened = [session.begin(text) for session, text in zip(sessions, texts)]
    encoded = time.perf_counter()
    opening = _shared_opening(sessions, opened)
    spoken = [
        session.request(turn, max_new_tokens, emit)
        for session, turn, emit in zip(sessions, opened, told)
    ]
    generations = generate_together(
        sessions[0].sama,
        [request for request, _ in spoken],
        opening=opening,
        stop=sessions[0].stop,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
    )
    for session, turn, (_, words), generation in zip(sessions, opened, spoken, generations):
        words.finish()
        session.take(turn, generation)
    said = time.perf_counter()
    if masks:
        _track(sessions, told)
    parts = (encoded - began, said - encoded, time.perf_counter() - said)
    share = Timing(*(part / len(sessions) for part in parts))
    for session in sessions:
        session.answers[-1] = dataclasses.replace(session.answers[-1], seconds=share)
    return [session.answers[-1] for session in sessions]


def _check(sessions: Sequence[VideoSession], texts: Sequence[str]) -> None:
    different = len(set(map(id, sessions)))
    if len(sessions) != len(texts) or different != len(sessions):
        raise SlotError(
            f"{len(texts)} questions for {len(sessions)} sessions "
            f"({different} of them different); give each session one question"
        )
    if len({id(session.sama) for session in sessions}) > 1:
        raise SlotError("these sessions belong to several models; ask those of one model together")


def _shared_opening(sessions: Sequence[VideoSession], turns: Sequence[Turn]) -> Optional[Opening]:
    """The frames read once, if all conversations open with the same ones of one video."""
    first = sessions[0]
    opening, others = first.opening(turns[0]), sessions[1:]
    if not others or not opening or not speaks_together(first.sama):
        return None
    if any(session.turns or session.cached_tokens for session in sessions):
        return None
    if any(session.video is not first.video for session in others):
        return None
    if any(first.opening(turn) != opening for turn in turns):
        return None
    past, shown = first.read_opening(opening)
    for session in sessions:
        session.past, session.shown = branched(past), shown
    visual = first.video.visual
    return Opening(past, visual.batch(turns, first=False), visual.cache)


def _track(sessions: Sequence[VideoSession], told: Sequence[Emit]) -> None:
    """Masks of everybody's last answer; those of one video in as few passes as may be."""
    videos: dict[int, list[tuple[VideoSession, Emit]]] = {}
    for session, emit in zip(sessions, told):
        if session.plan.prompted and session.answers[-1].phrases:
            videos.setdefault(id(session.video), []).append((session, emit))
    for members in videos.values():
        for group in _fitting(members, members[0][0].video.grounder.options.most):
            _track_group(group)


def _fitting(
    members: Sequence[tuple[VideoSession, Emit]], most: int
) -> Iterator[list[tuple[VideoSession, Emit]]]:
    """Neighbours whose answers ground at most so many things; one that exceeds it is alone."""
    group, things = [], 0
    for member in members:
        mine = len(member[0].answers[-1].phrases)
        if group and things + mine > most:
            yield group
            group, things = [], 0
        group.append(member)
        things += mine
    yield group


def _track_group(members: Sequence[tuple[VideoSession, Emit]]) -> None:
    states = [session.seg_states(len(session.turns)) for session, _ in members]
    first = members[0][0]
    grounded = iter(first.video.grounder.ground(torch.cat(states), first.shown, first.plan))
    for (session, emit), mine in zip(members, states):
        found = [next(grounded) for _ in range(len(mine))]
        session.take_tracks(len(session.turns), found, emit)


def _told(stream: Optional[Callable[[int, Event], None]], number: int) -> Emit:
    return (lambda event: None) if stream is None else (lambda event: stream(number, event))
