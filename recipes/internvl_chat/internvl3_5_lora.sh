#!/usr/bin/env bash
# LoRA fine-tuning of InternVL3.5 in its own code, with referring and grounding. In that tree `--use_llm_lora` ends in an
# AttributeError, because its model has no `wrap_llm_lora`; the plugin supplies it. The flags are those of upstream's
# `*_sft.sh` with LoRA in the place of full training, without packing, and one changed line (marked).
#
# Hardware: 2 GPUs of 80 GB up to 8B, 4 for 14B, 8 for 30B-A3B and 38B. Not run at these sizes by this project: the same
#           line is run at a tiny size by `make test-upstream`.
# Data:     upstream's meta JSON; records may carry `regions` and `targets` (docs/hosts/internvl_chat.md).
# Result:   the bare host in $OUTPUT_DIR, LoRA and the rest in $OUTPUT_DIR/sama_adapter.
#
#   cd InternVL/internvl_chat_gpt_oss && SIZE=8B META=train.json CONFIG=sama.yaml /path/to/internvl3_5_lora.sh
set -euo pipefail

SIZE=${SIZE:-8B}
GPUS=${GPUS:-2}
BATCH_SIZE=${BATCH_SIZE:-16}
META=${META:?a meta JSON as upstream reads it: META=train.json}
CONFIG=${CONFIG:?sizes of the plugin: CONFIG=sama.yaml}
OUTPUT_DIR=${OUTPUT_DIR:-work_dirs/internvl3_5_${SIZE}_sama}

case $SIZE in
  1B|2B|4B|8B)     RATE=4e-5 ZERO=zero_stage1_config.json ;;
  14B|30B-A3B|38B) RATE=2e-5 ZERO=zero_stage3_config.json ;;
  *) echo "SIZE=$SIZE: one of 1B 2B 4B 8B 14B 30B-A3B 38B" >&2; exit 2 ;;
esac
MODEL=${MODEL:-OpenGVLab/InternVL3_5-$SIZE}

export PYTHONPATH="${PYTHONPATH:-}:$(pwd)" LAUNCHER=pytorch
mkdir -p "$OUTPUT_DIR"

#   upstream:  internvl/train/internvl_chat_finetune.py \
#   here:      -m sama_plugin internvl/train/internvl_chat_finetune.py --plugin sama --plugin.config FILE \
torchrun --nnodes=1 --nproc-per-node="$GPUS" --master-port="${MASTER_PORT:-34229}" \
  -m sama_plugin internvl/train/internvl_chat_finetune.py --plugin sama --plugin.config "$CONFIG" \
  --model_name_or_path "$MODEL" --conv_style internvl2_5 --use_fast_tokenizer False \
  --output_dir "$OUTPUT_DIR" --overwrite_output_dir True --meta_path "$META" \
  --force_image_size 448 --max_dynamic_patch 12 --down_sample_ratio 0.5 --drop_path_rate 0.0 \
  --min_num_frame 8 --max_num_frame 32 --freeze_llm True --freeze_mlp True --freeze_backbone True \
  --use_llm_lora 16 --vision_select_layer -1 --dataloader_num_workers 4 --bf16 True \
  --num_train_epochs 1 --per_device_train_batch_size 1 \
  --gradient_accumulation_steps $((BATCH_SIZE / GPUS)) \
  --save_strategy steps --save_steps 500 --save_total_limit 1 --learning_rate "$RATE" \
  --weight_decay 0.05 --warmup_ratio 0.03 --lr_scheduler_type cosine --logging_steps 1 \
  --max_seq_length 16384 --split_annotations False --do_train True --grad_checkpoint True \
  --group_by_length False --dynamic_image_size True --use_thumbnail True --ps_version v2 \
  --use_custom_flash_attn False --use_packed_ds False --seed 42 \
  --deepspeed "$ZERO" --report_to tensorboard "$@"
