//! How a process is to be started.

use super::child::{self, Settings, Start};
use super::{Process, forkserver};
use crate::code::Named;
use crate::error::{FamilyError, StartError};
use crate::message::{self, Message};
use crate::startup;
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

/// How a child's process comes to be. Forking this process is a third way, which is not safe: [`Builder::fork`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// As a new instance of this program: nothing of this process's is there but what it is given.
    #[default]
    Spawn,
    /// As a copy of the fork server: an instance of this program that was started when the first such child was asked
    /// for, came no further than [`init`](crate::init), and so has one thread and next to no memory. The same as
    /// `Spawn` to the child, and several times faster.
    ForkServer,
}

/// Where a child's standard input, output or error goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// Where this process's goes.
    Inherit,
    /// Nowhere.
    Null,
    /// To this file, pipe or socket.
    Fd(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Stdio {
        Stdio::Fd(fd.into())
    }
}

/// How a process is to be started: made by [`Process::builder`](super::Process::builder).
#[derive(Debug, Default)]
#[must_use = "nothing is started before spawn or fork is called"]
pub struct Builder {
    name: Option<String>,
    method: StartMethod,
    environment: Vec<(OsString, Option<OsString>)>,
    stdio: [Option<Stdio>; 3],
    daemon: bool,
}

/// What the builder came to.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// For the standard streams.
    pub(crate) descriptors: Vec<OwnedFd>,
    stdio: [Option<u32>; 3],
    pub(crate) bound: bool,
}

impl Plan {
    /// The places of the standard streams' descriptors, where so many others are passed before them.
    pub(crate) fn stdio_places(&self, before: u32) -> [Option<u32>; 3] {
        self.stdio.map(|place| place.map(|place| before + place))
    }
}

impl Builder {
    /// The process's name, in errors and for whoever looks in from outside. Otherwise it is numbered.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How it is started.
    pub fn method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes a variable from its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Where its standard input comes from.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Where its standard output goes.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Where its standard error goes.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Whether it is not to outlive this process: it is killed when this one ends, in whatever way. So are the processes
    /// that it starts.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Starts a process that runs `function` with `arguments`.
    ///
    /// The function is a plain one, or a closure that captures nothing: what it needs comes as arguments, of which a
    /// tuple makes several. They are sent as a message is, so handles of shared objects may be among them.
    ///
    /// # Errors
    /// [`StartError`] says what: there is then no process.
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
        let function = Named::of(function).ok_or(StartError::Function("it is not code of this program"))?;
        let family = Family::home().map_err(FamilyError::from)?;
        let mut bytes = Vec::new();
        let carried = message::serialized(family, &arguments, &mut bytes)?;
        drop(arguments);
        let by_server = method == StartMethod::ForkServer;
        let mut settings = Settings {
            interrupt_blocked: fork::interrupt_is_blocked(),
            // The fork server's clients pass the way to it before anything else.
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
        seated.load(&child::written(&start, &bytes)?, carried)?;
        let child = match method {
            StartMethod::Spawn => {
                let pid = start_program(seated.seat, startup::CHILD, &plan.environment, &fds)?;
                Child::new(pid, Some(seated.seat), true)
            }
            StartMethod::ForkServer => forkserver::request(seated.seat, &fds)?,
        };
        let seat = seated.occupied_by(child.pid());
        Ok(Process::of(child, Some(seat), plan.name))
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
                    "no name or value of an environment variable",
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

/// A seat for a process that is about to start, which is given up again if it does not.
pub(crate) struct Seated {
    pub(crate) seat: Seat,
    occupied: bool,
}

impl Seated {
    pub(crate) fn reserve(family: &'static Family, name: &str) -> Result<Seated, FamilyError> {
        Ok(Seated {
            seat: Seat::reserve(family, name)?,
            occupied: false,
        })
    }

    /// Puts a message into the seat, and what it refers to.
    pub(crate) fn load(&self, message: &[u8], carried: Vec<Hold>) -> Result<(), FamilyError> {
        self.seat.carry_all(carried)?;
        Ok(self.seat.load(message)?)
    }

    /// There is a process for it.
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

/// Starts a new instance of this program for a seat, which finds `fds` behind the family memory.
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
    let number = seat.family.checked_fd().map_err(FamilyError::from)?;
    let all: Vec<BorrowedFd<'_>> = std::iter::once(number).chain(fds.iter().copied()).collect();
    spawn::spawn(executable, arguments, &environment, &all)
        .map_err(|e| StartError::System(io::Error::new(e.source.kind(), e.to_string())))
}

pub(crate) fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a null byte in an argument"))
}

/// This process's environment, changed.
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
