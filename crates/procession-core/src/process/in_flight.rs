//! Descriptors in messages, as the sender and the receiver see them: see [`super::keeper`].

use super::keeper::{self, Answer, Request};
use crate::error::Error;
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Handle, Hold};
use crate::sys::clock::Deadline;
use crate::sys::fdpass::{self, PassError};
use crate::sys::pidfd::{self, PollOutcome};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::fmt;
use std::io;

/// For how long a client waits for a keeper that lives and does not answer, because it is stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a descriptor was not given to a keeper.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeepError {
    /// No keeper lives: start one and try again.
    NoKeeper,
    /// No keeper has a free descriptor: too many are in flight. A further keeper has room for some more.
    KeeperExhausted,
    /// An operation on family memory failed.
    Family(Error),
    /// A system call failed.
    Os(io::Error),
}

/// Why a descriptor was not fetched.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// This process has no free descriptors. The keeper still has this one: free some and try again.
    Exhausted(io::Error),
    /// The keeper was killed, and the descriptor was closed with it.
    Lost,
    /// What the message names is no ticket, or it does not exist any more.
    Family(Error),
    /// A system call failed.
    Os(io::Error),
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepError::NoKeeper => f.write_str("there is no process that keeps descriptors in flight"),
            KeepError::KeeperExhausted => f.write_str(
                "too many descriptors are in flight: receive some of them first, or raise the hard limit (`ulimit -Hn`)",
            ),
            KeepError::Family(e) => e.fmt(f),
            KeepError::Os(e) => write!(f, "a descriptor cannot be sent: {e}"),
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Exhausted(_) => f.write_str(
                "this process has no free file descriptors to receive the one in the message (see `ulimit -n`)",
            ),
            FetchError::Lost => {
                f.write_str("the descriptor in the message is lost: the process that kept it in flight was killed")
            }
            FetchError::Family(e) => e.fmt(f),
            FetchError::Os(e) => write!(f, "a descriptor cannot be received: {e}"),
        }
    }
}

impl std::error::Error for KeepError {}
impl std::error::Error for FetchError {}

impl From<Error> for KeepError {
    fn from(error: Error) -> KeepError {
        KeepError::Family(error)
    }
}

/// A ticket that this process holds: a name in family memory for a descriptor that a keeper has.
#[derive(Debug)]
pub struct Ticket(Hold);

/// Names a ticket whose descriptor was fetched, so that the keeper can be told to look at it again.
#[derive(Debug)]
pub struct Fetched {
    family: &'static Family,
    ticket: (u64, u32),
    keeper: u64,
}

impl Ticket {
    /// Gives a copy of a descriptor to a keeper of the family. The keeper has it until no process and no message refers to the
    /// ticket.
    ///
    /// # Errors
    /// [`KeepError`] says why the keeper has no copy.
    pub fn new(family: &'static Family, fd: BorrowedFd<'_>) -> Result<Ticket, KeepError> {
        // A keeper has the limits of the process that started it, so another one may have room.
        let mut refused = KeepError::NoKeeper;
        for keeper in keeper::keepers(family)? {
            let ticket = Ticket(family.buffer(&keeper.to_ne_bytes())?);
            crash_point!("ticket.made");
            match ticket.ask(Request::Keep, &[fd]) {
                Ok((Answer::Done, _)) => {
                    crash_point!("ticket.kept");
                    return Ok(ticket);
                }
                Ok((Answer::Exhausted, _)) => refused = KeepError::KeeperExhausted,
                // This keeper is just ending.
                Ok((Answer::Unknown, _)) | Err(AskError::Gone) => {}
                Err(AskError::Pass(e)) => return Err(KeepError::Os(e.into())),
            }
        }
        Err(refused)
    }

    /// Opens the ticket that a message names.
    ///
    /// # Errors
    /// [`FetchError::Family`].
    pub fn open(handle: &Handle) -> Result<Ticket, FetchError> {
        let hold = handle.open(Kind::Buffer).map_err(FetchError::Family)?;
        if hold.room() < 8 {
            let why = "it names no descriptor";
            return Err(FetchError::Family(Error::NotAHandle { why }));
        }
        Ok(Ticket(hold))
    }

    /// Fetches a copy of the descriptor. It is not inherited by `exec`.
    ///
    /// # Errors
    /// [`FetchError`] says why there is none.
    pub fn fetch(&self) -> Result<OwnedFd, FetchError> {
        match self.ask(Request::Fetch, &[]) {
            Ok((Answer::Done, fds)) => {
                crash_point!("ticket.fetched");
                fds.into_iter().next().ok_or(FetchError::Lost)
            }
            Ok(_) | Err(AskError::Gone) => Err(FetchError::Lost),
            Err(AskError::Pass(PassError::OutOfDescriptors { .. })) => {
                Err(FetchError::Exhausted(Errno::MFILE.into()))
            }
            Err(AskError::Pass(e)) => {
                let e = io::Error::from(e);
                match e.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => Err(FetchError::Exhausted(e)),
                    _ => Err(FetchError::Os(e)),
                }
            }
        }
    }

    /// What [`Fetched::settle`] needs.
    #[must_use]
    pub fn fetched(&self) -> Fetched {
        Fetched {
            family: self.0.family,
            ticket: (self.0.offset, self.0.generation),
            keeper: self.keeper(),
        }
    }

    /// The reference to the ticket.
    #[must_use]
    pub fn hold(&self) -> &Hold {
        &self.0
    }

    /// The reference to the ticket, for the message.
    #[must_use]
    pub fn into_hold(self) -> Hold {
        self.0
    }

    fn keeper(&self) -> u64 {
        let word = self.0.family.at::<AtomicU64>(self.0.offset + HEADER);
        word.load(Ordering::Relaxed)
    }

    fn ask(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>), AskError> {
        let Fetched {
            family,
            ticket,
            keeper,
        } = self.fetched();
        let socket = connect(family, keeper)?;
        let packet = keeper::request(family, ticket, request);
        fdpass::send_now(&socket, &packet, fds)?;
        crash_point!("ticket.asked");
        let deadline = Deadline::after(PATIENCE);
        loop {
            match pidfd::ready(
                &mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)],
                deadline,
            )? {
                PollOutcome::Ready => break,
                PollOutcome::TimedOut => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                PollOutcome::Interrupted => {}
            }
        }
        let mut bytes = [0; 8];
        let packet = fdpass::recv_now(&socket, &mut bytes)?;
        match Answer::from_bytes(&bytes[..packet.len]) {
            Some(answer) => Ok((answer, packet.fds)),
            None => Err(AskError::Gone),
        }
    }
}

impl Fetched {
    /// Tells the keeper to look whether the ticket still exists. Call this when the receiver and its message have no reference
    /// to it any more: the keeper then closes its copy at once. Otherwise it does so within half a second.
    pub fn settle(self) {
        if !self.family.is_live(self.ticket.0, self.ticket.1)
            && let Ok(socket) = connect(self.family, self.keeper)
        {
            let packet = keeper::request(self.family, self.ticket, Request::Look);
            let _ = fdpass::send_now(socket, &packet, &[]);
        }
    }
}

enum AskError {
    /// The keeper has ended, or ends.
    Gone,
    Pass(PassError),
}

impl From<PassError> for AskError {
    fn from(error: PassError) -> AskError {
        match error {
            PassError::Os(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EPIPE | libc::ECONNRESET | libc::ECONNREFUSED | libc::ENOTCONN)
                ) =>
            {
                AskError::Gone
            }
            other => AskError::Pass(other),
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        AskError::Pass(PassError::Os(error))
    }
}

fn connect(family: &'static Family, keeper: u64) -> Result<OwnedFd, AskError> {
    // When a keeper has died, a process of another user could have taken its address.
    if !family.lives(keeper) {
        return Err(AskError::Gone);
    }
    let socket = keeper::socket()?;
    let address = keeper::address(family, keeper)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::CONNREFUSED | Errno::NOENT | Errno::CONNRESET) => return Err(AskError::Gone),
        Err(e) => return Err(io::Error::from(e).into()),
    }
    let (pid, user) = pidfd::peer(&socket)?;
    let keeper = family.seat_numbered(keeper).map_or(0, |seat| seat.slot().pid());
    if pid == keeper || user == 0 || user == rustix::process::geteuid().as_raw() {
        Ok(socket)
    } else {
        Err(AskError::Gone)
    }
}
