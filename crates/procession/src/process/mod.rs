//! Processes: starting one that runs a function, and what became of it.

mod builder;
pub(crate) mod child;
mod fork;
pub(crate) mod forkserver;

pub use builder::{Builder, StartMethod, Stdio};
pub(crate) use builder::{Seated, c_string, start_executable};

use crate::error::{ProcessError, StartError, Who};
use crate::message::Message;
use crate::outcome;
use procession_core::family::Seat;
use procession_core::process::{Child, Waited};
use procession_core::sys::clock::Deadline;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A process that runs a function of this program, which returns an `R`.
///
/// It is held by its pidfd, so a signal never reaches another process that got its number. Dropping this neither ends
/// the process nor waits for it, as with a thread's handle.
///
/// ```
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let queue = procession::Queue::<String>::new()?;
///     let child = procession::Process::spawn(
///         |(queue, name): (procession::Queue<String>, String)| {
///             queue.put(&format!("hello from {name}")).unwrap();
///             name.len() as u64
///         },
///         (queue.clone(), "a child".into()),
///     )?;
///     assert_eq!(queue.get()?, "hello from a child");
///     assert_eq!(child.join()?, 7);
///     Ok(())
/// }
/// ```
pub struct Process<R: Message = ()> {
    /// None only while it is dropped.
    child: Option<Child>,
    seat: Option<Seat>,
    name: String,
    creator: u32,
    /// Whether a Python interpreter runs in it.
    python: bool,
    kind: PhantomData<fn() -> R>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(i32);

impl ExitStatus {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.0 == 0
    }

    /// The status, unless a signal ended it.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        (self.0 >= 0).then_some(self.0)
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        (self.0 < 0).then_some(-self.0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => f.write_str(&crate::error::signal_name(signal)),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl Process<()> {
    /// Starts a process that runs `function` with `arguments`, in the default way: see [`Builder::spawn`].
    ///
    /// # Errors
    /// [`StartError`] says what: there is then no process.
    pub fn spawn<A: Message, R: Message>(
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<Process<R>, StartError> {
        Builder::default().spawn(function, arguments)
    }

    /// A process to be started otherwise than by default.
    ///
    /// ```
    /// use procession::{Process, StartMethod, Stdio};
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let child = Process::builder()
    ///         .name("adder")
    ///         .method(StartMethod::ForkServer)
    ///         .env("MODE", "quiet")
    ///         .stdout(Stdio::Null)
    ///         .daemon(true)
    ///         .spawn(|(a, b): (u8, u8)| u32::from(a) + u32::from(b), (250, 250))?;
    ///     assert_eq!(child.join()?, 500);
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Process {
    pub(crate) fn of_python(child: Child, seat: Seat, name: String) -> Self {
        let mut made = Process::of(child, Some(seat), name);
        made.python = true;
        made
    }
}

impl<R: Message> Process<R> {
    pub(crate) fn of(child: Child, seat: Option<Seat>, name: String) -> Self {
        Process {
            child: Some(child),
            seat,
            name,
            creator: std::process::id(),
            python: false,
            kind: PhantomData,
        }
    }

    fn child(&self) -> &Child {
        match &self.child {
            Some(child) => child,
            None => unreachable!("only drop takes it"),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// Waits until it has ended; the value that its function returned.
    ///
    /// # Errors
    /// [`ProcessError`] says how it ended instead.
    pub fn join(self) -> Result<R, ProcessError> {
        let code = loop {
            if let Some(code) = self.wait_until(Deadline::NEVER) {
                break code;
            }
        };
        self.result(code)
    }

    /// The same, or the process again if it takes longer.
    ///
    /// # Errors
    /// The process itself, still running.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<R, ProcessError>, Self> {
        match self.wait_until(Deadline::after(limit)) {
            Some(code) => Ok(self.result(code)),
            None => Err(self),
        }
    }

    /// Waits until it has ended, and leaves the value where it is. None if it takes longer.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> Option<ExitStatus> {
        self.wait_until(Deadline::after(limit)).map(ExitStatus)
    }

    /// How it ended; None while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().poll().map(ExitStatus)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Asks it to end: SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    /// The system's: the process has become somebody else's.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Ends it: SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends it a signal. Nothing happens if it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Process::terminate); there is no such signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.child().send_signal(signal)
    }

    /// A descriptor that is readable once it has ended, for event loops.
    ///
    /// # Errors
    /// The system refuses pidfds, or no descriptor is free.
    pub fn sentinel(&self) -> io::Result<BorrowedFd<'_>> {
        crate::startup::borrowed(self.child().sentinel()?, self)
    }

    fn wait_until(&self, deadline: Deadline) -> Option<i32> {
        loop {
            match self.child().wait(deadline) {
                Waited::Exited(code) => return Some(code),
                Waited::TimedOut => return None,
                Waited::Interrupted => {}
            }
        }
    }

    fn result(self, code: i32) -> Result<R, ProcessError> {
        let process = Who {
            name: self.name.clone(),
            pid: self.pid(),
        };
        let report = self.seat.and_then(|seat| seat.report());
        if self.python {
            return outcome::result_of_python(process, code, report.as_deref());
        }
        let ran = self.seat.is_none_or(|seat| seat.was_taken());
        outcome::result(process, code, report.as_deref(), ran)
    }
}

impl<R: Message> Drop for Process<R> {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if self.creator != std::process::id() {
            return;
        }
        if child.poll().is_none() {
            forget(child);
        }
        if let Some(seat) = self.seat {
            seat.vacate();
        }
    }
}

impl<R: Message> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// Children whose handles were dropped while they ran: somebody has to wait for them.
static FORGOTTEN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Somebody else than its handle has to wait for this child.
pub(crate) fn forget(child: Child) {
    if let Ok(mut forgotten) = FORGOTTEN.lock() {
        forgotten.push(child);
    }
}

/// Lets those go that have ended. Before a process is started.
pub(crate) fn look_after_forgotten() {
    if let Ok(mut forgotten) = FORGOTTEN.try_lock() {
        forgotten.retain(|child| child.poll().is_none());
    }
}

/// Held across a fork, so that the child finds it free.
fn hold_forgotten() -> impl Sized {
    FORGOTTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a forked child: what is the parent's to look after.
fn forget_inherited() {
    if let Ok(mut forgotten) = FORGOTTEN.try_lock() {
        forgotten.clear();
    }
}
