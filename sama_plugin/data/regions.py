"""What a region encoder is shown of a region, and how many tokens it will make of it.

Slots before pixels: the number of tokens is a function of the region's masks and the frame plan
alone, so the text is laid out before the vision tower runs. A rule knows both: `slots` for the
encoder of the text, `entries` (visual rows, weights on their cells) for the region encoder of the
same name in `nn`. Rows are frames, or crops that go through the vision tower as frames of their
own. Used by the collator and by sessions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Optional, Protocol, Sequence, Union

import numpy as np

from sama_plugin.dialog.sample import Region
from sama_plugin.errors import ConfigError
from sama_plugin.logs import warn_once
from sama_plugin.media.masks import box_of, resize_area
from sama_plugin.registry import Registry

REGION_RULES = Registry(
    "region_rules",
    {
        "sama": "sama_plugin.data.regions:sama_rule",
        "sama-released": "sama_plugin.data.regions:released_sama_rule",
        "videorefer": "sama_plugin.data.regions:videorefer_rule",
        "videorefer-released": "sama_plugin.data.regions:released_videorefer_rule",
        "pixelrefer": "sama_plugin.data.regions:pixelrefer_rule",
        "sa2va": "sama_plugin.data.regions:sa2va_rule",
        "sa2va-released": "sama_plugin.data.regions:released_sa2va_rule",
    },
)


class Crop(NamedTuple):
    """A part of a frame that is encoded like a frame: box (x0, y0, x1, y1) in whole pixels."""

    frame: int
    box: tuple[int, int, int, int]

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """The pixels (h, w, 3) of a frame (H, W, 3)."""
        x0, y0, x1, y1 = self.box
        return frame[y0:y1, x0:x1]


VisualRow = Union[int, Crop]


@dataclass(frozen=True)
class RegionEntries:
    """Regions as their encoder reads them, one entry a (region, visual row) pair."""

    owner: list[int]  # region of each entry, ascending
    seen: list[VisualRow]
    weights: np.ndarray  # (M, N) float32, covered area of each cell
    shape: np.ndarray  # (M, s, s) float32, the mask in the frame
    place: Optional[np.ndarray] = None  # (M, N, 2) float32, centre of each cell in the frame, 0..1

    @property
    def crops(self) -> list[Crop]:
        """Crops that must be encoded, each once."""
        return list(dict.fromkeys(row for row in self.seen if isinstance(row, Crop)))


def joined(parts: Sequence[RegionEntries], regions: Sequence[int]) -> RegionEntries:
    """The entries of several questions, one after the other; at least one.

    Args:
        regions: how many regions each of them is about.
    """
    before = np.cumsum([0, *regions])
    places = [part.place for part in parts]
    return RegionEntries(
        [int(start) + one for start, part in zip(before, parts) for one in part.owner],
        [row for part in parts for row in part.seen],
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.shape for part in parts]),
        None if places[0] is None else np.concatenate(places),
    )


class RegionRule(Protocol):
    """How one kind of region encoder is fed."""

    sized: ClassVar[bool]
    """Whether `slots` reads the size of the clip."""

    def slots(self, region: Region, size: Sequence[int]) -> int:
        """Tokens of a region in a clip of (height, width)."""

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        """What the encoder reads of these regions."""


def region_rule(
    config: Any, grid: tuple[int, int], compat: str = "default", seed: int = 0
) -> RegionRule:
    """The rule of a `RegionConfig`, for a host with this grid of visual tokens.

    Args:
        compat: "released" takes the rule registered as "KIND-released", if there is one.
        seed: of released rules that draw a frame.
    """
    kind = f"{config.kind}-{compat}"
    kind = kind if kind in REGION_RULES.names() else config.kind
    return REGION_RULES.get(kind)(config, grid, seed)


@dataclass(frozen=True)
class SamaRule:
    """Two tokens a region; every prompt is an entry, weighted by area."""

    sized: ClassVar[bool] = False
    grid: tuple[int, int]
    shape_size: int

    def slots(self, region: Region, size: Sequence[int]) -> int:
        return 2

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        prompts = [(number, one) for number, region in enumerate(regions) for one in region.prompts]
        masks = [prompt.mask_array(*size) for _, prompt in prompts]
        seen = [prompt.frame for _, prompt in prompts]
        return self.of_masks([number for number, _ in prompts], seen, masks)

    def of_masks(
        self, owner: list[int], seen: list[VisualRow], masks: Sequence[np.ndarray]
    ) -> RegionEntries:
        """Entries of whole-frame masks, resized by area."""
        weights = [resize_area(mask, *self.grid).reshape(-1) for mask in masks]
        shapes = [resize_area(mask, self.shape_size, self.shape_size) for mask in masks]
        return stacked(self, owner, seen, weights, shapes)


@dataclass(frozen=True)
class ReleasedSamaRule:
    """SAMA as released: one frame of a region, drawn; its mask a filled box, resized by nearest
    neighbour.
    """

    sized: ClassVar[bool] = False
    grid: tuple[int, int]
    shape_size: int
    seed: int = 0

    def slots(self, region: Region, size: Sequence[int]) -> int:
        return 2

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        owner, seen, boxed = [], [], []
        for number, region in enumerate(regions):
            masks = frame_masks(region, size)
            if not masks:
                continue
            frame = random.Random(f"{self.seed} {number}").choice(list(masks))
            owner.append(number)
            seen.append(frame)
            boxed.append(box_filled(masks[frame]))
        weights = [nearest(mask, *self.grid).reshape(-1) for mask in boxed]
        shapes = [nearest(mask, self.shape_size, self.shape_size) for mask in boxed]
        return stacked(self, owner, seen, weights, shapes)


@dataclass(frozen=True)
class VideoReferRule:
    """One entry a frame, in time order; as many tokens as there are frames, at most `unions`."""

    sized: ClassVar[bool] = False
    grid: tuple[int, int]
    shape_size: int
    unions: int

    def slots(self, region: Region, size: Sequence[int]) -> int:
        return max(1, min(self.unions, len(region.frames)))

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        owner, seen, masks = per_frame(regions, size)
        return SamaRule(self.grid, self.shape_size).of_masks(owner, seen, masks)


@dataclass(frozen=True)
class ReleasedVideoReferRule:
    """VideoRefer as released: a cell counts if the four pixels around its centre touch the mask."""

    sized: ClassVar[bool] = False
    grid: tuple[int, int]
    shape_size: int

    def slots(self, region: Region, size: Sequence[int]) -> int:
        raise ConfigError(
            "region.kind videorefer with compat: released makes a number of tokens that is known "
            "only after the vision tower, so it cannot be trained; train with compat: default, "
            "or use it in sessions"
        )

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        import torch

        from sama_plugin.nn.released import touched

        owner, seen, masks = per_frame(regions, size)
        shapes = [resize_area(mask, self.shape_size, self.shape_size) for mask in masks]
        cells = [touched(torch.from_numpy(mask)[None], *self.grid).reshape(-1) for mask in masks]
        return stacked(self, owner, seen, [one.numpy() for one in cells], shapes)


@dataclass(frozen=True)
class PixelReferRule:
    """One crop a frame, around the thing; as many tokens as it covers cells, at most `cells`.

    `margin` is the context around the thing, both sides together, in sizes of the thing.
    """

    sized: ClassVar[bool] = True
    grid: tuple[int, int]
    shape_size: int
    cells: int
    margin: float

    def slots(self, region: Region, size: Sequence[int]) -> int:
        masks = frame_masks(region, size).values()
        covered = sum(int((self._cells(mask)[1] > 0).sum()) for mask in masks)
        return max(1, min(self.cells, covered))

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        owner, frames, masks = per_frame(regions, size)
        seen, weights, places = [], [], []
        for frame, mask in zip(frames, masks):
            box, covered = self._cells(mask)
            seen.append(Crop(frame, box))
            weights.append(covered.reshape(-1))
            places.append(cell_centres(box, self.grid, size))
        shapes = [resize_area(mask, self.shape_size, self.shape_size) for mask in masks]
        return stacked(self, owner, seen, weights, shapes, places)

    def _cells(self, mask: np.ndarray) -> tuple[tuple[int, int, int, int], np.ndarray]:
        """Crop box and its cells (h, w): the covered area where it is at least half of the
        largest, zero elsewhere.
        """
        box = crop_box(box_of(mask), mask.shape, self.margin, max(self.grid))
        x0, y0, x1, y1 = box
        area = resize_area(mask[y0:y1, x0:x1], *self.grid)
        return box, np.where(area >= area.max() / 2, area, 0)


@dataclass(frozen=True)
class Sa2vaRule:
    """Every cell of a frame under the mask, resized by nearest neighbour.

    `least` is what a mask gets that falls between the centres: 1, the cell it covers most; 0 in the
    released code, where the model is told of a region and shown nothing.
    """

    sized: ClassVar[bool] = True
    grid: tuple[int, int]
    shape_size: int  # of shapes that nobody reads
    least: int = 1

    def slots(self, region: Region, size: Sequence[int]) -> int:
        return sum(int(self._cells(mask).sum()) for mask in frame_masks(region, size).values())

    def entries(self, regions: Sequence[Region], size: Sequence[int]) -> RegionEntries:
        owner, seen, masks = per_frame(regions, size)
        cells = [self._cells(mask) for mask in masks]
        shapes = [np.zeros((self.shape_size, self.shape_size))] * len(cells)
        return stacked(self, owner, seen, cells, shapes)

    def _cells(self, mask: np.ndarray) -> np.ndarray:
        """(N,) ones at the covered cells."""
        cells = nearest(mask, *self.grid).reshape(-1)
        if not cells.any() and self.least:
            cells[resize_area(mask, *self.grid).argmax()] = 1
        if not cells.any():
            warn_once(
                "sa2va-region",
                f"a region of {int(mask.sum())} pixels lies between the cells of Sa2VA's "
                f"{self.grid[0]}x{self.grid[1]} grid: the model is told of it and shown nothing of "
                "it, as released; point at something larger, or set compat: default",
            )
        return cells


def frame_masks(region: Region, size: Sequence[int]) -> dict[int, np.ndarray]:
    """The region's pixels on every frame it is pointed on, ascending; prompts on one frame
    together.
    """
    masks: dict[int, np.ndarray] = {}
    for prompt in sorted(region.prompts, key=lambda prompt: prompt.frame):
        mask = prompt.mask_array(*size)
        masks[prompt.frame] = mask | masks.get(prompt.frame, mask)
    return masks


def per_frame(
    regions: Sequence[Region], size: Sequence[int]
) -> tuple[list[int], list[int], list[np.ndarray]]:
    """Owner, frame and mask of every (region, frame), frames ascending within a region."""
    found = [
        (n, *one) for n, region in enumerate(regions) for one in frame_masks(region, size).items()
    ]
    return [n for n, _, _ in found], [f for _, f, _ in found], [mask for _, _, mask in found]


def crop_box(
    box: Sequence[int], size: Sequence[int], margin: float, least: int
) -> tuple[int, int, int, int]:
    """The square around a box, `1 + margin` times its longer side and `least` pixels at least,
    moved into the frame and cut to it.
    """
    side = max(least, round((1 + margin) * max(box[2] - box[0], box[3] - box[1])))
    starts, ends = [], []
    for low, high, length in zip(box[:2], box[2:], (size[1], size[0])):
        extent = min(side, length)
        start = min(max(round((low + high - extent) / 2), 0), length - extent)
        starts.append(start)
        ends.append(start + extent)
    return starts[0], starts[1], ends[0], ends[1]


def cell_centres(box: Sequence[int], grid: tuple[int, int], size: Sequence[int]) -> np.ndarray:
    """(N, 2) float32: (x, y) of the centres of a crop's cells in the frame, row by row, 0 to 1."""
    columns = box[0] + (np.arange(grid[1]) + 0.5) / grid[1] * (box[2] - box[0])
    rows = box[1] + (np.arange(grid[0]) + 0.5) / grid[0] * (box[3] - box[1])
    y, x = np.meshgrid(rows / size[0], columns / size[1], indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def box_filled(mask: np.ndarray) -> np.ndarray:
    """The smallest box around a bool mask (H, W), filled; an empty mask stays empty."""
    filled, box = np.zeros_like(mask), box_of(mask)
    if box is not None:
        x0, y0, x1, y1 = box
        filled[y0:y1, x0:x1] = True
    return filled


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask (H, W) resized by nearest neighbour, source index floor(i * in / out); float32."""
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return mask[np.ix_(rows, columns)].astype(np.float32)


def stacked(
    rule: Any,
    owner: list[int],
    seen: list[VisualRow],
    weights: Sequence[np.ndarray],
    shapes: Sequence[np.ndarray],
    places: Optional[Sequence[np.ndarray]] = None,
) -> RegionEntries:
    """Entries of a rule with this grid and shape size; without any, arrays of length 0."""
    cells, side = rule.grid[0] * rule.grid[1], rule.shape_size
    return RegionEntries(
        owner,
        seen,
        _stack(weights, (cells,)),
        _stack(shapes, (side, side)),
        None if places is None else _stack(places, (cells, 2)),
    )


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, *shape), np.float32)


def sama_rule(config: Any, grid: tuple[int, int], seed: int) -> SamaRule:
    """For `kind: sama`."""
    return SamaRule(grid, config.shape_size)


def released_sama_rule(config: Any, grid: tuple[int, int], seed: int) -> ReleasedSamaRule:
    """For `kind: sama` with `compat: released`."""
    return ReleasedSamaRule(grid, config.shape_size, seed)


def videorefer_rule(config: Any, grid: tuple[int, int], seed: int) -> VideoReferRule:
    """For `kind: videorefer`."""
    return VideoReferRule(grid, config.shape_size, config.unions)


def released_videorefer_rule(
    config: Any, grid: tuple[int, int], seed: int
) -> ReleasedVideoReferRule:
    """For `kind: videorefer` with `compat: released`."""
    return ReleasedVideoReferRule(grid, config.shape_size)


def pixelrefer_rule(config: Any, grid: tuple[int, int], seed: int) -> PixelReferRule:
    """For `kind: pixelrefer`."""
    return PixelReferRule(grid, config.shape_size, config.cells, config.margin)


def sa2va_rule(config: Any, grid: tuple[int, int], seed: int) -> Sa2vaRule:
    """For `kind: sa2va`."""
    return Sa2vaRule(grid, config.shape_size)


def released_sa2va_rule(config: Any, grid: tuple[int, int], seed: int) -> Sa2vaRule:
    """For `kind: sa2va` with `compat: released`."""
    return Sa2vaRule(grid, config.shape_size, least=0)
