#!/usr/bin/env bash
# LLaMA-Factory, unmodified, with the plugin: its loader, its LoRA, its Trainer; our data, modules and checkpoint.
#
# Hardware  8 GPUs of 80 GB for 8B
# Time      not measured at this size
# Tried     LLaMA-Factory 0.9.5, transformers 5.23 (DISABLE_VERSION_CHECK=1), a tiny native InternVL on a CPU: it trains,
#           saves, and out/llama_factory/sama_adapter/ lies beside PEFT's files
# Result    out/llama_factory/sama_adapter; `sama chat --model MODEL --adapter out/llama_factory`
#
# What changes against `llamafactory-cli train lora.yaml`: the entry point is named (run_exp, not the launcher, which would
# start processes that know nothing of the plugin), and torchrun is called here.
#
#   DATA=train.jsonl recipes/llama_factory/lora.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
# Our samples, one a line, from `sama data convert`.
DATA=${DATA:?name a JSONL file of samples: DATA=train.jsonl}
torchrun --nproc_per_node 8 -m sama_plugin llamafactory.train.tuner --plugin.entry run_exp \
    --plugin sama --plugin.data "$DATA" --plugin.config configs/sama_8b.yaml \
    recipes/llama_factory/lora.yaml "$@"
