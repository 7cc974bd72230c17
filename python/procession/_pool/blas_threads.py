"""Limits how many threads numerical libraries (BLAS, OpenMP) start inside a worker.

Each of them starts as many threads as there are CPUs, in every process: eight workers on eight CPUs then have 64
threads that slow each other down.
"""

from __future__ import annotations

import os
import re

__all__ = ["VARIABLES", "limit"]

# variables that the libraries read when they are loaded
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# functions of libraries that are loaded already
_SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "MKL_Set_Num_Threads",
    "omp_set_num_threads",
    "bli_thread_set_num_threads",
)
_LIBRARY = re.compile(r"/\S*(?:openblas|mkl_rt|libgomp|libomp|libiomp|libblis)\S*\.so\S*$", re.MULTILINE)


def limit(threads: int) -> None:
    """Sets the number of threads of the libraries in this process: those loaded already, and those loaded later.

    threadpoolctl knows more libraries, and more of their versions, than this module. If it is installed, it does so.
    """
    for name in VARIABLES:
        os.environ[name] = str(threads)
    try:
        with open("/proc/self/maps") as maps:
            loaded = set(_LIBRARY.findall(maps.read()))
    except OSError:
        return
    if not loaded:
        return
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-not-found, unused-ignore]

        threadpool_limits(threads)
    except ImportError:
        _set(threads, loaded)


def _set(threads: int, loaded: set[str]) -> None:
    """Calls the functions of the libraries in these files."""
    import ctypes

    for path in loaded:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in _SETTERS:
            setter = getattr(library, name, None)
            if setter is not None:
                setter(ctypes.c_int(threads))
