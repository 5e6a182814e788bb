"""Objects followed from frame to frame by SAM2: what is asked of them, what is found, one step.

A frame is conditioned on all prompted frames, on the results of the frames just visited and on
object pointers, exactly as SAM2's stock predictor does. Objects of a frame are one batch; only to
their memories do they attend in groups, whose recall has the same shape. What no later frame can
recall is forgotten. Used by `propagate.py`, which goes through a whole video both ways, and by
`stream.py`, where frames come one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, Optional, Protocol, Sequence, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.errors import RegionError
from sama_plugin.segment.base import Decoded, FrameFeatures, Memory, Prompt, Recall, Segmenter

ABSENT_LOGIT = -1024.0

Given = Union[Prompt, Decoded, Tensor]


@dataclass(frozen=True)
class TrackOptions:
    """How SAM2's results become tracks. The defaults are the stock predictor's, with empty prompted
    frames left out.

    blank_absent: logits of an object with score <= 0 become -1024. binarise_prompted: masks of
    prompted frames are cut at 0 before they become memory. stability_fallback: an unstable single
    mask gives way to the best candidate.
    empty_conditions: whether a prompted frame with score <= 0 is remembered at all. directions:
    "forward", "backward".
    half_memory: memories rounded to bfloat16, as stock stores them. through_input: logits pass
    through the network's input size on the way to the video's. batch: objects computed together at
    most, which bounds what a step needs. most: objects followed at once at most, which bounds what
    they remember (some 10 MB each at 1024 x 1024).
    """

    blank_absent: bool = True
    binarise_prompted: bool = True
    stability_fallback: bool = True
    empty_conditions: bool = False
    directions: tuple[str, ...] = ("forward", "backward")
    half_memory: bool = False
    through_input: bool = False
    batch: int = 16
    most: int = 256


DEFAULT = TrackOptions()

STOCK = TrackOptions(empty_conditions=True)
"""Meta's video predictor (with fp32 memories; `half_memory` adds its rounding)."""

RELEASED = TrackOptions(
    blank_absent=False,
    binarise_prompted=False,
    empty_conditions=True,
    directions=("forward",),
    through_input=True,
)
"""What SAMA and Sa2VA do with it."""


@dataclass(frozen=True)
class ObjectPrompt:
    """One object: what is known of it on some frames.

    Values of `frames` (by frame index, at least one): a `Prompt` of one row; a `Decoded` of one row
    that was made elsewhere; or a mask (1, 1, S, S) of 0/1 at the segmenter's input size, which is
    taken as it is. `span`: first and last frame on which it is followed, by default all.
    """

    frames: Mapping[int, Given]
    span: Optional[tuple[int, int]] = None


@dataclass(frozen=True)
class FrameResult:
    """Results of some objects on one frame: logits (O, 1, 4h, 4w), blanked by the options; iou,
    score (O,); pointer (O, C); objects: their places in the list given to `propagate`; prompted
    (O,) bool.
    """

    frame: int
    objects: tuple[int, ...]
    logits: Tensor
    iou: Tensor
    score: Tensor
    pointer: Tensor
    prompted: tuple[bool, ...]


@dataclass
class Result:
    """One object on one frame; all tensors have one row. `memory` is dropped when it leaves the
    window.
    """

    logits: Tensor
    iou: Tensor
    score: Tensor
    pointer: Tensor
    memory: Optional[Memory] = None


@dataclass
class Track:
    """One object's results: prompted frames, those of them that condition others, and visited
    frames.
    """

    prompted: dict[int, Result] = field(default_factory=dict)
    conditioning: dict[int, Result] = field(default_factory=dict)
    visited: dict[int, Result] = field(default_factory=dict)
    span: Optional[tuple[int, int]] = None

    @property
    def start(self) -> int:
        return min(self.conditioning or self.prompted)

    def reaches(self, frame: int) -> bool:
        return self.span is None or self.span[0] <= frame <= self.span[1]

    def forget(self, frame: int, segmenter: Segmenter) -> None:
        """Drop what neither later frames nor the start of a backward pass can recall."""
        for t, result in list(self.visited.items()):
            nearest = min(abs(frame - t), abs(t - self.start))
            if nearest >= segmenter.pointer_limit:
                del self.visited[t]
            elif nearest >= segmenter.memory_frames:
                result.memory = None


class Features(Protocol):
    """Encoded frames by number: a `FeatureStore`, or the one frame of a live stream."""

    def prepare(self, frames: Sequence[int]) -> None: ...

    def features(self, frame: int) -> FrameFeatures: ...


@dataclass
class Following:
    """What every step needs. `total`: frames of the video, by which SAM2 scales distances in time.
    `mask_decoder` decodes prompted frames in place of the segmenter's own.
    """

    segmenter: Segmenter
    store: Features
    total: int
    options: TrackOptions = DEFAULT
    mask_decoder: Optional[nn.Module] = None

    def begin(self, objects: Sequence[ObjectPrompt], tracks: Sequence[Track]) -> None:
        """Results of all prompted frames, and memories if any other frame can recall them."""
        for frame, places, features, decoded in self._prompted(objects):
            memory = None
            if self.total > 1:
                memory = self._remember(features, decoded, self.options.binarise_prompted)
            for row, place in enumerate(places):
                result = _row(decoded, memory, row)
                tracks[place].prompted[frame] = result
                if self.options.empty_conditions or float(result.score) > 0:
                    tracks[place].conditioning[frame] = result

    def decode(self, objects: Sequence[ObjectPrompt]) -> list[dict[int, Decoded]]:
        """What each object's prompts say by themselves: one `Decoded` row a prompted frame."""
        found: list[dict[int, Decoded]] = [{} for _ in objects]
        for frame, places, _, decoded in self._prompted(objects):
            for row, place in enumerate(places):
                found[place][frame] = decoded.rows(torch.tensor([row], device=decoded.score.device))
        return found

    def visit(self, tracks: Sequence[Track], frame: int, step: int) -> None:
        """Compute one frame of those of `tracks` that nobody prompted there, so many at a time;
        `step` is 1 forward and -1 backward.

        Tracks attend to their memories in groups whose recall has the same shape; masks are decoded
        and remembered for all groups together.
        """
        waiting = [track for track in tracks if frame not in track.prompted]
        for track in waiting:
            if not track.conditioning:
                track.visited[frame] = _nothing(track)
        seen = [one for group in _alike(waiting) for one in group if one.conditioning]
        for start in range(0, len(seen), self.options.batch):
            together = seen[start : start + self.options.batch]
            features = self.store.features(frame)
            conditioned = [
                self.segmenter.condition(
                    features.expand(len(group)), self._recall(group, frame, step)
                )
                for group in _alike(together)
            ]
            decoded = self.segmenter.decode(
                FrameFeatures.cat(conditioned),
                Prompt(),
                memoryless=False,
                stability_fallback=self.options.stability_fallback,
            )
            decoded = self._blanked(decoded)
            memory = self._remember(features.expand(len(together)), decoded, False)
            for row, track in enumerate(together):
                track.visited[frame] = _row(decoded, memory, row)

    def _prompted(
        self, objects: Sequence[ObjectPrompt]
    ) -> Iterator[tuple[int, list[int], FrameFeatures, Decoded]]:
        """(frame, places of objects, features, decoded), prompts of equal shape on a frame
        together."""
        frames = sorted({frame for item in objects for frame in item.frames})
        self.store.prepare(frames)
        for frame in frames:
            here = [place for place, item in enumerate(objects) if frame in item.frames]
            given_here = [objects[place].frames[frame] for place in here]
            for places in _equal_shapes(given_here, here, self.options.batch):
                given = [objects[place].frames[frame] for place in places]
                features = self.store.features(frame).expand(len(places))
                yield frame, places, features, self._decoded(features, given)

    def _decoded(self, features: FrameFeatures, given: list[Given]) -> Decoded:
        first = given[0]
        if isinstance(first, Decoded):
            return self._blanked(Decoded.cat(given))
        if not isinstance(first, Prompt):
            return self.segmenter.adopt(features, torch.cat(given))
        decoded = self.segmenter.decode(
            features,
            _stack(given),
            mask_decoder=self.mask_decoder,
            stability_fallback=self.options.stability_fallback,
        )
        return self._blanked(decoded)

    def _blanked(self, decoded: Decoded) -> Decoded:
        if not self.options.blank_absent:
            return decoded
        absent = (decoded.score <= 0).view(-1, 1, 1, 1)
        logits = torch.where(absent, torch.full_like(decoded.logits, ABSENT_LOGIT), decoded.logits)
        return Decoded(**{**vars(decoded), "logits": logits})

    def _remember(self, features: FrameFeatures, decoded: Decoded, binarise: bool) -> Memory:
        size = (self.segmenter.image_size, self.segmenter.image_size)
        wide = F.interpolate(decoded.logits.float(), size, mode="bilinear", align_corners=False)
        memory = self.segmenter.remember(features, wide, decoded.score, binarise=binarise)
        if self.options.half_memory:
            memory = Memory(memory.features.bfloat16(), memory.position)
        return memory

    def _recall(self, tracks: list[Track], frame: int, step: int) -> Recall:
        """All prompted frames first, then visited ones from the farthest to the nearest; pointers
        nearest first.
        """
        shape = tracks[0]

        def memory(pick) -> Memory:
            kept = [pick(track).memory for track in tracks]
            return Memory(torch.cat([one.features for one in kept]), kept[0].position)

        def pointer(pick) -> Tensor:
            return torch.cat([pick(track).pointer for track in tracks])

        memories = [
            (0, memory(lambda track, t=t: track.conditioning[t])) for t in shape.conditioning
        ]
        for distance in range(self.segmenter.memory_frames - 1, 0, -1):
            t = frame - distance * step
            if t in shape.visited:
                memories.append((distance, memory(lambda track, t=t: track.visited[t])))
        pointers = [
            ((frame - t) * step, pointer(lambda track, t=t: track.conditioning[t]))
            for t in shape.conditioning
            if (frame - t) * step >= 0
        ]
        span = min(self.total, self.segmenter.pointer_limit)
        for distance in range(1, span):
            t = frame - distance * step
            if t in shape.visited:
                pointers.append((distance, pointer(lambda track, t=t: track.visited[t])))
        return Recall(tuple(memories), tuple(pointers), span)


def collect(tracks: Sequence[Track], active: Sequence[int], frame: int) -> FrameResult:
    """What was found of the tracks in places `active` on one frame."""
    prompted = tuple(frame in tracks[index].prompted for index in active)
    results = [
        tracks[index].prompted[frame] if known else tracks[index].visited[frame]
        for index, known in zip(active, prompted)
    ]
    return FrameResult(
        frame=frame,
        objects=tuple(active),
        logits=torch.cat([result.logits for result in results]),
        iou=torch.cat([result.iou for result in results]),
        score=torch.cat([result.score for result in results]),
        pointer=torch.cat([result.pointer for result in results]),
        prompted=prompted,
    )


def check_count(objects: int, options: TrackOptions) -> None:
    """Refuse more objects than the options allow."""
    if objects > options.most:
        raise RegionError(
            f"{objects} objects are more than the {options.most} that are followed at once; follow "
            "them in groups, or raise TrackOptions.most if there is memory. An answer with that "
            "many [SEG]s mostly repeats itself: ask for less"
        )


def _stack(prompts: list[Prompt]) -> Prompt:
    def join(name: str) -> Optional[Tensor]:
        parts = [getattr(prompt, name) for prompt in prompts]
        return None if parts[0] is None else torch.cat(parts)

    return Prompt(join("points"), join("labels"), join("mask"), join("vectors"))


def _row(decoded: Decoded, memory: Optional[Memory], row: int) -> Result:
    part = slice(row, row + 1)
    kept = memory and Memory(memory.features[part], memory.position)
    return Result(
        decoded.logits[part].float(),
        decoded.iou[part].float(),
        decoded.score[part].float(),
        decoded.pointer[part],
        kept,
    )


def _nothing(track: Track) -> Result:
    """The result on any frame for an object that no prompted frame has found."""
    best = max(track.prompted.values(), key=lambda result: float(result.score))
    blank = torch.full_like(best.logits, ABSENT_LOGIT)
    return Result(blank, torch.zeros_like(best.iou), best.score, best.pointer)


def _alike(tracks: Iterable[Track]) -> list[list[Track]]:
    """Group tracks by the frames they recall."""
    groups: dict[tuple, list[Track]] = {}
    for track in tracks:
        recalled = tuple(track.conditioning), tuple(sorted(track.visited))
        groups.setdefault(recalled, []).append(track)
    return list(groups.values())


def _equal_shapes(given: list[Given], places: list[int], batch: int) -> list[list[int]]:
    """Group what is given for one frame by kind and by the shapes that have to agree in a batch."""
    groups: dict[tuple, list[int]] = {}
    for item, place in zip(given, places):
        parts = vars(item) if not isinstance(item, Tensor) else {"mask": item}
        shapes = tuple((name, None if part is None else part.shape) for name, part in parts.items())
        groups.setdefault((type(item).__name__, shapes), []).append(place)
    return [group[n : n + batch] for group in groups.values() for n in range(0, len(group), batch)]
