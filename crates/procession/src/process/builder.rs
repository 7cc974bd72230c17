//! The options for starting a process, and starting it.

use super::capture::Captured;
use super::child::{self, Settings, Start};
use super::environment::{Environment, c_string};
use super::settings::{Group, Limit, Own, Resource, refused};
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
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
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
///
/// The default is `Inherit`. In a test binary with [`init_before_main!`](crate::init_before_main), standard output and
/// error are `Captured`, unless the test harness is told not to capture (`--nocapture`, `RUST_TEST_NOCAPTURE`; nextest
/// does so, too, and captures by other means).
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The same as this process's.
    Inherit,
    /// `/dev/null`.
    Null,
    /// This file, pipe or socket.
    Fd(OwnedFd),
    /// For standard output and error: a file in memory, whose contents the thread that joins the process prints by
    /// `print!` after the end of the process; or the thread that drops the handle, with what was written until then. So
    /// a test harness shows it as output of the test. If both are captured, their order is kept.
    ///
    /// What descendants of the process write after that is lost. The worker of a pool is joined when it has ended, so
    /// its output is printed by the end of the pool.
    Captured,
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
    arguments: Option<Vec<OsString>>,
    environment: Environment,
    own: Own,
    stdio: [Option<Stdio>; 3],
    daemon: bool,
    kill_on_drop: bool,
}

/// The options of a builder, checked and with open descriptors.
pub(crate) struct Plan {
    pub(crate) name: String,
    /// The arguments after the program's name; None: those of this process.
    pub(crate) arguments: Option<Vec<OsString>>,
    pub(crate) environment: Environment,
    pub(crate) own: Own,
    /// The descriptors for the standard streams.
    pub(crate) descriptors: Vec<OwnedFd>,
    stdio: [Option<u32>; 3],
    pub(super) captured: Option<Captured>,
    pub(crate) bound: bool,
    pub(crate) kill_on_drop: bool,
}

impl Plan {
    /// Returns the indices of the standard streams' descriptors, if `before` other descriptors are passed before them.
    pub(crate) fn stdio_places(&self, before: u32) -> [Option<u32>; 3] {
        self.stdio.map(|place| place.map(|place| before + place))
    }

    fn set_stream(&mut self, place: usize, fd: OwnedFd) {
        self.stdio[place] = Some(self.descriptors.len() as u32);
        self.descriptors.push(fd);
    }

    /// Passes a standard stream of this process on, if the fork server has another one.
    fn pass_own_streams(&mut self) -> io::Result<()> {
        let streams = forkserver::streams_that_differ();
        for (place, stream) in streams.into_iter().enumerate() {
            if let Some(stream) = stream
                && self.stdio[place].is_none()
            {
                self.set_stream(place, stream?);
            }
        }
        Ok(())
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

    /// Adds one argument to those that `std::env::args` shows in the process, after the program's name. Without this
    /// call and [`args`](Builder::args) the process has the arguments of this process.
    ///
    /// Only [`StartMethod::Spawn`] can set them. With the other methods, the process is a copy of one that has its
    /// arguments already: starting it is then [`StartError::Option`].
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let all = self.arguments.get_or_insert_default();
        all.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments as [`arg`](Builder::arg) does. An empty list stands for no arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let all = self.arguments.get_or_insert_default();
        all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the process's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.set(name.as_ref(), value.as_ref());
        self
    }

    /// Sets variables of the process's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        for (name, value) in variables {
            self.environment.set(name.as_ref(), value.as_ref());
        }
        self
    }

    /// Removes a variable from the process's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.remove(name.as_ref());
        self
    }

    /// Removes all variables from the process's environment, also those that were set before this call.
    pub fn env_clear(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// Sets the working folder of the process. A relative path begins at the working folder of this process.
    ///
    /// This and the options below are applied by the process itself, in [`init`](crate::init): code that runs before it
    /// sees what the process has inherited. They are checked when the process is started: a bad value is
    /// [`StartError::Option`], which names option and value. If the system refuses a value to the process itself, its
    /// end is a [`ProcessError::NotRun`](crate::ProcessError::NotRun) that names both.
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.own.folder = Some(folder.as_ref().into());
        self
    }

    /// Sets a limit of the process: setrlimit(2). None stands for no limit.
    ///
    /// The process keeps what it has beyond a limit: its family memory, its open descriptors. Raising a hard limit
    /// needs `CAP_SYS_RESOURCE`.
    ///
    /// ```
    /// use procession::{Process, Resource};
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let child = Process::builder()
    ///         .rlimit(Resource::CoreFile, Some(0), Some(0))
    ///         .rlimit(Resource::OpenFiles, Some(64), Some(64))
    ///         .nice(10)
    ///         .spawn(|()| (0..100).map_while(|_| std::fs::File::open("/dev/null").ok()).collect::<Vec<_>>().len(), ())?;
    ///     assert!(child.join()? < 64); // all were open at the same time
    ///     Ok(())
    /// }
    /// ```
    pub fn rlimit(mut self, resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Self {
        self.own.limits.push(Limit { resource, soft, hard });
        self
    }

    /// Sets the user of the process, for which this process needs `CAP_SETUID`. The user's supplementary groups are not
    /// looked up: without [`groups`](Builder::groups) the process has none.
    ///
    /// The process is a member of the family under any user: it reads and writes everything that is shared. For its own
    /// children, the program's file must be one that the user may execute.
    pub fn uid(mut self, uid: u32) -> Self {
        self.own.user = Some(uid);
        self
    }

    /// Sets the group of the process, for which this process needs `CAP_SETGID`.
    pub fn gid(mut self, gid: u32) -> Self {
        self.own.group_id = Some(gid);
        self
    }

    /// Sets the supplementary groups of the process, for which this process needs `CAP_SETGID`.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.own.groups = Some(groups.into_iter().collect());
        self
    }

    /// Sets the CPUs on which the process may run; the first is 0.
    pub fn affinity(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.own.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Sets the process's nice value, from -20 (most CPU time) to 19 (least). A value below that of this process needs
    /// `CAP_SYS_NICE`, or a limit that allows it (`RLIMIT_NICE`).
    pub fn nice(mut self, nice: i32) -> Self {
        self.own.nice = Some(nice);
        self
    }

    /// Moves the process into the process group with this number; 0 stands for a group of its own. Ctrl-C in the
    /// terminal reaches only the group in the foreground, so it does not reach a process in a group of its own.
    /// (Such a process still ends with this one if it is a [`daemon`](Builder::daemon).)
    pub fn process_group(mut self, group: u32) -> Self {
        self.own.process_group = Some(Group::Of(group));
        self
    }

    /// Moves the process into a session of its own, without a terminal: setsid(2). It replaces
    /// [`process_group`](Builder::process_group).
    pub fn new_session(mut self) -> Self {
        self.own.process_group = Some(Group::NewSession);
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

    /// Sets whether dropping the [`Process`] kills the process (SIGKILL), if it is running. The drop does not wait for
    /// the end. A handle is also dropped when a panic or an early return ends its scope, so with this option such a
    /// process does not stay behind. If this process itself is killed, nothing is dropped: see
    /// [`daemon`](Builder::daemon).
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
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
        super::forgotten::look_after_all();
        let method = self.method;
        let mut plan = self.plan(method == StartMethod::Spawn)?;
        if method == StartMethod::ForkServer {
            plan.pass_own_streams()?;
        }
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
            own: plan.own.clone(),
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
                let arguments = plan.arguments.as_deref();
                let pid = start_program(seated.seat, startup::CHILD, arguments, &plan.environment, &fds)?;
                Child::new(pid, Some(seated.seat), true)
            }
            StartMethod::ForkServer => forkserver::request(seated.seat, &fds)?,
        };
        let seat = seated.occupied_by(child.pid());
        Ok(Process::new(child, Some(seat), plan))
    }

    /// Returns a builder with the same options. Descriptors are duplicated.
    pub(crate) fn try_clone(&self) -> io::Result<Builder> {
        let mut stdio = [None, None, None];
        for (place, own) in stdio.iter_mut().zip(&self.stdio) {
            *place = match own {
                None => None,
                Some(Stdio::Inherit) => Some(Stdio::Inherit),
                Some(Stdio::Null) => Some(Stdio::Null),
                Some(Stdio::Captured) => Some(Stdio::Captured),
                Some(Stdio::Fd(fd)) => Some(Stdio::Fd(fd.try_clone()?)),
            };
        }
        Ok(Builder {
            name: self.name.clone(),
            method: self.method,
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            own: self.own.clone(),
            stdio,
            daemon: self.daemon,
            kill_on_drop: self.kill_on_drop,
        })
    }

    /// Returns the CPUs on which the process may run, in order.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        self.own.cpus.clone().unwrap_or_else(super::settings::own_cpus)
    }

    /// Checks the values of the options.
    ///
    /// # Errors
    /// [`StartError::Option`] names the option and the value.
    pub(crate) fn check(&mut self) -> Result<(), StartError> {
        self.environment.check()?;
        self.own.check()?;
        if matches!(self.stdio[0], Some(Stdio::Captured)) {
            return Err(refused("stdin", "only output can be captured"));
        }
        let mut arguments = self.arguments.iter().flatten();
        match arguments.find(|argument| argument.as_bytes().contains(&0)) {
            Some(bad) => {
                let bad = bad.to_string_lossy();
                Err(refused("args", format!("{bad:?} has a null byte in it")))
            }
            None => Ok(()),
        }
    }

    /// Checks the options. `executes`: whether the process begins with a program of its own.
    pub(crate) fn plan(mut self, executes: bool) -> Result<Plan, StartError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.check()?;
        if self.arguments.is_some() && !executes {
            return Err(refused(
                "args",
                "only a process that is started by StartMethod::Spawn can have other arguments than this one: the \
                 others are copies of a process that has its arguments already",
            ));
        }
        let mut plan = Plan {
            name: self
                .name
                .unwrap_or_else(|| format!("process-{}", COUNT.fetch_add(1, Ordering::Relaxed))),
            arguments: self.arguments,
            environment: self.environment,
            own: self.own,
            descriptors: Vec::new(),
            stdio: [None; 3],
            captured: None,
            bound: self.daemon || child::is_bound(),
            kill_on_drop: self.kill_on_drop,
        };
        for (place, stdio) in self.stdio.into_iter().enumerate() {
            let fd = match stdio {
                Some(Stdio::Fd(fd)) => fd,
                Some(Stdio::Null) => null()?.into(),
                Some(Stdio::Captured) => captured(&mut plan.captured)?,
                // Without a free descriptor the output goes where that of this process goes.
                None if place > 0 && startup::output_is_captured() => match captured(&mut plan.captured) {
                    Ok(fd) => fd,
                    Err(_) => continue,
                },
                None | Some(Stdio::Inherit) => continue,
            };
            plan.set_stream(place, fd);
        }
        Ok(plan)
    }
}

/// Returns a descriptor of the file for the output, which is created at the first call.
fn captured(file: &mut Option<Captured>) -> io::Result<OwnedFd> {
    let file = match file {
        Some(file) => file,
        None => file.insert(Captured::new()?),
    };
    file.descriptor()
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
        self.seat.load(message).map_err(FamilyError)
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
/// `arguments` are those after the program's name; None: those of this process.
pub(crate) fn start_program(
    seat: Seat,
    what: &str,
    arguments: Option<&[OsString]>,
    environment: &Environment,
    fds: &[BorrowedFd<'_>],
) -> Result<u32, StartError> {
    let mut own = std::env::args_os();
    let own_name = own.next().unwrap_or_default();
    let mut name = OsString::from(format!("{what}{}.{}:", seat.slot, seat.generation));
    name.push(own_name);
    let arguments = arguments.map_or_else(|| own.collect(), <[OsString]>::to_vec);
    let arguments = std::iter::once(name).chain(arguments).map(c_string);
    let arguments = arguments.collect::<io::Result<Vec<_>>>()?;
    start_executable(c"/proc/self/exe", &arguments, environment, seat, fds)
}

/// Starts a program for a seat.
pub(crate) fn start_executable(
    executable: &std::ffi::CStr,
    arguments: &[CString],
    environment: &Environment,
    seat: Seat,
    fds: &[BorrowedFd<'_>],
) -> Result<u32, StartError> {
    let lines = environment.lines()?;
    let number = seat.family.checked_fd().map_err(FamilyError)?;
    let all: Vec<BorrowedFd<'_>> = std::iter::once(number).chain(fds.iter().copied()).collect();
    spawn::spawn(executable, arguments, &lines, &all).map_err(|e| {
        // The text names the program. A limit keeps its number, which tells what to do.
        match e.source.raw_os_error().and_then(advice_for_a_start) {
            Some(_) => StartError::System(e.source),
            None => StartError::System(io::Error::new(e.source.kind(), e.to_string())),
        }
    })
}
