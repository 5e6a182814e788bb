#!/usr/bin/env bash
# The packaged adapter of the mini: plugin + LoRA, taught on the mini world.
#
# Hardware  two CPU cores with bfloat16 (AVX-512 BF16 or AMX), 4 GB of memory, 6 GB of disk
# Time      about three hours of one core
# Result    the scores in sama_plugin/assets/mini/adapter/README.md (sama eval mini --full)
# Needs     the mini host and segmenter (recipes/mini/host.sh, recipes/mini/segmenter.sh; packaged)
#
# Interrupted? Run it again with --resume: it continues bit-exactly from the last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."

OUT=${OUT:-out/mini}
sama mini teach --out "$OUT" --clips "${CLIPS:-6500}" --steps "${STEPS:-8000}" --batch 8 \
    --ship sama_plugin/assets/mini/adapter "$@"
sama eval mini --adapter sama_plugin/assets/mini/adapter --out "$OUT/scores.json"
