"""Videos, GIFs and pictures on disk, whole or not at all.

Everything is written under a hidden temporary name beside its target and renamed when it is
complete; an error or an interruption removes it. Frames may come from a generator, so that a long
video is never in memory as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterable, Iterator, Union

import numpy as np
from PIL import Image

from sama_plugin.atomic import atomic_path
from sama_plugin.errors import OutputError

PathLike = Union[str, Path]

_MP4 = ["-crf", "18", "-preset", "medium", "-movflags", "+faststart"]
_COLOURS = [
    "-vf", "scale=out_color_matrix=bt709:out_range=tv",
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
]  # fmt: skip


def write_video(path: PathLike, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Write frames (H, W, 3) uint8 of one size as a video.

    Args:
        path: `.mp4` (H.264, yuv420p, plays in browsers; a row or column is added where a side is
            odd) or `.gif` (equal neighbours are kept as one longer frame).
        frames: an array (T, H, W, 3) or anything that yields frames; at least one.
        fps: frames a second.

    Raises:
        OutputError: unknown ending, no frames, frames of several sizes, no encoder, or a full or
            unwritable disk.
    """
    path = Path(path)
    encode = _ENCODERS.get(path.suffix.lower())
    if encode is None:
        raise OutputError(f"cannot write {path}: a video ends in {' or '.join(_ENCODERS)}")
    if not 0 < fps < float("inf"):
        raise OutputError(f"cannot write {path} at {fps} frames a second")
    checked = _checked(iter(frames), path)
    first = next(checked, None)
    if first is None:
        raise OutputError(f"cannot write {path}: there are no frames")
    with atomic_path(path) as temporary:
        try:
            encode(temporary, itertools.chain([first], checked), first.shape[:2], float(fps))
        except OutputError:
            raise
        except (OSError, ValueError) as error:
            height, width = first.shape[:2]
            raise OutputError(
                f"cannot write {path}, frames of {width} x {height}: {error}"
            ) from error
    return path


def write_png(path: PathLike, picture: np.ndarray) -> Path:
    """Write a picture, uint8 (H, W, 3) or (H, W), without loss."""
    return _write_picture(Path(path), picture, format="PNG", optimize=True)


def write_jpeg(path: PathLike, picture: np.ndarray, quality: int = 90) -> Path:
    """Write a picture, uint8 (H, W, 3) or (H, W), small."""
    return _write_picture(Path(path), picture, format="JPEG", quality=quality, subsampling=0)


def _write_picture(path: Path, picture: np.ndarray, **options: object) -> Path:
    picture = np.ascontiguousarray(picture)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or 0 in picture.shape:
        raise OutputError(
            f"cannot write {path}: {picture.shape} of {picture.dtype} is no picture (height, "
            "width, 3) of uint8"
        )
    with atomic_path(path) as temporary:
        try:
            Image.fromarray(picture).save(temporary, **options)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}") from error
    return path


def _checked(frames: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    size = None
    for number, frame in enumerate(frames):
        frame = np.ascontiguousarray(frame)
        size = size or frame.shape
        if (
            frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[-1] != 3
            or frame.shape != size
        ):
            raise OutputError(
                f"cannot write {path}: frame {number} is {frame.shape} of {frame.dtype}, "
                f"expected {size} of uint8, "
                "(height, width, 3)"
            )
        yield frame


def _encode_mp4(
    path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    height, width = size
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    command = [
        *(_ffmpeg(path.suffix), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width + width % 2}x{height + height % 2}"),
        *("-r", str(Fraction(fps).limit_denominator(100_000)), "-i", "-"),
        *("-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", *_MP4, *_COLOURS, f"file:{path}"),
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
                for frame in frames:
                    process.stdin.write(np.pad(frame, odd, mode="edge").tobytes())
                process.stdin.close()
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip().splitlines()
    if code or not path.stat().st_size:
        raise OSError(f"ffmpeg ended with {code}: {words[0] if words else 'it said nothing'}")


def _ffmpeg(suffix: str) -> str:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise OutputError(
            f"writing {suffix} needs imageio-ffmpeg ({error}): pip install imageio-ffmpeg; a .gif "
            "needs nothing"
        ) from error


def _encode_gif(
    path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    pictures = [
        Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames
    ]
    ends = [
        round(100 * (number + 1) / fps) for number in range(len(pictures))
    ]  # a GIF counts in 10 ms
    durations = [max(2, end - start) * 10 for start, end in zip([0, *ends], ends)]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1
    )


_ENCODERS: dict[str, Callable[..., None]] = {".mp4": _encode_mp4, ".gif": _encode_gif}
