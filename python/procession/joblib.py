"""A backend for joblib: `Parallel` runs its tasks in worker processes of this package.

joblib is imported when `register` is called.
"""

from __future__ import annotations

__all__ = ["register"]


def register(make_default: bool = False) -> None:
    """Registers the backend "procession" with joblib, in this process.

    Afterwards `joblib.parallel_config(backend="procession")` and `joblib.Parallel(backend="procession")` use it. Their
    further keyword arguments are options of the backend:

    - `initializer`, `initargs`: each worker first calls initializer(*initargs).
    - `inner_max_num_threads`: threads of numerical libraries in each worker; by default what the environment says
      (`OMP_NUM_THREADS` and others), or else the CPUs divided by the workers.
    - `idle_worker_timeout`: seconds after which workers without tasks end; 300 by default.
    - `max_tasks_per_child`, `retries`, `worker_memory_limit` and other options of `ProcessPoolExecutor`. A task in
      their sense is a batch of joblib's tasks. `seed` and `exit_function` are refused: joblib chooses the batches.

    If a worker dies, its batch is run again (`retries`) or `Parallel` raises `WorkerDiedError`. Other batches are not
    affected by the death.

    Workers do not import the main module of the program, which needs no `if __name__ == "__main__"` for them.
    Functions and classes of the main module are sent by value, with cloudpickle. Workers know the backend, so tasks
    may use it too.

    Args:
        make_default: makes it the backend that joblib uses where none is named.

    Raises:
        ImportError: joblib is not installed.

    Example:
        ```python
        import joblib
        import procession.joblib

        procession.joblib.register()
        with joblib.parallel_config(backend="procession", n_jobs=2, retries=1):
            print(joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(5)))  # [0, 1, 4, 9, 16]
        ```
    """
    try:
        import joblib  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ImportError("procession.joblib needs joblib: pip install 'procession[joblib]'") from error
    from ._neighbours.joblib_backend import ProcessionBackend

    joblib.register_parallel_backend("procession", ProcessionBackend, make_default=make_default)
