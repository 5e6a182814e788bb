#!/usr/bin/env bash
# Qwen2.5-VL or Qwen3-VL on one GPU: the language model in four bits, the vision side as it is.
#
# Hardware  one GPU of 24 GB for 7B and 8B (by arithmetic, see recipes/native/qlora.sh)
# Time      not measured at this size
# Result    out/qwen_qlora/sama_adapter
#
#   recipes/qwen_vl/qlora.sh model.path=./Qwen3-VL-8B-Instruct sama.frame_side=512
set -euo pipefail
cd "$(dirname "$0")/../.."
sama train configs/train/qwen2_5_vl_7b.yaml model.quantize=4bit sama.lora.r=64 sama.lora.alpha=128 \
    train.deepspeed=null train.accumulate=64 train.out=out/qwen_qlora "$@"
