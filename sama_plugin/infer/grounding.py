"""From the [SEG] states of an answer to mask tracks of the whole video.

A state becomes a prompt vector; our mask decoder reads it on each keyframe, without memory; from
the keyframes where the thing is there, the untouched segmenter follows it both ways. All things of
an answer are followed together, and a frame is encoded once for all answers. Used by `session.py`;
a benchmark that has states of its own may call it directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor

from sama_plugin.errors import ConfigError
from sama_plugin.media.frames import FramePlan
from sama_plugin.media.tracks import MaskTrack
from sama_plugin.media.video import VideoReader
from sama_plugin.model.attach import SamaModel
from sama_plugin.nn.pointing import Seen
from sama_plugin.segment.base import Prompt
from sama_plugin.segment.following import DEFAULT, RELEASED, ObjectPrompt
from sama_plugin.segment.pieces import propagate_pieces
from sama_plugin.segment.propagate import propagate
from sama_plugin.segment.store import FeatureStore
from sama_plugin.segment.track import write


@dataclass(frozen=True)
class Grounded:
    """A thing's masks, and in [0, 1] how sure the best keyframe is that it is there."""

    track: MaskTrack
    score: float


class Grounder:
    """Turns states into tracks for one video; keeps the video's segmenter features."""

    def __init__(self, sama: SamaModel, reader: VideoReader):
        self.sama, self.reader = sama, reader
        self.store = FeatureStore(sama.segmenter, reader)
        self.options = RELEASED if sama.config.compat == "released" else DEFAULT

    @property
    def encodes(self) -> int:
        """Frames the segmenter has encoded so far."""
        return self.store.encodes

    @torch.no_grad()
    def ground(
        self,
        states: Tensor,
        read: Optional[Seen],
        plan: FramePlan,
        on_frame: Optional[Callable[[int, int], None]] = None,
    ) -> list[Grounded]:
        """One track a state.

        Args:
            states: (S, C) final hidden states at [SEG].
            read: the frames as the language model read them before it wrote these [SEG]s; None
                where it was shown none.
            plan: its prompted frames are the keyframes.
            on_frame: called with (results so far, results in all) after every frame.

        Raises:
            ConfigError: the plan prompts the segmenter on no frame.
        """
        if not len(states):
            return []
        if not plan.prompted:
            raise ConfigError(
                "the frame plan has no prompted frames (FramePolicy.prompted is 0); masks need one"
            )
        total = len(self.reader)
        objects = [
            ObjectPrompt({frame: Prompt(vectors=one) for frame, one in zip(plan.prompted, row)})
            for row in self._vectors(states, read, plan)
        ]
        tracks = [MaskTrack(self.reader.size, total) for _ in objects]
        follow = propagate if self.sama.config.compat == "released" else propagate_pieces
        results = follow(
            self.sama.segmenter,
            self.store,
            objects,
            total,
            options=self.options,
            mask_decoder=self.sama.modules.mask_decoder,
        )
        through = self.sama.segmenter.image_size if self.options.through_input else None
        done = 0
        for result in results:
            write(result, tracks, through)
            done += len(result.objects)
            if on_frame is not None:
                on_frame(done, total * len(tracks))
        return [Grounded(track, _presence(track, plan.prompted)) for track in tracks]

    def _vectors(self, states: Tensor, read: Optional[Seen], plan: FramePlan) -> Tensor:
        """(S, keyframes, 1, 1, prompt_dim): a prompt vector for every state and keyframe."""
        moments = torch.tensor([plan.moment(frame) for frame in plan.prompted])
        count, asked = len(moments), len(states)
        prompt, _ = self.sama.modules.seg_prompt(
            states,
            torch.zeros(asked, dtype=torch.long, device=states.device),
            read,
            torch.arange(asked, device=states.device).repeat_interleave(count),
            moments.to(states.device).repeat(asked),
            self.sama.segmenter,
        )
        return prompt.vectors.view(asked, count, 1, 1, -1)

    def close(self) -> None:
        """Forget the features."""
        self.store.close()


def _presence(track: MaskTrack, prompted: Sequence[int]) -> float:
    scores = [track.scores[frame] for frame in prompted if frame in track.scores]
    return float(torch.tensor(scores).max().sigmoid()) if scores else 0.0
