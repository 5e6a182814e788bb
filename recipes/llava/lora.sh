#!/usr/bin/env bash
# LLaVA hosts: OneVision (qwen2), NeXT-Video and LLaVA 1.5 (llama, mistral). The data, the plugin and the loop are those
# of InternVL; only model.path is another.
#
# Hardware  8 GPUs of 80 GB for 7B
# Time      not measured at this size; tests/hosts/test_llava.py runs the same code on tiny ones
# Result    out/llava/sama_adapter; `sama chat --model MODEL --adapter out/llava`
#
# Tokens a frame: LLaVA 1.5 576, NeXT-Video 144, OneVision 196 + 1. sama.frames.llm=5 frames of 1.5 are 2,880 tokens;
# that host reads 4,096, so ask it for fewer: sama.frames.llm=4.
#
#   recipes/llava/lora.sh model.path=llava-hf/LLaVA-NeXT-Video-7B-hf train.out=out/next_video
set -euo pipefail
cd "$(dirname "$0")/../.."
torchrun --nproc_per_node 8 -m sama_plugin train configs/train/internvl3_8b.yaml \
    model.path=llava-hf/llava-onevision-qwen2-7b-ov-hf train.out=out/llava "$@"
