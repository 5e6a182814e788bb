"""Frame plans: which frames each reader of a clip sees, as data.

Three readers: the aggregator (F frames, many), the language model (K, few) and the segmenter (the
frames on which a [SEG] is decoded directly, from where masks are propagated). A policy is what one
asks for, a plan what one gets for a clip of a given length; a plan prints, goes to JSON and
replays. The default spreads all three over the whole clip; SAMA's released rule is kept beside it
for its checkpoints (SAMA code, section 1.2 of its description).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Mapping, Optional, Sequence

from sama_plugin.errors import ConfigError, MediaError


@dataclass(frozen=True)
class FramePolicy:
    """How many frames each reader gets, and how they are chosen.

    Attributes:
        aggregator: F, frames the aggregator reads; 0 = plain chat.
        llm: K, frames the language model reads: K of the F, or of the clip when F is 0.
        prompted: frames on which [SEG] masks are decoded without memory; among the language
            model's K frames when there are enough of them.
        how: "uniform" (midpoints of equal parts of the clip), "fps" (`fps` frames a second, thinned
            to the number asked for), "all" (every frame, F ignored), "first" (the first ones).
        fps: rate for how="fps".
        compat: "default"; "released" and "released-training": SAMA's rules at inference and in
            training, which need aggregator=32, llm=5, prompted=5 to be its own and ignore `how`.
    """

    aggregator: int = 8
    llm: int = 4
    prompted: int = 4
    how: Literal["uniform", "fps", "all", "first"] = "uniform"
    fps: float = 0.0
    compat: Literal["default", "released", "released-training"] = "default"

    def __post_init__(self) -> None:
        for name in ("aggregator", "llm", "prompted"):
            if getattr(self, name) < 0:
                raise ConfigError(f"frames.{name} is {getattr(self, name)}; give 0 or more")
        if self.how not in _CHOOSE:
            raise ConfigError(f"frames.how is {self.how!r}; known: {', '.join(_CHOOSE)}")
        if self.compat not in ("default", "released", "released-training"):
            raise ConfigError(
                f"frames.compat is {self.compat!r}; known: default, released, released-training"
            )
        if self.how == "fps" and not self.fps > 0:
            raise ConfigError(
                f"frames.how is 'fps' and frames.fps is {self.fps}; give a rate above 0"
            )


@dataclass(frozen=True)
class FramePlan:
    """Which frames of a clip are read by whom; all are indices in the source.

    Attributes:
        total: frames of the clip.
        aggregator: F frames, ascending.
        llm: K frames in the order the language model reads them, all in `rows`.
        prompted: frames on which [SEG] masks are decoded without memory.
        extra: frames that are encoded and pooled for regions, and read by nobody else.
        policy: words saying where the plan comes from.
    """

    total: int
    aggregator: tuple[int, ...]
    llm: tuple[int, ...]
    prompted: tuple[int, ...]
    extra: tuple[int, ...] = ()
    policy: str = ""

    def __post_init__(self) -> None:
        for name in ("aggregator", "llm", "prompted", "extra"):
            frames = getattr(self, name)
            outside = [frame for frame in frames if not 0 <= frame < self.total]
            if outside:
                raise MediaError(
                    f"frame plan: {name} has frame {outside[0]}, the clip has {self.total} frames "
                    f"(0 to {self.total - 1})"
                )
        for name in ("aggregator", "extra"):
            frames = getattr(self, name)
            if list(frames) != sorted(set(frames)):
                raise MediaError(
                    f"frame plan: {name} {list(frames)} is not ascending without repeats"
                )

    @property
    def rows(self) -> tuple[int, ...]:
        """Every frame the vision tower encodes, ascending: the rows of its output."""
        return tuple(sorted({*self.aggregator, *self.llm, *self.extra}))

    def moment(self, frame: int) -> float:
        """Place of a frame in the clip, from 0 (first) to 1 (last)."""
        return frame / max(1, self.total - 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FramePlan:
        """Inverse of `to_json`."""
        try:
            lists = {name: tuple(int(i) for i in record.get(name, ())) for name in _LISTS}
            return cls(total=int(record["total"]), policy=str(record.get("policy", "")), **lists)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError(f"not a frame plan: {str(record)[:120]} ({error!r})") from error

    def __str__(self) -> str:
        parts = [f"{self.total} frames"]
        for name in _LISTS:
            frames = getattr(self, name)
            if frames or name != "extra":
                shown = " ".join(str(frame) for frame in frames)
                parts.append(f"{name} {len(frames)} [{shown}]")
        return "; ".join(parts) + (f"  ({self.policy})" if self.policy else "")


def plan_frames(
    total: int,
    policy: FramePolicy,
    keep: Sequence[int] = (),
    fps: Optional[float] = None,
    stride: int = 1,
) -> FramePlan:
    """Lay `policy` on a clip.

    Args:
        total: frames of the clip.
        keep: frames that must be encoded because a region is pointed on them; those outside the
            plan become `extra`.
        fps: frame rate of the clip; needed by how="fps".
        stride: use only every stride-th frame (the annotated ones; `Media.frame_stride`), `keep`
            apart.

    Raises:
        MediaError: a clip without frames, or a frame to keep outside the clip.
        ConfigError: how="fps" without the clip's rate.
    """
    if total < 1:
        raise MediaError(f"the clip has {total} frames; nothing can be planned on it")
    outside = [frame for frame in keep if not 0 <= frame < total]
    if outside:
        raise MediaError(
            f"frame {outside[0]} is outside the clip of {total} frames (0 to {total - 1})"
        )
    length = -(-total // stride)
    if policy.compat == "default":
        chosen = _default(length, policy, fps / stride if fps else None)
    else:
        chosen = _released(length, policy)
    aggregator, llm, prompted = (tuple(stride * frame for frame in frames) for frames in chosen)
    extra = tuple(sorted(set(map(int, keep)) - {*aggregator, *llm}))
    return FramePlan(total, aggregator, llm, prompted, extra, _describe(policy, stride))


def midpoints(length: int, count: int) -> list[int]:
    """Positions floor((i + 0.5) * length / count): the middles of `count` equal parts; all if there
    are fewer.
    """
    if length <= count:
        return list(range(length))
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def released_sparse(total: int, interval: int = 3, most: int = 32, least: int = 8) -> list[int]:
    """SAMA's aggregator frames: every `interval`-th, thinned to `most`, or filled up towards
    `least`.

    Fewer than `least` can remain, because the frames filled in may be there already (10 frames give
    7).
    """
    frames = list(range(0, total, interval))
    if len(frames) > most:
        return [frames[int(i * len(frames) / most)] for i in range(most)]
    missing = least - len(frames)
    if missing > 0:
        filled = (int((i + 1) * total / (missing + 1)) for i in range(missing))
        frames = sorted({*frames, *filled})
    return frames


def released_dense_training(count: int, dense: int = 5) -> list[int]:
    """Positions in the sparse list that SAMA trains on: middles between dense + 1 whole knots.

    Lists of up to `dense` frames give -1 (Python: the last one) and repeats; reproduced as
    released.
    """
    import numpy as np

    knots = np.linspace(0, count - 1, dense + 1).astype(int).tolist()
    return [(low + high - 1) // 2 for low, high in zip(knots, knots[1:])]


def released_dense_inference(count: int, dense: int = 5) -> list[int]:
    """Positions in the sparse list that SAMA answers from: the first ones."""
    return list(range(min(dense, count)))


def _default(length: int, policy: FramePolicy, fps: Optional[float]) -> tuple[list[int], ...]:
    choose = _CHOOSE[policy.how]
    pick = _first if policy.how == "first" else _uniform
    aggregator: list[int] = []
    if policy.aggregator:
        aggregator = choose(length, policy.aggregator, policy, fps)
        llm = [aggregator[i] for i in pick(len(aggregator), policy.llm, policy, fps)]
    else:
        llm = choose(length, policy.llm, policy, fps) if policy.llm else []
    if policy.prompted <= len(llm):  # masks are placed best where the language model has looked
        prompted = [llm[i] for i in pick(len(llm), policy.prompted, policy, fps)]
    else:
        prompted = pick(length, policy.prompted, policy, fps)
    return aggregator, llm, prompted


def _released(length: int, policy: FramePolicy) -> tuple[list[int], ...]:
    training = policy.compat == "released-training"
    sparse = released_sparse(length, most=policy.aggregator)
    dense = released_dense_training if training else released_dense_inference
    llm = [sparse[position] for position in dense(len(sparse), policy.llm)]
    prompted = llm if training else list(range(min(len(llm), policy.prompted)))
    return sparse, llm, prompted


def _uniform(length: int, count: int, policy: FramePolicy, fps: Optional[float]) -> list[int]:
    return midpoints(length, count)


def _by_rate(length: int, count: int, policy: FramePolicy, fps: Optional[float]) -> list[int]:
    if not fps:
        raise ConfigError("frames.how is 'fps', but the frame rate of this clip is not known")
    ticks = range(max(1, round(length / fps * policy.fps)))
    frames = sorted({min(length - 1, int(tick * fps / policy.fps + 0.5)) for tick in ticks})
    return [frames[position] for position in midpoints(len(frames), count)]


def _all(length: int, count: int, policy: FramePolicy, fps: Optional[float]) -> list[int]:
    return list(range(length))


def _first(length: int, count: int, policy: FramePolicy, fps: Optional[float]) -> list[int]:
    return list(range(min(count, length)))


_CHOOSE = {"uniform": _uniform, "fps": _by_rate, "all": _all, "first": _first}
_LISTS = ("aggregator", "llm", "prompted", "extra")


def _describe(policy: FramePolicy, stride: int) -> str:
    words = policy.compat if policy.compat != "default" else policy.how
    if words == "fps":
        words = f"{policy.fps:g} frames a second"
    return words + (f", every {stride} frames" if stride != 1 else "")
