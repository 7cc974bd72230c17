//! The lifeline: what ends a process together with its parent, however that one ends.
//!
//! The parent has the only writing end of a pipe, and writes nothing. Each child that hangs on it opens a reading end of
//! its own, set up (`F_SETSIG`) so that the kernel sends the child a signal when something happens to the pipe. The one
//! thing that ever does: the last writing end is closed. No thread waits for that, and it does not matter which thread of
//! the parent started the child, as it would for `PR_SET_PDEATHSIG`.
//!
//! It is closed when the parent has ended, or when the parent's program has closed all descriptors that it does not know,
//! as daemons do. So the signal is not SIGKILL but a real-time one that nobody uses, and its handler looks: if the parent
//! is dead the process ends, by SIGKILL. Otherwise the pipe says nothing any more, and from then on a timer has the
//! handler look twice a second ([`look_often`]). So it is where a child cannot open the pipe: in a sandbox without
//! `/proc`.
//!
//! A forked copy of the parent must not keep the writing end: an at-fork handler closes it there, and keeps the reading
//! end for the child in case it is to hang on this.
#![allow(unsafe_code)]

use super::descriptor::{Kept, both_clear_of_streams};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;

/// Linux's command that the libc crate leaves out.
const F_SETSIG: i32 = 10;
/// How often a parent is looked after whose pipe tells nothing.
const OFTEN: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

static READER: Kept = Kept::empty();
static WRITER: Kept = Kept::empty();
/// In a forked copy: the reading end of its parent's pipe.
static INHERITED: Kept = Kept::empty();
static WATCHES_FORKS: AtomicBool = AtomicBool::new(false);
/// The child's own reading end. It is kept to the end, and closed by whoever hangs on another parent.
static OWN: Kept = Kept::empty();
/// The signal that has the handler look; 0: none yet.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// The process that has a timer running.
static TIMED: AtomicI32 = AtomicI32::new(0);

/// What looks whether the parent lives. Run in a signal handler: it takes no lock and allocates nothing.
pub type Look = extern "C" fn(libc::c_int);

/// The reading end that a child of this process needs to hang on it. It stays this process's, until that ends.
///
/// # Errors
/// No descriptor is free.
pub fn reader() -> io::Result<BorrowedFd<'static>> {
    if !WATCHES_FORKS.swap(true, Ordering::AcqRel) {
        // SAFETY: the function lives as long as the program, and only closes descriptors.
        unsafe { libc::pthread_atfork(None, None, Some(leave_to_parent)) };
    }
    for _ in 0..3 {
        if let (Some(reader), Some(_)) = (READER.get(), WRITER.get()) {
            return Ok(reader);
        }
        // Neither was made, or the program has closed one of them: a new pipe, for the children to come.
        drop((READER.take(), WRITER.take()));
        let (read, write) = both_clear_of_streams(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)?;
        // Or who has become another user since could not open it anew. Only who may look into this process finds it.
        let _ = rustix::fs::fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH);
        // Another thread may be faster: then its pipe is the one.
        if WRITER.put(write).is_ok() {
            let _ = READER.put(read);
        }
    }
    Err(Errno::AGAIN.into())
}

/// In a child: binds this process's life to that of the holder of the pipe's writing end. `look` is called when that may
/// have ended, and ends this process if it has; otherwise it calls [`look_often`].
///
/// # Errors
/// The kernel's: the process lives on, bound to nothing.
pub fn hold(reader: Option<OwnedFd>, look: Look) -> io::Result<()> {
    listen(look)?;
    let hung_up = match reader.map(|reader| own(&reader)) {
        Some(Ok(hung_up)) => hung_up,
        // No pipe, or no /proc to open it anew.
        _ => true,
    };
    if hung_up {
        // The parent may have ended before the kernel knew whom to tell.
        look(0);
    }
    Ok(())
}

/// Opens a reading end of this process's own, about which the kernel tells it; whether the pipe has ended already.
fn own(reader: &OwnedFd) -> io::Result<bool> {
    // The one that was inherited is shared with the parent and all its children, and has but one owner.
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
        // SAFETY: no memory is involved; the descriptor is our own.
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

/// Has a signal that nobody else uses run `look`, and lets it through in this thread.
fn listen(look: Look) -> io::Result<()> {
    let address = look as usize;
    let mut signal = libc::SIGRTMAX();
    loop {
        if signal < libc::SIGRTMIN() {
            return Err(Errno::BUSY.into());
        }
        let mut present = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action the call only writes the present one to a place that is large enough.
        let answer = unsafe { libc::sigaction(signal, core::ptr::null(), present.as_mut_ptr()) };
        // SAFETY: written by the call, which has succeeded.
        let free = answer == 0
            && [libc::SIG_DFL, address].contains(&unsafe { present.assume_init_ref() }.sa_sigaction);
        if free {
            break;
        }
        signal -= 1;
    }
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid sigaction; the handler is async-signal-safe (see `Look`) and lives as long as the program;
    // the pointers are to locals.
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

/// In the handler: the parent lives, and the pipe does not tell of its end any more. Has the handler called twice a
/// second from now on.
pub fn look_often() {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    if TIMED.swap(pid, Ordering::AcqRel) == pid {
        return;
    }
    // SAFETY: zeros are a valid sigevent and itimerspec, and the pointers are to locals. The calls are the system's own,
    // since the C library's may allocate.
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

/// In a forked child, first of all: the reading end of the parent's pipe.
#[must_use]
pub fn inherited() -> Option<OwnedFd> {
    INHERITED.take()
}

/// In every forked copy: the writing end must be the parent's alone.
extern "C" fn leave_to_parent() {
    drop(WRITER.take());
    INHERITED.take_from(&READER);
}
