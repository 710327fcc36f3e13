#!/bin/sh
# dist_run.sh TOOL PROCESSES ARGS...: start TOOL (a file of tools/) in PROCESSES processes. The dist_* scripts use it.
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
    '' | 0* | *[!0-9]*) die "GPUS must be a number of processes from 1 on, got '$processes'." ;;
esac

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$tools/../.venv/bin/python" ]; then PYTHON=$tools/../.venv/bin/python; fi
fi
command -v "$PYTHON" >/dev/null || die "$PYTHON is not a program here: run 'make setup', or set PYTHON."

facts=$("$PYTHON" -c 'import os, torch; print(torch.cuda.device_count(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())') ||
    die "$PYTHON has no working torch: run 'make setup', or set PYTHON."
gpus=${facts% *}
cores=${facts#* }
if [ "$gpus" -gt 0 ] && [ "$processes" -gt "$gpus" ]; then
    die "GPUS is $processes and this machine has $gpus: ask for at most that many."
fi
# Without GPUs, threads that wait must sleep: spinning ones slow everything as soon as cores are shared.
if [ "$gpus" -eq 0 ]; then export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"; fi
# One process per core is the launcher's default; without GPUs the cores are all there is, so they are shared out.
if [ "$gpus" -eq 0 ] && [ -z "${OMP_NUM_THREADS:-}" ]; then
    OMP_NUM_THREADS=$((cores / processes))
    if [ "$OMP_NUM_THREADS" -lt 1 ]; then OMP_NUM_THREADS=1; fi
    export OMP_NUM_THREADS
fi

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    # A free port of the machine's own choice, so that two runs never meet.
    set -- --standalone --local-addr 127.0.0.1 --nproc-per-node "$processes" "$tools/$tool" "$@"
else
    set -- --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-127.0.0.1}" \
        --master-port "${PORT:-29500}" --nproc-per-node "$processes" "$tools/$tool" "$@"
fi
exec "$PYTHON" -m torch.distributed.run "$@" --launcher pytorch
