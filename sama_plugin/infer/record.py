"""A conversation as JSON: ids and plans of every turn, regions, answers, mask tracks.

What is stored is what the model read, not only what was said, so a conversation taken up again
continues from the same tokens; the KV cache is rebuilt by reading them once. Used by `session.py`
and `folder.py`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

from sama_plugin.atomic import atomic_path
from sama_plugin.data.encode import Question
from sama_plugin.dialog.sample import Region
from sama_plugin.errors import CheckpointError, DataError
from sama_plugin.infer.answers import Answer, GroundedPhrase, Timing
from sama_plugin.infer.visual import Turn
from sama_plugin.media.frames import FramePlan
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack

if TYPE_CHECKING:
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.model.attach import SamaModel

FORMAT = 1


def session_record(session: VideoSession) -> dict[str, Any]:
    """A JSON-ready mapping of the whole conversation."""
    height, width = session.reader.size
    return {
        "format": FORMAT,
        "model": _model(session.sama),
        "video": {
            "source": session.media.source,
            "frames": len(session.reader),
            "fps": session.reader.fps,
            "size": [height, width],
        },
        "plan": session.plan.to_json(),
        "regions": {name: _region(region) for name, region in session.regions.items()},
        "turns": [_turn(turn, answer) for turn, answer in zip(session.turns, session.answers)],
    }


def save_session(session: VideoSession, path: Union[str, Path]) -> Path:
    """Write the record; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(session_record(session), ensure_ascii=False, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def resume_session(
    sama: SamaModel, path: Union[str, Path], source: Optional[Any] = None
) -> VideoSession:
    """Take a saved conversation up again.

    Args:
        source: the video, if it is not where it was.

    Raises:
        DataError: the file is not a saved conversation. CheckpointError: it was held with another
            model, whose token ids would mean something else.
    """
    from sama_plugin.infer.session import VideoSession

    record = _load(Path(path))
    if record["model"] != _model(sama):
        raise CheckpointError(
            f"{path} was written with {record['model']}, the model here is {_model(sama)}; token "
            "ids do not carry over"
        )
    plan = FramePlan.from_json(record["plan"])
    session = VideoSession(
        sama, record["video"]["source"] if source is None else source, frames=plan
    )
    session.regions.update(
        {name: _read_region(name, one) for name, one in record["regions"].items()}
    )
    for entry in record["turns"]:
        turn, answer = _read_turn(entry)
        session.restore(turn, answer)
    return session


def _model(sama: SamaModel) -> dict[str, Any]:
    return {
        "family": sama.adapter.family(sama.host),
        "width": sama.modules.width,
        "ids": list(sama.ids.in_order()),
    }


def _region(region: Region) -> list[Any]:
    return [prompt.to_json() for prompt in region.prompts]


def _read_region(name: str, prompts: list[Any]) -> Region:
    return Region(tuple(RegionPrompt.from_json(prompt) for prompt in prompts), name)


def _turn(turn: Turn, answer: Answer) -> dict[str, Any]:
    return {
        "question": turn.asked,
        "answer": answer.text,
        "finished": answer.finished,
        "phrases": [_phrase(phrase) for phrase in answer.phrases],
        "seconds": dataclasses.asdict(answer.seconds),
        "words": turn.words,
        "regions": [{"name": one.name, "prompts": _region(one)} for one in turn.regions],
        "plan": turn.plan.to_json(),
        "aggregator_question": {"ids": list(turn.question.ids), "kinds": list(turn.question.kinds)},
        "prompt_ids": list(turn.prompt_ids),
        "answer_ids": list(turn.answer_ids),
    }


def _read_turn(entry: Mapping[str, Any]) -> tuple[Turn, Answer]:
    question = entry["aggregator_question"]
    plan = FramePlan.from_json(entry["plan"])
    turn = Turn(
        asked=entry["question"],
        words=entry["words"],
        regions=tuple(_read_region(one["name"], one["prompts"]) for one in entry["regions"]),
        plan=plan,
        question=Question(tuple(question["ids"]), tuple(question["kinds"])),
        prompt_ids=tuple(entry["prompt_ids"]),
        answer_ids=tuple(entry["answer_ids"]),
    )
    phrases = tuple(_read_phrase(phrase) for phrase in entry["phrases"])
    seconds = Timing(**entry["seconds"])
    return turn, Answer(entry["answer"], phrases, turn.answer_ids, plan, seconds, entry["finished"])


def _phrase(phrase: GroundedPhrase) -> dict[str, Any]:
    return {
        "name": phrase.name,
        "text": phrase.text,
        "start": phrase.start,
        "end": phrase.end,
        "score": phrase.score,
        "track": phrase.track.to_json() if phrase.track is not None else None,
    }


def _read_phrase(entry: Mapping[str, Any]) -> GroundedPhrase:
    track = MaskTrack.from_json(entry["track"]) if entry["track"] is not None else None
    return GroundedPhrase(
        entry["name"], entry["text"], entry["start"], entry["end"], track, entry["score"]
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"not a saved conversation: {error}", file=str(path)) from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise DataError(
            "not a saved conversation", file=str(path), found=found, expected=f"format {FORMAT}"
        )
    return record
