#!/bin/sh
# sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS (8) in all, GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS: more options of srun. PYTHON: the interpreter.
set -eu

if [ $# -lt 4 ]; then
    echo "Usage: sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
# The published path is a link to this file; the shared part lies beside the file itself.
exec sh "$(dirname "$(readlink -f "$0")")/slurm_run.sh" test.py "$@"
