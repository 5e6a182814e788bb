"""Put cases to a model through the same sessions that people use; an answer is a plain record.

A video is opened once for all its cases: visual tokens and segmenter features are shared. Each case
is a conversation of its own, but for one whose first turns are the conversation that the case
before it ended with: it goes on from there, so a dialogue that is scored turn by turn is held once.
Conversations are spoken in batches, turn by turn, and their masks tracked in one pass. A batch that
fails is halved until the conversation that fails is alone; its case that fails becomes a record
that says so, scored as an empty answer and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional, Sequence

from sama_plugin.dialog.sample import Region, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import DataError, SamaError
from sama_plugin.eval.cases import Case
from sama_plugin.media.rle import check_filled
from sama_plugin.media.tracks import MaskTrack

if TYPE_CHECKING:
    from sama_plugin.infer.answers import Answer
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.infer.video import OpenVideo
    from sama_plugin.model.attach import SamaModel

_STORED = {
    **{"id": str, "text": str, "plain": str, "phrases": list, "tracks": list},
    **{"finished": bool, "error": str, "seconds": dict},
}
TOGETHER = 16
"""Conversations in one batch; each holds a KV cache of its own."""


@dataclass(frozen=True)
class Prediction:
    """An answered case.

    Attributes:
        text: the last answer with its marks; plain: without.
        phrases: text of every grounded phrase; tracks: its masks, in the same order.
        finished: False if `max_new_tokens` cut the answer off.
        error: what went wrong, else "".
    """

    key: str
    text: str = ""
    plain: str = ""
    phrases: tuple[str, ...] = ()
    tracks: tuple[MaskTrack, ...] = ()
    finished: bool = True
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A line of the predictions file."""
        record = {**vars(self), "id": self.key, "tracks": [t.to_json() for t in self.tracks]}
        del record["key"]
        return {**record, "phrases": list(self.phrases), "seconds": dict(self.seconds)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Prediction:
        """Inverse of `to_json`.

        Raises:
            DataError: `bad_prediction`, of a record that somebody else wrote; or a track is none,
                or damaged: what scores compressed masks would not see it.
        """
        for name, kind in _STORED.items():
            if not isinstance(record.get(name), kind):
                raise DataError(
                    "not the record of an answer",
                    record=record.get("id"),
                    field=name,
                    found=record.get(name),
                    expected=kind.__name__,
                    reason="bad_prediction",
                )
        values = {name: record[name] for name in ("text", "plain", "finished", "error", "seconds")}
        try:
            tracks = tuple(MaskTrack.from_json(one) for one in record["tracks"])
            for track in tracks:
                check_filled([rle for rle in track.rles.values() if rle is not None])
        except DataError as error:
            raise error.at(record=record["id"], field="tracks") from error
        return cls(record["id"], phrases=tuple(record["phrases"]), tracks=tracks, **values)


def answer_cases(
    sama: SamaModel,
    cases: Sequence[Case],
    *,
    masks: bool,
    max_new_tokens: int,
    together: int = TOGETHER,
) -> Iterator[Prediction]:
    """Answers to the cases of one video, in order; the video is opened once.

    Args:
        masks: track what is grounded.
        together: conversations in one batch at most. In float32 the answers do not depend on it;
            in half precision a batch rounds otherwise than one row, so runs that are compared to
            the digit must have the same one.
    """
    from sama_plugin.infer.video import OpenVideo

    try:
        video = OpenVideo(sama, cases[0].video)
    except SamaError as error:
        yield from (Prediction(case.key, error=_words(error)) for case in cases)
        return
    with video:
        ask = _Asking(video, masks, max_new_tokens)
        for batch in _batches(cases, together if ask.speaks_together else 1):
            yield from ask(batch)


def _batches(cases: Sequence[Case], most: int) -> Iterator[list[list[Case]]]:
    """So many conversations at a time; a case that goes on from the one before it belongs to that
    one's conversation.
    """
    dialogues: list[list[Case]] = []
    for case in cases:
        if dialogues and _goes_on(dialogues[-1][-1], case):
            dialogues[-1].append(case)
        else:
            dialogues.append([case])
    for start in range(0, len(dialogues), most):
        yield dialogues[start : start + most]


def _goes_on(before: Case, case: Case) -> bool:
    said, turns = before.sample.turns, case.sample.turns
    return len(turns) > len(said) and turns[: len(said)] == said


@dataclass(eq=False)
class _Dialogue:
    """A conversation under way.

    Attributes:
        cases: in the order in which it comes to them. said: turns that were asked and answered.
        done: predictions of its first cases.
    """

    cases: Sequence[Case]
    session: VideoSession
    said: int = 0
    done: list[Prediction] = field(default_factory=list)

    @property
    def case(self) -> Optional[Case]:
        """The case that the next turn belongs to; None at the end."""
        return self.cases[len(self.done)] if len(self.done) < len(self.cases) else None

    @property
    def ends_case(self) -> bool:
        """Whether the answer to the next turn is that of a case."""
        return self.case is not None and self.said + 1 == len(self.case.sample.turns)

    def question(self) -> str:
        """The next turn's; the session learns the names of its regions."""
        return _mention(self.session, self.case.sample.turns[self.said])


class _Asking:
    """Asks the cases of an open video."""

    def __init__(self, video: OpenVideo, masks: bool, max_new_tokens: int):
        from sama_plugin.infer.session import VideoSession
        from sama_plugin.model.generate_together import speaks_together

        self.video, self.masks, self.longest = video, masks, max_new_tokens
        self.speaks_together = speaks_together(video.sama)
        self.session = VideoSession(video.sama, video)  # of what is asked one after the other

    def __call__(self, dialogues: Sequence[Sequence[Case]]) -> Iterator[Prediction]:
        if len(dialogues) == 1:
            yield from self._one_by_one(dialogues[0])
            return
        try:
            found = self._together(dialogues)
        except (SamaError, *_out_of_memory()):
            half = len(dialogues) // 2
            yield from self(dialogues[:half])
            yield from self(dialogues[half:])
        else:
            yield from found

    def _together(self, dialogues: Sequence[Sequence[Case]]) -> list[Prediction]:
        """Independent conversations, the same turn of all of them at a time; turns that only lead
        to a case are a batch of their own, which needs no masks."""
        from sama_plugin.infer.session import VideoSession

        under_way = [_Dialogue(d, VideoSession(self.video.sama, self.video)) for d in dialogues]
        while now := [one for one in under_way if one.case]:
            leading = [one for one in now if self.masks and not one.ends_case]
            self._ask(leading, masks=False)
            self._ask([one for one in now if one not in leading], masks=self.masks)
        return [prediction for one in under_way for prediction in one.done]

    def _ask(self, dialogues: Sequence[_Dialogue], masks: bool) -> None:
        """The next turn of each, in one batch."""
        from sama_plugin.infer.together import ask_together

        sessions = [one.session for one in dialogues]
        texts = [one.question() for one in dialogues]
        answers = ask_together(sessions, texts, masks=masks, max_new_tokens=self.longest)
        for one, answer in zip(dialogues, answers):
            if one.ends_case:
                one.done.append(self._prediction(one.case, answer))
            one.said += 1

    def _one_by_one(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        """Cases of one conversation, each asked from where the one before it ended."""
        session, said = self.session, 0
        session.restart()
        for case in cases:
            turns = case.sample.turns[said:]
            try:
                for turn in turns:
                    wanted = self.masks and turn is turns[-1]
                    options = {"masks": wanted, "max_new_tokens": self.longest}
                    answer = session.ask(_mention(session, turn), **options)
            except SamaError as error:
                session.restart()
                said = 0
                yield Prediction(case.key, error=_words(error))
            else:
                said = len(case.sample.turns)
                yield self._prediction(case, answer)

    def _prediction(self, case: Case, answer: Answer) -> Prediction:
        from sama_plugin.infer.answers import marked_text

        sama = self.video.sama
        return Prediction(
            case.key,
            marked_text(sama.tokenizer, sama.ids, answer.ids).strip(),
            answer.text,
            tuple(phrase.text for phrase in answer.phrases),
            tuple(phrase.track for phrase in answer.phrases if phrase.track is not None),
            answer.finished,
            seconds={name: round(value, 4) for name, value in vars(answer.seconds).items()},
        )


def _mention(session: VideoSession, turn: Turn) -> str:
    """The question with a name at every region mark; the session learns the names."""
    text = turn.user
    for region in turn.regions:
        name = f"r{len(session.regions)}"
        if region.prompts:
            session.region(name, prompts=region.prompts)
        else:  # a thing that is nowhere to be seen
            session.regions[name] = Region((), name)
        text = text.replace(REGION_MARK, f"@{name}", 1)
    return text


def _out_of_memory() -> tuple[type[Exception], ...]:
    """What a batch may raise that one question does not."""
    import torch

    return (torch.cuda.OutOfMemoryError,)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
