//! `procession._core.Barrier`.

use crate::errors::raised;
use crate::memory::transit;
use crate::shared::{shared_class, waited, within};
use procession_core::family::Handle;
use procession_core::sync;
use procession_core::sync::barrier::{Arrival, Outcome};
use procession_core::sync::wait::WaitOutcome;
use procession_core::sync::wakers::Address;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::OnceLock;

/// A barrier that processes share. The class of the facade has the public `wait`, which runs the action.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Barrier {
    inner: OnceLock<sync::Barrier>,
}

shared_class!(Barrier, sync::Barrier, "Barrier", {
    fn _create(&self, py: Python<'_>, parties: i64) -> PyResult<()> {
        match u32::try_from(parties) {
            Ok(n @ 1..=sync::barrier::MOST) => self.set_made(py, || sync::Barrier::new(n)),
            _ => Err(PyValueError::new_err(format!(
                "parties must be between 1 and {}, not {parties}",
                sync::barrier::MOST
            ))),
        }
    }

    /// Arrives at the barrier. Returns the place among the arrivals of the round and the round; None if the barrier is
    /// broken or the timeout passed.
    #[pyo3(signature = (acting, timeout = None))]
    fn _arrive(&self, py: Python<'_>, acting: bool, timeout: Option<f64>) -> PyResult<Option<(u32, u32)>> {
        let barrier = self.core()?;
        let deadline = within(timeout);
        loop {
            match py.detach(|| barrier.arrive(acting, deadline)).map_err(raised)? {
                WaitOutcome::Ready(Some(Arrival { index, round })) => return Ok(Some((index, round))),
                WaitOutcome::Ready(None) | WaitOutcome::TimedOut => return Ok(None),
                WaitOutcome::Interrupted => py.check_signals()?,
            }
        }
    }

    /// Stops waiting for this round, which breaks it if it has not ended. Returns whether it had tripped.
    fn _give_up(&self, round: u32) -> PyResult<bool> {
        Ok(self.core()?.give_up(round) == Outcome::Tripped)
    }

    /// Takes back an arrival in this round, of a thread that cannot wait for its end.
    fn _leave(&self, round: u32) -> PyResult<()> {
        self.core()?.leave(round);
        Ok(())
    }

    /// Ends the round after its action has run: every process that arrived may pass. Returns whether the round had not been
    /// broken meanwhile.
    fn _tripped(&self, round: u32) -> PyResult<bool> {
        Ok(self.core()?.tripped(round))
    }

    /// Waits until the round ends. Returns whether it tripped; None if the timeout passed.
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

    /// Resets the barrier to its empty state. Waits under way raise BrokenBarrierError.
    fn reset(&self) -> PyResult<()> {
        self.core()?.reset();
        Ok(())
    }

    /// Breaks the barrier: waits under way and later ones raise BrokenBarrierError, until `reset`.
    fn abort(&self) -> PyResult<()> {
        self.core()?.abort();
        Ok(())
    }

    /// The number of arrivals that trip the barrier.
    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.core()?.parties())
    }

    /// The number of arrivals that wait now.
    #[getter]
    fn n_waiting(&self) -> PyResult<u32> {
        Ok(self.core()?.waiting())
    }

    /// Whether the barrier is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.core()?.broken())
    }
});
