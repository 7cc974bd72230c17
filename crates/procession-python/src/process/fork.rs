//! Forks, the descriptors of forked processes, and lifelines, which end a child with its parent.

use super::child::raised;
use super::member::{Member, shown};
use crate::descriptors::take;
use crate::errors::raised as core_raised;
use procession_core::family::fork as seats;
use procession_core::process::lifeline as core;
use procession_core::sys::descriptor::{self, GuardedFd};
use procession_core::sys::fork::{self as system, HeldSignals};
use procession_core::sys::{pidfd, procfs};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Adds everything of this file to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Descriptor>()?;
    module.add_function(wrap_pyfunction!(clear_of_streams, module)?)?;
    module.add_function(wrap_pyfunction!(fork, module)?)?;
    module.add_function(wrap_pyfunction!(release_signals, module)?)?;
    module.add_function(wrap_pyfunction!(fork_refused, module)?)?;
    module.add_function(wrap_pyfunction!(thread_count, module)?)?;
    module.add_function(wrap_pyfunction!(lifeline_reader, module)?)?;
    module.add_function(wrap_pyfunction!(lifeline_hold, module)?)?;
    module.add_function(wrap_pyfunction!(lifeline_after_fork, module)?)
}

/// os.fork(), and the child's seat (called name) and pidfd in the same call: (pid, member or None, pidfd or -1) in the
/// parent, (0, None, -1) in the child. OSError: the system refuses; then there is no seat either.
///
/// After os.fork() Python runs the program's signal handlers, and one that waits for every child would take a quick
/// one's exit code along before it is held. After os.fork() Python also forgets, in the child, the signals that came
/// before it was ready: here they wait until [`release_signals`].
#[pyfunction]
fn fork(name: &Bound<'_, PyString>) -> PyResult<(u32, Option<Member>, RawFd)> {
    seats::wait_for_ledger().map_err(core_raised)?;
    // SAFETY: this thread is attached and holds no lock, neither of the interpreter nor of this module. Each way out of
    // this function calls the PyOS_AfterFork function of its side.
    unsafe { pyo3::ffi::PyOS_BeforeFork() };
    let signals = HeldSignals::hold();
    let forked = seats::expecting(
        // SAFETY: PyOS_BeforeFork has made the interpreter ready, and both sides tell it before they run Python code.
        || unsafe { system::fork() },
        Result::is_err,
    );
    if let Ok(None) = forked {
        // SAFETY: this is the child's only thread, which was attached when it was forked.
        unsafe { pyo3::ffi::PyOS_AfterFork_Child() };
        *HELD_SIGNALS.lock().unwrap_or_else(PoisonError::into_inner) = Some(signals);
        return Ok((0, None, -1));
    }
    let held = forked.map(|pid| {
        let pid = pid.unwrap_or_default();
        let pidfd = pidfd::open(pid).map_or(-1, IntoRawFd::into_raw_fd);
        (pid, Member::for_forked_child(pid, &shown(name)), pidfd)
    });
    // SAFETY: this is the parent, in the thread that called PyOS_BeforeFork.
    unsafe { pyo3::ffi::PyOS_AfterFork_Parent() };
    signals.release();
    held.map_err(|e| raised(&e))
}

/// In a child of [`fork`] that is not ready for them: the signals that it does not get yet.
static HELD_SIGNALS: Mutex<Option<HeldSignals>> = Mutex::new(None);

/// In a child of [`fork`], once what a signal handler raises can no longer reach the frames of its parent: lets the
/// signals through.
#[pyfunction]
fn release_signals() {
    let held = HELD_SIGNALS.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(signals) = held {
        signals.release();
    }
}

/// Frees the seat that was made for a child, after an os.fork() in this thread that has failed.
#[pyfunction]
fn fork_refused() {
    seats::refused();
}

/// Returns how many threads this process has; 1 if the system does not tell (no /proc).
#[pyfunction]
fn thread_count() -> u64 {
    let own = procfs::stat(std::process::id()).ok().flatten();
    own.map_or(1, |stat| stat.threads)
}

/// Returns the lifeline's descriptor, which a daemonic child of this process inherits. This process keeps it.
#[pyfunction]
fn lifeline_reader() -> PyResult<RawFd> {
    Ok(core::reader().map_err(|e| raised(&e))?.as_raw_fd())
}

/// In a daemonic child: has the kernel end this process when the parent ends, and takes over the lifeline's descriptor. If
/// the system refuses, the process is not ended with its parent.
#[pyfunction]
fn lifeline_hold(fd: RawFd) {
    let _ = core::hold(take(fd).ok());
}

/// In a child that was forked: does the same if it is bound to its parent, and closes the lifeline's descriptor if not.
#[pyfunction]
fn lifeline_after_fork(bound: bool) {
    core::after_fork(bound);
}

/// Returns the descriptor. If it has the number of a standard stream, returns a copy with another number and closes it.
#[pyfunction]
fn clear_of_streams(fd: RawFd) -> PyResult<RawFd> {
    let fd = descriptor::clear_of_streams(take(fd)?).map_err(|e| raised(&e))?;
    Ok(fd.into_raw_fd())
}

/// A descriptor that is kept for long, in a program that may close it and open another file under its number. The number is
/// compared with the file before each use, so no other file is ever used or closed.
#[pyclass(module = "procession._core", frozen)]
pub struct Descriptor {
    kept: GuardedFd,
}

#[pymethods]
impl Descriptor {
    /// Takes over the descriptor.
    #[new]
    fn new(fd: RawFd) -> PyResult<Descriptor> {
        Ok(Descriptor {
            kept: GuardedFd::new(take(fd)?),
        })
    }

    /// Returns the number. Raises OSError if the program has closed it, or it names another file by now.
    fn fileno(&self) -> PyResult<RawFd> {
        let lost = || PyOSError::new_err((libc::EBADF, "the program has closed this descriptor"));
        Ok(self.kept.get().ok_or_else(lost)?.as_raw_fd())
    }

    /// Whether the number still names the same file.
    fn is_open(&self) -> bool {
        self.kept.get().is_some()
    }

    fn close(&self) {
        drop(self.kept.take());
    }
}
