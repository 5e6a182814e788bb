"""One question to each of several conversations, answered in one batch.

    answers = ask_together([session, other], ["What moves?", "Where is @dog?"])

Every answer is the one its session would have given alone; the model is read once a token instead
of once a token and session. If anything fails, no conversation has changed. Masks are tracked
session by session, since videos differ.
"""

from __future__ import annotations

from typing import Callable, Optional, Sequence

from sama_plugin.errors import SlotError
from sama_plugin.infer.answers import Answer, Event
from sama_plugin.infer.session import VideoSession
from sama_plugin.model.generate import Sampling
from sama_plugin.model.generate_together import generate_together


def ask_together(
    sessions: Sequence[VideoSession],
    texts: Sequence[str],
    *,
    masks: bool = True,
    max_new_tokens: int = 256,
    sampling: Optional[Sampling] = None,
    stream: Optional[Callable[[int, Event], None]] = None,
) -> list[Answer]:
    """`session.ask(text)` of every pair.

    Args:
        sessions: of one attached model, each once. texts: one question each.
        stream: called with (place of the session, event).

    Raises:
        SlotError: the lists do not match, or sessions of several models. Else as `ask`.
    """
    if len(sessions) != len(texts) or len(set(map(id, sessions))) != len(sessions):
        raise SlotError(
            f"{len(texts)} questions for {len(sessions)} sessions "
            f"({len(set(map(id, sessions)))} of them different); give each session one question"
        )
    if not sessions:
        return []
    if len({id(session.sama) for session in sessions}) > 1:
        raise SlotError("these sessions belong to several models; ask those of one model together")
    told = [_told(stream, number) for number in range(len(sessions))]
    opened = [session.begin(text) for session, text in zip(sessions, texts)]
    spoken = [
        session.request(turn, max_new_tokens, emit)
        for session, turn, emit in zip(sessions, opened, told)
    ]
    generations = generate_together(
        sessions[0].sama,
        [request for request, _ in spoken],
        stop_ids=sessions[0].stop_ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
    )
    for session, turn, (_, words), generation in zip(sessions, opened, spoken, generations):
        words.finish()
        session.take(turn, generation)
    if masks:
        for session, emit in zip(sessions, told):
            if session.plan.prompted:
                session.tracks(len(session.turns), emit)
    return [session.answers[-1] for session in sessions]


def _told(stream: Optional[Callable[[int, Event], None]], number: int) -> Callable[[Event], None]:
    return (lambda event: None) if stream is None else (lambda event: stream(number, event))
