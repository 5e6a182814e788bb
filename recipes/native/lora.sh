#!/usr/bin/env bash
# Transformers-native InternVL3 or 3.5, 1B to 38B: plugin and LoRA on the language model.
#
# Hardware  8 GPUs of 80 GB up to 8B with ZeRO-2; 14B and 38B with train.deepspeed=configs/deepspeed/zero3.json
# Time      not measured at these sizes; tests/hosts runs the same code on tiny ones
# Result    out/native/sama_adapter and PEFT's files; `sama chat --model MODEL --adapter out/native`
#
#   recipes/native/lora.sh model.path=OpenGVLab/InternVL3_5-8B-HF train.out=out/internvl3_5
#
# Sizes     InternVL3   1B 2B 8B 14B 38B: qwen2 (all -hf repositories)
#           InternVL3.5 1B 2B 4B 8B 14B 38B: qwen3; 30B-A3B: qwen3_moe; GPT-OSS-20B: gpt_oss (attention only)
# Rate      SAMA's 4e-5 for everything; LoRA 128 / 256, as Sa2VA. Another size needs nothing else: widths, layers and
#           what LoRA matches are read from the model, and `sama doctor MODEL` prints them before you pay for GPUs.
set -euo pipefail
cd "$(dirname "$0")/../.."
torchrun --nproc_per_node 8 -m sama_plugin train configs/train/internvl3_8b.yaml \
    model.path=OpenGVLab/InternVL3-8B-hf train.out=out/native "$@"
