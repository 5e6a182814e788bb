"""`VideoSession`: one video and its conversation, with regions in and masks out.

    session = VideoSession(sama, "kitchen.mp4")
    session.region("dog", frame=12, box=(10, 20, 50, 60))
    answer = session.ask("What does @dog do?")
    answer = session.ask("Segment the ball that @dog follows.")  # answer.phrases[0].track
    answer = session.ask("And where does @2.1 end up?")  # an earlier mask is a region too

The video is read once: the frame plan, the frames the language model sees and the prefix are frozen
when the session opens; visual tokens, segmenter features and the KV cache are kept. Token ids are
stored and never made again, so a later turn reads only its new tokens. A turn that fails (or is
interrupted) leaves the conversation as it was.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence, Union

from sama_plugin.data.encode import Encoder, wording_of
from sama_plugin.data.questions import question_reader
from sama_plugin.dialog import sample
from sama_plugin.dialog.pointing import pointing_of
from sama_plugin.dialog.stops import Stop
from sama_plugin.errors import MediaError, RegionError, SlotError
from sama_plugin.infer import regions as naming
from sama_plugin.infer.answers import (
    Answer,
    AnswerStream,
    Event,
    GroundedPhrase,
    MaskReady,
    Timing,
    read_answer,
)
from sama_plugin.infer.grounding import Grounded
from sama_plugin.infer.streaming import events_of
from sama_plugin.infer.video import OpenVideo
from sama_plugin.infer.visual import Turn
from sama_plugin.media.frames import FramePlan, FramePolicy
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.model.attach import SamaModel
from sama_plugin.model.generate import (
    Generation,
    Sampling,
    generate,
    teacher_forced,
)
from sama_plugin.model.generate_together import Request, read_prompt

if TYPE_CHECKING:
    from torch import Tensor

    from sama_plugin.nn.pointing import Seen


class VideoSession:
    """A conversation about one video.

    Args:
        sama: an attached host; it is put in eval mode.
        source: an open `VideoReader` (the session closes it), or whatever `open_video` reads: a
            file, a folder of frames, an array (T, H, W, 3) uint8; or an `OpenVideo`, which several
            sessions can share and which stays open.
        frames: which frames are read, as a policy (by default the one the adapter was trained with)
            or as a ready plan. `aggregator=0` gives the host's own prompt: no context tokens.

    Attributes:
        video: the video as the model read it. plan: the frozen frame plan.
        regions: named regions.
        turns: what was asked and answered, as the model reads it.
        answers: what `ask` returned, one a turn.
        stop: what ends an answer.
        shown: the frames as the conversation read them; None before it did.
    """

    def __init__(
        self,
        sama: SamaModel,
        source: Any,
        *,
        frames: Union[FramePolicy, FramePlan, None] = None,
    ):
        began = time.perf_counter()
        self.sama = sama
        self._shared = isinstance(source, OpenVideo)
        if self._shared and (source.sama is not sama or frames is not None):
            raise MediaError(
                "this video was opened with its own model and frame plan; pass both to OpenVideo, "
                "or open another one"
            )
        self.video = source if self._shared else OpenVideo(sama, source, frames)
        self.reader, self.plan, self.media = self.video.reader, self.video.plan, self.video.media
        self.regions: dict[str, sample.Region] = {}
        self.turns: list[Turn] = []
        self.answers: list[Answer] = []
        self._encoder = Encoder(
            sama.tokenizer,
            sama.adapter,
            sama.modules.tokens,
            max_question=sama.config.aggregator.max_question,
            wording=wording_of(sama.adapter, sama.config.compat),
            questions=question_reader(sama.config.aggregator),
            pointing=pointing_of(sama.config.region.kind),
        )
        self.stop = Stop.of(self._encoder.template, self._encoder.text)
        self._visual, self._grounder = self.video.visual, self.video.grounder
        self.past: Any = None
        self.shown: Optional[Seen] = None
        self._opening_seconds = time.perf_counter() - began

    def region(
        self,
        name: str,
        *,
        frame: Optional[int] = None,
        time: Optional[float] = None,
        mask: Any = None,
        box: Optional[Sequence[float]] = None,
        points: Optional[Sequence[Sequence[float]]] = None,
        scribble: Optional[Sequence[Sequence[float]]] = None,
        width: Optional[float] = None,
        prompts: Sequence[RegionPrompt] = (),
    ) -> sample.Region:
        """Name a thing by pointing at it; questions then mention it as "@name".

        Args:
            frame, time: source frame, or seconds.
            mask: bool (H, W) or RLE. box: (x0, y0, x1, y1) in pixels of the upright frame.
            points: [(x, y)]. scribble: [(x, y)] of a line, `width` pixels wide.
            prompts: ready prompts, for one thing on several frames; instead of the arguments above.

        Raises:
            RegionError: bad or taken name, no or several kinds of prompt, a prompt outside the
                frame or clip, without area.
        """
        naming.check_name(name, list(self.regions))
        pixels = {"mask": mask, "box": box, "points": points, "scribble": scribble, "width": width}
        if prompts and any(one is not None for one in (frame, time, *pixels.values())):
            raise RegionError(
                f"region {name!r}: prompts= say where it is; give nothing beside them"
            )
        if not prompts and (frame is None) == (time is None):
            raise RegionError(
                f"region {name!r}: say where it is: either frame= or time= (given: "
                f"frame={frame}, time={time})"
            )
        try:
            if not prompts:
                frame = self.reader.frame_at(time) if frame is None else frame
                prompts = [naming.make_prompt(frame, **pixels)]
            for prompt in prompts:
                prompt.validate(*self.reader.size, len(self.reader))
        except (MediaError, RegionError) as error:
            raise type(error)(f"region {name!r}: {error}") from error
        self.regions[name] = sample.Region(tuple(prompts), name)
        return self.regions[name]

    def ask(
        self,
        text: str,
        *,
        masks: bool = True,
        max_new_tokens: int = 256,
        sampling: Optional[Sampling] = None,
        stream: Optional[Callable[[Event], None]] = None,
    ) -> Answer:
        """Ask a question; returns the whole answer.

        Args:
            masks: track every grounded phrase through the video, if the plan has prompted frames;
                otherwise `tracks(turn)` does so when needed.
            stream: called with each event while the answer is made.

        Raises:
            RegionError: an unknown name is mentioned, or a placeholder is typed.
            SlotError: the conversation is longer than the host reads.
            The conversation is unchanged in both cases. Where only the masks fail (more objects
            than `TrackOptions.most`), the words are kept.
        """
        began = time.perf_counter()
        emit = stream or _ignore
        turn = self.begin(text)
        encoded = time.perf_counter()
        opening = 0.0 if self.turns else self._opening_seconds
        request, words = self.request(turn, max_new_tokens, emit)
        options = {"max_new_tokens": max_new_tokens, "sampling": sampling}
        generation = generate(self.sama, **vars(request), stop=self.stop, **options)
        words.finish()
        self.take(turn, generation)
        said = time.perf_counter()
        seconds = Timing(encoded - began + opening, said - encoded)
        if masks and self.plan.prompted:
            self.tracks(len(self.turns), emit)
            seconds = dataclasses.replace(seconds, masks=time.perf_counter() - said)
        self.answers[-1] = dataclasses.replace(self.answers[-1], seconds=seconds)
        return self.answers[-1]

    def stream(self, text: str, **options: Any) -> Iterator[Event]:
        """`ask` as a generator of events: words and phrase marks as they come, then the masks.

        Closing the generator early abandons the turn; the conversation is then as before, unless
        its words were complete.
        """
        return events_of(lambda emit: self.ask(text, stream=emit, **options))

    def begin(self, text: str) -> Turn:
        """A question read and its frames and regions encoded; nothing of the conversation has
        changed. `ask` is `begin`, `request`, `generate`, `take`; `together.py` takes the same steps
        for several sessions at once.
        """
        turn = self._read(text)
        self._visual.add_turn(turn)
        return turn

    def request(
        self, turn: Turn, max_new_tokens: int, emit: Callable[[Event], None]
    ) -> tuple[Request, AnswerStream]:
        """What must be generated to answer `turn`, and who is told the words.

        The KV cache goes with the request: one that is left half-way is not taken up again.
        """
        unread = [one for one in self.turns if self.past is None] + [turn]
        first = self.past is None
        new_ids = [*self.ids, *turn.prompt_ids][self.cached_tokens :]
        self._check_length(self.cached_tokens + len(new_ids), max_new_tokens)
        words = AnswerStream(self.sama.tokenizer, self.sama.ids, emit, self.stop)
        batch = self._visual.batch(unread, first)
        past, self.past = self.past, None
        return Request(new_ids, batch, self._visual.cache, past, words.feed, self.shown), words

    def take(self, turn: Turn, generation: Generation) -> None:
        """Put an answered turn into the conversation; its masks are not known yet."""
        self.past, self.shown = generation.past, generation.shown
        said = generation.ids, generation.stopped
        turn.answer_ids = self.stop.completed(self._encoder.text, *said)
        turn.seg_states, turn.entries = generation.seg_states, None
        self.turns.append(turn)
        self.answers.append(self._first_words(turn, generation.stopped))

    def tracks(
        self, turn: int, emit: Optional[Callable[[Event], None]] = None
    ) -> tuple[GroundedPhrase, ...]:
        """The grounded phrases of a turn (1-based) with their mask tracks, computed now if they
        were not before.
        """
        if not 1 <= turn <= len(self.answers):
            raise RegionError(f"there is no answer {turn}; there are {len(self.answers)}")
        answer = self.answers[turn - 1]
        if all(phrase.track is not None for phrase in answer.phrases):
            return answer.phrases
        states = self.seg_states(turn)
        grounded = self._grounder.ground(states, self.shown, self.plan)
        return self.take_tracks(turn, grounded, emit or _ignore)

    def take_tracks(
        self, turn: int, grounded: Sequence[Grounded], emit: Callable[[Event], None]
    ) -> tuple[GroundedPhrase, ...]:
        """Put the tracks of a turn's [SEG]s, in their order, into its answer."""
        answer = self.answers[turn - 1]
        phrases = tuple(
            dataclasses.replace(phrase, track=found.track, score=found.score)
            for phrase, found in zip(answer.phrases, grounded)
        )
        self.answers[turn - 1] = dataclasses.replace(answer, phrases=phrases)
        for phrase in phrases:
            emit(MaskReady(phrase))
        return phrases

    def seg_states(self, turn: int) -> Tensor:
        """(S, C) states at the [SEG]s of a turn's answer; read again where a record holds only the
        ids.
        """
        states = self.turns[turn - 1].seg_states
        if states is None:
            turns = self.turns[:turn]
            ids = [token for one in turns for token in (*one.prompt_ids, *one.answer_ids)]
            batch = self._visual.batch(turns, first=True)
            found, self.shown = teacher_forced(self.sama, ids, batch, self._visual.cache)
            wanted = self.turns[turn - 1].answer_ids.count(self.sama.ids.seg)
            states = self.turns[turn - 1].seg_states = found[found.shape[0] - wanted :]
        return states

    @property
    def names(self) -> list[str]:
        """All that can be mentioned: named regions and earlier grounded phrases."""
        return [
            *self.regions,
            *(phrase.name for answer in self.answers for phrase in answer.phrases),
        ]

    @property
    def encodes(self) -> tuple[int, int]:
        """Frames encoded so far by (the vision tower, the segmenter)."""
        return self.video.encodes

    @property
    def cached_tokens(self) -> int:
        """Tokens of the conversation that the KV cache holds."""
        return 0 if self.past is None else self.past.get_seq_length()

    @property
    def ids(self) -> list[int]:
        """Token ids of the whole conversation so far."""
        return [token for turn in self.turns for token in (*turn.prompt_ids, *turn.answer_ids)]

    def save(self, path: Union[str, Path]) -> Path:
        """Write the conversation as JSON (turns with ids and plans, regions, mask tracks)."""
        from sama_plugin.infer.record import save_session

        return save_session(self, path)

    def restart(self) -> None:
        """Forget the conversation; the video, its caches and the named regions stay.

        The KV cache is cut back to the frames, so the next first question reads only its own words.
        """
        if self.past is not None and self.turns:
            frames = len(self.opening(self.turns[0]))
            if frames:
                self.past.crop(frames - self.cached_tokens)  # negative: tokens to drop
            else:
                self.past = None
        self.turns.clear()
        self.answers.clear()

    def opening(self, turn: Turn) -> tuple[int, ...]:
        """What a first turn shows before it says anything: its ids up to the last frame's."""
        frames = [at for at, token in enumerate(turn.prompt_ids) if token == self.sama.image_id]
        return turn.prompt_ids[: frames[-1] + 1] if frames else ()

    def read_opening(self, opening: Sequence[int]) -> tuple[Any, Optional[Seen]]:
        """A KV cache that has read the frames and nothing else, and the frames so read. `past` of
        sessions of this video that begin alike can be a copy of it, `shown` is the same.
        """
        batch = self._visual.batch((), first=True)
        past, _, shown = read_prompt(self.sama, Request(opening, batch, self._visual.cache))
        return past, shown

    def close(self) -> None:
        """Drop the KV cache; close the video, unless it is shared."""
        self.past = None
        if not self._shared:
            self.video.close()

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def restore(self, turn: Turn, answer: Answer) -> None:
        """Append a recorded turn without asking; the next question reads its ids into the KV
        cache.
        """
        self._visual.add_turn(turn)
        turn.entries = None
        self.turns.append(turn)
        self.answers.append(answer)
        self.past = None

    def _read(self, text: str) -> Turn:
        words, regions = naming.read_mentions(text, self._find, self.names)
        pointed = {prompt.frame for region in regions for prompt in region.prompts}
        extra = tuple(sorted(pointed - set(self.plan.rows)))
        plan = dataclasses.replace(self.plan, extra=tuple(sorted({*self.plan.extra, *extra})))
        layout = self._encoder.ask(
            sample.Turn(words, None, regions),
            plan,
            self.media,
            first=not self.turns,
            slots=self._visual.region_slots(regions),
        )
        return Turn(text, words, regions, plan, self._encoder.question(words), tuple(layout.ids))

    def _find(self, name: str) -> sample.Region:
        if name in self.regions:
            return self.regions[name]
        if name not in self.names:
            raise KeyError(name)
        phrases = self.tracks(int(name.partition(".")[0]))
        track = next(phrase.track for phrase in phrases if phrase.name == name)
        return naming.region_of_track(name, track, self.plan)

    def _first_words(self, turn: Turn, finished: bool) -> Answer:
        """The answer before its masks are known."""
        found = read_answer(self.sama.tokenizer, self.sama.ids, turn.answer_ids, self.stop)
        number = len(self.turns)
        phrases = tuple(
            GroundedPhrase(f"{number}.{index}", phrase.text, phrase.start, phrase.end)
            for index, phrase in enumerate(found.grounded, start=1)
        )
        return Answer(found.plain, phrases, turn.answer_ids, turn.plan, Timing(), finished)

    def _check_length(self, tokens: int, new: int) -> None:
        if new < 1:
            raise SlotError(f"max_new_tokens is {new}; an answer needs 1 or more")
        limit = self.sama.adapter.decoder(self.sama.host).config.max_position_embeddings
        if tokens + new > limit:
            raise SlotError(
                f"the conversation has {tokens} tokens and may grow by {new}, the host reads "
                f"{limit}; open a new session, lower max_new_tokens, or let the language model "
                "read fewer frames (FramePolicy.llm)"
            )


def _ignore(event: Event) -> None:
    """For callers that do not stream."""
