//! Started processes and the fork server, for the facade's start methods.

use super::environment;
use super::member::Member;
use crate::descriptors::{borrow_open, take};
use crate::errors::system_text;
use procession_core::process::{
    self as core, Answer, ExitOutcome, ForkCall, ForkError, Next, Request, SpareOrder,
};
use procession_core::sys::clock::Deadline;
use procession_core::sys::fdpass::PassError;
use procession_core::sys::{cgroup, cpu, event, pidfd, procfs, spawn as system};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

/// Adds everything of this file to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Child>()?;
    module.add_class::<ForkServer>()?;
    module.add_function(wrap_pyfunction!(spawn, module)?)?;
    module.add_function(wrap_pyfunction!(spawn_held, module)?)?;
    module.add_function(wrap_pyfunction!(control_pair, module)?)?;
    module.add_function(wrap_pyfunction!(request_fork, module)?)?;
    module.add_function(wrap_pyfunction!(process_is_alive, module)?)?;
    module.add_function(wrap_pyfunction!(open_sentinel, module)?)?;
    module.add_function(wrap_pyfunction!(start_time, module)?)?;
    module.add_function(wrap_pyfunction!(oom_kills, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_count, module)?)
}

/// A started process, held by its pidfd, so that it is never mistaken for another process with the same pid.
#[pyclass(module = "procession._core", frozen)]
pub struct Child {
    child: core::Child,
    /// Keeps the seat taken while the exit code of its occupant can be asked for here.
    _member: Option<Py<Member>>,
}

#[pymethods]
impl Child {
    #[new]
    #[pyo3(signature = (pid, member, pidfd = -1, direct = true), text_signature = "(pid, member, pidfd=-1, direct=True)")]
    fn new(pid: u32, member: Option<Py<Member>>, pidfd: RawFd, direct: bool) -> PyResult<Child> {
        let seat = member.as_ref().map(|m| m.get().seat());
        let child = match pidfd {
            -1 => core::Child::new(pid, seat, direct),
            number => core::Child::with_pidfd(pid, seat, take(number)?, direct),
        };
        Ok(Child {
            child,
            _member: member,
        })
    }

    #[getter]
    fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// A descriptor that becomes readable when the process ends.
    #[getter]
    fn sentinel(&self) -> PyResult<RawFd> {
        self.child.sentinel().map_err(|e| no_sentinel(&e))
    }

    /// Returns the exit code (-N: killed by signal N); None while the process runs.
    fn poll(&self, py: Python<'_>) -> Option<i32> {
        py.detach(|| self.child.poll())
    }

    /// Returns those of the items whose Child may have ended, and those that have another object than a Child. One
    /// system call looks at all children.
    ///
    /// items: pairs of the item to return and its Child
    #[staticmethod]
    fn ended<'py>(
        py: Python<'py>,
        items: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> Vec<Bound<'py, PyAny>> {
        let children: Vec<Option<&Child>> = items
            .iter()
            .map(|(_, child)| child.cast::<Child>().ok().map(|child| child.get()))
            .collect();
        let known: Vec<&core::Child> = children.iter().flatten().map(|child| &child.child).collect();
        let mut answers = py.detach(|| core::may_have_ended(&known)).into_iter();
        let may_have_ended: Vec<bool> = children
            .iter()
            .map(|child| child.is_none() || answers.next().unwrap_or(true))
            .collect();
        items
            .into_iter()
            .zip(may_have_ended)
            .filter_map(|((item, _), ended)| ended.then_some(item))
            .collect()
    }

    /// Waits up to timeout seconds (None: without limit) for the end of the process. Returns the exit code; None if it still
    /// runs. Ctrl-C ends the wait.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after_seconds);
        loop {
            match py.detach(|| self.child.wait(deadline)) {
                ExitOutcome::Exited(code) => return Ok(Some(code)),
                ExitOutcome::TimedOut => return Ok(None),
                ExitOutcome::Interrupted => py.check_signals()?,
            }
        }
    }

    /// Sends a signal. Does nothing if the process has ended.
    fn send_signal(&self, signum: i32) -> PyResult<()> {
        self.child.send_signal(signum).map_err(|e| raised(&e))
    }

    /// Closes the descriptors. The exit code stays available if it is known.
    fn close(&self) {
        self.child.close();
    }

    fn __repr__(&self) -> String {
        format!("<procession._core.Child pid={}>", self.child.pid())
    }
}

/// posix_spawn: starts executable with args (from the program's name on) and this process's environment. Returns the pid.
/// The child has descriptors 0 to 2 as they are here, fds[i] as 3 + i (or as numbers[i]), and no other.
#[pyfunction]
#[pyo3(signature = (executable, args, fds, numbers = None))]
fn spawn(
    py: Python<'_>,
    executable: Text,
    args: Vec<Text>,
    fds: Vec<RawFd>,
    numbers: Option<Vec<RawFd>>,
) -> PyResult<u32> {
    Ok(start(py, &executable, args, &fds, numbers, false)?.0)
}

/// Starts a process as `spawn` does. Returns (pid, pidfd or -1). No signal handler of the program runs in between, so none
/// can wait for the process before its pidfd is opened.
#[pyfunction]
fn spawn_held(py: Python<'_>, executable: Text, args: Vec<Text>, fds: Vec<RawFd>) -> PyResult<(u32, RawFd)> {
    let (pid, pidfd) = start(py, &executable, args, &fds, None, true)?;
    Ok((pid, pidfd.map_or(-1, IntoRawFd::into_raw_fd)))
}

fn start(
    py: Python<'_>,
    executable: &Text,
    args: Vec<Text>,
    fds: &[RawFd],
    numbers: Option<Vec<RawFd>>,
    held: bool,
) -> PyResult<(u32, Option<OwnedFd>)> {
    let args: Vec<CString> = args.into_iter().map(|arg| arg.0).collect();
    let env = environment::copied(py)?;
    let fds = borrowed(fds)?;
    let numbers = numbers.unwrap_or_else(|| (system::FIRST..).take(fds.len()).collect());
    if numbers.len() != fds.len() || numbers.iter().any(|number| *number < 0) {
        return Err(PyValueError::new_err("a number for each descriptor is needed"));
    }
    let placed: Vec<_> = fds.into_iter().zip(numbers).collect();
    let started = py.detach(|| {
        let pid = system::spawn_at(&executable.0, &args, &env, &placed)?;
        Ok((pid, if held { pidfd::open(pid).ok() } else { None }))
    });
    started.map_err(|e: system::SpawnError| match e.source.raw_os_error() {
        Some(errno) => {
            let name = OsString::from_vec(e.executable.into_bytes());
            PyOSError::new_err((errno, system_text(&e.source), name))
        }
        None => PyOSError::new_err(e.to_string()),
    })
}

/// Slot, generation, reply descriptor (-1: a spare is wanted), passed descriptors.
type Asked = (u32, u32, RawFd, Vec<RawFd>);

/// The fork server's side: a single-threaded loop in Rust around os.fork() in Python.
#[pyclass(module = "procession._core")]
pub struct ForkServer {
    server: Option<core::ForkServer>,
    /// The request between next() and its answer.
    request: Option<Request>,
}

#[pymethods]
impl ForkServer {
    #[new]
    fn new(control: RawFd) -> PyResult<ForkServer> {
        let server = core::ForkServer::new(take(control)?).map_err(|e| raised(&e))?;
        Ok(ForkServer {
            server: Some(server),
            request: None,
        })
    }

    /// Waits for a request, reaping children meanwhile (their exit codes go to the registry). Returns (slot,
    /// generation, reply descriptor, passed descriptors), or None once every client has gone. A reply descriptor of -1
    /// means that a spare is to be forked. Requests that a spare can take are not seen here.
    fn next(&mut self, py: Python<'_>) -> PyResult<Option<Asked>> {
        // A request that was not answered is dropped. Its client notices by the end of its socket.
        self.request = None;
        let server = self.server.as_mut().ok_or_else(left)?;
        loop {
            match py.detach(|| server.next_request()).map_err(|e| raised(&e))? {
                Next::Closed => return Ok(None),
                Next::ForkSpare => return Ok(Some((0, 0, -1, Vec::new()))),
                Next::Interrupted => py.check_signals()?,
                Next::Fork(request) => {
                    let fds = request.fds.iter().map(AsRawFd::as_raw_fd).collect();
                    let answer = (request.slot, request.generation, request.reply.as_raw_fd(), fds);
                    self.request = Some(request);
                    return Ok(Some(answer));
                }
            }
        }
    }

    /// Sets how many spares to keep.
    fn keep_spares(&mut self, count: usize) -> PyResult<()> {
        self.server.as_mut().ok_or_else(left)?.keep_spares(count);
        Ok(())
    }

    /// In the server: notes that a spare was forked.
    fn spare_forked(&mut self, pid: u32) -> PyResult<()> {
        self.server.as_mut().ok_or_else(left)?.spare_forked(pid);
        Ok(())
    }

    /// In the spare, as its first step: leaves the server and waits for its request. Returns (slot, generation, passed
    /// descriptors), or None if it is not needed any more.
    fn wait_as_spare(&mut self, py: Python<'_>) -> PyResult<Option<(u32, u32, Vec<RawFd>)>> {
        let Some(spare) = self.server.take().ok_or_else(left)?.leave_as_spare() else {
            return Ok(None);
        };
        loop {
            match py.detach(|| spare.wait()).map_err(|e| raised(&e))? {
                SpareOrder::End => return Ok(None),
                SpareOrder::Interrupted => py.check_signals()?,
                SpareOrder::Be {
                    slot,
                    generation,
                    fds,
                } => {
                    let fds = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
                    return Ok(Some((slot, generation, fds)));
                }
            }
        }
    }

    /// In the server, after fork: answers the client with the pid and a pidfd, and closes the request's descriptors.
    fn forked(&mut self, py: Python<'_>, pid: u32, slot: u32, generation: u32, reply: RawFd) -> PyResult<()> {
        let request = self.take_request(reply)?;
        if (request.slot, request.generation) != (slot, generation) {
            return Err(PyValueError::new_err(
                "this is not the seat of the request that is being served",
            ));
        }
        let server = self.server.as_mut().ok_or_else(left)?;
        py.detach(|| server.forked(request, pid));
        Ok(())
    }

    /// In the server: tells the client that fork failed, and why.
    #[pyo3(signature = (error, reply, errno = 0))]
    fn refused(&mut self, error: &str, reply: RawFd, errno: i32) -> PyResult<()> {
        let request = self.take_request(reply)?;
        self.server
            .as_mut()
            .ok_or_else(left)?
            .refused(request, errno, error);
        Ok(())
    }

    /// In the child, as its first step: undoes what the server set up for itself (signal handler, descriptors). The passed
    /// descriptors stay open, and the caller owns them.
    fn leave(&mut self) {
        if let Some(server) = self.server.take() {
            server.leave();
        }
        if let Some(request) = self.request.take() {
            for fd in request.fds {
                let _ = fd.into_raw_fd();
            }
        }
    }
}

impl ForkServer {
    fn take_request(&mut self, reply: RawFd) -> PyResult<Request> {
        let request = self.request.take_if(|request| request.reply.as_raw_fd() == reply);
        request.ok_or_else(|| {
            PyValueError::new_err("this is not the reply descriptor of the request being served")
        })
    }
}

fn left() -> PyErr {
    PyRuntimeError::new_err("this process has left the fork server")
}

/// Makes a pair of connected SOCK_SEQPACKET sockets, not inheritable. Returns the client's end and the server's end.
#[pyfunction]
fn control_pair() -> PyResult<(RawFd, RawFd)> {
    let (client, server) = core::control_pair().map_err(|e| raised(&e))?;
    Ok((client.into_raw_fd(), server.into_raw_fd()))
}

/// The client's side: asks the fork server for a child with this seat and these descriptors. Returns (pid, pidfd or -1).
/// Raises ConnectionError if the server has ended, and OSError with its error text if it could not fork.
#[pyfunction]
fn request_fork(
    py: Python<'_>,
    control: RawFd,
    slot: u32,
    generation: u32,
    fds: Vec<RawFd>,
) -> PyResult<(u32, RawFd)> {
    let fds = borrowed(&fds)?;
    let mut call =
        ForkCall::new(borrow_open(control, &control)?, slot, generation, &fds).map_err(|e| unanswered(&e))?;
    loop {
        match py
            .detach(|| call.wait(Deadline::NEVER))
            .map_err(|e| unanswered(&e))?
        {
            Answer::Forked { pid, pidfd } => return Ok((pid, pidfd.map_or(-1, IntoRawFd::into_raw_fd))),
            Answer::Interrupted | Answer::TimedOut => py.check_signals()?,
        }
    }
}

fn unanswered(error: &ForkError) -> PyErr {
    let errno = match error {
        // The two errors that Python turns into subclasses of ConnectionError.
        ForkError::ServerGone => libc::ECONNRESET,
        ForkError::Dropped => libc::ECONNABORTED,
        ForkError::Refused { errno, .. } if *errno != 0 => *errno,
        ForkError::Garbled => libc::EPROTO,
        ForkError::Pass(PassError::Os(e)) => e.raw_os_error().unwrap_or(libc::EIO),
        ForkError::Pass(PassError::TooMany(_)) => return PyValueError::new_err(error.to_string()),
        _ => libc::EIO,
    };
    os_error(errno, &error.to_string())
}

/// Returns whether the process with this pid and start time (0: any) is alive. A zombie is not.
#[pyfunction]
fn process_is_alive(pid: u32, start_time: u64) -> bool {
    procfs::is_alive(pid, start_time)
}

/// Opens a descriptor that becomes readable when the process with this pid and start time (0: any) ends. It is readable at
/// once if no process has the pid, or another one has it by now.
///
/// (`os.pidfd_open` is missing where Python was built against old headers.)
#[pyfunction]
fn open_sentinel(pid: u32, start_time: u64) -> PyResult<RawFd> {
    let opened = match pidfd::open(pid) {
        // Checked after the descriptor was opened, which from then on names the same process for ever.
        Ok(fd) if start_time == 0 || procfs::start_time(pid) == start_time => Ok(fd),
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
        _ => event::always_ready(),
    };
    Ok(opened.map_err(|e| no_sentinel(&e))?.into_raw_fd())
}

/// Returns the start time of a process in clock ticks since boot, which with the pid names it for ever; 0 if there is none.
#[pyfunction]
fn start_time(pid: u32) -> u64 {
    procfs::start_time(pid)
}

/// Returns how many CPUs this process can keep busy: the number in its affinity mask, or the quota of its control groups,
/// rounded up, if that is less.
#[pyfunction]
fn cpu_count() -> u32 {
    let quota = cgroup::cpu_quota().map_or(u32::MAX, |cpus| cpus.ceil() as u32);
    cpu::count().min(quota).max(1)
}

/// Returns how many processes of this process's control group were killed because memory ran out; None if the system does
/// not count them.
#[pyfunction]
fn oom_kills() -> Option<u64> {
    cgroup::oom_kills()
}

/// A str (encoded as os.fsencode does) or bytes, as a C string for the system.
struct Text(CString);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Text> {
        let bytes = match object.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec(),
            Err(_) => object.extract::<OsString>()?.into_vec(),
        };
        CString::new(bytes)
            .map(Text)
            .map_err(|_| PyValueError::new_err("embedded null byte"))
    }
}

/// Borrows the descriptors that the program lends to a call. Raises OSError (EBADF) if one is not open.
fn borrowed(numbers: &[RawFd]) -> PyResult<Vec<BorrowedFd<'_>>> {
    numbers
        .iter()
        .map(|number| borrow_open(*number, numbers))
        .collect()
}

fn no_sentinel(error: &io::Error) -> PyErr {
    match error.kind() {
        io::ErrorKind::Unsupported => os_error(
            libc::ENOSYS,
            "this system refuses pidfds (a sandbox's list of system calls, probably), so there is no sentinel to \
             wait for",
        ),
        _ => raised(error),
    }
}

pub(crate) fn raised(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => os_error(errno, &system_text(error)),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// Makes an OSError. Python chooses the subclass by the number.
fn os_error(errno: i32, message: &str) -> PyErr {
    PyOSError::new_err((errno, message.to_owned()))
}
