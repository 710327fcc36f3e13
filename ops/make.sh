#!/bin/sh
# Compiles the operators in place: cd ops && sh make.sh. PYTHON selects the interpreter, whose torch is used.
exec "${PYTHON:-python}" "$(dirname "$0")/build.py" --again "$@"
