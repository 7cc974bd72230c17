//! Processes held by a descriptor, and learning of their end.
//!
//! A pidfd names one process for ever: its number is never given to another one, as a pid is, and it becomes readable
//! when the process ends (when the last of its threads does), for anybody who has it.
//!
//! Two places have no pidfds although the kernel would: sandboxes with a list of allowed system calls that is older
//! than they are (`EPERM` or `ENOSYS`). The first refusal is remembered, and processes are then held by their pid.
//! That is safe for a child that has not been waited for, because its pid stays taken; for any other process it needs
//! the start time beside it ([`super::procfs`]).
#![allow(unsafe_code)]

use super::clock::Deadline;
use super::descriptor::{Kept, clear_of_streams};
use super::event::{clear_event, event};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::io;

/// That this system refuses pidfds, once it has.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// `pidfd_open(pid, 0)` — a descriptor (not inherited by `exec`) that names the process.
///
/// # Errors
/// `ESRCH`: there is no such process. [`io::ErrorKind::Unsupported`]: this system refuses pidfds.
///
/// # References
///  - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = number(pid)?;
    if REFUSED.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
            REFUSED.store(true, Ordering::Relaxed);
            Err(io::ErrorKind::Unsupported.into())
        }
        opened => clear_of_streams(opened?),
    }
}

/// Makes [`open`] fail (or not) as on a system that refuses pidfds.
#[doc(hidden)]
pub fn pretend_refused(refused: bool) {
    REFUSED.store(refused, Ordering::Relaxed);
}

/// Whether a descriptor is a pidfd of a process to which this one may send signals.
#[must_use]
pub fn is_pidfd(fd: impl AsFd) -> bool {
    // A signal of number 0 is not sent: only whether it could be is looked at.
    matches!(send_raw(fd.as_fd(), 0), Ok(()) | Err(Errno::SRCH))
}

/// `pidfd_send_signal(pidfd, signal, NULL, 0)` — sends a signal to exactly that process.
///
/// # Errors
/// `ESRCH`: it has ended and was waited for. `EINVAL`: no such signal. [`io::ErrorKind::Unsupported`]: this system refuses
/// the call, or it is not for this process to send that one signals ([`kill`] then says so).
///
/// # References
///  - [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html)
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    send_raw(pidfd.as_fd(), signal).map_err(|e| match e {
        Errno::NOSYS | Errno::PERM | Errno::ACCESS => io::ErrorKind::Unsupported.into(),
        e => e.into(),
    })
}

fn send_raw(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // By hand, because rustix sends named signals only, and programs send real-time ones too.
    let nothing = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; without a siginfo the kernel reads no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

/// `kill(pid, signal)` — sends a signal to whichever process has this pid now.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
///
/// # References
///  - [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html)
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = number(pid)?;
    // SAFETY: no memory is involved; the pid is a positive number, so it names one process.
    let answer = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    if answer == 0 {
        Ok(())
    } else {
        Err(last_errno().into())
    }
}

/// Which child to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one that this pidfd names.
    Pidfd(BorrowedFd<'a>),
    /// The one with this pid.
    Pid(u32),
}

/// `waitid(which, WEXITED | WNOHANG | WNOWAIT)` — a child's exit code (-N: killed by signal N), if it has ended. It
/// stays a zombie, so that others can still ask.
///
/// # Errors
/// `ECHILD`: it is no child of this process, or was waited for already.
///
/// # References
///  - [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)
pub fn peek(which: Which<'_>) -> io::Result<Option<i32>> {
    wait(
        which,
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
    )
}

/// `waitid(which, WEXITED | WNOHANG)` — the same, and lets the zombie go. For one caller only.
///
/// # Errors
/// As [`peek`].
pub fn reap(which: Which<'_>) -> io::Result<Option<i32>> {
    wait(which, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn wait(which: Which<'_>, options: WaitIdOptions) -> io::Result<Option<i32>> {
    let id = match which {
        Which::Pidfd(fd) => WaitId::PidFd(fd),
        Which::Pid(pid) => WaitId::Pid(number(pid).map_err(|_| Errno::CHILD)?),
    };
    let status = loop {
        match rustix::process::waitid(id.clone(), options) {
            Err(Errno::INTR) => {}
            answer => break answer?,
        }
    };
    Ok(status.and_then(|s| {
        s.exit_status()
            .or_else(|| s.terminating_signal().map(|signal| -signal))
    }))
}

/// `waitid(P_ALL, WEXITED | WNOHANG | WNOWAIT)` — the pid of a child that has ended, which stays a zombie: asked again,
/// the answer is the same until that one is waited for.
///
/// # Errors
/// `ECHILD`: this process has no children at all.
pub fn any_zombie() -> io::Result<Option<u32>> {
    // rustix does not tell which child it was.
    // SAFETY: zeros are a valid siginfo, and show no pid unless the call writes one.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: info is writable for the call.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } != 0 {
        return Err(last_errno().into());
    }
    // SAFETY: waitid writes this variant, or leaves the zeros.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// How a wait for descriptors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Waited {
    /// One of them is ready; its events are set.
    Ready,
    /// The deadline came first.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

/// `ppoll(fds, deadline)` — waits until one of the descriptors is ready. Without any, it sleeps.
///
/// # References
///  - [ppoll(2)](https://man7.org/linux/man-pages/man2/poll.2.html)
pub fn ready(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<Waited> {
    let left = match deadline.left().map(TryInto::try_into) {
        None => None,
        Some(Ok(left)) => Some(left),
        // Longer than the clock runs.
        Some(Err(_)) => None,
    };
    match rustix::event::poll(fds, left.as_ref()) {
        Ok(0) => Ok(Waited::TimedOut),
        Ok(_) => Ok(Waited::Ready),
        Err(Errno::INTR) => Ok(Waited::Interrupted),
        Err(e) => Err(e.into()),
    }
}

/// Whether the process that a pidfd names has ended.
pub fn ended(pidfd: impl AsFd) -> io::Result<bool> {
    let fd = pidfd.as_fd();
    Ok(ready(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Deadline::PAST)? == Waited::Ready)
}

/// `ioctl(PIDFD_GET_INFO)` — the exit code (-N: killed by signal N) of a process that was waited for by whomever, to
/// anybody who has had the pidfd since before. None: it was not waited for, or this kernel (before 6.15) does not tell.
///
/// # References
///  - [`include/uapi/linux/pidfd.h`](https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/pidfd.h)
#[must_use]
pub fn exit_code_after_reaping(pidfd: impl AsFd) -> Option<i32> {
    /// The first version of the kernel's `struct pidfd_info`, which all later ones understand.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit: i32,
    }
    const _: () = assert!(size_of::<Info>() == 64);
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xff, 11, struct pidfd_info)`, which has the size in it.
    const GET_INFO: libc::Ioctl = libc::_IOWR::<Info>(0xff, 11);

    let mut info = Info {
        mask: EXIT,
        cgroup: 0,
        ids: [0; 11],
        exit: 0,
    };
    // SAFETY: the descriptor is borrowed for the call; the kernel writes at most as much as the request's number says,
    // which is the size of this struct. Other kinds of descriptors do not know the request.
    let answer = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO, &raw mut info) };
    (answer == 0 && info.mask & EXIT != 0).then(|| super::procfs::exit_code_of_status(info.exit))
}

/// A descriptor that one thread may close while others use it: it is closed when the last of them is done. Each use
/// begins with a look whether its number still names what it named at first ([`Kept`]).
///
/// A word counts the users, and has a flag for "closed". No lock: in the child of a fork, users that were threads of
/// the parent are never done, and all that comes of it is that the descriptor stays open until this is dropped.
#[derive(Debug)]
pub struct SharedFd {
    kept: Kept,
    users: AtomicU32,
}

const CLOSED: u32 = 1 << 31;

/// One use of a [`SharedFd`].
#[derive(Debug)]
pub struct InUse<'a> {
    of: &'a SharedFd,
    fd: BorrowedFd<'a>,
}

impl SharedFd {
    /// With a descriptor, or none yet.
    #[must_use]
    pub fn new(fd: Option<OwnedFd>) -> SharedFd {
        SharedFd {
            kept: fd.map_or(Kept::empty(), Kept::new),
            users: AtomicU32::new(0),
        }
    }

    /// The descriptor, if there is one, it was not closed, and the program has not closed it either.
    #[must_use]
    pub fn get(&self) -> Option<InUse<'_>> {
        let closed = self.users.fetch_add(1, Ordering::AcqRel) & CLOSED != 0;
        match self.kept.get().filter(|_| !closed) {
            Some(fd) => Some(InUse { of: self, fd }),
            None => {
                self.leave();
                None
            }
        }
    }

    /// Puts a descriptor in, if there is none yet and it was not closed; otherwise that one is dropped.
    pub fn put(&self, fd: OwnedFd) {
        let closed = self.users.fetch_add(1, Ordering::AcqRel) & CLOSED != 0;
        if !closed {
            let _ = self.kept.put(fd);
        }
        self.leave();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.users.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes it, as soon as nobody uses it.
    pub fn close(&self) {
        if self.users.fetch_or(CLOSED, Ordering::AcqRel) == 0 {
            drop(self.kept.take());
        }
    }

    fn leave(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            drop(self.kept.take());
        }
    }
}

impl AsFd for InUse<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.of.leave();
    }
}

/// `SIGCHLD` as a descriptor: readable when a child of this process may have ended.
///
/// A handler that rings an eventfd, and not a signalfd: for that the signal must be blocked in *all* threads, and a
/// preloaded module may have started some; whichever thread the kernel picks runs the handler. Dropping it puts the
/// former disposition back, in the process that made it as well as in a forked child, where its parent's bell would
/// otherwise ring.
pub struct ChildBell {
    bell: OwnedFd,
    disposition: libc::sigaction,
    was_blocked: bool,
}

/// The eventfd that the handler rings, or -1.
static BELL: AtomicI32 = AtomicI32::new(-1);

extern "C" fn ring(_signal: libc::c_int) {
    let bell = BELL.load(Ordering::Relaxed);
    if bell < 0 {
        return;
    }
    let one = 1_u64.to_ne_bytes();
    super::keeping_errno(|| {
        // SAFETY: write(2) is async-signal-safe and the buffer is ours.
        unsafe { libc::write(bell, one.as_ptr().cast(), one.len()) };
    });
}

impl ChildBell {
    /// `sigaction(SIGCHLD, …)` — begins to listen, and unblocks the signal in this thread.
    ///
    /// # Errors
    /// `EBUSY`: somebody in this process listens already. No descriptor is free.
    ///
    /// # References
    ///  - [sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html)
    ///  - [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)
    pub fn new() -> io::Result<ChildBell> {
        let bell = event()?;
        if BELL
            .compare_exchange(-1, bell.as_raw_fd(), Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return Err(Errno::BUSY.into());
        }
        // SAFETY: zeros are a valid sigaction and sigset; the handler is async-signal-safe and lives as long as the
        // program; the pointers are to locals.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = ring as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
            libc::sigemptyset(&raw mut action.sa_mask);
            let mut disposition: libc::sigaction = core::mem::zeroed();
            if libc::sigaction(libc::SIGCHLD, &raw const action, &raw mut disposition) != 0 {
                BELL.store(-1, Ordering::Release);
                return Err(last_errno().into());
            }
            let (mut children, mut before): (libc::sigset_t, libc::sigset_t) = core::mem::zeroed();
            libc::sigemptyset(&raw mut children);
            libc::sigaddset(&raw mut children, libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const children, &raw mut before);
            let was_blocked = libc::sigismember(&raw const before, libc::SIGCHLD) == 1;
            Ok(ChildBell {
                bell,
                disposition,
                was_blocked,
            })
        }
    }

    /// Makes it unreadable until the next child ends. To be called *before* looking which have.
    pub fn clear(&self) {
        clear_event(&self.bell);
    }
}

impl AsFd for ChildBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for ChildBell {
    fn drop(&mut self) {
        // SAFETY: the disposition is what sigaction returned; zeros are a valid sigset.
        unsafe {
            libc::sigaction(libc::SIGCHLD, &raw const self.disposition, core::ptr::null_mut());
            if self.was_blocked {
                let mut children: libc::sigset_t = core::mem::zeroed();
                libc::sigemptyset(&raw mut children);
                libc::sigaddset(&raw mut children, libc::SIGCHLD);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const children, core::ptr::null_mut());
            }
        }
        BELL.store(-1, Ordering::Release);
    }
}

impl core::fmt::Debug for ChildBell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ChildBell")
            .field("bell", &self.bell)
            .finish_non_exhaustive()
    }
}

fn number(pid: u32) -> Result<Pid, Errno> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)
}

fn last_errno() -> Errno {
    io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}
