//! The listing of the family's watcher, for `procession.resource_tracker`.

use super::child::borrow;
use crate::errors::raised;
use procession_core::Error;
use procession_core::family::Family;
use procession_core::sys::memory;
use pyo3::prelude::*;
use std::os::fd::{FromRawFd, OwnedFd};

/// The watcher of this process's family: pid, descriptor, and whether it lives. None if none is listed.
#[pyfunction]
pub fn watcher() -> PyResult<Option<(u32, u32, bool)>> {
    let listed = Family::home().map_err(raised)?.watcher();
    Ok(listed.map(|w| (w.pid, w.fd, w.alive)))
}

/// The pid of the watcher that is listed, dead or alive; 0 if none is.
#[pyfunction]
pub fn watcher_pid() -> PyResult<u32> {
    Ok(Family::home().map_err(raised)?.watcher_pid())
}

/// Lists a watcher, unless another one is listed that lives; whether it is listed now.
#[pyfunction]
pub fn list_watcher(pid: u32, fd: u32) -> PyResult<bool> {
    Ok(Family::home().map_err(raised)?.list_watcher(pid, fd))
}

/// In the watcher: how it lists itself (True) and strikes itself off (False), in the family whose memory is fd. It is no
/// member of the family.
#[pyclass(module = "procession._core", frozen)]
pub struct WatcherListing {
    family: &'static Family,
    pid: u32,
    fd: u32,
}

#[pymethods]
impl WatcherListing {
    #[new]
    fn new(family_fd: i32, fd: u32) -> PyResult<Self> {
        // SAFETY: the caller hands the descriptor over; a number that is none is found out when it is used.
        let family = Family::attach(unsafe { OwnedFd::from_raw_fd(family_fd) }).map_err(raised)?;
        Ok(WatcherListing {
            family,
            pid: std::process::id(),
            fd,
        })
    }

    fn list(&self) -> bool {
        self.family.list_watcher(self.pid, self.fd)
    }

    fn strike(&self) {
        self.family.strike_watcher(self.pid);
    }
}

/// Bytes of memory that can still be had: what the machine has available or what the control group leaves, if that is
/// less. None where neither can be read.
#[pyfunction]
pub fn memory_left() -> Option<u64> {
    memory::available()
}

/// Reserves memory for the first size bytes of the file, which grows to that length if it was shorter. OSError: there
/// is no room, or a limit of the program's forbids it.
///
/// (`os.posix_fallocate` is missing in some builds of Python.)
#[pyfunction]
pub fn reserve_file(py: Python<'_>, fd: i32, size: u64) -> PyResult<()> {
    let file = borrow(fd)?;
    py.detach(|| memory::reserve(file, 0, size)).map_err(|source| {
        raised(Error::Os {
            doing: "reserving memory",
            source,
        })
    })
}
