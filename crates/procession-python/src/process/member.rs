//! Seats in the registry of processes, for the facade's process modules.

use crate::descriptors::take;
use crate::errors::raised;
use crate::memory::transit::{self, Frame};
use procession_core::family::registry::Role;
use procession_core::family::{Family, Hold, Seat, fork};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use std::borrow::Cow;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

/// The entries of the references that this process's seat had for it when it was adopted. Locked only while attached to the
/// interpreter and never across Python code, so that no fork happens while it is locked.
static IN_SEAT_REFS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A seat in the family's registry of processes, as the process that started its occupant holds it.
#[pyclass(module = "procession._core", frozen)]
pub struct Member {
    seat: Seat,
    /// The pid of the process that made this object. Copies in its forked children do not own the seat.
    creator: u32,
}

impl Drop for Member {
    fn drop(&mut self) {
        // The exit code will not be asked for any more, so the seat becomes free when the occupant is dead.
        if self.creator == std::process::id() {
            self.seat.vacate();
        }
    }
}

impl Member {
    /// The seat of the child that this thread has just forked.
    pub fn for_forked_child(pid: u32, name: &str) -> Option<Member> {
        let seat = fork::forked(pid)?;
        seat.slot().set_name(name);
        Some(Member {
            seat,
            creator: std::process::id(),
        })
    }

    pub fn seat(&self) -> Seat {
        self.seat
    }
}

#[pymethods]
impl Member {
    #[staticmethod]
    fn reserve(name: &Bound<'_, PyString>, _method: &str) -> PyResult<Member> {
        let seat = Seat::reserve(Family::home().map_err(raised)?, &shown(name)).map_err(raised)?;
        Ok(Member {
            seat,
            creator: std::process::id(),
        })
    }

    #[staticmethod]
    fn forked(pid: u32, name: &Bound<'_, PyString>, _method: &str) -> Option<Member> {
        Member::for_forked_child(pid, &shown(name))
    }

    #[getter]
    fn slot(&self) -> u32 {
        self.seat.slot
    }

    #[getter]
    fn generation(&self) -> u32 {
        self.seat.generation
    }

    fn started(&self, pid: u32) {
        self.seat.bind(pid);
    }

    fn load(&self, py: Python<'_>, message: &[u8]) -> PyResult<()> {
        py.detach(|| self.seat.load(message)).map_err(raised)
    }

    /// Returns the report that the occupant left with `leave_report`; None if it left none.
    fn report<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let report = py.detach(|| self.seat.report())?;
        Some(PyBytes::new(py, &report))
    }

    fn discard(&self) {
        self.seat.vacate();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        std::mem::forget(Frame::open(None));
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        let here = |hold: &Hold| std::ptr::eq(hold.family, self.seat.family);
        let (refs, foreign) = transit::take_open_frame().into_iter().partition(here);
        Vec::into_iter(foreign).for_each(transit::pin);
        self.seat.give_all(refs).map_err(raised)
    }
}

/// Returns the descriptor of this process's family memory, and founds a family if the process is in none.
#[pyfunction]
pub fn family_fd() -> PyResult<i32> {
    let family = Family::open_home().map_err(raised)?;
    let fd = family.checked_fd().map_err(raised)?;
    Ok(fd.as_raw_fd())
}

/// Joins the family whose memory is fd, which is taken over (-1: this process is in the family by its parent's fork), and
/// takes the seat. Returns the start message.
#[pyfunction]
pub fn adopt(py: Python<'_>, fd: i32, slot: u32, generation: u32) -> PyResult<Bound<'_, PyBytes>> {
    let fd = match fd {
        -1 => None,
        n if n >= 0 => Some(take(n)?),
        _ => return Err(PyValueError::new_err("fd must be a descriptor or -1")),
    };
    let (seat, refs) = Family::adopt(fd, slot, generation).map_err(raised)?;
    if let Ok(mut place) = IN_SEAT_REFS.lock() {
        *place = refs;
    }
    Ok(PyBytes::new(py, &seat.message()))
}

/// Drops the references that the seat had for the start message, after that was unpickled.
#[pyfunction]
pub fn carried_done() {
    let refs = IN_SEAT_REFS
        .lock()
        .map(|mut place| std::mem::take(&mut *place))
        .unwrap_or_default();
    if let Some(seat) = Family::home_if_any().and_then(|f| f.current_seat()) {
        seat.release_message(&refs);
    }
}

/// Returns a name as text. A name in Python may contain bytes that are not UTF-8, as names of files do.
pub fn shown<'a>(name: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    name.to_string_lossy()
}

/// Sets this process's name, which the registry and errors show.
#[pyfunction]
pub fn describe(name: &Bound<'_, PyString>) {
    if let Some(seat) = Family::home_if_any().and_then(|f| f.current_seat()) {
        seat.slot().set_name(&shown(name));
    }
}

/// Notes what this process is for, for observers: the number of a `Role`.
#[pyfunction]
pub fn _has_role(role: u8) -> PyResult<()> {
    let role = match role {
        0 => Role::Program,
        1 => Role::Worker,
        2 => Role::ForkServer,
        3 => Role::Spare,
        4 => Role::Manager,
        5 => Role::Tracker,
        _ => return Err(PyValueError::new_err("there is no such role")),
    };
    Family::has_role(role);
    Ok(())
}

/// Notes that this process is about to end with this exit code.
#[pyfunction]
pub fn declare_exit(code: i32) {
    if let Some(seat) = Family::home_if_any().and_then(|f| f.current_seat()) {
        seat.slot().declare(code);
    }
}

/// Leaves a report in this process's seat, which its starter reads after its end. Returns false if the process has no seat.
#[pyfunction]
pub fn leave_report(py: Python<'_>, report: &[u8]) -> PyResult<bool> {
    let Some(seat) = Family::home_if_any().and_then(|f| f.current_seat()) else {
        return Ok(false);
    };
    py.detach(|| seat.leave_report(report)).map_err(raised)?;
    Ok(true)
}

/// Reclaims what members held that have died unnoticed. Returns how many there were.
#[pyfunction]
pub fn sweep(py: Python<'_>) -> usize {
    Family::home_if_any().map_or(0, |family| py.detach(|| family.sweep()))
}

/// Returns how many blocks of family memory are in use, without the labels that this process keeps to use them again:
/// for tests that look for leaks.
#[pyfunction]
pub fn _blocks(py: Python<'_>) -> u64 {
    let blocks = Family::home_if_any().map_or(0, |family| py.detach(|| family.blocks()));
    blocks.saturating_sub(procession_core::family::label::remembered())
}
