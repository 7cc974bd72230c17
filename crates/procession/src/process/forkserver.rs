//! The fork server: an instance of this program that stops in `init` and forks on request.
//!
//! The protocol between the server and its clients is the core's (`procession_core::process::forkserver`). A process starts a
//! server when it first needs one. A child that was forked by a server uses the same server. The server ends when its last
//! client has ended in any way. A process replaces its server if the server has died, and if the process's environment, working
//! folder, user or group has changed since the server started: a fork would differ from a new instance. A child with
//! limits, CPUs or a user of its own ([`super::settings`]) does not use the server of its parent.

use super::builder::{Seated, start_program};
use super::child;
use super::environment::Environment;
use super::fork::fork_alone;
use crate::error::{FamilyError, ForkServerError, StartError};
use crate::startup::{self, Inherited};
use procession_core::family::{Family, Seat};
use procession_core::process::{Child, ForkError, ForkServer, Next, SpareOrder, control_pair, request_fork};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many children the server keeps forked in advance.
const SPARES: usize = 2;

/// The fork server that this process uses.
struct Server {
    control: OwnedFd,
    /// The pid of the process that wrote this value: a forked child has a copy of it.
    user: u32,
    /// The server's process, if this process has started it.
    process: Option<Child>,
    fingerprint: Fingerprint,
    /// The files of its standard streams: device and inode.
    streams: [Option<(u64, u64)>; 3],
}

/// The properties of a process that a server and its children inherit: two that are equal fork equal children.
#[derive(PartialEq, Eq)]
struct Fingerprint {
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    user: (u32, u32),
}

impl Fingerprint {
    fn of_this_process() -> Fingerprint {
        Fingerprint {
            environment: std::env::vars_os().collect(),
            folder: std::env::current_dir().ok(),
            user: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        }
    }
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

fn server() -> MutexGuard<'static, Option<Server>> {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the server to fork a child for a seat. The child finds the control socket, and behind it `fds`.
pub(super) fn request(seat: Seat, fds: &[BorrowedFd<'_>]) -> Result<Child, StartError> {
    let mut place = server();
    let usable = place.as_mut().is_some_and(Server::is_usable);
    if !usable {
        *place = Some(Server::start()?);
    }
    let mut asked = ask(place.as_ref(), seat, fds);
    if usable && matches!(asked, Err(ForkError::ServerGone)) {
        *place = Some(Server::start()?);
        asked = ask(place.as_ref(), seat, fds);
    }
    let (pid, pidfd) = asked.map_err(ForkServerError)?;
    Ok(match pidfd {
        Some(pidfd) => Child::with_pidfd(pid, Some(seat), pidfd, false),
        None => Child::new(pid, Some(seat), false),
    })
}

fn ask(
    server: Option<&Server>,
    seat: Seat,
    fds: &[BorrowedFd<'_>],
) -> Result<(u32, Option<OwnedFd>), ForkError> {
    let Some(server) = server else {
        return Err(ForkError::ServerGone);
    };
    let control = server.control.as_fd();
    let all: Vec<BorrowedFd<'_>> = std::iter::once(control).chain(fds.iter().copied()).collect();
    request_fork(control, seat.slot, seat.generation, &all)
}

impl Server {
    fn start() -> Result<Server, StartError> {
        let family = Family::home().map_err(FamilyError)?;
        let seated = Seated::reserve(family, "forkserver")?;
        let (ours, theirs) = control_pair()?;
        let fingerprint = Fingerprint::of_this_process();
        let environment = Environment::default();
        let pid = start_program(
            seated.seat,
            startup::FORK_SERVER,
            None,
            &environment,
            &[theirs.as_fd()],
        )?;
        let process = Child::new(pid, Some(seated.seat), true);
        seated.occupied_by(pid);
        Ok(Server {
            control: ours,
            user: std::process::id(),
            process: Some(process),
            fingerprint,
            streams: own_streams(),
        })
    }

    fn is_usable(&mut self) -> bool {
        let ours = self.user == std::process::id();
        let lives = !ours
            || self
                .process
                .as_ref()
                .is_none_or(|process| process.poll().is_none());
        lives && self.fingerprint == Fingerprint::of_this_process()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server ends with its last client. It is waited for like other children without a handle.
        if let Some(process) = self.process.take()
            && self.user == std::process::id()
        {
            super::forgotten::forget(process);
        }
    }
}

/// Returns device and inode of this process's standard streams.
fn own_streams() -> [Option<(u64, u64)>; 3] {
    (0..3)
        .map(|place| own_stream(place).and_then(|fd| rustix::fs::fstat(fd).ok()))
        .map(|file| file.map(|file| (file.st_dev, file.st_ino)))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default()
}

fn own_stream(place: usize) -> Option<BorrowedFd<'static>> {
    match place {
        0 => Some(rustix::stdio::stdin()),
        1 => Some(rustix::stdio::stdout()),
        2 => Some(rustix::stdio::stderr()),
        _ => None,
    }
}

/// Returns copies of those of this process's standard streams that the fork server, and so its children, do not have.
pub(super) fn streams_that_differ() -> [Option<std::io::Result<OwnedFd>>; 3] {
    let place = server();
    let Some(server) = place.as_ref() else {
        return Default::default();
    };
    let own = own_streams();
    [0, 1, 2].map(|place| {
        if own[place].is_none() || own[place] == server.streams[place] {
            return None;
        }
        own_stream(place).map(|fd| fd.try_clone_to_owned())
    })
}

/// Notes the server's control socket, in a child of the server. Call it before the environment and the standard streams are
/// changed.
pub(super) fn inherit(control: OwnedFd) {
    *server() = Some(Server {
        control,
        user: std::process::id(),
        process: None,
        fingerprint: Fingerprint::of_this_process(),
        streams: own_streams(),
    });
}

/// Forgets the server of the parent, in a child that needs another one.
pub(super) fn do_without() {
    *server() = None;
}

/// Returns a lock to be held across a fork, so that the mutex is free in the child.
pub(super) fn hold_still() -> impl Sized {
    server()
}

// --- the server ---

/// Runs the life of the fork server.
pub(crate) fn serve(memory: OwnedFd, mut inherited: Inherited, slot: u32, generation: u32) {
    let (Ok(_), Some(control)) = (Family::adopt(Some(memory), slot, generation), inherited.next()) else {
        std::process::exit(1)
    };
    let Ok(mut server) = ForkServer::new(control) else {
        std::process::exit(1)
    };
    server.keep_spares(SPARES);
    loop {
        match server.next_request() {
            Ok(Next::Interrupted) => {}
            Ok(Next::Closed) | Err(_) => child::end(0),
            Ok(Next::ForkSpare) => match fork_alone() {
                Ok(Some(pid)) => server.spare_forked(pid),
                Ok(None) => wait_as_spare(server),
                // The server tries again at the next request.
                Err(_) => {}
            },
            Ok(Next::Fork(request)) => match fork_alone() {
                Ok(Some(pid)) => server.forked(request, pid),
                Ok(None) => {
                    server.leave();
                    drop(request.reply);
                    become_child(request.slot, request.generation, request.fds)
                }
                Err(e) => server.refused(request, e.raw_os_error().unwrap_or(0), &e.to_string()),
            },
        }
    }
}

fn wait_as_spare(server: ForkServer) -> ! {
    if let Some(spare) = server.leave_as_spare() {
        loop {
            match spare.wait() {
                Ok(SpareOrder::Interrupted) => {}
                Ok(SpareOrder::Be {
                    slot,
                    generation,
                    fds,
                }) => become_child(slot, generation, fds),
                Ok(SpareOrder::End) | Err(_) => break,
            }
        }
    }
    procession_core::sys::fork::exit_at_once(0)
}

fn become_child(slot: u32, generation: u32, fds: Vec<OwnedFd>) -> ! {
    let code = match Family::adopt(None, slot, generation) {
        Ok((seat, refs)) => child::run(seat, &refs, |_| fds.into_iter().map(Some).collect()),
        Err(_) => 1,
    };
    child::end(code)
}
