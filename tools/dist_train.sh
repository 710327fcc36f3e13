#!/bin/sh
# sh dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several nodes: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT. PYTHON: the interpreter.
set -eu

if [ $# -lt 2 ]; then
    echo "Usage: sh dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
self=$0
while [ -h "$self" ]; do # a link: its text is relative to the folder it is in
    link=$(readlink "$self")
    case $link in
        /*) self=$link ;;
        *) self=$(dirname "$self")/$link ;;
    esac
done
run=$(dirname "$self")/dist_run.sh

config=$1
gpus=$2
shift 2
if [ ! -f "$config" ]; then
    echo "config $config does not exist: check the path" >&2
    exit 2
fi
exec sh "$run" train.py "$gpus" "$config" "$@"
