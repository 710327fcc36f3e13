#!/bin/sh
# sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# Variables: GPUS (total; none is asked for without it), GPUS_PER_NODE (8), PROCESSES (without GPUS: 1),
# CPUS_PER_TASK (2, without GPUS 1), SRUN_ARGS (options of srun), PYTHON (interpreter).
set -eu

if [ $# -lt 4 ]; then
    echo "Usage: sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
# The published path is a link to this file; slurm_run.sh is in the folder of the file itself.
exec sh "$(dirname "$(readlink -f "$0")")/slurm_run.sh" test.py "$@"
