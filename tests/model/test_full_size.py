"""A full-size configuration goes through one turn: InternVL3-1B and SAM2.1 Hiera-L, random weights.

The mini twin runs the same code; what only real sizes can break is tested here: widths that differ
between vision, language, aggregator and segmenter, a half-precision host, 256 tokens a frame, masks
at 256 pixels, memory. Slow (`make test-all`): one to four minutes on a core, 5 GB.
"""

from __future__ import annotations

import gc
import resource
import weakref

import numpy as np
import psutil
import pytest
import torch

from sama_plugin.infer.session import VideoSession
from sama_plugin.media.video import open_video
from sama_plugin.miniworld.tokenizer import build_tokenizer
from sama_plugin.model.adapters import matched_layers
from sama_plugin.model.attach import attach
from sama_plugin.model.config import SamaConfig
from sama_plugin.settings import load_yaml
from tests.architecture.commands import REPOSITORY

pytestmark = pytest.mark.slow
GIB = 2**30
FRAMES = (60, 61)
BOX = (400, 250, 700, 600)


def internvl3_1b():
    """(model, tokenizer): InternViT-300M and Qwen2.5-0.5B in bfloat16, the mini's tokenizer."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokenizer = build_tokenizer()
    config = InternVLConfig(
        vision_config={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "vocab_size": 151674,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=256,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    return model.eval(), tokenizer


def released_sizes() -> SamaConfig:
    """configs/sama_1b.yaml with random segmenter weights and two frames for each reader."""
    overrides = ["seg.weights=random", "frames.aggregator=2", "frames.llm=2", "frames.prompted=1"]
    config, _ = load_yaml(SamaConfig, REPOSITORY / "configs/sama_1b.yaml", overrides)
    return config


def likes_to_ground(sama, session, question) -> None:
    """Point the output row of [SEG] along the state in which the answer to `question` begins."""
    states = []
    head = sama.adapter.output_embeddings(sama.host)
    handle = head.register_forward_pre_hook(lambda module, given: states.append(given[0][0, -1]))
    session.ask(question, max_new_tokens=1, masks=False)
    handle.remove()
    session.restart()
    state = states[0].float()
    sama.modules.output_rows.weight.data[0] = 100 * state / state.norm()


def millions(module) -> int:
    """Parameters of a module, rounded to millions."""
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def tensor_bytes() -> int:
    """Storage of all living tensors."""
    gc.collect()
    living = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return sum({one.data_ptr(): one.untyped_storage().nbytes() for one in living}.values())


def test_one_turn_on_two_frames_of_a_real_clip_then_everything_is_freed(sama_data):
    before, held = psutil.Process().memory_info().rss, tensor_bytes()
    model, tokenizer = internvl3_1b()
    assert millions(model) == 938
    sama = attach(model, tokenizer, released_sizes())
    check_sizes(sama)
    with open_video(sama_data / "videos/02_cups.mp4") as reader:
        frames = reader.frames(FRAMES)
    with VideoSession(sama, frames) as session:
        check_turn(sama, session)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak - before < 8 * GIB
    gone = weakref.ref(sama.detach())
    del model, tokenizer, sama, session
    assert tensor_bytes() < held + GIB / 16
    assert gone() is None


def check_sizes(sama) -> None:
    assert millions(sama.modules) == 176
    assert millions(sama.segmenter.module) == 224
    assert sama.adapter.width(sama.host) == 896
    assert sama.adapter.grid(sama.host) == (16, 16)
    assert (sama.segmenter.image_size, sama.segmenter.prompt_dim) == (1024, 256)
    assert len(matched_layers(sama, sama.config.lora)) == 7 * 24


def check_turn(sama, session) -> None:
    question = "What does @cup do?"
    session.region("cup", frame=0, box=BOX)
    likes_to_ground(sama, session, question)
    answer = session.ask(question, max_new_tokens=2)
    turn = session.turns[0]
    assert session.plan.rows == session.plan.aggregator == session.plan.llm == (0, 1)
    assert session.encodes == (2, 2)
    slots = [turn.prompt_ids.count(i) for i in (sama.image_id, sama.ids.region, sama.ids.context)]
    assert slots == [2 * 256, 2, 2]
    assert answer.ids[0] == sama.ids.seg
    assert turn.seg_states.shape == (len(answer.phrases), 896)
    track = answer.phrases[0].track
    assert track.size == (720, 1280) and sorted(track.rles) == [0, 1]
    assert 0 <= answer.phrases[0].score <= 1
    assert np.isfinite([*track.scores.values(), *track.ious.values()]).all()
