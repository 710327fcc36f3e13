#!/bin/sh
# Compiles the operators in place: cd ops && sh make.sh. PYTHON selects the interpreter, whose torch is used (default:
# the one of .venv if it exists, else python or python3).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for found in "${PYTHON:-}" "$here/../.venv/bin/python" python python3; do
    if [ -n "$found" ] && { [ -n "${PYTHON:-}" ] || command -v "$found" >/dev/null; }; then
        exec "$found" "$here/build.py" --again "$@"
    fi
done
echo "ops: no Python was found: run 'make setup', or set PYTHON." >&2
exit 2
