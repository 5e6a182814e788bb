#!/usr/bin/env bash
# Pre-train the mini aggregator on the frozen mini host: what a question asks about, written into context tokens.
#
# Hardware: one CPU core, 3 GB of memory, 1 GB of disk for clips as the tower sees them in RUN.
# Time:     about 4 minutes of looking at clips, 10 of training. Interrupted? Run it again: it resumes.
# Result:   sama_plugin/assets/mini/aggregator.safetensors, described in aggregator.md beside it; trainings start
#           from it through `start_from`.
# Needs:    the mini host (recipes/mini/host.sh; packaged)
set -euo pipefail
cd "$(dirname "$0")/../.."

RUN=${RUN:-/tmp/mini-aggregator}
export OMP_NUM_THREADS=1
# Large temporaries come and go at every step; without these two glibc gives each back to the kernel.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000

${PYTHON:-python} -m sama_plugin.miniworld.pretrain_aggregator --work "$RUN" "$@"
