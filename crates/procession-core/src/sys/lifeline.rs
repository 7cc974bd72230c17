//! The lifeline: what ends a process together with its parent, however that one ends.
//!
//! The parent has the only writing end of a pipe, and writes nothing. Each child that hangs on it opens a reading end of
//! its own, set up (`F_SETSIG`) so that the kernel sends the child SIGKILL when something happens to the pipe. The one
//! thing that ever does: the last writing end is closed, because the parent is gone. No thread waits for that, and it
//! does not matter which thread of the parent started the child, as it would for `PR_SET_PDEATHSIG`.
//!
//! A forked copy of the parent must not keep the writing end: an at-fork handler closes it there, and keeps the reading
//! end for the child in case it is to hang on this.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;

/// Linux's command that the libc crate leaves out.
const F_SETSIG: i32 = 10;

static READER: AtomicI32 = AtomicI32::new(-1);
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// In a forked copy: the reading end of its parent's pipe.
static INHERITED: AtomicI32 = AtomicI32::new(-1);
static WATCHES_FORKS: AtomicBool = AtomicBool::new(false);

/// The reading end that a child of this process needs to hang on it. It stays this process's, until that ends.
///
/// # Errors
/// No descriptor is free.
pub fn reader() -> io::Result<BorrowedFd<'static>> {
    if !WATCHES_FORKS.swap(true, Ordering::AcqRel) {
        // SAFETY: the function lives as long as the program, and only closes descriptors.
        unsafe { libc::pthread_atfork(None, None, Some(leave_to_parent)) };
    }
    let mut number = READER.load(Ordering::Acquire);
    if number < 0 {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let made = read.into_raw_fd();
        match READER.compare_exchange(-1, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                WRITER.store(write.into_raw_fd(), Ordering::Release);
                number = made;
            }
            Err(others) => {
                // SAFETY: made above, and known to nobody else.
                drop(unsafe { OwnedFd::from_raw_fd(made) });
                number = others;
            }
        }
    }
    // SAFETY: the descriptor stays open until the process ends or, in a forked copy, is no longer named here.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// In a child: binds this process's life to that of the holder of the pipe's writing end.
///
/// # Errors
/// The kernel's, or that of a system without `/proc`: the process lives on, bound to nothing.
pub fn hold(reader: OwnedFd) -> io::Result<()> {
    // A file of its own: the one that was inherited is shared with the parent and all its children, and has but one owner.
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = rustix::fs::open(path, flags, Mode::empty())?.into_raw_fd();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    for (command, argument) in [
        (libc::F_SETOWN, pid),
        (F_SETSIG, libc::SIGKILL),
        (libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC),
    ] {
        // SAFETY: no memory is involved; the descriptor is our own, and stays open for as long as the process lives.
        if unsafe { libc::fcntl(own, command, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: as above.
    let own = unsafe { BorrowedFd::borrow_raw(own) };
    let mut ended = [rustix::event::PollFd::new(
        &own,
        rustix::event::PollFlags::empty(),
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if rustix::event::poll(&mut ended, Some(&now))
        .or_else(|e| if e == Errno::INTR { Ok(0) } else { Err(e) })?
        > 0
    {
        // The parent died before the kernel knew whom to tell.
        super::memory::die();
    }
    Ok(())
}

/// In a forked child, first of all: hangs on the parent's lifeline if it is `bound`, else lets go of it.
pub fn after_fork(bound: bool) {
    let number = INHERITED.swap(-1, Ordering::AcqRel);
    if number >= 0 {
        // SAFETY: the handler left it here, for whoever takes it first.
        let reader = unsafe { OwnedFd::from_raw_fd(number) };
        if bound {
            let _ = hold(reader);
        }
    }
}

/// In every forked copy: the writing end must be the parent's alone.
extern "C" fn leave_to_parent() {
    let writer = WRITER.swap(-1, Ordering::AcqRel);
    if writer >= 0 {
        // SAFETY: this copy's own, and named nowhere else.
        drop(unsafe { OwnedFd::from_raw_fd(writer) });
        INHERITED.store(READER.swap(-1, Ordering::AcqRel), Ordering::Release);
    }
}
