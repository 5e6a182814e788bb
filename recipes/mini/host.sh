#!/usr/bin/env bash
# Pre-train the mini host: a 3.5 M parameter native InternVL that sees and talks about mini-world clips.
#
# Hardware: two CPU cores with AVX-512 bf16, 8 GB of memory, 12 GB of disk for rendered clips in RUN.
# Time:     18 CPU minutes of seeing beside 22 of talking, then 30 of both joined: an hour. Interrupted? Run it
#           again: every stage resumes.
# Result:   sama_plugin/assets/mini/host/, with its held-out scores in card.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

RUN=${RUN:-/tmp/mini-host}
PYTHON=${PYTHON:-python}
export OMP_NUM_THREADS=1
# Attention scores are tens of megabytes each; without these two glibc gives every one back to the kernel.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000

stage() {
    "$PYTHON" -m sama_plugin.miniworld.pretrain_host --run "$RUN" --stage "$@"
}

stage vision "$@" &
stage talk "$@"
wait $!
stage join "$@"
