#!/usr/bin/env bash
# LoRA fine-tuning of InternVL2.5 in its own code, with referring and grounding: the flags of upstream's
# `2nd_finetune_lora` recipes, and one changed line (marked).
#
# Hardware: 2 GPUs of 80 GB up to 8B; 4 for 26B, 8 for 38B. Not run at these sizes by this project: the same line is run at
#           a tiny size by `make test-upstream`.
# Data:     upstream's meta JSON. Records may carry `regions` and `targets` (docs/hosts/internvl_chat.md); all others
#           train as before.
# Result:   upstream's checkpoint in $OUTPUT_DIR, and $OUTPUT_DIR/sama_adapter.
#
#   cd InternVL/internvl_chat && SIZE=8B META=train.json CONFIG=sama.yaml /path/to/internvl2_5_lora.sh
set -euo pipefail

SIZE=${SIZE:-8B}
GPUS=${GPUS:-2}
BATCH_SIZE=${BATCH_SIZE:-16}
META=${META:?a meta JSON as upstream reads it: META=train.json}
CONFIG=${CONFIG:?sizes of the plugin: CONFIG=sama.yaml}
OUTPUT_DIR=${OUTPUT_DIR:-work_dirs/internvl2_5_${SIZE}_sama}

# What differs from size to size in upstream's recipes.
case $SIZE in
  1B|2B|4B) DECAY=0.01 RATE=4e-5 EACH=4 ZERO=zero_stage1_config.json ;;
  8B)       DECAY=0.05 RATE=4e-5 EACH=4 ZERO=zero_stage1_config.json ;;
  26B)      DECAY=0.05 RATE=2e-5 EACH=2 ZERO=zero_stage3_config.json ;;
  38B)      DECAY=0.05 RATE=2e-5 EACH=2 ZERO=zero_stage3_config_34b.json ;;
  *) echo "SIZE=$SIZE: one of 1B 2B 4B 8B 26B 38B" >&2; exit 2 ;;
esac
MODEL=${MODEL:-OpenGVLab/InternVL2_5-$SIZE}

export PYTHONPATH="${PYTHONPATH:-}:$(pwd)" LAUNCHER=pytorch
mkdir -p "$OUTPUT_DIR"

#   upstream:  internvl/train/internvl_chat_finetune.py \
#   here:      -m sama_plugin internvl/train/internvl_chat_finetune.py --plugin sama --plugin.config FILE \
torchrun --nnodes=1 --nproc_per_node="$GPUS" --master_port="${MASTER_PORT:-34229}" \
  -m sama_plugin internvl/train/internvl_chat_finetune.py --plugin sama --plugin.config "$CONFIG" \
  --model_name_or_path "$MODEL" --conv_style internvl2_5 --use_fast_tokenizer False \
  --output_dir "$OUTPUT_DIR" --overwrite_output_dir True --meta_path "$META" \
  --force_image_size 448 --max_dynamic_patch 6 --down_sample_ratio 0.5 --drop_path_rate 0.0 \
  --freeze_llm True --freeze_mlp True --freeze_backbone True --use_llm_lora 16 \
  --vision_select_layer -1 --dataloader_num_workers 4 --bf16 True --num_train_epochs 1 \
  --per_device_train_batch_size "$EACH" --gradient_accumulation_steps $((BATCH_SIZE / EACH / GPUS)) \
  --evaluation_strategy no --save_strategy steps --save_steps 200 --save_total_limit 1 \
  --learning_rate "$RATE" --weight_decay "$DECAY" --warmup_ratio 0.03 --lr_scheduler_type cosine \
  --logging_steps 1 --max_seq_length 8192 --do_train True --grad_checkpoint True \
  --group_by_length True --dynamic_image_size True --use_thumbnail True --ps_version v2 \
  --deepspeed "$ZERO" --report_to tensorboard "$@"
