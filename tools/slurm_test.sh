#!/bin/sh
# sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS (8) in all, GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS: more options of srun. PYTHON: the interpreter.
set -eu

if [ $# -lt 4 ]; then
    echo "Usage: sh slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
command -v srun >/dev/null || {
    echo "srun is not a program here: run this where Slurm is, or use dist_test.sh." >&2
    exit 2
}
tools=$(cd "$(dirname "$0")" && pwd)
partition=$1
name=$2
shift 2
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$tools/../.venv/bin/python" ]; then PYTHON=$tools/../.venv/bin/python; fi
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
for number in "$gpus" "$per_node"; do
    case $number in
        '' | 0* | *[!0-9]*)
            echo "GPUS and GPUS_PER_NODE must be numbers from 1 on, got '$number'." >&2
            exit 2
            ;;
    esac
done
if [ "$gpus" -lt "$per_node" ]; then per_node=$gpus; fi

# SRUN_ARGS is several words on purpose.
# shellcheck disable=SC2086
exec srun -p "$partition" --job-name="$name" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$PYTHON" -u "$tools/test.py" "$@" --launcher slurm
