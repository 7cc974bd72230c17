"""How many threads numerical libraries (BLAS, OpenMP) start inside a worker.

Each of them starts as many as there are CPUs, in every process: eight workers on eight CPUs are then 64 threads that
keep each other from working.
"""

from __future__ import annotations

import os
import re

__all__ = ["VARIABLES", "limit"]

# what the libraries read when they are loaded
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# and what those that are loaded already can be told
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
    """Has the libraries of this process use so many threads: those loaded already, and those to come."""
    for name in VARIABLES:
        os.environ[name] = str(threads)
    try:
        with open("/proc/self/maps") as maps:
            loaded = set(_LIBRARY.findall(maps.read()))
    except OSError:
        return
    if not loaded:
        return
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
