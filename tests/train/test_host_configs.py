"""The configs of the other hosts: each is meant for its host, and trains a tiny one of its kind.

Only sizes, media and machine are changed; the run is that of `sama train`: the host is loaded from
a folder, attached, wrapped by LoRA, trained for a step and its adapter written and loaded again.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sama_plugin.data.sources import SourceConfig
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config
from sama_plugin.segment.base import build_segmenter
from sama_plugin.settings import load_yaml
from sama_plugin.train.config import TrainConfig
from sama_plugin.train.host import load_host
from sama_plugin.train.run import train
from tests.architecture.commands import REPOSITORY
from tests.hosts.tiny import SIDE, TINY
from tests.model.conftest import tiny_config
from tests.train.factories import write_data

# config -> (tiny host of its kind, tokens a frame of the released one, positions it reads)
HOSTS = {
    "internvl3_8b": ("internvl", 16**2, 32768),
    "llava_1_5_7b": ("llava", 24**2, 4096),
    "llava_next_video_7b": ("llava_next_video", 12**2, 4096),
    "llava_onevision_7b": ("llava_onevision", 14**2 + 1, 32768),
    "qwen2_5_vl_7b": ("qwen2_5_vl", 16**2, 128000),
    "qwen3_vl_8b": ("qwen3_vl", 16**2, 262144),
}
QUICK = ("llava_onevision_7b", "qwen2_5_vl_7b", "qwen3_vl_8b")
PIXELS_A_TOKEN = {"qwen2_5_vl_7b": 28, "qwen3_vl_8b": 32}
WORDS = 512
"""Tokens left for a conversation beside frames and context."""


def config_of(name: str) -> TrainConfig:
    return load_yaml(TrainConfig, REPOSITORY / f"configs/train/{name}.yaml")[0]


def test_every_config_is_in_the_table():
    files = {path.stem for path in (REPOSITORY / "configs/train").glob("*.yaml")}
    assert files == {*HOSTS, "mini"}


@pytest.mark.parametrize("name", HOSTS)
def test_frames_and_words_fit_what_the_host_reads(name):
    config, (_, tokens, positions) = config_of(name), HOSTS[name]
    frames = config.sama.frames
    assert frames.llm * tokens + frames.aggregator + WORDS <= config.train.max_length <= positions
    if name in PIXELS_A_TOKEN:
        assert config.sama.frame_side**2 == tokens * PIXELS_A_TOKEN[name] ** 2
    else:
        assert config.sama.frame_side is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for name in HOSTS
    ],
)
def test_a_tiny_host_trains_a_step(name, data, tmp_path):
    kind = HOSTS[name][0]
    model, tokenizer = TINY[kind].build(0)
    model.save_pretrained(tmp_path / "host")
    tokenizer.save_pretrained(tmp_path / "host")
    config = config_of(name)
    side = SIDE if config.sama.frame_side else None
    config = dataclasses.replace(
        config,
        data=(SourceConfig(format="sama", path=str(data)),),
        model=dataclasses.replace(config.model, path=str(tmp_path / "host"), dtype="float32"),
        sama=tiny_config(frame_side=side, lora=dataclasses.replace(config.sama.lora, r=2)),
        train=dataclasses.replace(
            config.train,
            out=str(tmp_path / "out"),
            steps=1,
            accumulate=3,
            warmup=0.0,
            workers=0,
            deepspeed=None,
            tensorboard=False,
            progress=False,
        ),
    )
    result = train(config)
    assert result.steps == 1 and result.loss > 0
    stored = read_config(result.adapter)
    assert stored.frame_side == side and stored.lora.targets == config.sama.lora.targets
    sama = attach(*load_host(config.model), stored, segmenter=build_segmenter("mini", "random"))
    fresh = {name: value.clone() for name, value in sama.modules.state_dict().items()}
    load_adapter(sama, result.adapter)
    moved = [n for n, v in sama.modules.state_dict().items() if not torch.equal(v, fresh[n])]
    assert any(one.startswith("seg_head") for one in moved), moved
