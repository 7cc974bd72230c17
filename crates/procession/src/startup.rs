//! What a process that was started as a child finds: the mark in its `argv[0]`, and the descriptors that were passed to it.
#![allow(unsafe_code)]

use procession_core::process::Child;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The beginning of a child's `argv[0]`, by which the child knows what it is to become.
pub(crate) const CHILD: &str = "procession:child:";
pub(crate) const FORK_SERVER: &str = "procession:forkserver:";
pub(crate) const KEEPER: &str = "procession:keeper:";
pub(crate) const GIVEN: &str = "procession:program:";

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Returns whether this process has called [`init`](crate::init). If it has, its children will call it as well.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Acquire)
}

/// Notes that [`init`](crate::init) was called.
pub(crate) fn is_initialised_from_now_on() {
    INITIALISED.store(true, Ordering::Release);
}

/// Whether the test harness captures what this process's tests print.
static OUTPUT_IS_CAPTURED: AtomicBool = AtomicBool::new(false);

pub(crate) fn output_is_captured() -> bool {
    OUTPUT_IS_CAPTURED.load(Ordering::Relaxed)
}

pub(crate) fn output_is_captured_from_now_on(captured: bool) {
    OUTPUT_IS_CAPTURED.store(captured, Ordering::Relaxed);
}

/// The descriptors that the starter of this process has passed, beginning with family memory. One value of this type exists,
/// and each call of `next` takes over the following descriptor, so each has one owner.
pub(crate) struct Inherited {
    taken: usize,
}

impl Inherited {
    /// Returns the value at the first call, and None later: by then other code may own descriptors of these numbers.
    pub(crate) fn once() -> Option<Inherited> {
        static MADE: AtomicBool = AtomicBool::new(false);
        (!MADE.swap(true, Ordering::AcqRel)).then_some(Inherited { taken: 0 })
    }

    /// Takes over the next descriptor; None if it is not open. Call it only for descriptors that the starter has passed.
    pub(crate) fn next(&mut self) -> Option<OwnedFd> {
        let number = procession_core::sys::spawn::FIRST + RawFd::try_from(self.taken).ok()?;
        self.taken += 1;
        // SAFETY: the call touches no memory. It fails for a number that is not an open descriptor.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        // SAFETY: the descriptor is open. The starter passed it for this process to own, and nothing else here owns it: there
        // is one `Inherited`, which returns each number once.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// Returns the descriptor that becomes readable when this child has ended.
///
/// # Errors
/// The system refuses pidfds, or no descriptor is free.
pub(crate) fn sentinel(child: &Child) -> std::io::Result<BorrowedFd<'_>> {
    let number = child.sentinel()?;
    // SAFETY: `Child::sentinel` returns an open descriptor, which the child owns until `Child::close`. This crate never calls
    // `close`, so it stays open as long as `child` is borrowed.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Returns whether this process may run the file.
pub(crate) fn is_executable(file: &std::path::Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

/// Makes `fd` this process's standard input (`place` 0), output (1) or error (2).
pub(crate) fn put_in_place(fd: &OwnedFd, place: usize) -> std::io::Result<()> {
    match place {
        0 => rustix::stdio::dup2_stdin(fd)?,
        1 => rustix::stdio::dup2_stdout(fd)?,
        _ => rustix::stdio::dup2_stderr(fd)?,
    }
    Ok(())
}

/// Gives this process, which was just forked or has just begun, another environment: lines `NAME=value`.
///
/// Nothing is freed, so a pointer that C code has kept to a variable stays valid.
///
/// # Errors
/// The process has more than one thread: another thread could be reading the environment.
pub(crate) fn set_environment(lines: Vec<std::ffi::CString>) -> Result<(), String> {
    unsafe extern "C" {
        static mut environ: *const *const std::ffi::c_char;
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err("it has threads already, so its environment cannot be changed".into());
    }
    let lines = lines.into_iter().map(|line| line.into_raw().cast_const());
    let lines: Vec<_> = lines.chain([std::ptr::null()]).collect();
    // The standard library's lock for the environment is not taken: another thread of the parent may have held it at the
    // instant of the fork.
    // SAFETY: no other thread exists (checked above), so none reads or writes the environment meanwhile. The array ends
    // with a null pointer and is never freed, as are its strings. environ(7) lets a program replace the array.
    unsafe { environ = lines.leak().as_ptr() };
    Ok(())
}

/// `setgroups`: sets the supplementary groups of all threads of this process.
///
/// # Errors
/// `EPERM`: the process may not.
pub(crate) fn set_groups(groups: &[u32]) -> std::io::Result<()> {
    // SAFETY: the pointer is valid for that many numbers, which the call only reads.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

/// `setgid`: sets the group of all threads of this process.
///
/// # Errors
/// `EPERM`: the process may not.
pub(crate) fn set_group(gid: u32) -> std::io::Result<()> {
    // SAFETY: the call touches no memory.
    check(unsafe { libc::setgid(gid) })
}

/// `setuid`: sets the user of all threads of this process.
///
/// # Errors
/// `EPERM`: the process may not. `EAGAIN`: the user has too many processes.
pub(crate) fn set_user(uid: u32) -> std::io::Result<()> {
    // SAFETY: the call touches no memory.
    check(unsafe { libc::setuid(uid) })
}

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
