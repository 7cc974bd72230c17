//! The exceptions that an operation on a queue raises when it does not succeed: Empty, Full, ShutDown.

use crate::once::Once;
use pyo3::prelude::*;
use pyo3::types::PyType;

fn raise(py: Python<'_>, cell: &'static Once<Py<PyType>>, module: &str, name: &str) -> PyErr {
    cell.import(py, module, name)
        .map_or_else(|e| e, |kind| PyErr::from_type(kind.clone(), ()))
}

pub fn empty(py: Python<'_>) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    raise(py, &TYPE, "_queue", "Empty") // the class of `queue`, whose import takes milliseconds
}

pub fn full(py: Python<'_>) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    raise(py, &TYPE, "queue", "Full")
}

pub fn shut_down(py: Python<'_>) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    raise(py, &TYPE, "procession.queues", "ShutDown")
}
