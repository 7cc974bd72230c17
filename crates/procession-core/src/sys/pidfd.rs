//! Refers to processes by descriptors (pidfds), and reports their end.
//!
//! A pidfd names one process for ever: the number of a pid is reused, a pidfd's process is not. It becomes readable
//! when the process ends (when the last of its threads ends), for every process that has the pidfd.
//!
//! Some sandboxes refuse pidfds (`EPERM` or `ENOSYS`) although the kernel has them, because their lists of allowed
//! system calls are older. The first refusal is remembered, and processes are then named by their pid. That is safe
//! for a child that has not been waited for, because its pid stays taken; for any other process the start time must
//! be compared too ([`super::procfs`]).
#![allow(unsafe_code)]

use super::clock::Deadline;
use super::descriptor::{GuardedFd, clear_of_streams};
use super::event::{clear_event, event};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::io;

/// Set once the system has refused a pidfd.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// `pidfd_open(pid, 0)`: opens a close-on-exec descriptor that names the process.
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

/// Makes [`open`] fail (or not) as on a system that refuses pidfds. For tests.
#[doc(hidden)]
pub fn pretend_refused(refused: bool) {
    REFUSED.store(refused, Ordering::Relaxed);
}

/// Returns whether a descriptor is a pidfd of a process to which this process may send signals.
#[must_use]
pub fn is_pidfd(fd: impl AsFd) -> bool {
    // Signal 0 is not sent: the kernel only checks whether a signal could be.
    matches!(send_raw(fd.as_fd(), 0), Ok(()) | Err(Errno::SRCH))
}

/// `pidfd_send_signal(pidfd, signal, NULL, 0)`: sends a signal to exactly that process.
///
/// # Errors
/// `ESRCH`: it has ended and was waited for. `EINVAL`: no such signal. [`io::ErrorKind::Unsupported`]: this system
/// refuses the call, or this process may not send signals to that one ([`kill`] then reports it).
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
    // A direct system call, because rustix sends named signals only, and programs send real-time signals too.
    let nothing = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; with a null siginfo the kernel reads none of our memory.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

/// `kill(pid, signal)`: sends a signal to the process that has this pid now.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
///
/// # References
///  - [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html)
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = number(pid)?;
    // SAFETY: the call takes numbers only; the pid is positive, so it names one process and no group.
    let answer = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    if answer == 0 {
        Ok(())
    } else {
        Err(last_errno().into())
    }
}

/// Which child a wait concerns.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The child that this pidfd names.
    Pidfd(BorrowedFd<'a>),
    /// The child with this pid.
    Pid(u32),
}

/// `waitid(which, WEXITED | WNOHANG | WNOWAIT)`: returns a child's exit code (-N: killed by signal N) if it has
/// ended. The child stays a zombie, so that others can still ask.
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

/// `waitid(which, WEXITED | WNOHANG)`: like [`peek`], but releases the zombie. Only one caller gets the code.
///
/// # Errors
/// See [`peek`].
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

/// `waitid(P_ALL, WEXITED | WNOHANG | WNOWAIT)`: returns the pid of a child that has ended. The child stays a zombie,
/// so the next call returns the same pid until that child is waited for.
///
/// # Errors
/// `ECHILD`: this process has no children.
pub fn any_zombie() -> io::Result<Option<u32>> {
    // rustix does not return which child it was.
    // SAFETY: zeros are a valid siginfo, whose pid is 0 unless the call writes one.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable and outlives the call.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } != 0 {
        return Err(last_errno().into());
    }
    // SAFETY: `waitid` either wrote the variant that has the pid, or left the zeros.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// `getsockopt(SO_PEERCRED)`: returns the pid and the effective user of the process at the other end of a connection,
/// as they were when it connected or listened. The pid is 0 if that process is not in this pid namespace.
///
/// # Errors
/// The socket is not a connected Unix socket.
///
/// # References
///  - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
pub fn peer(socket: impl AsFd) -> io::Result<(u32, u32)> {
    // rustix stores the pid in a type that cannot be 0.
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `len` are writable and outlive the call, which writes at most `len` bytes to `peer`.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    if failed != 0 {
        return Err(last_errno().into());
    }
    Ok((peer.pid.unsigned_abs(), peer.uid))
}

/// How a wait for descriptors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PollOutcome {
    /// One of the descriptors is ready; its events are set.
    Ready,
    /// The deadline passed first.
    TimedOut,
    /// A signal arrived first.
    Interrupted,
}

/// `ppoll(fds, deadline)`: waits until one of the descriptors is ready. Without descriptors, it sleeps.
///
/// # References
///  - [ppoll(2)](https://man7.org/linux/man-pages/man2/poll.2.html)
pub fn ready(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<PollOutcome> {
    let left = match deadline.left().map(TryInto::try_into) {
        None => None,
        Some(Ok(left)) => Some(left),
        // Longer than the clock can represent.
        Some(Err(_)) => None,
    };
    match rustix::event::poll(fds, left.as_ref()) {
        Ok(0) => Ok(PollOutcome::TimedOut),
        Ok(_) => Ok(PollOutcome::Ready),
        Err(Errno::INTR) => Ok(PollOutcome::Interrupted),
        Err(e) => Err(e.into()),
    }
}

/// Returns whether the process that a pidfd names has ended.
pub fn ended(pidfd: impl AsFd) -> io::Result<bool> {
    let fd = pidfd.as_fd();
    Ok(ready(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Deadline::PAST)? == PollOutcome::Ready)
}

/// `ioctl(PIDFD_GET_INFO)`: returns the exit code (-N: killed by signal N) of a process that another process or
/// thread has waited for. The pidfd must have been opened before that. None: the process was not waited for, or this
/// kernel (before 6.15) does not support it.
///
/// # References
///  - [`include/uapi/linux/pidfd.h`](https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/pidfd.h)
#[must_use]
pub fn exit_code_after_reaping(pidfd: impl AsFd) -> Option<i32> {
    /// The first version of the kernel's `struct pidfd_info`, which all later kernels accept.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit: i32,
    }
    const _: () = assert!(size_of::<Info>() == 64);
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xff, 11, struct pidfd_info)`; the request number includes the size of the struct.
    const GET_INFO: libc::Ioctl = libc::_IOWR::<Info>(0xff, 11);

    let mut info = Info {
        mask: EXIT,
        cgroup: 0,
        ids: [0; 11],
        exit: 0,
    };
    // SAFETY: the descriptor is borrowed for the call; the kernel writes at most as many bytes as the request number
    // says, which is the size of this struct. Other kinds of descriptors reject the request.
    let answer = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO, &raw mut info) };
    (answer == 0 && info.mask & EXIT != 0).then(|| super::procfs::exit_code_of_status(info.exit))
}

/// A descriptor that one thread may close while others use it: it is closed when the last user is done. Each use
/// first checks that the number still names the original file ([`GuardedFd`]).
///
/// One word counts the users and has a flag for "closed". There is no lock: in a forked child, users that were
/// threads of the parent never finish, and the only effect is that the descriptor stays open until this object is
/// dropped.
#[derive(Debug)]
pub struct SharedFd {
    kept: GuardedFd,
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
    /// Creates it with a descriptor, or without one.
    #[must_use]
    pub fn new(fd: Option<OwnedFd>) -> SharedFd {
        SharedFd {
            kept: fd.map_or(GuardedFd::empty(), GuardedFd::new),
            users: AtomicU32::new(0),
        }
    }

    /// Borrows the descriptor. None: there is none, [`SharedFd::close`] was called, or the program has closed the
    /// number.
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

    /// Stores a descriptor, if there is none yet and [`SharedFd::close`] was not called; otherwise drops `fd`.
    pub fn put(&self, fd: OwnedFd) {
        let closed = self.users.fetch_add(1, Ordering::AcqRel) & CLOSED != 0;
        if !closed {
            let _ = self.kept.put(fd);
        }
        self.leave();
    }

    /// Returns whether [`SharedFd::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.users.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes the descriptor as soon as the last user is done.
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
/// It uses a signal handler that writes to an eventfd. A signalfd would require the signal to be blocked in *all*
/// threads, and a preloaded module may have started some; a handler works in whichever thread the kernel picks.
/// Dropping it restores the former disposition, both in the process that made it and in a forked child, where the
/// handler would otherwise ring the parent's eventfd.
pub struct ChildBell {
    bell: OwnedFd,
    disposition: libc::sigaction,
    was_blocked: bool,
}

/// The eventfd that the handler writes to, or -1.
static BELL: AtomicI32 = AtomicI32::new(-1);

extern "C" fn ring(_signal: libc::c_int) {
    let bell = BELL.load(Ordering::Relaxed);
    if bell < 0 {
        return;
    }
    let one = 1_u64.to_ne_bytes();
    super::keeping_errno(|| {
        // SAFETY: write(2) is async-signal-safe, and the buffer is a local.
        unsafe { libc::write(bell, one.as_ptr().cast(), one.len()) };
    });
}

impl ChildBell {
    /// `sigaction(SIGCHLD, …)`: starts to listen, and unblocks the signal in this thread.
    ///
    /// # Errors
    /// `EBUSY`: this process has a `ChildBell` already. `EMFILE`, `ENFILE`: no descriptor is free.
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
        // program; all pointers point to locals that outlive the calls.
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

    /// Makes it unreadable until the next child ends. Call this *before* checking which children have ended.
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
        // SAFETY: `sigaction` returned this disposition; zeros are a valid sigset.
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
