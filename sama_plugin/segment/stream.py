"""Following objects through frames that arrive one at a time.

A live stream has no end and no way back: one frame is encoded, prompted objects are decoded on it,
the others are followed to it, and everything that no later frame can recall is forgotten, so the
state is as large after an hour as after a second. The state can be saved and resumed. Frame by
frame the results are those of `propagate` forward, as long as prompts come on the frames that
objects start from.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Mapping, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor, nn

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import CheckpointError, RegionError
from sama_plugin.segment.base import FrameFeatures, Memory, Segmenter
from sama_plugin.segment.following import (
    DEFAULT,
    Following,
    FrameResult,
    Given,
    ObjectPrompt,
    Result,
    Track,
    TrackOptions,
    check_count,
    collect,
)

_FIELDS = ("logits", "iou", "score", "pointer")


class Stream:
    """A video that is still being recorded.

    Args:
        segmenter: encodes and decodes. options: as for `propagate`; directions are not used.
        total: frames of the video, if known: SAM2 scales distances in time by it when it is
            shorter than the pointers it recalls.
        mask_decoder: decodes prompted frames in place of the segmenter's own.

    Attributes:
        frame: index of the frame that comes next. objects: number of objects followed.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        options: TrackOptions = DEFAULT,
        total: Optional[int] = None,
        mask_decoder: Optional[nn.Module] = None,
    ):
        self.segmenter, self.options, self.mask_decoder = segmenter, options, mask_decoder
        self.total = segmenter.pointer_limit if total is None else total
        self.frame = 0
        self._tracks: list[Track] = []

    @property
    def objects(self) -> int:
        return len(self._tracks)

    @torch.no_grad()
    def step(
        self, image: np.ndarray, prompts: Optional[Mapping[int, Given]] = None
    ) -> Optional[FrameResult]:
        """Results of all objects on the next frame; None while there are no objects.

        Args:
            image: RGB uint8 (H, W, 3).
            prompts: what is known of objects on this frame, one row each; the number of a new
                object is the next free one.

        Raises:
            RegionError: a prompt for an object that was never begun, or more objects than
                `options.most`; the frame was not taken.
        """
        prompts = dict(prompts or {})
        begun = range(self.objects, self.objects + len([n for n in prompts if n >= self.objects]))
        strange = [n for n in prompts if n < 0 or (n >= self.objects and n not in begun)]
        if strange:
            raise RegionError(
                f"a prompt for object {strange[0]} on frame {self.frame}, but the next new object "
                f"is {self.objects}"
            )
        check_count(self.objects + len(begun), self.options)
        self._tracks += [Track() for _ in begun]
        if not self._tracks:
            self.frame += 1
            return None
        following = Following(
            self.segmenter,
            _OneFrame(self.segmenter, image),
            self.total,
            self.options,
            self.mask_decoder,
        )
        following.begin(
            [ObjectPrompt({self.frame: given}) for given in prompts.values()],
            [self._tracks[number] for number in prompts],
        )
        following.visit(self._tracks, self.frame, 1)
        result = collect(self._tracks, range(self.objects), self.frame)
        for track in self._tracks:
            track.forget(self.frame, self.segmenter)
        self.frame += 1
        return result

    def save(self, path: Union[str, Path]) -> Path:
        """Write the state (a .safetensors file), whole or not at all."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        described = {
            "frame": self.frame,
            "total": self.total,
            "objects": self.objects,
            "options": asdict(self.options),
            "fingerprint": self.segmenter.fingerprint,
            "conditioning": [list(track.conditioning) for track in self._tracks],
        }
        for index, track in enumerate(self._tracks):
            for kind in ("prompted", "visited"):
                for frame, result in getattr(track, kind).items():
                    tensors.update(_packed(f"{index}.{kind}.{frame}", result))
        metadata = {"stream": json.dumps(described)}
        with atomic_path(path) as temporary:
            save_file(tensors, str(temporary), metadata=metadata)
        return Path(path)

    @classmethod
    def resume(
        cls,
        path: Union[str, Path],
        segmenter: Segmenter,
        mask_decoder: Optional[nn.Module] = None,
    ) -> Stream:
        """A stream that goes on where the saved one stopped.

        Raises:
            CheckpointError: the file is damaged or was written with another segmenter.
        """
        described, tensors = _read(Path(path))
        if described["fingerprint"] != segmenter.fingerprint:
            raise CheckpointError(
                f"{path} was written with segmenter {described['fingerprint']}, this one is "
                f"{segmenter.fingerprint}; memories of one mean nothing to the other"
            )
        options = described["options"]
        options["directions"] = tuple(options["directions"])
        stream = cls(
            segmenter,
            options=TrackOptions(**options),
            total=described["total"],
            mask_decoder=mask_decoder,
        )
        stream.frame = described["frame"]
        stream._tracks = [Track() for _ in range(described["objects"])]
        for name in sorted({key.rsplit(".", 1)[0] for key in tensors}, key=_in_order):
            index, kind, frame = name.split(".")
            getattr(stream._tracks[int(index)], kind)[int(frame)] = _unpacked(name, tensors)
        for track, frames in zip(stream._tracks, described["conditioning"]):
            track.conditioning = {frame: track.prompted[frame] for frame in frames}
        return stream


class _OneFrame:
    """A feature store of the frame at hand."""

    def __init__(self, segmenter: Segmenter, image: np.ndarray):
        self._features = segmenter.encode(segmenter.preprocess(image[None]))

    def prepare(self, frames: Sequence[int]) -> None:
        """Nothing to do: there is one frame."""

    def features(self, frame: int) -> FrameFeatures:
        return self._features


def _packed(name: str, result: Result) -> dict[str, Tensor]:
    tensors = {f"{name}.{field}": getattr(result, field) for field in _FIELDS}
    if result.memory is not None:
        tensors[f"{name}.memory"] = result.memory.features
        tensors[f"{name}.position"] = result.memory.position
    return {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}


def _unpacked(name: str, tensors: Mapping[str, Tensor]) -> Result:
    result = Result(*(tensors[f"{name}.{field}"] for field in _FIELDS))
    if f"{name}.memory" in tensors:
        result.memory = Memory(tensors[f"{name}.memory"], tensors[f"{name}.position"])
    return result


def _in_order(name: str) -> tuple[int, str, int]:
    index, kind, frame = name.split(".")
    return int(index), kind, int(frame)


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            described = json.loads((file.metadata() or {})["stream"])
            names = file.keys()
            return described, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} is missing or no saved stream ({error})") from error
