//! Starting a function of a Python module.

use crate::error::{EncodeError, FamilyError, StartError};
use crate::process::{Builder, Process, Seated, Stdio, c_string, start_executable};
use crate::startup;
use crate::transit::Frame;
use crate::value::Value;
use procession_core::family::Family;
use procession_core::process::Child;
use procession_core::process::lifeline;
use procession_core::sys::{fork, spawn};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A function of a Python module, to be called in a new interpreter that is a member of this family.
///
/// The interpreter must be able to import the package `procession`, in this crate's version. [`init`](crate::init) is not
/// needed: the child is not an instance of this program.
///
/// ```no_run
/// # fn main() -> procession::Result<()> {
/// let answers = procession::Queue::<procession::Value>::new()?;
/// // def count(text, answers, *, word): answers.put(text.count(word))
/// let child = procession::python::Command::new("counting", "count")
///     .path("scripts")
///     .arg("to be or not to be")
///     .arg(&answers)
///     .keyword("word", "be")
///     .start()?;
/// assert_eq!(answers.get()?.as_i64(), Some(2));
/// child.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is started before start is called"]
pub struct Command {
    interpreter: OsString,
    module: String,
    function: String,
    arguments: Vec<Value>,
    keywords: Vec<(Value, Value)>,
    path: Vec<Value>,
    builder: Builder,
}

impl Command {
    /// Names the function and its module.
    pub fn new(module: impl Into<String>, function: impl Into<String>) -> Command {
        Command {
            interpreter: "python3".into(),
            module: module.into(),
            function: function.into(),
            arguments: Vec::new(),
            keywords: Vec::new(),
            path: Vec::new(),
            builder: Builder::default(),
        }
    }

    /// Sets the interpreter. The default is the first `python3` on the `PATH`.
    pub fn interpreter(mut self, file: impl AsRef<OsStr>) -> Self {
        self.interpreter = file.as_ref().to_owned();
        self
    }

    /// Adds a folder in which modules are looked for, before all other folders.
    pub fn path(mut self, folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref().to_string_lossy().into_owned();
        self.path.push(Value::Str(folder));
        self
    }

    /// Adds an argument. A shared object is passed as a reference to its handle.
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// Adds a keyword argument.
    pub fn keyword(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.keywords.push((Value::Str(name.into()), value.into()));
        self
    }

    /// Sets the process's name, which errors and Python show.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.builder = self.builder.name(name);
        self
    }

    /// Sets a variable of the process's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.builder = self.builder.env(name, value);
        self
    }

    /// Removes a variable from the process's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.builder = self.builder.env_remove(name);
        self
    }

    /// Removes all variables from the process's environment, also those that were set before this call.
    pub fn env_clear(mut self) -> Self {
        self.builder = self.builder.env_clear();
        self
    }

    /// Sets whether dropping the [`Process`] kills the process. See [`Builder::kill_on_drop`].
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.builder = self.builder.kill_on_drop(kill);
        self
    }

    /// Sets where the standard input comes from.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.builder = self.builder.stdin(stdio);
        self
    }

    /// Sets where the standard output goes.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.builder = self.builder.stdout(stdio);
        self
    }

    /// Sets where the standard error goes.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.builder = self.builder.stderr(stdio);
        self
    }

    /// Sets whether the process is killed when this one ends. See [`Builder::daemon`].
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.builder = self.builder.daemon(daemon);
        self
    }

    /// Starts the process. The value that the function returns is lost: let the function put it into a queue. An
    /// exception that the function does not catch is a [`ProcessError::Raised`](crate::ProcessError::Raised).
    ///
    /// # Errors
    /// There is no such interpreter; an argument is nested more than 6 deep; or one of the errors of [`Builder::spawn`].
    pub fn start(self) -> Result<Process, StartError> {
        let plan = self.builder.plan(true)?;
        let family = Family::home().map_err(FamilyError)?;
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        // Family memory is passed before all of them.
        let number = |place: usize| Value::Int(i64::from(spawn::FIRST) + 1 + place as i64);
        let mut lifeline = Value::None;
        if plan.bound {
            lifeline = number(fds.len());
            fds.push(lifeline::reader()?);
        }
        let streams = plan.stdio_places(fds.len() as u32);
        let streams = streams.map(|place| place.map_or(Value::None, |place| number(place as usize)));
        fds.extend(plan.descriptors.iter().map(AsFd::as_fd));
        let start = Value::Tuple(vec![
            Value::Str(plan.name.clone()),
            Value::Str(self.module),
            Value::Str(self.function),
            Value::Tuple(self.arguments),
            Value::Dict(self.keywords),
            Value::List(self.path),
            lifeline,
            Value::Tuple(streams.into()),
            Value::Bool(fork::interrupt_is_blocked()),
        ]);
        let frame = Frame::open();
        let message = start.to_bytes().map_err(EncodeError::new::<Command>)?;
        let seated = Seated::reserve(family, &plan.name)?;
        seated.load(&message, frame.take(family))?;
        let interpreter = find_interpreter(&self.interpreter)?;
        let seat = seated.seat;
        let code = format!(
            "from procession.rust import main; main(slot={}, generation={})",
            seat.slot, seat.generation
        );
        let arguments = [interpreter.clone().into(), "-c".into(), code.into()];
        let arguments = arguments
            .into_iter()
            .map(c_string)
            .collect::<io::Result<Vec<_>>>()?;
        let file = c_string(interpreter.into())?;
        let pid = start_executable(&file, &arguments, &plan.environment, seat, &fds)?;
        let child = Child::new(pid, Some(seat), true);
        let seat = seated.occupied_by(pid);
        Ok(Process::new_python(child, seat, plan))
    }
}

/// Returns the path of the interpreter: `file` itself if it has a slash in it, or else the first such file on the `PATH`.
fn find_interpreter(file: &OsStr) -> io::Result<PathBuf> {
    if file.as_bytes().contains(&b'/') {
        return Ok(file.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let places = std::env::split_paths(&path).map(|folder| folder.join(file));
    places
        .into_iter()
        .find(|place| startup::is_executable(place))
        .ok_or_else(|| {
            let what = format!("there is no {} on the PATH", file.to_string_lossy());
            io::Error::new(io::ErrorKind::NotFound, what)
        })
}
