#!/usr/bin/env bash
# Pre-train the mini host: a 3.4 M parameter native InternVL that sees and talks about mini-world clips.
#
# Hardware: one CPU core with AVX-512 bf16, 4 GB of memory, 9 GB of disk for rendered clips in RUN.
# Time:     10 CPU minutes of seeing (stage V) and 50 of talking (stage VL). Interrupted? Run it again: it resumes.
# Result:   sama_plugin/assets/mini/host/, with its held-out scores in card.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

RUN=${RUN:-/tmp/mini-host}
export OMP_NUM_THREADS=1

${PYTHON:-python} -m sama_plugin.miniworld.pretrain_host --run "$RUN" "$@"
