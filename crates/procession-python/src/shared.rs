//! The methods and helpers that the classes of shared objects have in common.

use crate::errors::raised;
use procession_core::family::loop_waits::LoopWait;
use procession_core::family::waits::What;
use procession_core::sync::caller::Caller;
use procession_core::sync::wait::Statistics;
use procession_core::sync::wait::WaitOutcome;
use procession_core::sys::clock::Deadline;
use pyo3::prelude::*;

/// Gives a class the methods that every shared object has: one that makes an empty shell (`__new__` takes any arguments,
/// which are those of the subclass's `__init__`), one that attaches it to the object that a handle names, and the handle.
/// The class's own methods follow in the same block, since PyO3 takes only one.
macro_rules! shared_class {
    ($name:ident, $core:ty, $title:literal, { $($methods:tt)* }) => {
        impl $name {
            #[inline]
            fn core(&self) -> PyResult<&$core> {
                self.inner.get().ok_or_else(|| {
                    PyRuntimeError::new_err(concat!("this ", $title, " was not initialised: __init__ was not called"))
                })
            }

            fn set_core(&self, made: Result<$core, procession_core::Error>) -> PyResult<()> {
                let core = made.map_err(raised)?;
                self.inner
                    .set(core)
                    .map_err(|_| PyRuntimeError::new_err(concat!("this ", $title, " was initialised already")))
            }
        }

        impl $name {
            /// Sets the object that `make` makes. It gets a label with the place in the program.
            #[inline]
            fn set_made(
                &self,
                py: Python<'_>,
                make: impl FnOnce() -> Result<$core, procession_core::Error>,
            ) -> PyResult<()> {
                self.set_core(crate::label::placed(py, make))
            }

            fn set_label(&self, py: Python<'_>, name: &str) -> PyResult<()> {
                let reference = self.core()?.reference();
                crate::label::label(py, reference.family(), name, |label| reference.set_label(label))
            }
        }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs))]
            fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
                Self::default()
            }

            /// Attaches this object to the one that the handle names.
            fn _attach(&self, handle: &[u8]) -> PyResult<()> {
                let handle = Handle::from_bytes(handle).map_err(raised)?;
                self.set_core(<$core>::open(&handle))
            }

            /// The bytes that name this object in every process. Asking for them keeps the object alive for the receiver: a
            /// message under way holds it, or this process does until it ends.
            #[getter]
            fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
                let reference = self.core()?.reference();
                transit::register_in_transit(|| reference.try_clone())?;
                Ok(PyBytes::new(py, &reference.handle().to_bytes()))
            }

            /// Gives the object a label that observers read: this name, and the place in the program that calls this.
            fn _label(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
                self.set_label(py, &name.to_string_lossy())
            }

            /// Returns four numbers: waits under way, operations, operations that had to wait, nanoseconds waited in total.
            fn _statistics(&self) -> PyResult<(u64, u64, u64, u64)> {
                Ok(crate::shared::numbers(self.core()?.statistics()))
            }

            /// The offset and generation that identify this object in its family.
            #[getter]
            fn _key(&self) -> PyResult<(u64, u32)> {
                Ok(self.core()?.reference().key())
            }

            /// Registers the mailbox of an event loop: it is notified from now on when it may be worth trying again. False if
            /// all places are taken.
            fn _register_waker(&self, address: u32) -> PyResult<bool> {
                let core = self.core()?;
                // A process that rings the bells of another family cannot know the mailboxes of this one.
                let home = procession_core::family::Family::home_if_any();
                let at_home = home.is_some_and(|home| std::ptr::eq(home, core.reference().family()));
                Ok(at_home && core.bells().iter().all(|bell| bell.register_waker(Address::from_raw(address))))
            }

            /// Removes that mailbox.
            fn _unregister_waker(&self, address: u32) -> PyResult<()> {
                self.core()?.bells().iter().for_each(|bell| bell.unregister_waker(Address::from_raw(address)));
                Ok(())
            }

            /// Records for observers that a task of this thread's event loop waits for the object, until the result is dropped.
            /// None if there are too many. what: as `procession ps --json` names it. detail: the round of a barrier.
            #[pyo3(signature = (what, timeout = None, detail = 0))]
            fn _task_waits(
                &self,
                what: &str,
                timeout: Option<f64>,
                detail: u64,
            ) -> PyResult<Option<crate::shared::TaskWait>> {
                let until = crate::shared::within(timeout);
                let what = crate::shared::what_named(what);
                let wait = self.core()?.reference().wait_in_loop(what, detail, until);
                Ok(wait.map(crate::shared::TaskWait))
            }

            $($methods)*
        }
    };
}
pub(crate) use shared_class;

/// While it lives, observers see that a task of an event loop waits.
#[pyclass(module = "procession._core", frozen)]
pub struct TaskWait(#[allow(dead_code)] pub LoopWait); // what counts is when it is dropped

/// The kind of a wait with this name, as observers name it.
pub fn what_named(name: &str) -> What {
    match name {
        "acquire" => What::Acquire,
        "item" => What::Item,
        "room" => What::Room,
        "barrier" => What::Barrier,
        _ => What::Set,
    }
}

/// The statistics as a tuple for Python.
pub fn numbers(s: Statistics) -> (u64, u64, u64, u64) {
    (
        s.waiting,
        s.operations,
        s.waits,
        u64::try_from(s.waited.as_nanos()).unwrap_or(u64::MAX),
    )
}

/// Returns the deadline of a wait with the arguments `block` and `timeout`.
pub fn deadline_of(block: Option<&Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<Deadline> {
    Ok(match (block.map_or(Ok(true), |b| b.is_truthy())?, timeout) {
        (false, _) => Deadline::PAST,
        (true, timeout) => within(timeout),
    })
}

/// Returns the deadline of a wait with the argument `timeout` in seconds; None: no limit.
pub fn within(timeout: Option<f64>) -> Deadline {
    timeout.map_or(Deadline::NEVER, Deadline::after_seconds)
}

/// A thread that is attached to the interpreter.
pub struct Attached<'py>(pub Python<'py>);

impl Caller for Attached<'_> {
    type Error = PyErr;

    fn error(&self, error: procession_core::Error) -> PyErr {
        raised(error)
    }

    fn detached<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.detach(work)
    }

    fn check_signals(&self) -> PyResult<()> {
        self.0.check_signals()
    }
}

/// Waits detached from the interpreter, and runs signal handlers in between. Returns None if the deadline passed.
pub fn waited<T: Send>(
    py: Python<'_>,
    until: Deadline,
    wait: impl Fn() -> WaitOutcome<T> + Send + Sync,
) -> PyResult<Option<T>> {
    Attached(py).wait(until, wait)
}
