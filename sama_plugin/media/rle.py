"""COCO run-length coding of binary masks, in numpy.

A mask is read column by column; runs of zeros and ones alternate, zeros first. "Uncompressed" is
the list of run lengths, "compressed" a string: from the fourth run on the difference to the run two
places earlier, in groups of five bits, least significant first, bit 5 set while groups follow, sign
extended, plus 48 to make it printable. Byte for byte what pycocotools writes; unlike it, damaged
input raises. Everything that stores masks uses this (tracks, prompts, data).
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from sama_plugin.errors import DataError

RLE = dict[str, Any]
"""{"size": [height, width], "counts": compressed str, bytes, or list of run lengths}."""

_GROUP_BITS = 5
_LONGEST_GROUP = 7  # enough for runs of 2**34 pixels


def encode(mask: np.ndarray) -> RLE:
    """Compressed RLE of a mask (H, W); everything that is not zero is foreground."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise DataError(
            "a mask must be a picture with pixels", found=mask.shape, expected="(height, width)"
        )
    pixels = (mask != 0).ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate(([0, 0] if pixels[0] else [0], edges, [pixels.size]))
    return {"size": [int(side) for side in mask.shape], "counts": _pack(np.diff(starts))}


def decode(rle: Mapping[str, Any]) -> np.ndarray:
    """Mask, bool (H, W), of a compressed or uncompressed RLE."""
    height, width = size_of(rle)
    runs = run_lengths(rle)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)  # (H, W)


def area(rle: Mapping[str, Any]) -> int:
    """Foreground pixels, without decoding."""
    return int(run_lengths(rle)[1::2].sum())


def merge(rles: Sequence[Mapping[str, Any]]) -> RLE:
    """Union of masks of one size."""
    return encode(_combined(np.logical_or, rles))


def intersect(rles: Sequence[Mapping[str, Any]]) -> RLE:
    """Intersection of masks of one size."""
    return encode(_combined(np.logical_and, rles))


def compress(rle: Mapping[str, Any]) -> RLE:
    """The same runs as a compressed string; runs of length 0 are kept as they are."""
    height, width = size_of(rle)
    return {"size": [height, width], "counts": _pack(run_lengths(rle))}


def size_of(rle: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of an RLE; raises DataError if the mapping is none."""
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise DataError(
            "not an RLE",
            found=sorted(rle) if isinstance(rle, Mapping) else type(rle).__name__,
            expected='{"size": [height, width], "counts": ...}',
            reason="bad_segmentation",
        )
    try:
        height, width = (int(side) for side in rle["size"])
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise DataError(
            "an RLE has an impossible size",
            field="size",
            found=rle["size"],
            expected="[height, width], both at least 1",
            reason="bad_segmentation",
        )
    return height, width


def run_lengths(rle: Mapping[str, Any]) -> np.ndarray:
    """Run lengths, int64, zeros first.

    Raises:
        DataError: no size or counts, a character outside the code, a negative run, or runs that do
            not add up to height times width.
    """
    height, width = size_of(rle)
    counts = rle["counts"]
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    runs = _unpack(counts) if isinstance(counts, bytes) else _listed(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise DataError(
            "the runs of an RLE do not fill its frame",
            field="counts",
            found=f"{len(runs)} runs, sum {runs.sum()}, least {runs.min(initial=0)}",
            expected=f"no negative run and a sum of {height} x {width} = {height * width}",
            reason="bad_segmentation",
        )
    return runs


def check_filled(rles: Sequence[Mapping[str, Any]]) -> None:
    """What `run_lengths` checks, of many masks at a time; a single negative run is left to who
    decodes.

    Raises:
        DataError: as `run_lengths` of the first damaged one.
    """
    codes = [rle["counts"] for rle in rles]
    if codes and all(isinstance(code, str) and code for code in codes):
        _check_sums(rles, [code.encode("ascii", "replace") for code in codes])
    else:
        for rle in rles:
            run_lengths(rle)


def _check_sums(rles: Sequence[Mapping[str, Any]], codes: Sequence[bytes]) -> None:
    frames = np.array([height * width for height, width in map(size_of, rles)])
    ends = np.cumsum([len(code) for code in codes])
    try:
        values, last = _values(b"".join(codes))
        sizes = np.diff(np.cumsum(last)[ends - 1], prepend=0)
        whole = last[ends - 1].all()
    except DataError:
        whole = False
    if whole:
        starts, size = np.cumsum(sizes) - sizes, np.repeat(sizes, sizes)
        place = np.arange(len(values)) - np.repeat(starts, sizes)
        # a value is part of its run and of every second one after it; the first of its run alone
        counted = np.where(place == 0, 1, (size - 1 - place) // 2 + 1)
        whole = (np.add.reduceat(values * counted, starts) == frames).all()
    if not whole:
        for rle in rles:
            run_lengths(rle)


def _combined(combine: np.ufunc, rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """All masks as one, with no more than two of them decoded at a time."""
    sizes = sorted({size_of(rle) for rle in rles})
    if len(sizes) != 1:
        raise DataError(
            "masks to combine must have one size",
            found=sizes,
            expected="at least one mask, all of the same height and width",
            reason="size_mismatch",
        )
    joined = decode(rles[0])
    for rle in rles[1:]:
        combine(joined, decode(rle), out=joined)
    return joined


def _listed(counts: Any) -> np.ndarray:
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
        raise DataError(
            "counts are neither a string nor a list of whole numbers",
            field="counts",
            found=type(counts).__name__,
            reason="bad_segmentation",
        )
    return runs.astype(np.int64)


def _pack(runs: np.ndarray) -> str:
    """Run lengths to the compressed string."""
    left = runs.astype(np.int64)
    left[3:] -= runs[1:-2]
    groups = np.zeros((len(left), _LONGEST_GROUP), dtype=np.uint8)
    used = np.zeros(groups.shape, dtype=bool)
    going = np.ones(len(left), dtype=bool)
    for place in range(_LONGEST_GROUP):
        group = left & 31
        left = left >> _GROUP_BITS
        more = going & np.where(group & 16, left != -1, left != 0)
        groups[:, place], used[:, place] = group + 32 * more, going
        going = more
    return (groups[used] + 48).tobytes().decode("ascii")


def _unpack(code: bytes) -> np.ndarray:
    """Compressed string to run lengths."""
    runs, _ = _values(code)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _values(code: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in a compressed string, and which letters end one."""
    letters = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    if letters.size == 0 or letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise DataError(
            "damaged counts: empty, cut off, or with characters that do not belong there",
            field="counts",
            found=code[:40].decode("ascii", "replace"),
            expected="characters '0' to 'o'",
            reason="bad_segmentation",
        )
    last = (letters & 32) == 0
    number = np.cumsum(last) - last  # index of the value that a letter belongs to
    start = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    place = np.arange(letters.size) - start[number]
    if place.max() >= _LONGEST_GROUP:
        raise DataError("damaged counts: a run of impossible length", reason="bad_segmentation")
    values = np.zeros(len(start), dtype=np.int64)
    np.add.at(values, number, (letters & 31) << (_GROUP_BITS * place))
    negative = (letters[last] & 16) != 0
    values -= np.where(negative, 1 << (_GROUP_BITS * (place[last] + 1)), 0)
    return values, last
