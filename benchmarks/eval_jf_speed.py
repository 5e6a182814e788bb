"""J and F of real masks, ours against the DAVIS protocol computed frame by frame.

    python benchmarks/eval_jf_speed.py                       # two clips, all objects, one core
    python benchmarks/eval_jf_speed.py --clips horsejump-high --repeat 3

The loop does what the public DAVIS 2017 evaluation does, written anew: for each frame the boundary
of both masks on the whole picture, a disk as structuring element, and a dilation by OpenCV. Both
sides must agree to the last bit. Exit code 1 if they do not, or if ours is not five times faster.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

from sama_plugin.eval.similarity import BOUNDARY_TOLERANCE, both

AIM = 5.0
DATA = Path(os.environ.get("SAMA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
Pair = tuple[np.ndarray, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=["horsejump-high", "motocross-jump"])
    parser.add_argument("--frames", type=int, default=0, help="of each clip (0: all)")
    parser.add_argument("--repeat", type=int, default=1, help="the fastest of so many counts")
    options = parser.parse_args()
    pairs = [pair for clip in options.clips for pair in objects(clip, options.frames)]
    frames = sum(len(pair[0]) for pair in pairs)
    slow, by_frame = timed(lambda: [one_by_one(*pair) for pair in pairs], options.repeat)
    fast, at_once = timed(lambda: [together(*pair) for pair in pairs], options.repeat)
    equal = all(np.array_equal(one, other) for one, other in zip(by_frame, at_once))
    print(f"{len(pairs)} objects, {frames} frames of {pairs[0][0].shape[1:]}")
    print(f"frame by frame: {slow:7.2f} s   {1000 * slow / frames:6.2f} ms a frame")
    print(f"ours:           {fast:7.2f} s   {1000 * fast / frames:6.2f} ms a frame")
    print(f"{slow / fast:.1f} times faster, {'bit-equal' if equal else 'NOT EQUAL'}")
    return 0 if equal and slow / fast >= AIM else 1


def objects(clip: str, frames: int) -> list[Pair]:
    """(reference, prediction), bool (T, H, W), of every object of a clip."""
    maps = []
    for kind in ("rvos", "osvos"):
        files = sorted((DATA / "davis_masks" / kind / clip).glob("*.png"))
        files = files[:frames] if frames else files
        maps.append(np.stack([np.asarray(Image.open(file)) for file in files]))
    return [tuple(side == n for side in maps) for n in range(1, int(maps[0].max()) + 1)]


def together(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(2, T): J and F of all frames at once."""
    return np.stack(both(target, prediction))


def one_by_one(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The same, frame by frame."""
    return np.array([[j(*pair), f(*pair)] for pair in zip(target, prediction)]).T


def j(target: np.ndarray, prediction: np.ndarray) -> float:
    """Intersection over union of one frame."""
    union = np.sum(target | prediction)
    return 1.0 if union == 0 else np.sum(target & prediction) / union


def f(target: np.ndarray, prediction: np.ndarray) -> float:
    """Boundary F of one frame."""
    import cv2

    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.linalg.norm(target.shape)))
    found, wanted = outline(prediction), outline(target)
    around = disk(radius)
    near = [cv2.dilate(line.astype(np.uint8), around) for line in (wanted, found)]
    hits = np.sum(found * near[0]), np.sum(wanted * near[1])
    lengths = np.sum(found), np.sum(wanted)
    if 0 in lengths:
        shares = [1.0 if own == 0 else 0.0 for own in lengths]
        shares = [1.0, 1.0] if not any(lengths) else shares
    else:
        shares = [hit / own for hit, own in zip(hits, lengths)]
    total = sum(shares)
    return 0.0 if total == 0 else 2 * shares[0] * shares[1] / total


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour."""
    right, below, diagonal = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, 1:]
    below[:-1, :] = mask[1:, :]
    diagonal[:-1, :-1] = mask[1:, 1:]
    edge = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    edge[-1, :] = mask[-1, :] ^ right[-1, :]
    edge[:, -1] = mask[:, -1] ^ below[:, -1]
    edge[-1, -1] = False
    return edge


def disk(radius: int) -> np.ndarray:
    """uint8 structuring element x^2 + y^2 <= radius^2."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def timed(work: Callable[[], list], repeat: int) -> tuple[float, list]:
    """(fastest seconds, result)."""
    times, result = [], []
    for _ in range(repeat):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return min(times), result


if __name__ == "__main__":
    try:
        import cv2

        cv2.setNumThreads(1)
    except ImportError:
        sys.exit("the frame-by-frame side dilates with OpenCV: pip install opencv-python-headless")
    sys.exit(main())
