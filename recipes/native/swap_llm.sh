#!/usr/bin/env bash
# InternVL's eyes on another language model, in three steps: swap, let the projector learn, then the plugin.
#
# Hardware  step 1 a CPU with memory for both models; steps 2 and 3 as recipes/native/lora.sh
# Time      step 1 minutes; steps 2 and 3 not measured at this size
# Result    out/swapped: a native InternVL on the new language model; out/swapped_sama/sama_adapter
#
#   HOST=OpenGVLab/InternVL3-8B-hf LLM=Qwen/Qwen3-8B CHATS=chats/meta.json recipes/native/swap_llm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
HOST=${HOST:-OpenGVLab/InternVL3-8B-hf}
LLM=${LLM:-Qwen/Qwen3-8B}
CHATS=${CHATS:?plain conversations about images and videos, an InternVL meta file}

# 1. Vision stays, decoder and head are the new model's; swap.json says what starts again.
sama swap-llm --host "$HOST" --llm "$LLM" --out out/swapped

# 2. The projector alone learns the new model's space from plain conversations.
python recipes/native/warm_projector.py --host out/swapped --data "$CHATS" --out out/warmed

# 3. Plugin and LoRA, as on any host.
torchrun --nproc_per_node 8 -m sama_plugin train configs/train/internvl3_8b.yaml \
    model.path=out/warmed train.out=out/swapped_sama "$@"
