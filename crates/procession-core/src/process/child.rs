//! A started process, and its exit code.
//!
//! # Who learns the exit code, and in which order
//!
//! Only the parent of a process can wait for it, and only once; the family wants to know the code for as long as the
//! process has a seat. So whoever waits
//!
//! 1. looks at the status and leaves the zombie (`WNOWAIT`),
//! 2. writes the code into this object: one compare-and-swap, and whoever wins it goes on alone,
//! 3. records it in the seat, which takes back what the process held,
//! 4. lets the zombie go.
//!
//! Killed before 3, the zombie is `init`'s, and the seat is reaped by whoever looks next, from `/proc`. Killed before
//! 4, the code is in the seat. At no moment is the process gone and its code nowhere. If somebody else has waited for
//! the process (a program's own `waitpid(-1)`, or an ignored `SIGCHLD`), the kernel still tells the code to whoever has a
//! pidfd, from Linux 6.15 on. Before that, it is the one that is recorded in the seat or that the process announced
//! there, else 255, as with `multiprocessing`.
//!
//! A child of the fork server is waited for by the server, which does 1, 3 and 4. Here, its end is seen by the pidfd,
//! and the code is then due in the seat. It is waited for, but not for ever: the server may have been killed. Within
//! [`PATIENCE`] it may also be seen in `/proc`, if the server is merely slow, or be told by the pidfd, if `init` has
//! waited for it; after that, what the process announced or 255 is it.
//!
//! # Forks
//!
//! In a forked child this object is a copy of the parent's knowledge about a process that is no child of *this* one.
//! It still tells whether that process has ended (a pidfd works for anybody) and what is recorded, but neither waits
//! for it nor guesses. Nothing here is a lock, so the copy is usable whatever other threads were doing at the fork.
//!
//! # Without pidfds
//!
//! Where the system refuses them, or no descriptor is free, a process is held by its pid and start time, and waiting
//! for it is asking again and again, every 1 to 50 ms. Such a process has no sentinel, unless its starter makes one:
//! the read end of a pipe whose write end only the child has, given to [`Child::with_pidfd`] or
//! [`Child::with_sentinel`].

use crate::family::Seat;
use crate::sys::clock::{Deadline, now};
use crate::sys::event;
use crate::sys::pidfd::{self, SharedFd, Which};
use crate::sys::procfs::{self, Liveness};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::io;

/// How long an exit code is waited for that the fork server should have recorded.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The exit code of a process of which nobody knows how it ended.
pub const UNKNOWN: i32 = 255;

const KNOWN: u64 = 1 << 32;

/// How a wait for a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ExitOutcome {
    /// It has ended, with this exit code (-N: killed by signal N).
    Exited(i32),
    /// The deadline came first. In a forked child also: the process has ended, and how is not for this one to know.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

/// A started process. Dropping it neither ends the process nor waits for it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    /// The process that may wait for it; copies of this object in that one's forked children may not.
    creator: u32,
    direct: bool,
    /// 0 where it is of no use: the pidfd or being the parent is better evidence.
    start_time: u64,
    seat: Option<Seat>,
    pidfd: Box<SharedFd>,
    sentinel: Box<SharedFd>,
    exit: AtomicU64,
    /// When it was first seen that the process has ended without its exit code being known; 0: not yet.
    missing_since: AtomicU64,
}

/// What is known of a child.
enum ChildStatus {
    Running,
    Ended(i32),
    /// It has ended, and the exit code is not known yet.
    CodeMissing,
}

impl Child {
    /// Holds the process with this pid by a pidfd opened now. `direct`: it is a child of this process; otherwise of
    /// the fork server, which records its exit code in the seat.
    ///
    /// If no pidfd can be had, the process is held by its pid: see the module.
    #[must_use]
    pub fn new(pid: u32, seat: Option<Seat>, direct: bool) -> Child {
        let mut child = Child {
            pid,
            creator: own_pid(),
            direct,
            start_time: 0,
            seat,
            pidfd: Box::new(SharedFd::new(None)),
            sentinel: Box::new(SharedFd::new(None)),
            exit: AtomicU64::new(0),
            missing_since: AtomicU64::new(0),
        };
        if child.open().is_err() {
            child.start_time = child
                .seated_start_time()
                .unwrap_or_else(|| procfs::start_time(pid));
        }
        child
    }

    /// Holds a process by a pidfd that somebody else opened, and owns that. A descriptor that is no pidfd is taken
    /// for a sentinel: one that becomes readable when the process ends.
    #[must_use]
    pub fn with_pidfd(pid: u32, seat: Option<Seat>, pidfd: OwnedFd, direct: bool) -> Child {
        if !pidfd::is_pidfd(&pidfd) {
            return Child::new(pid, seat, direct).with_sentinel(pidfd);
        }
        Child {
            pid,
            creator: own_pid(),
            direct,
            start_time: 0,
            seat,
            pidfd: Box::new(SharedFd::new(Some(pidfd))),
            sentinel: Box::new(SharedFd::new(None)),
            exit: AtomicU64::new(0),
            missing_since: AtomicU64::new(0),
        }
    }

    /// The same with a descriptor of its own to wait for the end: the read end of a pipe whose write end only the
    /// child has.
    #[must_use]
    pub fn with_sentinel(mut self, sentinel: OwnedFd) -> Child {
        self.sentinel = Box::new(SharedFd::new(Some(sentinel)));
        self
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The seat of the process in the registry.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        self.seat
    }

    /// A descriptor that is readable once the process has ended; it is this object's, until [`Child::close`].
    ///
    /// # Errors
    /// `EBADF` after `close`. [`io::ErrorKind::Unsupported`] where the system refuses pidfds and the starter gave no
    /// sentinel. `EMFILE`: no descriptor is free.
    pub fn sentinel(&self) -> io::Result<RawFd> {
        for held in [&self.sentinel, &self.pidfd] {
            if let Some(fd) = held.get() {
                return Ok(fd.as_fd().as_raw_fd());
            }
        }
        if self.pidfd.is_closed() {
            return Err(Errno::BADF.into());
        }
        match self.open() {
            Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                self.sentinel.put(event::always_ready()?);
            }
            opened => opened?,
        }
        let made = self.sentinel.get().or_else(|| self.pidfd.get());
        made.map(|fd| fd.as_fd().as_raw_fd())
            .ok_or_else(|| Errno::BADF.into())
    }

    /// The exit code (-N: killed by signal N), or None while the process runs.
    ///
    /// Does not wait, but for an exit code that the fork server is about to record; for that up to [`PATIENCE`].
    #[must_use]
    pub fn poll(&self) -> Option<i32> {
        let mut nap = Nap::short();
        loop {
            match self.status() {
                ChildStatus::Running => return None,
                ChildStatus::Ended(code) => return Some(code),
                ChildStatus::CodeMissing if !self.is_mine() => return None,
                ChildStatus::CodeMissing => {
                    let _ = nap.take(Deadline::NEVER);
                }
            }
        }
    }

    /// Waits until the process has ended or the deadline has come. A signal ends the wait; whoever goes on does so
    /// with the same deadline. As with [`Child::poll`], an exit code that is still to be recorded may overrun the
    /// deadline.
    pub fn wait(&self, deadline: Deadline) -> ExitOutcome {
        let (mut nap, mut short) = (Nap::new(), Nap::short());
        let mut notified = false;
        loop {
            let missing = match self.status() {
                ChildStatus::Ended(code) => return ExitOutcome::Exited(code),
                ChildStatus::Running if deadline.expired() => return ExitOutcome::TimedOut,
                ChildStatus::Running => false,
                ChildStatus::CodeMissing if !self.is_mine() && self.out_of_patience() => {
                    return ExitOutcome::TimedOut;
                }
                ChildStatus::CodeMissing => true,
            };
            let held = self.pidfd.get();
            let waited = match &held {
                // Notified of its end and yet it "runs": a debugger has to let go of it first.
                Some(fd) if !missing && !notified => {
                    let end = pidfd::ready(&mut [PollFd::new(fd, PollFlags::IN)], deadline);
                    notified = matches!(end, Ok(pidfd::PollOutcome::Ready));
                    end.unwrap_or_else(|_| nap.take(deadline))
                }
                _ if missing => short.take(Deadline::NEVER),
                _ => nap.take(deadline),
            };
            if waited == pidfd::PollOutcome::Interrupted {
                return ExitOutcome::Interrupted;
            }
        }
    }

    /// Sends a signal to the process; nothing happens if it has ended.
    ///
    /// # Errors
    /// `EPERM` (it has become somebody else's), `EINVAL` (no such signal).
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        if self.known().is_some() {
            return Ok(());
        }
        let sent = match self.pidfd.get() {
            Some(fd) => match pidfd::send_signal(&fd, signal) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => self.kill(signal),
                sent => sent,
            },
            None => self.kill(signal),
        };
        match sent {
            Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            sent => sent,
        }
    }

    /// Closes the descriptors, as soon as no other thread is waiting on them. The exit code stays.
    pub fn close(&self) {
        self.pidfd.close();
        self.sentinel.close();
    }

    /// By pid, if that is still the process's: it is this one's child and was not waited for, or it has the start
    /// time.
    fn kill(&self, signal: i32) -> io::Result<()> {
        match procfs::liveness(self.pid, self.known_start_time()) {
            Liveness::Gone => Ok(()),
            _ => pidfd::kill(self.pid, signal),
        }
    }

    /// Opens the pidfd; for a process that is no child of ours, makes sure that it is the one that was started.
    fn open(&self) -> io::Result<()> {
        let fd = pidfd::open(self.pid)?;
        let expected = self.known_start_time();
        if expected != 0 && !self.is_own_child() && procfs::liveness(self.pid, expected) == Liveness::Gone {
            return Err(Errno::SRCH.into());
        }
        self.pidfd.put(fd);
        Ok(())
    }

    fn is_mine(&self) -> bool {
        self.creator == own_pid()
    }

    fn is_own_child(&self) -> bool {
        self.direct && self.is_mine()
    }

    fn known(&self) -> Option<i32> {
        let word = self.exit.load(Ordering::Acquire);
        (word & KNOWN != 0).then_some(word as u32 as i32)
    }

    fn status(&self) -> ChildStatus {
        match self.known() {
            Some(code) => ChildStatus::Ended(code),
            None if self.is_own_child() => self.status_of_own(),
            None => self.status_of_others(),
        }
    }

    /// Steps 1 to 4 of the module's description.
    fn status_of_own(&self) -> ChildStatus {
        let held = self.pidfd.get();
        let mut which = held
            .as_ref()
            .map_or(Which::Pid(self.pid), |fd| Which::Pidfd(fd.as_fd()));
        let mut seen = pidfd::peek(which);
        if held.is_some()
            && seen
                .as_ref()
                .is_err_and(|e| e.raw_os_error() != Some(Errno::CHILD.raw_os_error()))
        {
            // Not a kind of id that this kernel knows, or the program closed the descriptor under our feet.
            which = Which::Pid(self.pid);
            seen = pidfd::peek(which);
        }
        match seen {
            Ok(None) => ChildStatus::Running,
            Ok(Some(code)) if matches!(which, Which::Pidfd(_)) || self.pid_is_still_its() => {
                if self.settle(code) {
                    // Another thread cannot be here: it has lost the compare-and-swap.
                    let _ = pidfd::reap(which);
                }
                ChildStatus::Ended(self.known().unwrap_or(code))
            }
            // Somebody has waited for it, perhaps another thread just now.
            _ => match self.known() {
                Some(code) => ChildStatus::Ended(code),
                None if !self.has_ended() => ChildStatus::Running,
                None => {
                    if let Some(code) = self.told_by_pidfd() {
                        self.settle(code);
                    }
                    ChildStatus::Ended(self.known().unwrap_or_else(|| self.give_up()))
                }
            },
        }
    }

    fn status_of_others(&self) -> ChildStatus {
        if !self.has_ended() {
            return ChildStatus::Running;
        }
        let code = self.recorded().or_else(|| self.status_of_zombie());
        match code.or_else(|| self.told_by_pidfd()) {
            Some(code) => {
                if self.is_mine() {
                    self.settle(code);
                }
                ChildStatus::Ended(code)
            }
            // Without a seat there is no place where the code could turn up.
            None if self.is_mine() && (!self.is_seated() || self.out_of_patience()) => {
                ChildStatus::Ended(self.give_up())
            }
            None => ChildStatus::CodeMissing,
        }
    }

    fn has_ended(&self) -> bool {
        let by_pidfd = self.pidfd.get().and_then(|fd| pidfd::ended(&fd).ok());
        by_pidfd.unwrap_or_else(|| procfs::liveness(self.pid, self.known_start_time()) != Liveness::Alive)
    }

    /// What newer kernels tell of a process that somebody has waited for.
    fn told_by_pidfd(&self) -> Option<i32> {
        self.pidfd
            .get()
            .and_then(|fd| pidfd::exit_code_after_reaping(&fd))
    }

    /// Notes the exit code here and then in the seat; true for the first who does.
    fn settle(&self, code: i32) -> bool {
        let word = KNOWN | u64::from(code as u32);
        if self
            .exit
            .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return false;
        }
        if let Some(seat) = self.seat {
            seat.record_exit(code);
        }
        true
    }

    /// The process is gone, and nobody will tell any more how it ended.
    fn give_up(&self) -> i32 {
        match self.seat.and_then(|seat| seat.exit_code()) {
            Some(code) => {
                self.settle(code);
            }
            None => {
                let word = KNOWN | UNKNOWN as u64;
                let first = self
                    .exit
                    .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
                if let Some(seat) = self.seat.filter(|_| first) {
                    // The registry is not told a made-up code, but what the process held is taken back.
                    seat.family.reap(seat);
                }
            }
        }
        self.known().unwrap_or(UNKNOWN)
    }

    /// What the server recorded. What the process only announced does not count while the truth may still come.
    fn recorded(&self) -> Option<i32> {
        let seat = self.seat?;
        let code = seat.slot().exit();
        code.filter(|_| seat.valid())
    }

    fn is_seated(&self) -> bool {
        self.seat.is_some_and(|seat| seat.valid())
    }

    /// The status that `/proc` shows as long as nobody has waited for the process. That it shows *this* process is
    /// known from the start time or, afterwards, from the pidfd: until somebody waits for it, its pid is taken.
    fn status_of_zombie(&self) -> Option<i32> {
        let start_time = self.known_start_time();
        let Liveness::Zombie { status } = procfs::liveness(self.pid, start_time) else {
            return None;
        };
        let is_it = start_time != 0
            || self
                .pidfd
                .get()
                .is_some_and(|fd| pidfd::send_signal(&fd, 0).is_ok());
        status.filter(|_| is_it).map(procfs::exit_code_of_status)
    }

    /// Whether the zombie with our pid is our process, where no pidfd says so.
    fn pid_is_still_its(&self) -> bool {
        let (expected, found) = (self.known_start_time(), procfs::start_time(self.pid));
        expected == 0 || found == 0 || found == expected
    }

    fn known_start_time(&self) -> u64 {
        if self.start_time != 0 {
            self.start_time
        } else {
            self.seated_start_time().unwrap_or(0)
        }
    }

    fn seated_start_time(&self) -> Option<u64> {
        let seat = self.seat?;
        let (pid, start) = (seat.slot().pid(), seat.slot().start_time.load(Ordering::Acquire));
        (pid == self.pid && start != 0 && seat.valid()).then_some(start)
    }

    fn out_of_patience(&self) -> bool {
        let time = now();
        let since = match self
            .missing_since
            .compare_exchange(0, time, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => time,
            Err(since) => since,
        };
        Duration::from_nanos(time.saturating_sub(since)) > PATIENCE
    }
}

/// Sleeps that grow from 1 ms to 50 ms; those for an exit code that is on its way, from a tenth of that.
struct Nap(Duration);

impl Nap {
    fn new() -> Nap {
        Nap(Duration::from_millis(1))
    }

    /// For what takes as long as the fork server needs to wake up.
    fn short() -> Nap {
        Nap(Duration::from_micros(100))
    }

    fn take(&mut self, deadline: Deadline) -> pidfd::PollOutcome {
        let length = self.0;
        self.0 = (length * 2).min(Duration::from_millis(50));
        // Only bad arguments fail, and there are none.
        pidfd::ready(&mut [], deadline.sooner(Deadline::after(length)))
            .unwrap_or(pidfd::PollOutcome::TimedOut)
    }
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}
