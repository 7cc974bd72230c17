//! The options for starting a process, and starting it.

use super::child::{self, Settings, Start};
use super::{Process, forkserver};
use crate::code::FunctionName;
use crate::error::{FamilyError, StartError};
use crate::message::{self, Message};
use crate::startup;
use procession_core::error::advice_for_a_start;
use procession_core::family::{Family, Hold, Seat};
use procession_core::process::Child;
use procession_core::process::lifeline;
use procession_core::sys::{fork, spawn};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU32, Ordering};

/// How a child comes into being. There is a third way, forking this process, which is unsafe: [`Builder::fork`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// Starts a new instance of this program. The child has nothing of this process except what it is given.
    #[default]
    Spawn,
    /// Forks the fork server. That is an instance of this program which is started with the first such child, and which
    /// stops in [`init`](crate::init), so it has one thread and little memory. The child is the same as with `Spawn`,
    /// and starts several times faster.
    ForkServer,
}

/// Where a child's standard input comes from, or its standard output or error goes to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The same as this process's.
    Inherit,
    /// `/dev/null`.
    Null,
    /// This file, pipe or socket.
    Fd(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Stdio {
        Stdio::Fd(fd.into())
    }
}

/// The options of a process: made by [`Process::builder`](super::Process::builder), which has an example.
#[derive(Debug, Default)]
#[must_use = "nothing is started before spawn or fork is called"]
pub struct Builder {
    name: Option<String>,
    method: StartMethod,
    environment: Vec<(OsString, Option<OsString>)>,
    stdio: [Option<Stdio>; 3],
    daemon: bool,
}

/// The options of a builder, checked and with open descriptors.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// The descriptors for the standard streams.
    pub(crate) descriptors: Vec<OwnedFd>,
    stdio: [Option<u32>; 3],
    pub(crate) bound: bool,
}

impl Plan {
    /// Returns the indices of the standard streams' descriptors, if `before` other descriptors are passed before them.
    pub(crate) fn stdio_places(&self, before: u32) -> [Option<u32>; 3] {
        self.stdio.map(|place| place.map(|place| before + place))
    }
}

impl Builder {
    /// Sets the process's name, which errors and inspection tools show. The default is `process-` and a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how the process is started. The default is [`StartMethod::Spawn`].
    pub fn method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// Sets a variable of the process's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes a variable from the process's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets where the standard input comes from.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Sets where the standard output goes.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Sets where the standard error goes.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Sets whether the process is killed when this one ends in any way. The same then holds for the processes that it
    /// starts.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Starts a process that calls `function` with `arguments`.
    ///
    /// The function is a plain function, or a closure that captures nothing. What it needs comes as an argument; a
    /// tuple stands for several. The arguments are sent as a message is, so handles of shared objects may be among
    /// them.
    ///
    /// # Errors
    /// [`StartError`] gives the reason; there is then no process.
    pub fn spawn<A: Message, R: Message>(
        self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<Process<R>, StartError> {
        if !startup::is_initialised() {
            return Err(StartError::NotInitialised);
        }
        super::look_after_forgotten();
        let method = self.method;
        let plan = self.plan()?;
        let function =
            FunctionName::new(function).ok_or(StartError::Function("it is not code of this program"))?;
        let family = Family::home().map_err(FamilyError)?;
        let mut bytes = Vec::new();
        let refs = message::serialized(family, &arguments, &mut bytes)?;
        drop(arguments);
        let by_server = method == StartMethod::ForkServer;
        let mut settings = Settings {
            interrupt_blocked: fork::interrupt_is_blocked(),
            // Clients of the fork server pass the control socket before all other descriptors.
            control: by_server.then_some(0),
            ..Settings::default()
        };
        let before = u32::from(by_server);
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        if plan.bound {
            settings.lifeline = Some(before);
            fds.push(lifeline::reader()?);
        }
        settings.stdio = plan.stdio_places(before + fds.len() as u32);
        fds.extend(plan.descriptors.iter().map(AsFd::as_fd));
        if by_server {
            settings.environment.clone_from(&plan.environment);
        }
        let start = Start {
            function,
            descriptors: fds.len() as u32,
            settings,
        };
        let seated = Seated::reserve(family, &plan.name)?;
        seated.load(&child::encode_start(&start, &bytes)?, refs)?;
        let child = match method {
            StartMethod::Spawn => {
                let pid = start_program(seated.seat, startup::CHILD, &plan.environment, &fds)?;
                Child::new(pid, Some(seated.seat), true)
            }
            StartMethod::ForkServer => forkserver::request(seated.seat, &fds)?,
        };
        let seat = seated.occupied_by(child.pid());
        Ok(Process::new(child, Some(seat), plan.name))
    }

    pub(crate) fn plan(self) -> Result<Plan, StartError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let mut plan = Plan {
            name: self
                .name
                .unwrap_or_else(|| format!("process-{}", COUNT.fetch_add(1, Ordering::Relaxed))),
            environment: self.environment,
            descriptors: Vec::new(),
            stdio: [None; 3],
            bound: self.daemon || child::is_bound(),
        };
        for (name, value) in &plan.environment {
            let bad = |bytes: &[u8]| bytes.contains(&0);
            let name = name.as_bytes();
            if name.is_empty()
                || bad(name)
                || name.contains(&b'=')
                || value.as_ref().is_some_and(|v| bad(v.as_bytes()))
            {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a variable of the environment has an empty name, or a null byte or = in it",
                )
                .into());
            }
        }
        for (place, stdio) in plan.stdio.iter_mut().zip(self.stdio) {
            let fd = match stdio {
                None | Some(Stdio::Inherit) => continue,
                Some(Stdio::Fd(fd)) => fd,
                Some(Stdio::Null) => null()?.into(),
            };
            *place = Some(plan.descriptors.len() as u32);
            plan.descriptors.push(fd);
        }
        Ok(plan)
    }
}

fn null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

/// A reserved seat for a process that is about to start. Dropping it gives the seat up, unless a process has it.
pub(crate) struct Seated {
    pub(crate) seat: Seat,
    occupied: bool,
}

impl Seated {
    pub(crate) fn reserve(family: &'static Family, name: &str) -> Result<Seated, FamilyError> {
        Ok(Seated {
            seat: Seat::reserve(family, name).map_err(FamilyError)?,
            occupied: false,
        })
    }

    /// Puts a message into the seat, and the references to the shared objects in it.
    pub(crate) fn load(&self, message: &[u8], refs: Vec<Hold>) -> Result<(), FamilyError> {
        self.seat.give_all(refs).map_err(FamilyError)?;
        Ok(self.seat.load(message).map_err(FamilyError)?)
    }

    /// Notes that process `pid` has the seat.
    pub(crate) fn occupied_by(mut self, pid: u32) -> Seat {
        self.occupied = true;
        self.seat.bind(pid);
        self.seat
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if !self.occupied {
            self.seat.vacate();
        }
    }
}

/// Starts a new instance of this program for a seat. It finds family memory, and after it `fds`, from descriptor 3 on.
pub(crate) fn start_program(
    seat: Seat,
    what: &str,
    changes: &[(OsString, Option<OsString>)],
    fds: &[BorrowedFd<'_>],
) -> Result<u32, StartError> {
    let mut arguments = std::env::args_os();
    let own_name = arguments.next().unwrap_or_default();
    let mut name = OsString::from(format!("{what}{}.{}:", seat.slot, seat.generation));
    name.push(own_name);
    let arguments = std::iter::once(name).chain(arguments).map(c_string);
    let arguments = arguments.collect::<io::Result<Vec<_>>>()?;
    start_executable(c"/proc/self/exe", &arguments, changes, seat, fds)
}

/// Starts a program for a seat.
pub(crate) fn start_executable(
    executable: &std::ffi::CStr,
    arguments: &[CString],
    changes: &[(OsString, Option<OsString>)],
    seat: Seat,
    fds: &[BorrowedFd<'_>],
) -> Result<u32, StartError> {
    let environment = environment(changes)?;
    let number = seat.family.checked_fd().map_err(FamilyError)?;
    let all: Vec<BorrowedFd<'_>> = std::iter::once(number).chain(fds.iter().copied()).collect();
    spawn::spawn(executable, arguments, &environment, &all).map_err(|e| {
        // The text names the program. A limit keeps its number, which tells what to do.
        match e.source.raw_os_error().and_then(advice_for_a_start) {
            Some(_) => StartError::System(e.source),
            None => StartError::System(io::Error::new(e.source.kind(), e.to_string())),
        }
    })
}

pub(crate) fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument has a null byte in it"))
}

/// Returns this process's environment with the changes.
fn environment(changes: &[(OsString, Option<OsString>)]) -> io::Result<Vec<CString>> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for (name, value) in changes {
        variables.retain(|(known, _)| known != name);
        variables.extend(value.clone().map(|value| (name.clone(), value)));
    }
    let lines = variables.into_iter().map(|(mut line, value)| {
        line.push("=");
        line.push(value);
        c_string(line)
    });
    lines.collect()
}
