#!/usr/bin/env bash
# Qwen2.5-VL and Qwen3-VL, region prompts on. The data, the plugin and the loop are those of InternVL; a config
# names the host, and by sama.frame_side how large a frame is read, because these hosts read any size.
#
# Hardware  8 GPUs of 80 GB for 7B and 8B
# Time      not measured at this size; tests/train/test_host_configs.py trains tiny hosts by these configs
# Result    out/qwen_vl/sama_adapter; `sama chat --model MODEL --adapter out/qwen_vl`
#
# A token covers 28 pixels (Qwen2.5-VL) or 32 (Qwen3-VL). The default is 16 x 16 tokens a frame: sides of 448 and 512.
# Smaller things need a finer grid: sama.frame_side=672 (24 x 24 on Qwen2.5-VL); the adapter remembers it.
#
#   torchrun --nproc_per_node 8 -m sama_plugin train configs/train/qwen3_vl_8b.yaml
set -euo pipefail
cd "$(dirname "$0")/../.."
torchrun --nproc_per_node 8 -m sama_plugin train configs/train/qwen2_5_vl_7b.yaml train.out=out/qwen_vl "$@"
