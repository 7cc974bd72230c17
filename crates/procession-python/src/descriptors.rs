//! Descriptors that Python programs name by their numbers.
//!
//! As with the functions of Python's `os`, a number is all that a call gets, and the program answers for it: it keeps a
//! lent descriptor open during the call, and does not use one again that it handed over. If it breaks that rule, a call
//! fails with EBADF or acts on another file of the program; memory is never at risk.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Borrows a descriptor for as long as `lender` is borrowed: the argument that named it, or the object that owns it.
/// Raises OSError (EBADF) for a negative number; any other number is checked by the system call that uses it.
#[inline]
pub fn borrow<T: ?Sized>(number: RawFd, _lender: &T) -> PyResult<BorrowedFd<'_>> {
    if number < 0 {
        return Err(bad_descriptor());
    }
    // SAFETY: the number is not -1, and the program keeps it open as long as it lends it (module doc).
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Borrows a descriptor as [`borrow`] does. Raises OSError (EBADF) if it is not open.
pub fn borrow_open<T: ?Sized>(number: RawFd, lender: &T) -> PyResult<BorrowedFd<'_>> {
    let fd = borrow(number, lender)?;
    rustix::io::fcntl_getfd(fd).map_err(|_| bad_descriptor())?;
    Ok(fd)
}

/// Takes over a descriptor from the program. Raises OSError (EBADF) if it is not open.
pub fn take(number: RawFd) -> PyResult<OwnedFd> {
    borrow_open(number, &number)?;
    // SAFETY: the number is open, and the program hands it over, so nothing else closes it (module doc).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn bad_descriptor() -> PyErr {
    PyOSError::new_err((libc::EBADF, "Bad file descriptor"))
}
