//! `procession._core.Condition`: `wait` and `notify`, with the lock around them; and tickets for event loops.

use super::lock::{Lock, RLock};
use crate::errors::{owner_died, raised};
use crate::memory::transit;
use crate::shared::{TaskWait, shared_class, within};
use procession_core::family::Handle;
use procession_core::sync::lock::LockObject;
use procession_core::sync::object::Reference;
use procession_core::sync::wait::WaitOutcome;
use procession_core::sync::wakers::Address;
use procession_core::sync::{self, Acquired};
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::{Mutex, OnceLock};

/// The list of waiters of a condition. The facade's class has the lock around it.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Condition {
    inner: OnceLock<sync::Condition>,
    /// The ticket of the last wait, which the next wait uses again.
    spare: Mutex<Option<sync::Ticket>>,
}

impl Condition {
    /// Enters this thread in the list of waiters. Returns its ticket.
    pub fn enlisted(&self) -> PyResult<sync::Ticket> {
        let condition = self.core()?;
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.take());
        if let Some(mut ticket) = spare
            && condition.enlist_again(&mut ticket).map_err(raised)?
        {
            return Ok(ticket);
        }
        condition.enlist().map_err(raised)
    }

    /// Keeps the ticket of a wait that is over, for the next wait.
    pub fn spare(&self, ticket: sync::Ticket) {
        if let Ok(mut spare) = self.spare.try_lock() {
            *spare = Some(ticket);
        }
    }
}

/// A place in the list of waiters of a Condition.
#[pyclass(module = "procession._core", frozen)]
pub struct Ticket {
    /// Locked for the length of a wait, by the one thread that has the ticket.
    ticket: Mutex<Option<sync::Ticket>>,
}

/// The lock around a condition.
enum Guard<'a> {
    Plain(&'a sync::Lock),
    Recursive(&'a sync::RLock),
}

impl<'a> Guard<'a> {
    /// Returns the lock behind `lock`. Raises AssertionError if this thread does not hold it, TypeError if it is no lock of
    /// Procession. `method` is named in the error.
    fn held(lock: &'a Bound<'_, PyAny>, method: &str) -> PyResult<Guard<'a>> {
        let guard = if let Ok(lock) = lock.cast::<RLock>() {
            Guard::Recursive(lock.get().lock()?)
        } else if let Ok(lock) = lock.cast::<Lock>() {
            Guard::Plain(lock.get().lock()?)
        } else {
            return Err(PyTypeError::new_err("a Condition needs a Lock or an RLock"));
        };
        if guard.is_mine() {
            return Ok(guard);
        }
        Err(PyAssertionError::new_err(format!(
            "lock is not owned: must acquire() condition before using {method}: {}",
            lock.repr()?
        )))
    }

    fn is_mine(&self) -> bool {
        match self {
            Guard::Plain(lock) => lock.is_mine(),
            Guard::Recursive(lock) => lock.is_mine(),
        }
    }

    fn reference(&self) -> &Reference<LockObject> {
        match self {
            Guard::Plain(lock) => lock.reference(),
            Guard::Recursive(lock) => lock.reference(),
        }
    }

    /// Releases the lock completely. Returns how often it was acquired.
    fn release_all(&self) -> u64 {
        match self {
            Guard::Plain(lock) => lock.release().into(),
            Guard::Recursive(lock) => lock.release_all(),
        }
    }

    fn acquire(&self) -> procession_core::Result<Acquired> {
        match self {
            Guard::Plain(lock) => lock.acquire(Deadline::NEVER),
            Guard::Recursive(lock) => lock.acquire(Deadline::NEVER),
        }
    }

    fn restore(&self, times: u64) {
        if let Guard::Recursive(lock) = self {
            lock.restore(times);
        }
    }
}

/// `Condition._notify`.
pub fn notify(_: Python<'_>, condition: &sync::Condition, lock: &Bound<'_, PyAny>, n: u32) -> PyResult<()> {
    let guard = Guard::held(lock, "notify()")?;
    condition
        .call_interruptibly(n, Some(guard.reference()))
        .map(drop)
        .map_err(raised)
}

/// `Condition._wait`.
pub fn wait(
    py: Python<'_>,
    condition: &Condition,
    lock: &Bound<'_, PyAny>,
    timeout: Option<f64>,
) -> PyResult<bool> {
    let guard = Guard::held(lock, "wait()")?;
    let deadline = within(timeout);
    let mut ticket = condition.enlisted()?;
    let mut times = None;
    let mut trouble = None;
    let mut acquired = None;
    let called = loop {
        let waited = py.detach(|| {
            times.get_or_insert_with(|| guard.release_all());
            let waited = ticket.wait(deadline);
            if waited == WaitOutcome::Ready(()) {
                acquired = Some(guard.acquire());
            }
            waited
        });
        match waited {
            WaitOutcome::Ready(()) => break true,
            WaitOutcome::TimedOut => break ticket.withdraw(),
            WaitOutcome::Interrupted => {
                if let Err(error) = py.check_signals() {
                    trouble = Some(error);
                    break false;
                }
            }
        }
    };
    // However the wait ended, the thread acquires the lock again before the program learns of the end.
    loop {
        match acquired.take().unwrap_or_else(|| py.detach(|| guard.acquire())) {
            Ok(Acquired::Yes) => break,
            Ok(Acquired::TimedOut) => {}
            Ok(Acquired::Interrupted) => trouble = py.check_signals().err().or(trouble),
            Ok(Acquired::OwnerDied(death)) => trouble = Some(owner_died(py, &death, lock)),
            Err(error) => return Err(raised(error)),
        }
    }
    guard.restore(times.unwrap_or(1));
    match trouble {
        // The ticket is dropped here: a notification that it had got goes to the next waiter.
        Some(error) => Err(error),
        None => {
            if called {
                ticket.acknowledge();
            }
            condition.spare(ticket);
            Ok(called)
        }
    }
}

shared_class!(Condition, sync::Condition, "Condition", {
    fn _create(&self, py: Python<'_>) -> PyResult<()> {
        self.set_made(py, sync::Condition::new)
    }

    fn _enlist(&self) -> PyResult<Ticket> {
        Ok(Ticket::new(self.core()?.enlist().map_err(raised)?))
    }

    /// Notifies n waiters. `lock` is the lock around the condition, which the caller holds.
    fn _notify(&self, py: Python<'_>, lock: &Bound<'_, PyAny>, n: u32) -> PyResult<()> {
        notify(py, self.core()?, lock, n)
    }

    /// Releases the lock, waits for a notification, and acquires the lock again. Returns whether there was a notification.
    #[pyo3(signature = (lock, timeout = None))]
    fn _wait(&self, py: Python<'_>, lock: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
        wait(py, self, lock, timeout)
    }

    fn _waiting(&self) -> PyResult<u64> {
        Ok(self.core()?.waiting())
    }
});

impl Ticket {
    /// A ticket that the program waits on by itself.
    pub fn new(ticket: sync::Ticket) -> Ticket {
        Ticket {
            ticket: Mutex::new(Some(ticket)),
        }
    }
}

#[pymethods]
impl Ticket {
    /// The key of this ticket, as shared objects have one. Every ticket is an object of its own.
    #[getter]
    fn _key(slf: &Bound<'_, Self>) -> (u64, u32) {
        (slf.as_ptr() as u64, u32::MAX)
    }

    /// Registers a mailbox, as for shared objects: it is notified when this ticket is. Returns whether there was a place.
    fn _register_waker(&self, address: u32) -> bool {
        let place = self.ticket.lock().ok();
        place
            .as_ref()
            .and_then(|p| p.as_ref())
            .is_some_and(|t| t.bell().register_waker(Address::from_raw(address)))
    }

    /// Records for observers that a task of this thread's event loop waits for the notification: see the shared objects.
    #[pyo3(signature = (what, timeout = None, detail = 0))]
    fn _task_waits(&self, what: &str, timeout: Option<f64>, detail: u64) -> Option<TaskWait> {
        let _ = (what, detail); // there is only one kind of wait for it
        let place = self.ticket.lock().ok()?;
        place.as_ref()?.wait_in_loop(within(timeout)).map(TaskWait)
    }

    fn _unregister_waker(&self, address: u32) {
        if let Some(ticket) = self.ticket.lock().ok().as_ref().and_then(|p| p.as_ref()) {
            ticket.bell().unregister_waker(Address::from_raw(address));
        }
    }

    /// Returns whether the ticket has been notified.
    fn _called(&self) -> bool {
        let mut place = self.ticket.lock().ok();
        let ticket = place.as_mut().and_then(|p| p.as_mut());
        ticket.is_some_and(|t| t.wait(Deadline::PAST) == WaitOutcome::Ready(()))
    }

    /// Leaves the list at once. A notification that had come goes to the next waiter.
    fn _drop(&self) {
        let ticket = self.ticket.lock().ok().and_then(|mut place| place.take());
        drop(ticket);
    }

    /// Acknowledges the notification. If this process dies before it does, the notification goes to the next waiter.
    fn _heard(&self) {
        if let Some(mut ticket) = self.ticket.lock().ok().and_then(|mut place| place.take()) {
            ticket.acknowledge();
        }
    }

    /// Waits for a notification.
    ///
    /// Args:
    ///     timeout: The longest wait in seconds; None waits without limit.
    ///
    /// Returns:
    ///     Whether the ticket was notified. If not, it has left the list.
    ///
    /// Raises:
    ///     RuntimeError: The ticket was waited for before.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let taken = self.ticket.lock().ok().and_then(|mut place| place.take());
        let mut ticket =
            taken.ok_or_else(|| PyRuntimeError::new_err("this ticket was waited for already"))?;
        let deadline = within(timeout);
        let called = loop {
            match py.detach(|| ticket.wait(deadline)) {
                WaitOutcome::Ready(()) => break true,
                WaitOutcome::TimedOut => break ticket.withdraw(),
                // If a handler raises, the ticket is dropped: it leaves the list, and a notification is passed on.
                WaitOutcome::Interrupted => py.check_signals()?,
            }
        };
        if called && let Ok(mut place) = self.ticket.lock() {
            *place = Some(ticket);
        }
        Ok(called)
    }
}
