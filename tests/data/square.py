"""A square in a picture or a clip, drawn for tests of annotation layouts."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[4:12, 6:14] = True
CORNERS = [(6, 4), (14, 4), (14, 12), (6, 12)]
RING = [value for corner in CORNERS for value in corner]


def picture(folder, name="a.png"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(path)
    return path


def clip(folder, name="clip", frames=4):
    for number in range(frames):
        picture(folder / name, f"{number:05d}.png")
    return folder / name


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def only_mask(sample):
    (target,) = sample.targets
    (frame,) = target.track.frames()
    return target.phrase, target.track.mask(frame)


def reasons(report):
    return [error.reason for error in report.dropped]
