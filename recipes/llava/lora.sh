#!/usr/bin/env bash
# LLaVA hosts: OneVision (qwen2), NeXT-Video and LLaVA 1.5 (llama, mistral). The data, the plugin and the loop are those
# of InternVL; a config names host, frames and length.
#
# Hardware  8 GPUs of 80 GB for 7B
# Time      not measured at this size; tests/train/test_host_configs.py trains tiny hosts by these configs
# Result    out/llava/sama_adapter; `sama chat --model MODEL --adapter out/llava`
#
# The other two have configs of their own (frames and lengths that fit their 4,096 positions):
#
#   torchrun --nproc_per_node 8 -m sama_plugin train configs/train/llava_next_video_7b.yaml
#   torchrun --nproc_per_node 8 -m sama_plugin train configs/train/llava_1_5_7b.yaml
set -euo pipefail
cd "$(dirname "$0")/../.."
torchrun --nproc_per_node 8 -m sama_plugin train configs/train/llava_onevision_7b.yaml train.out=out/llava "$@"
