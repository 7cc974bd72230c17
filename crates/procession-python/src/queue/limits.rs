//! How long an operation on a queue may wait, and the exceptions that say that it did not succeed.

use crate::shared::waited;
use procession_core::queue::LockPolicy;
use procession_core::sync::wait::Waited;
use procession_core::sys::clock::Deadline;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// How long an operation may take.
pub struct Limits<'a> {
    limit: &'a dyn Fn() -> Deadline,
    deadline: Option<Deadline>,
    pub policy: LockPolicy,
}

impl<'a> Limits<'a> {
    pub fn new(limit: &'a dyn Fn() -> Deadline) -> Self {
        Limits {
            limit,
            deadline: None,
            policy: LockPolicy::Try,
        }
    }

    fn until(&mut self) -> Deadline {
        *self.deadline.get_or_insert_with(self.limit)
    }

    /// Another process is inside, which takes no time at all, unless it was stopped there: true if it has taken too long.
    pub fn busy(&mut self, py: Python<'_>) -> PyResult<bool> {
        let until = self.until();
        if self.policy == LockPolicy::Bounded {
            py.check_signals()?;
            if until.expired() {
                return Ok(true);
            }
        }
        self.policy = LockPolicy::Bounded;
        Ok(false)
    }

    /// Waits detached; true if the deadline came.
    pub fn wait(
        &mut self,
        py: Python<'_>,
        wait: impl Fn(Deadline) -> Waited + Send + Sync,
    ) -> PyResult<bool> {
        let until = self.until();
        self.policy = LockPolicy::Try;
        Ok(waited(py, until, || wait(until))?.is_none())
    }
}

fn raise(py: Python<'_>, cell: &'static PyOnceLock<Py<PyType>>, module: &str, name: &str) -> PyErr {
    cell.import(py, module, name)
        .map_or_else(|e| e, |kind| PyErr::from_type(kind.clone(), ()))
}

pub fn empty(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &TYPE, "queue", "Empty")
}

pub fn full(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &TYPE, "queue", "Full")
}

pub fn shut_down(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &TYPE, "procession.queues", "ShutDown")
}
