#!/bin/sh
# slurm_run.sh TOOL PARTITION JOB_NAME ARGS...: start TOOL (a file of tools/) under Slurm, for the slurm_* scripts.
set -eu

command -v srun >/dev/null || {
    echo "srun is not an executable: run this on a Slurm cluster, or use the dist_ script." >&2
    exit 2
}
tools=$(cd "$(dirname "$0")/.." && pwd)
tool=$1
partition=$2
name=$3
shift 3
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$tools/../.venv/bin/python" ]; then PYTHON=$tools/../.venv/bin/python; fi
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
for number in "$gpus" "$per_node"; do
    case $number in
        '' | 0* | *[!0-9]*)
            echo "GPUS and GPUS_PER_NODE must be numbers, at least 1, got '$number'." >&2
            exit 2
            ;;
    esac
done
if [ "$gpus" -lt "$per_node" ]; then per_node=$gpus; fi

# SRUN_ARGS may hold several options, so it is not quoted.
# shellcheck disable=SC2086
exec srun -p "$partition" --job-name="$name" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$PYTHON" -u "$tools/$tool" "$@" --launcher slurm
