"""On the packaged host an untrained focus finds what was pointed at again in other frames."""

import numpy as np
import torch

from sama_plugin.hosts.base import find_adapter
from sama_plugin.infer.load import load_host
from sama_plugin.media.masks import resize_area
from sama_plugin.miniworld.cases import clip_cases
from sama_plugin.miniworld.evaluate import FIRST_SEED
from sama_plugin.nn.focus import SHARPNESS, attention, sought

FRAMES = [1, 5, 9, 13]


def test_the_weight_lies_on_the_thing():
    host, _ = load_host("mini")
    adapter, first, hits = find_adapter(host), torch.tensor([0]), []
    for seed in range(FIRST_SEED, FIRST_SEED + 6):
        clip = clip_cases(seed)
        with torch.no_grad():
            pixels = adapter.pixels(clip.frames[FRAMES], host)
            rows = adapter.encode_frames(host, pixels).features.float()  # (F, N, C)
        side = int(rows.shape[1] ** 0.5)
        for track in clip.tracks:
            areas = [track.area(frame) for frame in FRAMES]
            if min(areas) < 0.5 * max(areas):
                continue
            masks = [resize_area(track.mask(frame), side, side) for frame in FRAMES]
            cells = torch.from_numpy(np.stack(masks)).flatten(1)  # (F, N)
            look = sought(rows, first, cells[:1], first, first, 1)  # (1, C)
            shares = attention(SHARPNESS * look / look.norm(), rows)[0]  # (F, N)
            hits += (shares * (cells > 0)).sum(1)[1:].tolist()
    assert len(hits) > 30 and np.mean(hits) > 0.9
