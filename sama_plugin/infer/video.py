"""One video, encoded once for all conversations about it.

    video = OpenVideo(sama, "kitchen.mp4")
    with VideoSession(sama, video) as one, VideoSession(sama, video) as other: ...

Holds what does not depend on what is said: the frame plan, the visual tokens, the aggregator's
spatial pass and the segmenter's features. A `VideoSession` given anything else opens one of its
own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Union

from sama_plugin.dialog.sample import Media
from sama_plugin.errors import MediaError
from sama_plugin.infer.grounding import Grounder
from sama_plugin.infer.visual import VisualMemory
from sama_plugin.media.frames import FramePlan, FramePolicy, plan_frames
from sama_plugin.media.video import VideoReader, open_video
from sama_plugin.model.attach import SamaModel


class OpenVideo:
    """A video that was read for a model.

    Args:
        sama: an attached host; it is put in eval mode.
        source: an open `VideoReader` (closed with this), or whatever `open_video` reads.
        frames: a policy or a ready plan; None for the policy the adapter was trained with.

    Attributes:
        reader, plan, media: the video, the frozen frame plan, what a `Sample` calls it.
        visual: frames as the language side sees them. grounder: from [SEG] states to tracks.
    """

    def __init__(
        self, sama: SamaModel, source: Any, frames: Union[FramePolicy, FramePlan, None] = None
    ):
        self.sama = sama
        self.reader = source if isinstance(source, VideoReader) else open_video(source)
        self.plan = _plan(sama, self.reader, frames)
        where = str(source) if isinstance(source, (str, Path)) else self.reader.name
        self.media = Media("image" if self.reader.still else "video", where)
        sama.host.eval()
        self.visual = VisualMemory(sama, self.reader, self.plan)
        self.grounder = Grounder(sama, self.reader)

    @property
    def encodes(self) -> tuple[int, int]:
        """Frames encoded so far by (the vision tower, the segmenter)."""
        return self.visual.encodes, self.grounder.encodes

    def close(self) -> None:
        """Close the reader and drop every feature."""
        self.grounder.close()
        self.reader.close()

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _plan(sama: SamaModel, reader: Any, frames: Union[FramePolicy, FramePlan, None]) -> FramePlan:
    if isinstance(frames, FramePlan):
        if frames.total != len(reader):
            raise MediaError(
                f"the frame plan is for a clip of {frames.total} frames, {reader.name} has "
                f"{len(reader)}"
            )
        return frames
    policy = frames or sama.config.frames
    if sama.config.aggregator.kind == "none":
        policy = dataclasses.replace(policy, aggregator=0)
    return plan_frames(len(reader), policy, fps=reader.fps)
