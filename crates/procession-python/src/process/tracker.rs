//! The listing of the family's tracker, for `procession.resource_tracker`.

use crate::descriptors::{borrow_open, take};
use crate::errors::raised;
use procession_core::Error;
use procession_core::family::Family;
use procession_core::sys::memory;
use pyo3::prelude::*;

/// The tracker of this process's family: pid, descriptor, and whether it lives. None if none is listed.
#[pyfunction]
pub fn tracker() -> PyResult<Option<(u32, u32, bool)>> {
    let listed = Family::home().map_err(raised)?.tracker();
    Ok(listed.map(|w| (w.pid, w.fd, w.alive)))
}

/// Returns the pid of the tracker that is listed, dead or alive; 0 if none is listed.
#[pyfunction]
pub fn tracker_pid() -> PyResult<u32> {
    Ok(Family::home().map_err(raised)?.tracker_pid())
}

/// Lists a tracker, unless another one is listed that is alive. Returns whether it is listed now.
#[pyfunction]
pub fn register_tracker(pid: u32, fd: u32) -> PyResult<bool> {
    Ok(Family::home().map_err(raised)?.register_tracker(pid, fd))
}

/// In the tracker: registers and unregisters itself, in the family whose memory is fd. It is no
/// member of the family.
#[pyclass(module = "procession._core", frozen)]
pub struct TrackerListing {
    family: &'static Family,
    pid: u32,
    fd: u32,
}

#[pymethods]
impl TrackerListing {
    #[new]
    fn new(family_fd: i32, fd: u32) -> PyResult<Self> {
        let family = Family::attach(take(family_fd)?).map_err(raised)?;
        Ok(TrackerListing {
            family,
            pid: std::process::id(),
            fd,
        })
    }

    fn register(&self) -> bool {
        self.family.register_tracker(self.pid, self.fd)
    }

    fn unregister(&self) {
        self.family.unregister_tracker(self.pid);
    }
}

/// Returns how many bytes of memory are available: on the machine, or in the control group if that is less. None if neither
/// can be read.
#[pyfunction]
pub fn memory_left() -> Option<u64> {
    memory::available()
}

/// Reserves memory for the first size bytes of the file, which grows to that length if it is shorter. Raises OSError if there
/// is no room, or a limit of the process forbids it.
///
/// (`os.posix_fallocate` is missing in some builds of Python.)
#[pyfunction]
pub fn reserve_file(py: Python<'_>, fd: i32, size: u64) -> PyResult<()> {
    let file = borrow_open(fd, &fd)?;
    py.detach(|| memory::reserve(file, 0, size)).map_err(|source| {
        raised(Error::Os {
            doing: "reserving memory",
            source,
        })
    })
}
