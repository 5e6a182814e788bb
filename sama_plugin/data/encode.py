"""Sample and frame plan to token ids, labels and slots: the only place that tokenises a
conversation.

Training encodes whole samples; sessions ask for one question at a time and keep the ids. Both go
through `ask` and `answer`, piece by piece, so a session's ids equal those of the same conversation
encoded at once. Layout (hosts' wording by the adapter): visual frames, context slots, question;
`<vp>` slots `</vp>` for a region. A plan without aggregator frames has no context slots: a plain
chat is then exactly the host's own prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Protocol, Sequence

from sama_plugin.data.questions import HostQuestions, Question, QuestionReader
from sama_plugin.dialog import spans
from sama_plugin.dialog.pointing import Pointing, inline
from sama_plugin.dialog.released import WORDINGS
from sama_plugin.dialog.sample import IMAGE_MARK, Media, Region, Sample, Turn
from sama_plugin.dialog.spans import Layout, Segment
from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.dialog.tokens import token_ids
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.errors import DataError

if TYPE_CHECKING:
    from sama_plugin.media.frames import FramePlan


@dataclass(frozen=True)
class Encoded:
    """A tokenised sample: ids, labels, spans and slots in `layout`, one question a turn."""

    layout: Layout
    questions: tuple[Question, ...]

    @property
    def input_ids(self) -> list[int]:
        return self.layout.ids

    @property
    def labels(self) -> list[int]:
        return self.layout.labels

    def __len__(self) -> int:
        return len(self.layout.ids)


class Wording(Protocol):
    """What is written between frames, context and question."""

    def visual_prefix(self, items: int, tokens: int, video: bool) -> str:
        """`items` frames or images of `tokens` image placeholders each."""

    def context_end(self, regions: int) -> str:
        """What follows the context of a question with this many regions."""


@dataclass(frozen=True)
class HostWording:
    """Frames as the host words them, and a line for the context."""

    adapter: Any

    def visual_prefix(self, items: int, tokens: int, video: bool) -> str:
        return self.adapter.visual_prefix(items, tokens, video)

    def context_end(self, regions: int) -> str:
        return "\n"


def wording_of(adapter: Any, compat: str) -> Wording:
    """The host's own wording, or the one released checkpoints answer in."""
    return WORDINGS["inference_video"] if compat == "released" else HostWording(adapter)


SLOTS = 2
"""Tokens of a region whose number the caller does not say: those of `region.kind: sama`."""


class Encoder:
    """Tokenises for one host.

    Args:
        tokenizer: with the plugin's tokens added.
        adapter: the host adapter, for the wording of frames and the image placeholder.
        tokens_per_frame: visual tokens of one frame.
        max_length: longest sequence; None for no limit. A longer sample is an error: truncation
            could cut a slot.
        max_question: longest question the aggregator reads; longer ones lose their first words,
            never a region.
        wording: what stands between frames, context and question; by default the host's own.
        questions: how the aggregator reads questions; by default as the host's tokens.
        pointing: where the regions of a question stand; by default at their mention.
    """

    def __init__(
        self,
        tokenizer: Any,
        adapter: Any,
        tokens_per_frame: int,
        max_length: Optional[int] = None,
        max_question: Optional[int] = None,
        wording: Optional[Wording] = None,
        questions: Optional[QuestionReader] = None,
        pointing: Pointing = inline,
    ):
        self.wording = wording or HostWording(adapter)
        self.template = ChatTemplate.probe(tokenizer)
        self.text = TextEncoder(tokenizer, self.template.controls)
        self.ids = token_ids(tokenizer)
        self.adapter = adapter
        self.image_token = adapter.image_token()
        self.tokens_per_frame = tokens_per_frame
        self.max_length = max_length
        self.pointing = pointing
        self.questions = questions or HostQuestions(self.text, max_question)

    def encode(
        self, sample: Sample, plan: FramePlan, slots: Optional[Sequence[int]] = None
    ) -> Encoded:
        """Ids and labels of a whole conversation; an unanswered last turn ends with the generation
        prompt.

        Args:
            slots: vectors of each region of the sample, in text order.

        Raises:
            SlotError: slots and plan disagree. DataError: longer than `max_length`.
        """
        layout = Layout()
        slots = self._slots(sample.regions, slots)
        left = iter(slots)
        for number, turn in enumerate(sample.turns):
            opening = sample.system if number == 0 else None
            here = [next(left) for _ in turn.regions]
            layout.extend(self.ask(turn, plan, sample.media, number == 0, opening, here))
            if turn.assistant is not None:
                layout.extend(self.answer(turn))
        spans.check_slots(layout, self.expected_slots(sample, plan, slots), sample.id)
        self._check_length(layout, sample)
        return Encoded(layout, tuple(self.question(turn.user) for turn in sample.turns))

    def ask(
        self,
        turn: Turn,
        plan: FramePlan,
        media: Media,
        first: bool = True,
        system: Optional[str] = None,
        slots: Optional[Sequence[int]] = None,
    ) -> Layout:
        """From the end of the previous answer (or the very start) to the generation prompt."""
        segments: list[Segment] = []
        if first:
            for text, trusted in self.template.opening(system):
                segments += self._literal(text) if trusted else self._typed(Segment("text", text))
            segments += self._visual(plan, media)
        else:
            segments += self._literal(self.template.assistant_close + self.template.user_open)
        segments += spans.context(len(plan.aggregator), self.wording.context_end(len(turn.regions)))
        touching = bool(segments) and not segments[-1].text.endswith("\n")
        asked = self.pointing(turn.user, self._slots(turn.regions, slots), touching)
        segments += self._typed(*(self._with_images(asked) if media.kind == "images" else asked))
        segments += self._literal(self.template.assistant_open)
        return spans.lay(segments, self.text)

    def answer(self, turn: Turn) -> Layout:
        """The answer and its end token, supervised; without targets its marks are plain text."""
        words = turn.assistant or ""
        body = spans.grounded(words) if turn.targets else (Segment("text", words, supervised=True),)
        end = [
            Segment(segment.kind, segment.text, supervised=True)
            for segment in self._literal(self.template.end)
        ]
        return spans.lay([*self._typed(*body), *end], self.text)

    def question(self, user: str) -> Question:
        """The words of a turn for the aggregator, two rows for a region. Never empty."""
        return self.questions.read(user)

    def expected_slots(
        self, sample: Sample, plan: FramePlan, slots: Optional[Sequence[int]] = None
    ) -> dict[str, int]:
        """Slots of every kind that plan and sample call for, before anything is tokenised."""
        return {
            "image": len(plan.llm) * self.adapter.placeholders(self.tokens_per_frame),
            "region": sum(self._slots(sample.regions, slots)),
            "context": len(plan.aggregator) * len(sample.turns),
            "seg": len(sample.targets),
        }

    def _visual(self, plan: FramePlan, media: Media) -> tuple[Segment, ...]:
        if media.kind == "images" or not plan.llm:
            return ()
        return self._frames(len(plan.llm), video=media.kind == "video")

    def _frames(self, frames: int, video: bool) -> tuple[Segment, ...]:
        return self._literal(self.wording.visual_prefix(frames, self.tokens_per_frame, video))

    def _slots(self, regions: Sequence[Region], slots: Optional[Sequence[int]]) -> Sequence[int]:
        return [SLOTS] * len(regions) if slots is None else slots

    def _with_images(self, asked: Sequence[Segment]) -> list[Segment]:
        """A question whose pictures stand where it has them."""
        segments: list[Segment] = []
        for segment in asked:
            if segment.kind != "text":
                segments.append(segment)
                continue
            for image, text in enumerate(segment.text.split(IMAGE_MARK)):
                segments += self._frames(1, video=False) if image else ()
                text = text[1:] if image and text.startswith("\n") else text
                segments.append(Segment("text", text))
        return segments

    def _typed(self, *words: Segment) -> list[Segment]:
        return spans.typed(words, self.text)

    def _literal(self, text: str) -> tuple[Segment, ...]:
        return spans.literal(self.text, text, self.image_token)

    def _check_length(self, layout: Layout, sample: Sample) -> None:
        if self.max_length is not None and len(layout.ids) > self.max_length:
            raise DataError(
                f"{len(layout.ids)} tokens exceed max_length; use fewer frames or turns",
                file=sample.source or None,
                record=sample.id,
                expected=f"at most {self.max_length}",
                reason="too_long",
            )
