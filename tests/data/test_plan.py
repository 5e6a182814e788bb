"""Masks are asked for on frames where they are known: the nearest one to each wish."""

from __future__ import annotations

import pytest

from sama_plugin.data.plan import plan_sample
from sama_plugin.dialog.sample import Media, Sample, Target, Turn
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.tracks import MaskTrack

TOTAL = 20
WISHES = (2, 7, 12, 17)  # four uniform ones of twenty


def sample(*known):
    """One target for each list of frames on which its mask is known."""
    tracks = [MaskTrack((4, 4), TOTAL, dict.fromkeys(frames)) for frames in known]
    words = " ".join("<p> it </p> [SEG]" for _ in known)
    return Sample(
        "a",
        Media("video", "a.mp4"),
        (Turn("where?", words, targets=tuple(Target("it", track) for track in tracks)),),
    )


@pytest.mark.parametrize(
    ("known", "prompted"),
    [
        ([range(TOTAL)], WISHES),
        ([[0]], (0,)),
        ([[19]], (19,)),
        ([[6, 8]], (6, 8)),  # 7 lies between: the earlier one; 12 and 17: the last
        ([[0, 4, 10, 14, 19]], (0, 4, 10, 19)),  # three ties, the earlier one each
        ([[3, 9], [9, 15]], (9,)),  # where all are known, if anywhere
        ([[3], [15]], (3, 15)),  # else where any is
        ([[]], WISHES),  # known nowhere
    ],
)
def test_prompted_frames_move_to_known_ones(known, prompted):
    policy = FramePolicy(aggregator=0, llm=2, prompted=4)
    assert plan_sample(sample(*known), policy, TOTAL).prompted == prompted
