#!/usr/bin/env bash
# An unmodified HF-Trainer script learns to refer and to ground: `finetune.py` knows nothing of the plugin.
#
# Hardware: two CPU cores and 2 GB, with the packaged mini host; with a real InternVL one GPU.
# Time:     about 5 s a step of the mini host on two busy cores (2 steps timed), so 4 minutes for 50.
# Result:   out/hf_trainer/sama_adapter/ and PEFT's files beside it; `sama chat --adapter out/hf_trainer` loads them.
#
#   MODEL=./InternVL3-1B-hf DATA=train.jsonl CONFIG=configs/sama_1b.yaml recipes/hf_trainer/finetune.sh --bf16
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python}
# The host: any folder with a transformers-native InternVL. By default the mini one that comes with the package.
MODEL=${MODEL:-$($PYTHON -c 'from sama_plugin.assets import asset; print(asset("mini/host"))')}
# Our data: one canonical sample a line, made by `sama data convert`; media paths are relative to the file.
DATA=${DATA:?name a JSONL file of samples: DATA=train.jsonl}
# Sizes of the plugin.
CONFIG=${CONFIG:-configs/mini.yaml}

# The script's own data. It is not read: --plugin.data takes its place, because only that knows regions and masks.
CHATS=$(mktemp)
trap 'rm -f "$CHATS"' EXIT
echo '[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]' > "$CHATS"

# The script and its own flags as always; what begins with --plugin is ours and never reaches it.
$PYTHON -m sama_plugin recipes/hf_trainer/finetune.py \
  --model "$MODEL" --conversations "$CHATS" \
  --output_dir out/hf_trainer --max_steps 50 --per_device_train_batch_size 4 \
  --learning_rate 2e-4 --logging_steps 5 --report_to none \
  --plugin sama --plugin.data "$DATA" --plugin.config "$CONFIG" "$@"
