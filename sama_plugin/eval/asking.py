"""Put a case to a model through the same session that people use; the answer is a plain record.

Each case is a fresh conversation on its video: `restart` keeps the visual tokens and segmenter
features. A case whose first turns are the conversation that the case before it ended with goes on
from there, so a dialogue that is scored turn by turn is held once. A case that fails becomes a
record that says so; it is scored as an empty answer and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional, Sequence

from sama_plugin.dialog.sample import Region, Turn
from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.errors import SamaError
from sama_plugin.eval.cases import Case
from sama_plugin.media.tracks import MaskTrack

if TYPE_CHECKING:
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.model.attach import SamaModel


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
        """Inverse of `to_json`."""
        values = {name: record[name] for name in ("text", "plain", "finished", "error", "seconds")}
        tracks = tuple(MaskTrack.from_json(one) for one in record["tracks"])
        return cls(record["id"], phrases=tuple(record["phrases"]), tracks=tracks, **values)


def answer_cases(
    sama: SamaModel, cases: Sequence[Case], *, masks: bool, max_new_tokens: int
) -> Iterator[Prediction]:
    """Answers to the cases of one video, which is opened once.

    Args:
        masks: track what is grounded.
    """
    from sama_plugin.infer.session import VideoSession

    try:
        session = VideoSession(sama, cases[0].video)
    except SamaError as error:
        yield from (Prediction(case.key, error=_words(error)) for case in cases)
        return
    with session:
        said: tuple[Turn, ...] = ()
        for case in cases:
            turns = case.sample.turns
            if not said or turns[: len(said)] != said or len(turns) <= len(said):
                session.restart()
                said = ()
            found = _answer(session, case, turns[len(said) :], masks, max_new_tokens)
            said = () if found.error else turns
            yield found


def _answer(
    session: VideoSession, case: Case, turns: Sequence[Turn], masks: bool, max_new_tokens: int
) -> Prediction:
    """Ask the turns that were not asked yet; masks are tracked for the last one alone."""
    from sama_plugin.infer.answers import marked_text

    answer: Optional[Any] = None
    try:
        for turn in turns:
            question = _mention(session, turn.user, turn.regions)
            wanted = masks and turn is turns[-1]
            answer = session.ask(question, masks=wanted, max_new_tokens=max_new_tokens)
    except SamaError as error:
        return Prediction(case.key, error=_words(error))
    return Prediction(
        case.key,
        marked_text(session.sama.tokenizer, session.sama.ids, answer.ids).strip(),
        answer.text,
        tuple(phrase.text for phrase in answer.phrases),
        tuple(phrase.track for phrase in answer.phrases if phrase.track is not None),
        answer.finished,
        seconds={name: round(value, 4) for name, value in vars(answer.seconds).items()},
    )


def _mention(session: VideoSession, text: str, regions: Sequence[Region]) -> str:
    """The question with a name at every region mark; the session learns the names."""
    for region in regions:
        name = f"r{len(session.regions)}"
        if region.prompts:
            session.region(name, prompts=region.prompts)
        else:  # a thing that is nowhere to be seen
            session.regions[name] = Region((), name)
        text = text.replace(REGION_MARK, f"@{name}", 1)
    return text


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
