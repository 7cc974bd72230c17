//! The lifeline: ends a process when its parent has ended, even if the parent was killed.
//!
//! The parent has the only writing end of a pipe and never writes to it. Each child that depends on the parent opens
//! a reading end of its own and sets it up (`F_SETSIG`) so that the kernel sends the child a signal when the state of
//! the pipe changes. The only change that ever happens is that the last writing end is closed. No thread waits for
//! it, and it does not matter which thread of the parent started the child, as it does for `PR_SET_PDEATHSIG`.
//!
//! The writing end is closed when the parent has ended, or when the parent's program closes all descriptors that it
//! does not know, as daemons do. So the signal is not SIGKILL but a real-time signal that the program does not use,
//! and its handler checks the parent. If the parent is dead, the process ends by SIGKILL. Otherwise the pipe is of no
//! more use, and from then on a timer runs the handler twice a second ([`check_often`]). The same timer serves a child
//! that cannot open the pipe (a sandbox without `/proc`).
//!
//! A forked child of the parent must not keep the writing end: an at-fork handler closes it there, and keeps the
//! reading end in case the child is to depend on the parent.
//!
//! # References
//!  - [fcntl(2), `F_SETSIG`](https://man7.org/linux/man-pages/man2/fcntl.2.html)
//!  - [timer_create(2)](https://man7.org/linux/man-pages/man2/timer_create.2.html)
#![allow(unsafe_code)]

use super::descriptor::{GuardedFd, both_clear_of_streams};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;

/// Linux's command, which the libc crate does not define.
const F_SETSIG: i32 = 10;
/// Interval at which a child checks its parent if it has no pipe that reports the parent's end.
const OFTEN: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

static READER: GuardedFd = GuardedFd::empty();
static WRITER: GuardedFd = GuardedFd::empty();
/// In a forked child: the reading end of its parent's pipe.
static INHERITED: GuardedFd = GuardedFd::empty();
static WATCHES_FORKS: AtomicBool = AtomicBool::new(false);
/// This child's own reading end. It stays open until the process ends or attaches to another parent.
static OWN: GuardedFd = GuardedFd::empty();
/// The signal that runs the handler; 0: none yet.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Pid of the process that has a timer running.
static TIMED: AtomicI32 = AtomicI32::new(0);

/// Checks whether the parent lives. Runs in a signal handler, so it takes no lock and allocates nothing.
pub type CheckParent = extern "C" fn(libc::c_int);

/// The reading end that a child of this process needs for its lifeline. This process keeps it until it ends.
///
/// # Errors
/// No descriptor is free.
pub fn reader() -> io::Result<BorrowedFd<'static>> {
    if !WATCHES_FORKS.swap(true, Ordering::AcqRel) {
        // SAFETY: the function lives as long as the program, and only closes and moves descriptors, which is
        // async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(leave_to_parent)) };
    }
    for _ in 0..3 {
        if let (Some(reader), Some(_)) = (READER.get(), WRITER.get()) {
            return Ok(reader);
        }
        // The pipe was not made yet, or the program has closed one end: make a new pipe for the children to come.
        drop((READER.take(), WRITER.take()));
        let (read, write) = both_clear_of_streams(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)?;
        // A child that has changed its user could not open it again otherwise. Only a process that may inspect this
        // one finds it.
        let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
        // If another thread was faster, its pipe is used.
        if WRITER.put(write).is_ok() {
            let _ = READER.put(read);
        }
    }
    Err(Errno::AGAIN.into())
}

/// In a child: makes this process end with the process that holds the pipe's writing end. The handler `check` runs
/// when that process may have ended. It ends this process if the parent has ended; otherwise it calls [`check_often`].
///
/// # Errors
/// The error of the system call. The process then continues without a lifeline.
pub fn hold(reader: Option<OwnedFd>, check: CheckParent) -> io::Result<()> {
    listen(check)?;
    let hung_up = match reader.map(|reader| own(&reader)) {
        Some(Ok(hung_up)) => hung_up,
        // There is no pipe, or no `/proc` through which to open it again.
        _ => true,
    };
    if hung_up {
        // The parent may have ended before the kernel knew which process to signal.
        check(0);
    }
    Ok(())
}

/// Opens a reading end of this process's own, for which the kernel signals this process. Returns whether the pipe has
/// ended already.
fn own(reader: &OwnedFd) -> io::Result<bool> {
    // The inherited reading end is shared with the parent and all its children, and can have only one owner
    // (`F_SETOWN`).
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = rustix::fs::open(path, flags, Mode::empty())?;
    let own = super::descriptor::clear_of_streams(own)?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    for (command, argument) in [
        (libc::F_SETOWN, pid),
        (F_SETSIG, SIGNAL.load(Ordering::Relaxed)),
        (libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC),
    ] {
        // SAFETY: the call takes numbers only, and this function owns the descriptor.
        if unsafe { libc::fcntl(own.as_raw_fd(), command, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut ended = [rustix::event::PollFd::from_borrowed_fd(
        own.as_fd(),
        rustix::event::PollFlags::empty(),
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let hung_up = rustix::event::poll(&mut ended, Some(&now)).is_ok_and(|count| count > 0);
    drop(OWN.take());
    let _ = OWN.put(own);
    Ok(hung_up)
}

/// Installs `check` as the handler of a signal that the program does not use, and unblocks the signal in this thread.
fn listen(check: CheckParent) -> io::Result<()> {
    let address = check as usize;
    let mut signal = libc::SIGRTMAX();
    loop {
        if signal < libc::SIGRTMIN() {
            return Err(Errno::BUSY.into());
        }
        let mut present = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: with a null action the call changes nothing and writes the current action to `present`, which is
        // large enough.
        let answer = unsafe { libc::sigaction(signal, core::ptr::null(), present.as_mut_ptr()) };
        // SAFETY: only read if the call has succeeded, and then it has written the action.
        let free = answer == 0
            && [libc::SIG_DFL, address].contains(&unsafe { present.assume_init_ref() }.sa_sigaction);
        if free {
            break;
        }
        signal -= 1;
    }
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid sigaction; the handler is async-signal-safe (see `CheckParent`) and lives as long as
    // the program; all pointers point to locals that outlive the calls.
    unsafe {
        let action = action.assume_init_mut();
        action.sa_sigaction = address;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        if libc::sigaction(signal, action, core::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(mask.as_mut_ptr());
        libc::sigaddset(mask.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, mask.as_ptr(), core::ptr::null_mut());
    }
    SIGNAL.store(signal, Ordering::Relaxed);
    Ok(())
}

/// In the handler: the parent lives, but the pipe can no longer report its end. Starts a timer that runs the handler
/// twice a second.
pub fn check_often() {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    if TIMED.swap(pid, Ordering::AcqRel) == pid {
        return;
    }
    // SAFETY: zeros are a valid sigevent and itimerspec, and all pointers point to locals. These are direct system
    // calls, because the C library's functions may allocate.
    unsafe {
        let mut event: libc::sigevent = core::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = SIGNAL.load(Ordering::Relaxed);
        let mut timer: libc::c_int = 0;
        let (clock, event, place) = (libc::CLOCK_MONOTONIC, &raw const event, &raw mut timer);
        if libc::syscall(libc::SYS_timer_create, clock, event, place) == 0 {
            let each = libc::itimerspec {
                it_interval: OFTEN,
                it_value: OFTEN,
            };
            let none = core::ptr::null_mut::<libc::itimerspec>();
            libc::syscall(libc::SYS_timer_settime, timer, 0, &raw const each, none);
        }
    }
}

/// In a forked child, before anything else: takes the reading end of the parent's pipe.
#[must_use]
pub fn inherited() -> Option<OwnedFd> {
    INHERITED.take()
}

/// Runs in every forked child: only the parent may have the writing end.
extern "C" fn leave_to_parent() {
    drop(WRITER.take());
    INHERITED.take_from(&READER);
}
