"""A tiny attached host: real classes, random weights, built in well under a second."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.media.frames import FramePolicy
from sama_plugin.model.attach import attach
from sama_plugin.model.config import (
    AggregatorConfig,
    LoraSettings,
    RegionConfig,
    SamaConfig,
    SegConfig,
)


def tiny_config(**changes) -> SamaConfig:
    """Settings that fit the tiny host; keyword arguments replace whole sections."""
    sections = {
        "aggregator": AggregatorConfig(
            hidden=16,
            heads=2,
            ffn=32,
            spatial_layers=2,
            temporal_layers=1,
            spatial_queries=4,
            temporal_queries=4,
            window=16,
            stride=16,
            encoder_width=24,
        ),
        "region": RegionConfig(shape_size=16, shape_hidden=16),
        "seg": SegConfig(segmenter="mini", weights="random", points=64, label_size=32),
        "lora": LoraSettings(r=2, alpha=4, dropout=0.0),
        "frames": FramePolicy(aggregator=4, llm=2, prompted=2),
    }
    return SamaConfig(**{**sections, **changes})


def outspoken(sama):
    """The handle itself, its words changed by what they look at; fresh ones are not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        torch.nn.init.normal_(sama.modules.look.told[-1].weight, std=2.0)
    return sama


@pytest.fixture
def tiny():
    """(model, tokenizer) of the tiny native InternVL, fresh for each test."""
    from sama_plugin.miniworld.host import tiny_host

    return tiny_host(seed=0)


@pytest.fixture
def sama(tiny):
    """Handle on an attached tiny host."""
    return outspoken(attach(*tiny, tiny_config()))


@pytest.fixture
def frames():
    """Four random frames as the tiny host's pixels."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 3, 64, 64, generator=generator)
