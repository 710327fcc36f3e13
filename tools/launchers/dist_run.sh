#!/bin/sh
# dist_run.sh TOOL PROCESSES ARGS...: start TOOL (a file of tools/) in PROCESSES processes, for the dist_* scripts.
set -eu

die() {
    printf '%s\n' "$1" >&2
    exit 2
}

tools=$(cd "$(dirname "$0")/.." && pwd)
tool=$1
processes=$2
shift 2

case $processes in
    '' | 0* | *[!0-9]*) die "GPUS must be a number of processes, at least 1, got '$processes'." ;;
esac

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$tools/../.venv/bin/python" ]; then PYTHON=$tools/../.venv/bin/python; fi
fi
command -v "$PYTHON" >/dev/null || die "$PYTHON is not an executable: run 'make setup', or set PYTHON."

facts=$("$PYTHON" -c 'import os, torch; print(torch.cuda.device_count(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())') ||
    die "$PYTHON has no working torch: run 'make setup', or set PYTHON."
gpus=${facts% *}
cores=${facts#* }
if [ "$gpus" -gt 0 ] && [ "$processes" -gt "$gpus" ]; then
    die "GPUS is $processes and this machine has $gpus: give at most that number."
fi
# Without GPUs, waiting threads must sleep: spinning threads slow down all processes that share their cores.
if [ "$gpus" -eq 0 ]; then export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"; fi
# torchrun sets one thread per process; without GPUs, divide all cores among the processes instead.
if [ "$gpus" -eq 0 ] && [ -z "${OMP_NUM_THREADS:-}" ]; then
    OMP_NUM_THREADS=$((cores / processes))
    if [ "$OMP_NUM_THREADS" -lt 1 ]; then OMP_NUM_THREADS=1; fi
    export OMP_NUM_THREADS
fi
# Otherwise MMEngine sets 1, and says so in each process.
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-${OMP_NUM_THREADS:-1}}"

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    # --standalone chooses a free port, so that two runs do not collide.
    set -- --standalone --local-addr 127.0.0.1 --nproc-per-node "$processes" "$tools/$tool" "$@"
else
    set -- --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-127.0.0.1}" \
        --master-port "${PORT:-29500}" --nproc-per-node "$processes" "$tools/$tool" "$@"
fi
exec "$PYTHON" "$tools/launchers/torchrun.py" "$@" --launcher pytorch
