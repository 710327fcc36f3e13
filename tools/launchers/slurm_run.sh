#!/bin/sh
# shellcheck disable=SC2086
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
die() {
    printf '%s\n' "$1" >&2
    exit 2
}

# One process for each GPU that is asked for, else PROCESSES processes that share the cores.
processes=${GPUS:-${PROCESSES:-1}}
per_node=${GPUS:+${GPUS_PER_NODE:-8}}
cores=${CPUS_PER_TASK:-$([ -n "${GPUS:-}" ] && echo 2 || echo 1)}
for number in "$processes" "${per_node:-1}" "$cores"; do
    case $number in
        '' | 0* | *[!0-9]*) die "GPUS, GPUS_PER_NODE, PROCESSES and CPUS_PER_TASK must be numbers, at least 1, got '$number'." ;;
    esac
done
set -- "$PYTHON" -u "$tools/$tool" "$@" --launcher slurm
if [ -n "${GPUS:-}" ]; then
    if [ "$processes" -lt "$per_node" ]; then per_node=$processes; fi
    set -- --gres="gpu:$per_node" --ntasks-per-node="$per_node" ${SRUN_ARGS:-} "$@"
else
    echo "GPUS is not set: $processes process(es) without a GPU (PROCESSES=n for more)." >&2
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cores}" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
    set -- ${SRUN_ARGS:-} "$@"
fi
# SRUN_ARGS may hold several options, so it is not quoted above.
exec srun -p "$partition" --job-name="$name" --ntasks="$processes" --cpus-per-task="$cores" --kill-on-bad-exit=1 "$@"
