"""From prompted frames to masks of the whole video.

First every prompted frame of every object is decoded without memory; then each object is followed
forward from its first prompted frame and backward from the same one. A frame is conditioned on all
prompted frames, on the results of the frames just visited and on object pointers, exactly as SAM2's
stock predictor does (and with its quirk that the backward pass also recalls the forward one's first
frames). Objects of a frame are one batch; only to their memories do they attend in groups, whose
recall has the same shape. Results are yielded frame by frame, nothing older than the recall window
is kept. Used by sessions, evaluation and the mini world.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.errors import RegionError
from sama_plugin.segment.base import Decoded, FrameFeatures, Memory, Prompt, Recall, Segmenter
from sama_plugin.segment.store import FeatureStore

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

AHEAD = 16
"""Frames that the backward pass has encoded at once: going back a frame costs a video file up to a
group of pictures."""

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
class _Result:
    """One object on one frame; all tensors have one row. `memory` is dropped when it leaves the
    window.
    """

    logits: Tensor
    iou: Tensor
    score: Tensor
    pointer: Tensor
    memory: Optional[Memory] = None


@dataclass
class _Track:
    """One object's results: prompted frames, those of them that condition others, and visited
    frames.
    """

    prompted: dict[int, _Result] = field(default_factory=dict)
    conditioning: dict[int, _Result] = field(default_factory=dict)
    visited: dict[int, _Result] = field(default_factory=dict)
    span: Optional[tuple[int, int]] = None

    @property
    def start(self) -> int:
        return min(self.conditioning or self.prompted)

    def reaches(self, frame: int) -> bool:
        return self.span is None or self.span[0] <= frame <= self.span[1]


@torch.no_grad()
def propagate(
    segmenter: Segmenter,
    store: FeatureStore,
    objects: Sequence[ObjectPrompt],
    total: int,
    *,
    options: TrackOptions = DEFAULT,
    mask_decoder: Optional[nn.Module] = None,
) -> Iterator[FrameResult]:
    """Follow `objects` through `total` frames; every (object, frame) that is reached comes exactly
    once.

    Forward frames ascend, then backward frames descend. An object whose prompted frames are all
    empty is empty on all frames it would have reached. `mask_decoder` decodes prompted frames in
    place of the segmenter's own.

    Raises:
        RegionError: an object without prompted frames, a prompted frame outside the video, or more
            objects than `options.most`.
    """
    check_objects(objects, total, options)
    tracks = [_Track(span=item.span) for item in objects]
    if not tracks:
        return
    _decode_prompted(segmenter, store, objects, tracks, options, mask_decoder, total > 1)
    for direction in options.directions:
        step = 1 if direction == "forward" else -1
        yield from _pass(segmenter, store, tracks, total, step, options)


def _pass(segmenter, store, tracks, total, step, options) -> Iterator[FrameResult]:
    """One direction. The frame an object starts from belongs to the first direction."""
    opening = options.directions[0] == ("forward" if step > 0 else "backward")
    starts = [track.start for track in tracks]
    order = range(min(starts), total) if step > 0 else range(max(starts), -1, -1)
    for frame in order:
        active = _active(tracks, starts, frame, step, opening)
        if not active:
            continue
        if step < 0 and frame not in store:
            before = range(max(0, frame - AHEAD + 1), frame + 1)
            store.read_ahead([one for one in before if _looks(tracks, starts, one, opening)])
        here = [tracks[index] for index in active]
        _visit(segmenter, store, here, frame, step, total, options)
        yield _collect(tracks, active, frame)
        for index in active:
            _forget(tracks[index], frame, segmenter)


def _active(tracks, starts, frame, step, opening) -> list[int]:
    """Places of the tracks that a pass in this direction reaches on `frame`."""
    return [
        index
        for index, start in enumerate(starts)
        if ((frame - start) * step > 0 or (opening and frame == start))
        and tracks[index].reaches(frame)
    ]


def _looks(tracks, starts, frame, opening) -> bool:
    """Whether the backward pass will ask for the features of `frame`."""
    return any(tracks[i].conditioning for i in _active(tracks, starts, frame, -1, opening))


def check_count(objects: int, options: TrackOptions) -> None:
    """Refuse more objects than the options allow."""
    if objects > options.most:
        raise RegionError(
            f"{objects} objects are more than the {options.most} that are followed at once; follow "
            "them in groups, or raise TrackOptions.most if there is memory. An answer with that "
            "many [SEG]s mostly repeats itself: ask for less"
        )


def check_objects(objects: Sequence[ObjectPrompt], total: int, options: TrackOptions) -> None:
    """Refuse too many objects, and those that are prompted on no frame of the video."""
    check_count(len(objects), options)
    for index, item in enumerate(objects):
        outside = [frame for frame in item.frames if not 0 <= frame < total]
        if not item.frames or outside:
            found = f"prompted on frame(s) {outside}" if outside else "not prompted on any frame"
            raise RegionError(f"object {index} is {found}; the video has frames 0 to {total - 1}")


def _decode_prompted(
    segmenter, store, objects, tracks, options, mask_decoder, recalled: bool
) -> None:
    """Results of all prompted frames, and memories if any other frame can recall them."""
    for frame, indices, features, decoded in _prompted(
        segmenter, store, objects, options, mask_decoder
    ):
        memory = None
        if recalled:
            memory = _remember(segmenter, features, decoded, options, options.binarise_prompted)
        for row, index in enumerate(indices):
            result = _row(decoded, memory, row)
            tracks[index].prompted[frame] = result
            if options.empty_conditions or float(result.score) > 0:
                tracks[index].conditioning[frame] = result


def decode_prompted(
    segmenter, store, objects: Sequence[ObjectPrompt], options, mask_decoder
) -> list[dict[int, Decoded]]:
    """What each object's prompts say by themselves: one `Decoded` row a prompted frame."""
    found: list[dict[int, Decoded]] = [{} for _ in objects]
    for frame, indices, _, decoded in _prompted(segmenter, store, objects, options, mask_decoder):
        for row, index in enumerate(indices):
            found[index][frame] = decoded.rows(torch.tensor([row], device=decoded.score.device))
    return found


def _prompted(segmenter, store, objects, options, mask_decoder) -> Iterator[tuple]:
    """(frame, places of objects, features, decoded), prompts of equal shape on a frame together."""
    frames = sorted({frame for item in objects for frame in item.frames})
    store.prepare(frames)
    for frame in frames:
        here = [i for i, item in enumerate(objects) if frame in item.frames]
        given_here = [objects[i].frames[frame] for i in here]
        for indices in _equal_shapes(given_here, here, options.batch):
            given = [objects[i].frames[frame] for i in indices]
            features = store.features(frame).expand(len(indices))
            decoded = _result_of(segmenter, features, given, options, mask_decoder)
            yield frame, indices, features, decoded


def _result_of(segmenter, features, given: list[Given], options, mask_decoder) -> Decoded:
    first = given[0]
    if isinstance(first, Decoded):
        decoded = Decoded.cat(given)
    elif isinstance(first, Prompt):
        decoded = segmenter.decode(
            features,
            _stack(given),
            mask_decoder=mask_decoder,
            stability_fallback=options.stability_fallback,
        )
    else:
        return segmenter.adopt(features, torch.cat(given))
    return _blank(decoded, options)


def _stack(prompts: list[Prompt]) -> Prompt:
    def join(name: str) -> Optional[Tensor]:
        parts = [getattr(prompt, name) for prompt in prompts]
        return None if parts[0] is None else torch.cat(parts)

    return Prompt(join("points"), join("labels"), join("mask"), join("vectors"))


def _blank(decoded: Decoded, options: TrackOptions) -> Decoded:
    if not options.blank_absent:
        return decoded
    absent = (decoded.score <= 0).view(-1, 1, 1, 1)
    logits = torch.where(absent, torch.full_like(decoded.logits, ABSENT_LOGIT), decoded.logits)
    return Decoded(**{**vars(decoded), "logits": logits})


def _remember(segmenter, features, decoded: Decoded, options, binarise: bool) -> Memory:
    size = (segmenter.image_size, segmenter.image_size)
    wide = F.interpolate(decoded.logits.float(), size, mode="bilinear", align_corners=False)
    memory = segmenter.remember(features, wide, decoded.score, binarise=binarise)
    if options.half_memory:
        memory = Memory(memory.features.bfloat16(), memory.position)
    return memory


def _row(decoded: Decoded, memory: Optional[Memory], row: int) -> _Result:
    part = slice(row, row + 1)
    kept = memory and Memory(memory.features[part], memory.position)
    return _Result(
        decoded.logits[part].float(),
        decoded.iou[part].float(),
        decoded.score[part].float(),
        decoded.pointer[part],
        kept,
    )


def _visit(segmenter, store, tracks: list[_Track], frame, step, total, options) -> None:
    """Compute one frame of those of `tracks` that nobody prompted there, so many at a time.

    Tracks attend to their memories in groups whose recall has the same shape; masks are decoded and
    remembered for all groups together.
    """
    waiting = [track for track in tracks if frame not in track.prompted]
    for track in waiting:
        if not track.conditioning:
            track.visited[frame] = _nothing(track)
    seen = [one for group in _alike(waiting) for one in group if one.conditioning]
    for begin in range(0, len(seen), options.batch):
        together = seen[begin : begin + options.batch]
        features = store.features(frame).expand(len(together))
        conditioned = FrameFeatures.cat(
            [
                segmenter.condition(
                    store.features(frame).expand(len(group)),
                    _recall(segmenter, group, frame, step, total),
                )
                for group in _alike(together)
            ]
        )
        decoded = segmenter.decode(
            conditioned, Prompt(), memoryless=False, stability_fallback=options.stability_fallback
        )
        decoded = _blank(decoded, options)
        memory = _remember(segmenter, features, decoded, options, False)
        for row, track in enumerate(together):
            track.visited[frame] = _row(decoded, memory, row)


def _nothing(track: _Track) -> _Result:
    """The result on any frame for an object that no prompted frame has found."""
    best = max(track.prompted.values(), key=lambda result: float(result.score))
    blank = torch.full_like(best.logits, ABSENT_LOGIT)
    return _Result(blank, torch.zeros_like(best.iou), best.score, best.pointer)


def _recall(segmenter, tracks: list[_Track], frame: int, step: int, total: int) -> Recall:
    """All prompted frames first, then visited ones from the farthest to the nearest; pointers
    nearest first.
    """
    shape = tracks[0]

    def memory(pick) -> Memory:
        kept = [pick(track).memory for track in tracks]
        return Memory(torch.cat([one.features for one in kept]), kept[0].position)

    def pointer(pick) -> Tensor:
        return torch.cat([pick(track).pointer for track in tracks])

    memories = [(0, memory(lambda track, t=t: track.conditioning[t])) for t in shape.conditioning]
    for distance in range(segmenter.memory_frames - 1, 0, -1):
        t = frame - distance * step
        if t in shape.visited:
            memories.append((distance, memory(lambda track, t=t: track.visited[t])))
    pointers = [
        ((frame - t) * step, pointer(lambda track, t=t: track.conditioning[t]))
        for t in shape.conditioning
        if (frame - t) * step >= 0
    ]
    span = min(total, segmenter.pointer_limit)
    for distance in range(1, span):
        t = frame - distance * step
        if t in shape.visited:
            pointers.append((distance, pointer(lambda track, t=t: track.visited[t])))
    return Recall(tuple(memories), tuple(pointers), span)


def _alike(tracks: Iterable[_Track]) -> list[list[_Track]]:
    """Group tracks by the frames they recall."""
    groups: dict[tuple, list[_Track]] = {}
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


def _collect(tracks: list[_Track], active: list[int], frame: int) -> FrameResult:
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


def _forget(track: _Track, frame: int, segmenter: Segmenter) -> None:
    """Drop what neither the coming frames nor the start of the backward pass can recall."""
    for t, result in list(track.visited.items()):
        nearest = min(abs(frame - t), abs(t - track.start))
        if nearest >= segmenter.pointer_limit:
            del track.visited[t]
        elif nearest >= segmenter.memory_frames:
            result.memory = None
