//! Processes: starting one that runs a function, and learning how it ended.

mod builder;
mod capture;
pub(crate) mod child;
mod ended;
mod environment;
mod forgotten;
mod fork;
pub(crate) mod forkserver;
pub(crate) mod keeper;
mod scope;
mod settings;

pub use builder::{Builder, StartMethod, Stdio};
pub(crate) use builder::{Plan, Seated, start_executable};
pub(crate) use environment::c_string;
pub use scope::{Scope, ScopedProcess, scope};
pub use settings::Resource;

use crate::error::{ProcessError, StartError, Who};
use crate::message::Message;
use crate::outcome;
use crate::trace;
use procession_core::family::Seat;
use procession_core::process::{Child, ExitOutcome};
use procession_core::sys::clock::Deadline;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A process that runs a function of this program, which returns an `R`.
///
/// The process is held by a pidfd (`pidfd_open(2)`), so a signal never reaches another process that has got its pid.
///
/// Dropping this neither ends the process nor waits for it, as with the handle of a thread. (With
/// [`Builder::kill_on_drop`] it kills it. Python's `multiprocessing` joins its non-daemonic children at exit; this crate
/// does not.) A process that ends after its handle was dropped leaves no zombie: one thread of this crate waits for all
/// such processes. It starts with the first of them and ends with the last.
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
    /// None only while this is being dropped.
    child: Option<Child>,
    seat: Option<Seat>,
    name: Box<str>,
    creator: u32,
    /// Whether a Python interpreter runs in it.
    python: bool,
    kill_on_drop: bool,
    /// Its output, if this process prints that.
    captured: Option<Box<capture::Captured>>,
    kind: PhantomData<fn() -> R>,
}

/// How a process ended: with a status, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(i32);

impl ExitStatus {
    /// Returns whether the process ended with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.0 == 0
    }

    /// Returns the exit status; None if a signal killed the process.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        (self.0 >= 0).then_some(self.0)
    }

    /// Returns the signal that killed the process; None if it ended with a status.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        (self.0 < 0).then_some(-self.0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => f.write_str(&procession_core::sys::signal::name(signal)),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl Process<()> {
    /// Starts a process that calls `function` with `arguments`, with the default options. See [`Builder::spawn`].
    ///
    /// # Errors
    /// [`StartError`] gives the reason; there is then no process.
    pub fn spawn<A: Message, R: Message>(
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<Process<R>, StartError> {
        Builder::default().spawn(function, arguments)
    }

    /// Returns a builder for a process with other options than the defaults.
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
    pub(crate) fn new_python(child: Child, seat: Seat, plan: Plan) -> Self {
        let mut made = Process::new(child, Some(seat), plan);
        made.python = true;
        made
    }
}

impl<R: Message> Process<R> {
    pub(crate) fn new(child: Child, seat: Option<Seat>, plan: Plan) -> Self {
        trace::process_started(&plan.name, child.pid());
        Process {
            child: Some(child),
            seat,
            name: plan.name.into(),
            kill_on_drop: plan.kill_on_drop,
            captured: plan.captured.map(Box::new),
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

    /// Returns the process's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// Waits until the process has ended. Returns the value that its function returned.
    ///
    /// # Errors
    /// [`ProcessError`] says how the process ended without returning a value.
    pub fn join(self) -> Result<R, ProcessError> {
        self.wait_for_value()
    }

    /// Waits at most `limit` until the process has ended. Returns the value that its function returned.
    ///
    /// # Errors
    /// The handle itself: the process is still running.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<R, ProcessError>, Self> {
        match self.wait_until(Deadline::after(limit)) {
            Some(code) => Ok(self.result(code)),
            None => Err(self),
        }
    }

    /// Waits at most `limit` until the process has ended, and does not take the value. Returns None if it is still running.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> Option<ExitStatus> {
        self.wait_until(Deadline::after(limit)).map(ExitStatus)
    }

    /// Returns how the process ended; None if it is still running.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().poll().map(ExitStatus)
    }

    /// Returns whether the process is running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Sends SIGTERM, which asks the process to end. Does nothing if it has ended.
    ///
    /// # Errors
    /// The system refuses: the process now runs as another user.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Sends SIGKILL, which ends the process. Does nothing if it has ended.
    ///
    /// # Errors
    /// Those of [`terminate`](Process::terminate).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal. Does nothing if the process has ended.
    ///
    /// # Errors
    /// Those of [`terminate`](Process::terminate); there is no such signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.child().send_signal(signal)
    }

    /// Returns a descriptor that becomes readable when the process has ended, for event loops.
    ///
    /// # Errors
    /// The system refuses pidfds, or no descriptor is free.
    pub fn sentinel(&self) -> io::Result<BorrowedFd<'_>> {
        crate::startup::sentinel(self.child())
    }

    /// Waits until the process has ended. Returns its value, which it does not take away.
    fn wait_for_value(&self) -> Result<R, ProcessError> {
        let code = loop {
            if let Some(code) = self.wait_until(Deadline::NEVER) {
                break code;
            }
        };
        self.result(code)
    }

    fn wait_until(&self, deadline: Deadline) -> Option<i32> {
        loop {
            match self.child().wait(deadline) {
                ExitOutcome::Exited(code) => return Some(code),
                ExitOutcome::TimedOut => return None,
                ExitOutcome::Interrupted => {}
            }
        }
    }

    fn result(&self, code: i32) -> Result<R, ProcessError> {
        if let Some(captured) = &self.captured {
            captured.print();
        }
        let ended = self.ended(code);
        trace::process_ended(&self.name, self.pid(), &ended);
        ended
    }

    fn ended(&self, code: i32) -> Result<R, ProcessError> {
        let process = Who {
            name: self.name.to_string(),
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
            if self.kill_on_drop {
                let _ = child.send_signal(libc::SIGKILL);
            }
            forgotten::forget(child);
        }
        if let Some(captured) = &self.captured {
            // Where nothing captures it and the standard output is closed, `print!` panics.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| captured.print()));
        }
        if let Some(seat) = self.seat {
            seat.vacate();
            crate::transit::settle(); // the descriptors in the value
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
