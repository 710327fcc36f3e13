#!/bin/sh
# Compiles the operators in place: cd ops && sh make.sh. PYTHON names the Python whose torch they are for.
exec "${PYTHON:-python}" "$(dirname "$0")/build.py" --again "$@"
