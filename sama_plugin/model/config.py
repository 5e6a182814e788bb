"""All sizes and choices of the plugin, as dataclasses (YAML under `configs/` fills them).

Defaults are the released SAMA sizes (BERT-base Q-Formers, 32 queries, windows of 512 vectors) with
the right behaviour; `configs/mini.yaml` holds the twin that trains on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional

from sama_plugin.errors import ConfigError
from sama_plugin.media.frames import FramePolicy


@dataclass
class AggregatorConfig:
    """Spatio-temporal context aggregator (SAMA section 3; upstream constants in brackets are the
    defaults).
    """

    kind: str = "sama"  # a name in the aggregator registry; "none" switches context tokens off
    hidden: int = 768
    heads: int = 12
    ffn: int = 3072
    spatial_layers: int = 12
    temporal_layers: int = 2
    spatial_queries: int = 32
    temporal_queries: int = 32
    window: int = 512  # vectors, not frames
    stride: int = 512
    cross_frequency: int = 2  # spatial layers i with i % cross_frequency == 0 attend to the frame
    encoder_width: int = 1408  # width the frame tokens are projected to before the spatial Q-Former
    question: Literal["host", "wordpiece"] = "host"  # whose words; released: BERT's word pieces
    vocabulary: Optional[str] = None  # path of BERT's vocab.txt, for word pieces
    max_question: int = 256  # tokens, cut on the left
    time_embedding: bool = True
    focus: bool = True  # context tokens start from what was pointed at; released: from the mean


@dataclass
class RegionConfig:
    """How what the user points at becomes tokens."""

    kind: str = "sama"  # a name in the region-encoder registry: sama, videorefer, pixelrefer, sa2va
    shape_size: int = 112
    shape_hidden: int = 1024
    unions: int = 4  # videorefer: tokens of a region seen on many frames, at most
    cells: int = 32  # pixelrefer: tokens of a region, at most
    margin: float = 0.5  # pixelrefer: context around the crop, in sizes of the thing


@dataclass
class SegConfig:
    """[SEG] head, segmenter and mask losses (weights: 2.0 BCE, 0.5 Dice, on 12,544 points)."""

    segmenter: str = "sam2.1_hiera_large"  # a name in the segmenter registry
    weights: Optional[str] = None  # its checkpoint; None: packaged (mini). "random": for trials
    moments: bool = True  # the [SEG] head hears when a keyframe is; released models do not
    train_mask_decoder: bool = True  # a copy; memory propagation always uses the original
    bce_weight: float = 2.0
    dice_weight: float = 0.5
    score_weight: float = 1.0
    pointing: bool = True  # [SEG] is looked up in the frames that were read; released: it is not
    pointing_width: int = 256  # of the comparison, a multiple of 4
    looking: bool = True  # words of answers look at the frames again, through the pointer
    look_weight: float = 0.5  # of telling them where to look
    place_weight: float = 1.0  # of the cross entropy between where it points and the mask
    click_weight: float = 1.0  # of the distance of its middle from the middle of the object
    points: int = 12544  # of each mask in the losses
    oversample: float = 3.0  # candidates for them, in numbers of points
    importance: float = 0.75  # share of them that are the most unsure candidates
    label_size: int = 256  # side of the masks that are learned from


@dataclass
class LoraSettings:
    """LoRA on the language model, by PEFT; `r: 0` trains none."""

    r: int = 128
    alpha: int = 256
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")

    def __post_init__(self) -> None:
        if self.r < 0 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora.r {self.r} must be 0 or more, lora.alpha {self.alpha} above 0, "
                f"lora.dropout {self.dropout:g} in [0, 1)"
            )


@dataclass
class SamaConfig:
    """Everything `attach` needs to know."""

    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)
    region: RegionConfig = field(default_factory=RegionConfig)
    seg: SegConfig = field(default_factory=SegConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    frames: FramePolicy = field(default_factory=FramePolicy)
    frame_side: Optional[int] = None  # pixels, for hosts that read any size (Qwen-VL); None: theirs
    compat: Literal["default", "released"] = "default"
    start_rows: Literal["mean", "kin"] = "kin"  # new tokens' first rows; released models: mean
    start_from: tuple[str, ...] = ()  # files of `sama import` that training starts with
    seed: int = 0  # initial weights of the plugin's modules

    def __post_init__(self) -> None:
        if self.aggregator.hidden % self.aggregator.heads:
            raise ConfigError(
                f"aggregator.hidden {self.aggregator.hidden} is not a multiple of "
                f"aggregator.heads {self.aggregator.heads}"
            )
        if self.region.kind == "sa2va" and self.aggregator.kind != "none":
            raise ConfigError(
                f"region.kind sa2va gives nothing to an aggregator ({self.aggregator.kind}); set "
                "aggregator.kind: none, as Sa2VA has it, or take another region.kind"
            )
