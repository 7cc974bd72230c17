//! `procession._core.Semaphore`, `Condition`, `Event`, `Barrier`.

use crate::condition::{Ticket, notify, wait};
use crate::errors::raised;
use crate::shared::{deadline_of, shared_class, waited, within};
use crate::transit;
use procession_core::family::Handle;
use procession_core::sync::barrier::{Arrival, Outcome};
use procession_core::sync::summons::Address;
use procession_core::sync::wait::Waited;
use procession_core::sync::{self, semaphore, summons};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::{Mutex, OnceLock};

/// A semaphore that processes share. The public methods that are called most are in [`crate::fast`].
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Semaphore {
    inner: OnceLock<sync::Semaphore>,
}

/// Who waits on a condition. The lock around it is the facade's. The methods that take it are in [`crate::condition`].
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Condition {
    inner: OnceLock<sync::Condition>,
    /// The ticket of the last wait, for the next one.
    spare: Mutex<Option<sync::Ticket>>,
}

impl Condition {
    /// A place in the list.
    pub fn enlisted(&self) -> PyResult<sync::Ticket> {
        let condition = self.core()?;
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.take());
        if let Some(mut ticket) = spare
            && condition.enlist_again(&mut ticket)
        {
            return Ok(ticket);
        }
        condition.enlist().map_err(raised)
    }

    /// A wait is over: its ticket may serve again.
    pub fn spare(&self, ticket: sync::Ticket) {
        if let Ok(mut spare) = self.spare.try_lock() {
            *spare = Some(ticket);
        }
    }
}

/// An event that processes share.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Event {
    inner: OnceLock<sync::Event>,
}

/// A barrier that processes share.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Barrier {
    inner: OnceLock<sync::Barrier>,
}

impl Semaphore {
    /// For [`crate::fast`].
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::Semaphore::try_acquire)
    }

    /// For [`crate::fast`].
    #[inline]
    pub fn released(&self) -> bool {
        self.inner.get().is_some_and(|s| s.release(1))
    }
}

shared_class!(Semaphore, sync::Semaphore, "Semaphore", {
    fn _create(&self, value: i64, maximum: i64) -> PyResult<()> {
        let number = |n: i64| u32::try_from(n).ok().filter(|n| *n <= semaphore::MOST);
        match (number(value), number(maximum)) {
            (Some(value), Some(maximum)) if value <= maximum => {
                self.set_core(sync::Semaphore::new(value, maximum))
            }
            _ => Err(PyValueError::new_err(format!(
                "a semaphore's initial value must be between 0 and {}, not {value}",
                maximum.clamp(0, semaphore::MOST.into())
            ))),
        }
    }

    /// The value that no release exceeds.
    fn _most(&self) -> PyResult<u32> {
        Ok(self.core()?.maximum())
    }

    /// What `acquire` does when it takes more than one instruction.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn _acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let semaphore = self.core()?;
        let deadline = deadline_of(block, timeout)?;
        Ok(waited(py, deadline, || semaphore.acquire(deadline))?.is_some())
    }

    /// What `release` does when it is not the ordinary case.
    #[pyo3(signature = (n = 1))]
    fn _release(&self, n: i64) -> PyResult<()> {
        match u32::try_from(n) {
            Ok(1..) if self.core()?.release(n as u32) => Ok(()),
            Ok(1..) => Err(PyValueError::new_err("semaphore or lock released too many times")),
            _ => Err(PyValueError::new_err("n must be one or more")),
        }
    }

    fn get_value(&self) -> PyResult<u32> {
        Ok(self.core()?.value())
    }
});

/// An event loop's mailbox: its socket is readable after an object that it was registered with has rung.
#[pyclass(module = "procession._core", frozen)]
pub struct Mailbox {
    mailbox: summons::Mailbox,
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Mailbox> {
        Ok(Mailbox {
            mailbox: summons::Mailbox::new()?,
        })
    }

    /// What objects are told to call.
    #[getter]
    fn address(&self) -> u32 {
        self.mailbox.address().number()
    }

    fn fileno(&self) -> i32 {
        self.mailbox.number()
    }

    /// Takes out what was called so far.
    fn empty(&self) {
        self.mailbox.empty();
    }
}

shared_class!(Condition, sync::Condition, "Condition", {
    fn _create(&self) -> PyResult<()> {
        self.set_core(sync::Condition::new())
    }

    fn _enlist(&self) -> PyResult<Ticket> {
        Ok(Ticket::of(self.core()?.enlist().map_err(raised)?))
    }

    /// Calls n of those who wait; `lock`, which the caller holds, is the lock around the condition.
    fn _notify(&self, py: Python<'_>, lock: &Bound<'_, PyAny>, n: u32) -> PyResult<()> {
        notify(py, self.core()?, lock, n)
    }

    /// Releases the lock, waits for a call, acquires it again; whether there was a call.
    #[pyo3(signature = (lock, timeout = None))]
    fn _wait(&self, py: Python<'_>, lock: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
        wait(py, self, lock, timeout)
    }

    fn _waiting(&self) -> PyResult<u64> {
        Ok(self.core()?.waiting())
    }
});

shared_class!(Event, sync::Event, "Event", {
    fn _create(&self) -> PyResult<()> {
        self.set_core(sync::Event::new())
    }

    fn is_set(&self) -> PyResult<bool> {
        Ok(self.core()?.is_set())
    }

    /// Changes whenever the event is set that was clear.
    fn _generation(&self) -> PyResult<u32> {
        Ok(self.core()?.generation())
    }

    /// Sets the event: all who wait for it go on, and who waits from now on does not wait.
    fn set(&self) -> PyResult<()> {
        self.core()?.set();
        Ok(())
    }

    /// Clears the event: who waits from now on waits.
    fn clear(&self) -> PyResult<()> {
        self.core()?.clear();
        Ok(())
    }

    /// Waits until the event is set, up to timeout seconds; whether it was.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.core()?;
        if event.is_set() {
            return Ok(true);
        }
        let deadline = within(timeout);
        Ok(waited(py, deadline, || event.wait(deadline))?.is_some())
    }
});

shared_class!(Barrier, sync::Barrier, "Barrier", {
    fn _create(&self, parties: i64) -> PyResult<()> {
        match u32::try_from(parties) {
            Ok(n @ 1..=sync::barrier::MOST) => self.set_core(sync::Barrier::new(n)),
            _ => Err(PyValueError::new_err(format!(
                "parties must be between 1 and {}, not {parties}",
                sync::barrier::MOST
            ))),
        }
    }

    #[pyo3(signature = (acting, timeout = None))]
    fn _arrive(&self, py: Python<'_>, acting: bool, timeout: Option<f64>) -> PyResult<Option<(u32, u32)>> {
        let barrier = self.core()?;
        let deadline = within(timeout);
        loop {
            match py.detach(|| barrier.arrive(acting, deadline)).map_err(raised)? {
                Waited::Ready(Some(Arrival { index, round })) => return Ok(Some((index, round))),
                Waited::Ready(None) | Waited::TimedOut => return Ok(None),
                Waited::Interrupted => py.check_signals()?,
            }
        }
    }

    /// Waits for this round no longer, which breaks it if it has not ended; whether it had tripped.
    fn _give_up(&self, round: u32) -> PyResult<bool> {
        Ok(self.core()?.give_up(round) == Outcome::Tripped)
    }

    /// Counts one out again that had arrived in this round.
    fn _leave(&self, round: u32) -> PyResult<()> {
        self.core()?.leave(round);
        Ok(())
    }

    fn _tripped(&self, round: u32) -> PyResult<bool> {
        Ok(self.core()?.tripped(round))
    }

    #[pyo3(signature = (round, timeout = None))]
    fn _pass(&self, py: Python<'_>, round: u32, timeout: Option<f64>) -> PyResult<Option<bool>> {
        let barrier = self.core()?;
        let deadline = within(timeout);
        match waited(py, deadline, || barrier.pass(round, deadline)) {
            Ok(outcome) => Ok(outcome.map(|o| o == Outcome::Tripped)),
            Err(e) => {
                barrier.leave(round);
                Err(e)
            }
        }
    }

    fn reset(&self) -> PyResult<()> {
        self.core()?.reset();
        Ok(())
    }

    fn abort(&self) -> PyResult<()> {
        self.core()?.abort();
        Ok(())
    }

    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.core()?.parties())
    }

    #[getter]
    fn n_waiting(&self) -> PyResult<u32> {
        Ok(self.core()?.waiting())
    }

    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.core()?.broken())
    }
});
