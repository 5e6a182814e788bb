"""What a video file holds, packet by packet, without decoding it.

decord counts packets and trusts every keyframe; both go wrong on common files. A clip cut without
re-encoding hides packets before its first shown frame (edit list), which decord counts as frames.
In an open GOP (x265's default) the frames shown before a keyframe follow it in the file and cannot
be decoded after a jump to it, so decord's frame numbers shift. The demuxer knows better: its list
of packets says which are shown, when, and from which keyframes decoding can start. Read once a file
with the ffmpeg that imageio-ffmpeg brings (no decoding, tens of milliseconds).
"""

from __future__ import annotations

import bisect
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from sama_plugin.errors import MediaError
from sama_plugin.logs import warn_once

_KEY, _HIDDEN = 1, 4  # AV_PKT_FLAG_KEY, AV_PKT_FLAG_DISCARD
_CUT_OFF = ("ended prematurely", "partial file")


@dataclass(frozen=True)
class Start:
    """A place where decoding can start: the frame shown there and its packet's number."""

    frame: int
    packet: int


@dataclass(frozen=True)
class Packets:
    """Shown frames of the first video stream.

    Attributes:
        times: seconds of every shown frame, ascending; None if the file does not say.
        count: shown frames.
        starts: where decoding can start, ascending; the first is the beginning of the file.
        hidden: packets that are decoded and never shown.
    """

    times: Optional[tuple[float, ...]]
    count: int
    starts: tuple[Start, ...]
    hidden: int = 0

    def start_before(self, frame: int) -> Start:
        """The last place from which decoding comes to `frame`."""
        return self.starts[bisect.bisect_right([one.frame for one in self.starts], frame) - 1]


def read_packets(path: Path) -> Optional[Packets]:
    """List the packets of a video file; None, with one warning, without an ffmpeg to ask.

    Raises:
        MediaError: the file is cut off, or has no video stream.
    """
    _check_riff(path)
    listing = _list_packets(path)
    if listing is None:
        return None
    if any(words in listing.stderr for words in _CUT_OFF):
        raise MediaError(
            f"{path} is truncated: it ends before the length it states; copy or download it again, "
            f"or keep what is there with: ffmpeg -i {path.name} -c copy repaired{path.suffix}"
        )
    unit, stamps, flags = _parse(listing.stdout)
    if not stamps:
        raise MediaError(f"{path} is not a video that can be read: {_reason(listing.stderr)}")
    return _arrange(unit, np.array(stamps, dtype=np.int64), np.array(flags))


def _list_packets(path: Path) -> Optional[subprocess.CompletedProcess]:
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        warn_once(
            "media.ffmpeg",
            f"imageio-ffmpeg is not usable ({error}); videos are decoded from their start, which "
            "is slower, and frames hidden by an edit list are counted. pip install imageio-ffmpeg",
        )
        return None
    copy = ["-map", "0:v:0", "-c", "copy", "-copyinkf", "-copyts", "-f", "framecrc", "-"]
    command = [program, "-nostdin", "-v", "error", "-i", f"file:{path}", *copy]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _parse(listing: str) -> tuple[float, list[int], list[int]]:
    """Time unit in seconds, presentation stamp and flags of every packet, in file order."""
    unit, stamps, flags = 1.0, [], []
    for line in listing.splitlines():
        if line.startswith("#tb 0:"):
            above, below = line.split(":")[1].split("/")
            unit = int(above) / int(below)
        elif not line.startswith("#"):
            fields = line.split(",")
            stamps.append(int(fields[2]))
            flags.append(_flags(fields[6:]))
    return unit, stamps, flags


def _flags(fields: Sequence[str]) -> int:
    """What follows the checksum of a packet; without flags it is a keyframe."""
    for field in fields:
        name, _, value = field.strip().partition("=")
        if name == "F":
            return int(value, 16)
    return _KEY


def _arrange(unit: float, stamps: np.ndarray, flags: np.ndarray) -> Packets:
    shown = np.flatnonzero((flags & _HIDDEN) == 0)
    beginning = Start(0, 0)
    if stamps.min() < -(2**62):  # AVI with B-frames: no presentation stamps
        return Packets(None, len(shown), (beginning,))
    order = shown[np.argsort(stamps[shown], kind="stable")]
    frame_of = np.full(len(stamps), -1)
    frame_of[order] = np.arange(len(order))
    earliest_after = np.minimum.accumulate(stamps[::-1])[::-1]  # of this packet and all later ones
    closed = ((flags & _KEY) != 0) & (earliest_after >= stamps) & (frame_of > 0)
    starts = (Start(int(frame_of[packet]), int(packet)) for packet in np.flatnonzero(closed))
    times = tuple((stamps[order] * unit).tolist())
    return Packets(times, len(order), (beginning, *starts), len(stamps) - len(shown))


def _reason(messages: str) -> str:
    """What ffmpeg complained about, in our words where they are clearer."""
    if "moov atom not found" in messages:
        return "it is no MP4, or one that is truncated (its index, the moov atom, is missing)"
    if "matches no streams" in messages:
        return "it has no video stream"
    lines = [line for line in messages.splitlines() if line.strip()]
    said = re.sub(r"^\[[^\]]*\] ", "", lines[0].strip()) if lines else "it has no video packets"
    return said[:160]


def _check_riff(path: Path) -> None:
    """An AVI states its size in its first bytes; ffmpeg does not compare."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little") + 8
        if path.stat().st_size < stated:
            raise MediaError(
                f"{path} is truncated: it has {path.stat().st_size} bytes and states {stated}; "
                "copy or download it again"
            )
