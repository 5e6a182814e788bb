#!/usr/bin/env bash
# Pre-train the mini segmenter: a 4 M parameter SAM2 (Meta's own classes) for 128-pixel mini-world clips.
#
# Hardware: one CPU core with AVX-512 bf16, 3 GB of memory, 1.7 GB of disk for rendered clips in RUN.
# Time:     stage "images" 6000 steps, about 20 minutes; stage "videos" 1800 steps, about 15 (idle core).
#           Interrupted? Run it again: it resumes with the same batches.
# Result:   sama_plugin/assets/mini/segmenter.safetensors, described in segmenter.md beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."

RUN=${RUN:-/tmp/mini-segmenter}
export OMP_NUM_THREADS=1

${PYTHON:-python} -m sama_plugin.miniworld.pretrain_segmenter --work "$RUN" "$@"
cp "$RUN/segmenter.safetensors" sama_plugin/assets/mini/segmenter.safetensors
