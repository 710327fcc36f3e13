#!/bin/sh
# sh dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several nodes: run it on each node, with NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON: the interpreter.
set -eu

if [ $# -lt 2 ]; then
    echo "Usage: sh dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
# The published paths are links to this file; dist_run.sh is in the folder of the file itself.
run=$(dirname "$(readlink -f "$0")")/dist_run.sh

config=$1
gpus=$2
shift 2
exec sh "$run" train.py "$gpus" "$config" "$@"
