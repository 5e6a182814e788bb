#!/usr/bin/env bash
# The same on one GPU: the language model in four bits (NF4), plugin and LoRA in full precision.
#
# Hardware  one GPU of 24 GB for 8B (by arithmetic: 5 GB of weights, 1 GB of LoRA with its optimiser, activations with
#           checkpointing); a CPU runs it too, for trials
# Time      not measured at this size
# Result    out/qlora/sama_adapter; loads on the host in four bits or in 16
#
#   recipes/native/qlora.sh model.path=./InternVL3_5-8B-HF
set -euo pipefail
cd "$(dirname "$0")/../.."
sama train configs/train/internvl3_8b.yaml model.path=OpenGVLab/InternVL3-8B-hf model.quantize=4bit \
    sama.lora.r=64 sama.lora.alpha=128 train.deepspeed=null train.accumulate=64 train.out=out/qlora "$@"
