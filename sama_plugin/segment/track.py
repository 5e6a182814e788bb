"""From propagation results to mask tracks at the video's size, streamed to RLE frame by frame.

No dense mask outlives its frame. Logits are resized bilinearly straight to the video's size, as the
stock predictor does; with `through_input` they pass through the network's input size first, as the
released SAMA does. `track` is the segmenter by itself, from prompts to tracks; sessions
(`infer/grounding.py`) count results as they come and call `write`.
"""

from __future__ import annotations

from typing import Optional, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.media import rle
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.segment.base import Segmenter
from sama_plugin.segment.following import DEFAULT, FrameResult, ObjectPrompt, TrackOptions
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore


def track(
    segmenter: Segmenter,
    store: FeatureStore,
    objects: Sequence[ObjectPrompt],
    size: tuple[int, int],
    *,
    options: TrackOptions = DEFAULT,
    mask_decoder: Optional[nn.Module] = None,
) -> list[MaskTrack]:
    """One track per object; `size` is the video's (height, width). See `propagate` for the other
    arguments.
    """
    total = len(store)
    tracks = [MaskTrack(size, total) for _ in objects]
    results = propagate(
        segmenter, store, objects, total, options=options, mask_decoder=mask_decoder
    )
    for result in results:
        write(result, tracks, segmenter.image_size if options.through_input else None)
    return tracks


def write(result: FrameResult, tracks: Sequence[MaskTrack], through: Optional[int] = None) -> None:
    """Put one frame's masks, object scores and predicted IoU into the tracks of its objects.

    `through` is a side in pixels that logits are resized to on the way to the tracks' size.
    """
    size = tracks[result.objects[0]].size
    masks = (to_size(result.logits, size, through)[:, 0] > 0).cpu().numpy()
    for row, index in enumerate(result.objects):
        found = tracks[index]
        found.rles[result.frame] = rle.encode(masks[row]) if masks[row].any() else None
        found.scores[result.frame] = float(result.score[row])
        found.ious[result.frame] = float(result.iou[row])


def to_size(logits: Tensor, size: tuple[int, int], through: Optional[int] = None) -> Tensor:
    """(O, 1, h, w) logits at `size`, bilinear without aligned corners."""
    logits = logits.float()
    if through is not None:
        logits = F.interpolate(logits, (through, through), mode="bilinear", align_corners=False)
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
