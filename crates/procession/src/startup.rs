//! What a process finds that was started as a child: the mark in its `argv[0]`, and its descriptors in their places.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first words of a child's `argv[0]`.
pub(crate) const CHILD: &str = "procession:child:";
pub(crate) const FORK_SERVER: &str = "procession:forkserver:";
pub(crate) const GIVEN: &str = "procession:program:";

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Whether [`init`](crate::init) was called in this process, so that children will come to it as well.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Acquire)
}

/// [`init`](crate::init) was called.
pub(crate) fn is_initialised_from_now_on() {
    INITIALISED.store(true, Ordering::Release);
}

/// The descriptor that whoever started this process passed in this place, taken over. None if there is none. To be
/// called once for each place, before the process has opened anything.
pub(crate) fn inherited(place: usize) -> Option<OwnedFd> {
    let number = procession_core::sys::spawn::FIRST + RawFd::try_from(place).ok()?;
    // SAFETY: no memory is involved; a number that is no open descriptor is what is asked about.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open, was passed for this process to own, and nobody else here knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor of which `owner` says that it stays open as long as itself.
pub(crate) fn borrowed<T>(number: RawFd, _owner: &T) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
    if number < 0 {
        return Err(std::io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not -1, and open for as long as the owner is borrowed.
    Ok(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) })
}

/// Whether this process may run the file.
pub(crate) fn is_executable(file: &std::path::Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

/// Puts a descriptor in the place of standard input, output or error.
pub(crate) fn put_in_place(fd: &OwnedFd, place: RawFd) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: no memory is involved. What the standard library takes these places for, they still are.
    match unsafe { libc::dup2(fd.as_raw_fd(), place) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Changes the environment of this process, unless it has more than one thread.
pub(crate) fn change_environment(
    changes: &[(std::ffi::OsString, Option<std::ffi::OsString>)],
) -> Result<(), String> {
    if changes.is_empty() {
        return Ok(());
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err("it has threads already, so its environment cannot be changed".into());
    }
    for (name, value) in changes {
        // SAFETY: nobody reads the environment meanwhile, since there is no other thread.
        unsafe {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
    }
    Ok(())
}
