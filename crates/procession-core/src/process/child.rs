//! A started process, and its exit code.
//!
//! # Who records the exit code, and in which order
//!
//! Only the parent of a process can wait for it, and only once, but the family needs the code for as long as the
//! process has a seat. So a thread that waits for a process
//!
//! 1. reads the status and leaves the zombie (`WNOWAIT`),
//! 2. writes the code into this object by one compare-and-swap; only the thread whose swap succeeds goes on,
//! 3. records the code in the seat, which also takes back what the process held,
//! 4. releases the zombie.
//!
//! If the waiting process is killed before 3, `init` inherits the zombie, and the next member that checks the seat
//! reaps it, from `/proc`. If it is killed before 4, the code is in the seat. So at no moment is the process gone and
//! its code nowhere. If other code has waited for the process (a program's own `waitpid(-1)`, or an ignored
//! `SIGCHLD`), the kernel still tells the code to a process that has a pidfd, from Linux 6.15 on. On older kernels
//! the code is the one that is recorded in the seat or that the process announced there; otherwise it is 255, as in
//! `multiprocessing`.
//!
//! A child of the fork server is waited for by the server, which does 1, 3 and 4. This object sees the end by the
//! pidfd and then waits for the code to appear in the seat, but not for ever, because the server may have been
//! killed. Within [`EXIT_CODE_GRACE`] the code may also be read from `/proc`, if the server is merely slow, or from the
//! pidfd, if `init` has waited for the process. After that the result is the announced code, or 255.
//!
//! # Forks
//!
//! In a forked child this object is a copy of the parent's knowledge about a process that is not a child of *this*
//! process. It still tells whether that process has ended (a pidfd works in every process) and which code is
//! recorded, but it neither waits for the process nor makes up a code. There is no lock in this object, so the copy
//! is usable whatever other threads were doing at the fork.
//!
//! # Without pidfds
//!
//! If the system refuses pidfds or no descriptor is free, a process is named by its pid and start time, and a wait
//! polls it every 1 to 50 ms. Such a process has no sentinel, unless its starter makes one: the read end of a pipe
//! whose write end only the child has, passed to [`Child::with_pidfd`] or [`Child::with_sentinel`].
//!
//! # References
//!  - [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)
//!  - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)

use crate::family::loop_waits::LoopWait;
use crate::family::waits::{Reason, Recorded, What};
use crate::family::{Family, Seat};
use crate::sys::clock::{Deadline, now};
use crate::sys::event;
use crate::sys::pidfd::{self, InUse, SharedFd, Which};
use crate::sys::procfs::{self, Liveness};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::io;

/// Maximum time to wait for an exit code that the fork server should have recorded.
pub const EXIT_CODE_GRACE: Duration = Duration::from_secs(2);
/// The exit code of a process whose end could not be observed.
pub const UNKNOWN: i32 = 255;

const CODE_KNOWN: u64 = 1 << 32;

/// How a wait for a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ExitOutcome {
    /// The process has ended, with this exit code (-N: killed by signal N).
    Exited(i32),
    /// The deadline passed first. In a forked child also: the process has ended, and its code is not recorded.
    TimedOut,
    /// A signal arrived first.
    Interrupted,
}

/// A started process. Dropping it neither ends the process nor waits for it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    /// Pid of the process that may wait for it; copies of this object in forked children of that process may not.
    creator: u32,
    direct: bool,
    /// Start time; 0 if not needed, because the pidfd or being the parent is better evidence.
    start_time: u64,
    seat: Option<Seat>,
    pidfd: Box<SharedFd>,
    sentinel: Box<SharedFd>,
    exit: AtomicU64,
    /// Time at which the process was first seen to have ended without a known exit code; 0: not yet.
    missing_since: AtomicU64,
}

/// What is known of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// The process runs.
    Running,
    /// The process has ended, with this exit code (-N: killed by signal N).
    Ended(i32),
    /// The process has ended, and the exit code is not known yet.
    CodeMissing,
}

impl Child {
    /// Refers to the process with this pid, by a pidfd that is opened now. `direct`: it is a child of this process;
    /// otherwise it is a child of the fork server, which records its exit code in the seat.
    ///
    /// If no pidfd can be opened, the process is named by its pid: see the module documentation.
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

    /// Refers to a process by a pidfd that another process or function has opened; takes ownership of it. A
    /// descriptor that is no pidfd is used as a sentinel: it becomes readable when the process ends.
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

    /// Adds a descriptor on which a wait for the end is possible: the read end of a pipe whose write end only the
    /// child has.
    #[must_use]
    pub fn with_sentinel(mut self, sentinel: OwnedFd) -> Child {
        self.sentinel = Box::new(SharedFd::new(Some(sentinel)));
        self
    }

    /// Pid of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is a child of this process, which must wait for it. Otherwise it is a child of the fork server.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.is_own_child()
    }

    /// Seat of the process in the registry.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        self.seat
    }

    /// A descriptor that becomes readable when the process ends. This object owns it and closes it in
    /// [`Child::close`].
    ///
    /// # Errors
    /// `EBADF`: after `close`. [`io::ErrorKind::Unsupported`]: the system refuses pidfds and the starter gave no
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
    /// Does not wait, except for up to [`EXIT_CODE_GRACE`] for an exit code that the fork server is about to record.
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

    /// Waits until the process has ended or the deadline has passed. A signal ends the wait; the caller continues
    /// with the same deadline. As in [`Child::poll`], a wait for an exit code that is still to be recorded may exceed
    /// the deadline.
    pub fn wait(&self, deadline: Deadline) -> ExitOutcome {
        let (mut nap, mut short) = (Nap::new(), Nap::short());
        let mut notified = false;
        let mut recorded = None;
        loop {
            let missing = match self.status() {
                ChildStatus::Ended(code) => return ExitOutcome::Exited(code),
                ChildStatus::Running if deadline.expired() => return ExitOutcome::TimedOut,
                ChildStatus::Running => false,
                ChildStatus::CodeMissing if !self.is_mine() && self.grace_is_over() => {
                    return ExitOutcome::TimedOut;
                }
                ChildStatus::CodeMissing => true,
            };
            self.record_wait(&mut recorded, deadline);
            let until = match &recorded {
                Some(recorded) => {
                    recorded.report_if_due();
                    recorded.until_report(deadline)
                }
                None => deadline,
            };
            let held = self.pidfd.get();
            let waited = match &held {
                // The pidfd reported the end and yet the process "runs": a debugger must release it first.
                Some(fd) if !missing && !notified => {
                    let end = pidfd::ready(&mut [PollFd::new(fd, PollFlags::IN)], until);
                    notified = matches!(end, Ok(pidfd::PollOutcome::Ready));
                    end.unwrap_or_else(|_| nap.take(until))
                }
                _ if missing => short.take(Deadline::NEVER),
                _ => nap.take(until),
            };
            if waited == pidfd::PollOutcome::Interrupted {
                if let Some(recorded) = recorded {
                    recorded.interrupted(now());
                }
                return ExitOutcome::Interrupted;
            }
        }
    }

    /// Records the wait in this process's seat, for observers, unless that is done.
    fn record_wait(&self, recorded: &mut Option<Recorded>, deadline: Deadline) {
        let Some(family) = self.family() else { return };
        if let Some(recorded) = recorded {
            return family.record_again(recorded, deadline);
        }
        *recorded = Some(family.record_wait(self.reason(), now(), deadline));
    }

    /// The family in whose memory a wait for this process is recorded.
    fn family(&self) -> Option<&'static Family> {
        self.seat.map(|seat| seat.family).or_else(Family::home_if_any)
    }

    fn reason(&self) -> Reason {
        Reason {
            seen: self.seat.map_or(0, |seat| seat.number()),
            detail: self.pid.into(),
            ..Reason::without_object(What::Join)
        }
    }

    /// Records that a task of this thread's event loop waits for the end of the process: see [`crate::family::loop_waits`].
    #[must_use]
    pub fn wait_in_loop(&self) -> Option<LoopWait> {
        LoopWait::begin(self.family()?, self.reason(), Deadline::NEVER)
    }

    /// Sends a signal to the process. Does nothing if the process has ended.
    ///
    /// # Errors
    /// `EPERM` (the process has changed its user), `EINVAL` (no such signal).
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

    /// Closes the descriptors as soon as no other thread uses them. The exit code stays.
    pub fn close(&self) {
        self.pidfd.close();
        self.sentinel.close();
    }

    /// The pidfd of a process whose exit code is not known here. None: the code is known, or there is no pidfd.
    pub(super) fn running_pidfd(&self) -> Option<InUse<'_>> {
        self.pidfd.get().filter(|_| self.known().is_none())
    }

    /// Sends a signal by pid, if the pid still belongs to the process: it is this process's child and was not waited
    /// for, or it has the start time.
    fn kill(&self, signal: i32) -> io::Result<()> {
        match procfs::liveness(self.pid, self.known_start_time()) {
            Liveness::Gone => Ok(()),
            _ => pidfd::kill(self.pid, signal),
        }
    }

    /// Opens the pidfd. For a process that is not this process's child, checks that it is the one that was started.
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
        (word & CODE_KNOWN != 0).then_some(word as u32 as i32)
    }

    /// What is known now: like [`Child::poll`], but never waits. If an exit code stays missing, this function decides it
    /// after [`EXIT_CODE_GRACE`].
    #[must_use]
    pub fn status(&self) -> ChildStatus {
        match self.known() {
            Some(code) => ChildStatus::Ended(code),
            None if self.is_own_child() => self.status_of_own(),
            None => self.status_of_others(),
        }
    }

    /// Steps 1 to 4 of the module documentation.
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
            // This kernel does not know this kind of id, or the program has closed the descriptor meanwhile.
            which = Which::Pid(self.pid);
            seen = pidfd::peek(which);
        }
        match seen {
            Ok(None) => ChildStatus::Running,
            Ok(Some(code)) if matches!(which, Which::Pidfd(_)) || self.pid_is_still_its() => {
                if self.settle(code) {
                    // Only one thread gets here: the others have lost the compare-and-swap.
                    let _ = pidfd::reap(which);
                }
                ChildStatus::Ended(self.known().unwrap_or(code))
            }
            // Other code has waited for it, perhaps another thread just now.
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
            // Without a seat there is no place where the code could still appear.
            None if self.is_mine() && (!self.is_seated() || self.grace_is_over()) => {
                ChildStatus::Ended(self.give_up())
            }
            None => ChildStatus::CodeMissing,
        }
    }

    fn has_ended(&self) -> bool {
        let by_pidfd = self.pidfd.get().and_then(|fd| pidfd::ended(&fd).ok());
        by_pidfd.unwrap_or_else(|| procfs::liveness(self.pid, self.known_start_time()) != Liveness::Alive)
    }

    /// The exit code from the pidfd of a process that was waited for elsewhere; None before Linux 6.15.
    fn told_by_pidfd(&self) -> Option<i32> {
        self.pidfd
            .get()
            .and_then(|fd| pidfd::exit_code_after_reaping(&fd))
    }

    /// Records the exit code here and then in the seat. Returns true for the first thread that does.
    fn settle(&self, code: i32) -> bool {
        let word = CODE_KNOWN | u64::from(code as u32);
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

    /// Decides the exit code of a process that is gone, when no source can tell it any more.
    fn give_up(&self) -> i32 {
        match self.seat.and_then(|seat| seat.exit_code()) {
            Some(code) => {
                self.settle(code);
            }
            None => {
                let word = CODE_KNOWN | UNKNOWN as u64;
                let first = self
                    .exit
                    .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
                if let Some(seat) = self.seat.filter(|_| first) {
                    // The made-up code is not written to the registry, but what the process held is taken back.
                    seat.family.reap(seat);
                }
            }
        }
        self.known().unwrap_or(UNKNOWN)
    }

    /// The code that the server recorded. An announced code does not count while the real one may still come.
    fn recorded(&self) -> Option<i32> {
        let seat = self.seat?;
        let code = seat.slot().exit();
        code.filter(|_| seat.valid())
    }

    fn is_seated(&self) -> bool {
        self.seat.is_some_and(|seat| seat.valid())
    }

    /// The status that `/proc` shows until the parent has waited for the process. The start time proves that it
    /// belongs to *this* process; without one the pidfd does, checked afterwards: until the parent waits, the pid
    /// stays taken.
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

    /// Returns whether the zombie with this pid is this process, if there is no pidfd to prove it.
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

    fn grace_is_over(&self) -> bool {
        let time = now();
        let since = match self
            .missing_since
            .compare_exchange(0, time, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => time,
            Err(since) => since,
        };
        Duration::from_nanos(time.saturating_sub(since)) > EXIT_CODE_GRACE
    }
}

/// Sleeps that grow from 1 ms to 50 ms; for an exit code that is about to be recorded they begin at a tenth of that.
struct Nap(Duration);

impl Nap {
    fn new() -> Nap {
        Nap(Duration::from_millis(1))
    }

    /// For a wait that takes about as long as the fork server needs to wake up.
    fn short() -> Nap {
        Nap(Duration::from_micros(100))
    }

    fn take(&mut self, deadline: Deadline) -> pidfd::PollOutcome {
        let length = self.0;
        self.0 = (length * 2).min(Duration::from_millis(50));
        // Only bad arguments make it fail, and there are none.
        pidfd::ready(&mut [], deadline.sooner(Deadline::after(length)))
            .unwrap_or(pidfd::PollOutcome::TimedOut)
    }
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}
