#!/bin/sh
# sh dist_train_load.sh CONFIG WORK_DIR CHECKPOINT [options of tools/train.py]: start from the weights of CHECKPOINT.
# GPUS: number of processes (default 4, as published). Further variables: dist_train.sh.
set -eu

if [ $# -lt 3 ]; then
    echo "Usage: sh dist_train_load.sh CONFIG WORK_DIR CHECKPOINT [options of tools/train.py]" >&2
    exit 2
fi
run=$(dirname "$(readlink -f "$0")")/dist_train.sh

config=$1
work_dir=$2
checkpoint=$3
shift 3
exec sh "$run" "$config" "${GPUS:-4}" --work-dir "$work_dir" --load-from "$checkpoint" "$@"
