#!/bin/sh
# sh dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several nodes: run it on each node, with NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON: the interpreter.
set -eu

if [ $# -lt 3 ]; then
    echo "Usage: sh dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
# The published paths are links to this file; dist_run.sh is in the folder of the file itself.
run=$(dirname "$(readlink -f "$0")")/dist_run.sh

config=$1
checkpoint=$2
gpus=$3
shift 3
exec sh "$run" test.py "$gpus" "$config" "$checkpoint" "$@"
