#!/usr/bin/env bash
# ms-swift with the plugin: its loader, its LoRA, its Trainer; our data, modules and checkpoint.
#
# Hardware  8 GPUs of 80 GB for 8B
# Time      not measured at this size
# Tried     ms-swift 4.6, transformers 5.23, a tiny native InternVL on a CPU: trains with mask losses, and saves
# Result    a sama_adapter/ beside PEFT's files in the run's folder; `sama chat --model MODEL --adapter FOLDER`
#
# What changes against `swift sft`: the entry point is named, torchrun is called here, and three flags are needed:
#   --external_plugins         swift's hook on the model would drop what the plugin's batches carry
#   --use_logits_to_keep false the head must see the positions of [SEG]
#   --target_regex             LoRA on the language model alone; elsewhere it stays in PEFT's files
#
#   DATA=train.jsonl recipes/swift/lora.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
# Our samples, one a line, from `sama data convert`. CHATS is not read, but swift wants a dataset.
DATA=${DATA:?name a JSONL file of samples: DATA=train.jsonl}
CHATS=$(mktemp --suffix .jsonl)
trap 'rm -f "$CHATS"' EXIT
echo '{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]}' > "$CHATS"
torchrun --nproc_per_node 8 -m sama_plugin swift.pipelines --plugin.entry sft_main \
    --plugin sama --plugin.data "$DATA" --plugin.config configs/sama_8b.yaml \
    --model OpenGVLab/InternVL3-8B-hf --dataset "$CHATS" --external_plugins recipes/swift/sama_external.py \
    --tuner_type lora --lora_rank 128 --lora_alpha 256 --use_logits_to_keep false \
    --target_regex '^model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)$' \
    --learning_rate 4e-5 --per_device_train_batch_size 1 --gradient_accumulation_steps 8 \
    --eval_strategy no --split_dataset_ratio 0 --torch_dtype bfloat16 --output_dir out/swift "$@"
