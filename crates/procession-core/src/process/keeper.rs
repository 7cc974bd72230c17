//! The keeper: a process that holds the descriptors in messages while they are in flight.
//!
//! A message cannot contain a descriptor. So the sender makes a *ticket*, a small buffer in family memory, and gives the keeper
//! a copy of the descriptor under the ticket's name. The message carries a reference to the ticket. Each receiver that decodes
//! the message fetches a copy of its own from the keeper.
//!
//! **The ticket owns the descriptor**: the keeper closes its copy when no process and no message refers to the ticket any more.
//! Who refers to it, the held tables say, whichever process was killed. So a message that is delivered, discarded, or lost with
//! a queue gives its descriptors back, a task that runs again finds them again, and a sender may end before its message arrives.
//!
//! The keeper is a member of the family that runs nothing of the program. A face starts one when its process has a descriptor to
//! send and no keeper lives, and calls [`Keeper::serve`] in it. Two processes that do so at one time start two keepers, which
//! does no harm: a ticket says which keeper has its descriptor. The keeper ends when it has had nothing to do for some time,
//! and when no other member of the family is left.
//!
//! # Protocol
//!
//! The keeper listens on a `SOCK_SEQPACKET` socket in the abstract namespace ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)).
//! Its name is a hash of the family id and the keeper's seat number, so every member knows it, and other users cannot guess it.
//! A connection is for one request. Numbers have the machine's byte order: both ends are on one machine and of one version.
//!
//! | packet | bytes | descriptors |
//! |---|---|---|
//! | request, client → keeper | family id (16), offset of the ticket (8), its generation (4), the number of a `Request` (4) | for `Keep`: the one to keep |
//! | answer, keeper → client | the number of an `Answer` (4); none to `Look` | for a `Fetch` that is `Done`: the copy |
//!
//! The family id authenticates a client: only members and the holders of handles know it.
//!
//! # What happens when a process is killed
//!
//! | killed | then |
//! |---|---|
//! | sender, before the request | the keeper has nothing; the ticket is reaped |
//! | sender, after the request, before the message is put | the keeper has a copy; the sender is reaped, then the ticket has no reference, and the keeper closes the copy |
//! | sender, later | nothing changes: ticket and copy are in flight without it |
//! | receiver, before it has taken the message | nothing changes: the message is in the queue |
//! | receiver, after it has taken the message | the receiver is reaped, then the ticket has no reference, and the keeper closes the copy |
//! | receiver, before it reads the answer | the kernel closes the copy in the answer |
//! | keeper | the kernel closes all copies; a receiver gets [`super::in_flight::FetchError::Lost`]; the next sender starts a new keeper |
//!
//! The keeper looks at a ticket when a receiver tells it to. It looks at all of them, and reaps dead members, some
//! milliseconds after a request, and then less and less often, down to twice a second.

use crate::error::Result;
use crate::family::registry::{Role, State};
use crate::family::{Family, Seat};
use crate::sys::descriptor::clear_of_streams;
use crate::sys::fdpass::{self, PassError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// Length of a request in bytes.
pub(super) const REQUEST: usize = 32;
/// Intervals at which the keeper looks at the tickets, and at the members that may have ended: the first after a request. Each is
/// twice as long as the one before, up to the longest.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// For how long the keeper stays without anything to keep.
const IDLE: Duration = Duration::from_secs(5);
/// For how long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client wants of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Request {
    /// Keep this descriptor for the ticket.
    Keep = 1,
    /// Send a copy of the ticket's descriptor.
    Fetch = 2,
    /// See whether the ticket still exists.
    Look = 3,
}

/// The keeper's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Answer {
    /// Done.
    Done = 1,
    /// The keeper has nothing for this ticket.
    Unknown = 2,
    /// The keeper has no free descriptors.
    Exhausted = 3,
}

impl Answer {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Answer> {
        let number = u32::from_ne_bytes(bytes.first_chunk().copied()?);
        [Answer::Done, Answer::Unknown, Answer::Exhausted]
            .into_iter()
            .find(|answer| *answer as u32 == number)
    }
}

/// Encodes a request.
pub(super) fn request(family: &'static Family, ticket: (u64, u32), request: Request) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[..16].copy_from_slice(&family.id());
    bytes[16..24].copy_from_slice(&ticket.0.to_ne_bytes());
    bytes[24..28].copy_from_slice(&ticket.1.to_ne_bytes());
    bytes[28..].copy_from_slice(&(request as u32).to_ne_bytes());
    bytes
}

/// The address of the keeper in the seat with this number.
pub(super) fn address(family: &'static Family, keeper: u64) -> io::Result<SocketAddrUnix> {
    let mut digest = Sha256::new();
    digest.update(b"procession keeper");
    digest.update(family.id());
    digest.update(keeper.to_ne_bytes());
    let mut name = *b"procession:00000000000000000000000000000000";
    for (place, byte) in name[11..].chunks_mut(2).zip(digest.finalize()) {
        place.copy_from_slice(&[
            b"0123456789abcdef"[usize::from(byte >> 4)],
            b"0123456789abcdef"[usize::from(byte & 15)],
        ]);
    }
    Ok(SocketAddrUnix::new_abstract_name(&name)?)
}

/// Creates a socket for the keeper's protocol.
pub(super) fn socket() -> io::Result<OwnedFd> {
    clear_of_streams(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A connection whose request has not arrived yet, and the time at which it was accepted.
struct Client(OwnedFd, Instant);

/// The keeper's state. Dropping it closes all descriptors that it keeps.
#[derive(Debug)]
pub struct Keeper {
    seat: Seat,
    listener: OwnedFd,
    /// The descriptor of each ticket, by the ticket's offset and generation.
    kept: BTreeMap<(u64, u32), OwnedFd>,
}

impl Keeper {
    /// Makes the calling process, which occupies `seat`, a keeper. Clients can connect when this returns. It also leaves the
    /// session and the folder of the process that has started it, and raises its limit of descriptors.
    ///
    /// # Errors
    /// The system refuses the socket.
    pub fn new(seat: Seat) -> io::Result<Keeper> {
        // A signal from the terminal is for the program. Each of these may fail, and the keeper works without.
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir("/");
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = limit.maximum;
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
        let listener = socket()?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        rustix::net::bind(&listener, &address(seat.family, seat.number())?)?;
        rustix::net::listen(&listener, 1024)?;
        while !is_keeper(seat) {
            seat.set_role(Role::Keeper);
        }
        Ok(Keeper {
            seat,
            listener,
            kept: BTreeMap::new(),
        })
    }

    /// Serves clients until the keeper is needed no more.
    pub fn serve(mut self) {
        let mut clients: Vec<Client> = Vec::new();
        let (mut looked, mut used) = (Instant::now(), Instant::now());
        let mut round = ROUNDS.0;
        loop {
            if self.wait(&clients, round) {
                self.accept(&mut clients);
                round = ROUNDS.0;
            }
            let mut waiting = Vec::new();
            for client in clients {
                if self.answer(client.0.as_fd()) == Answered::NotYet && client.1.elapsed() < PATIENCE {
                    waiting.push(client);
                }
            }
            clients = waiting;
            if looked.elapsed() >= round {
                looked = Instant::now();
                round = (2 * round).min(ROUNDS.1);
                self.seat.family.sweep();
                self.kept
                    .retain(|(offset, generation), _| self.seat.family.is_live(*offset, *generation));
                if self.kept.is_empty() && !self.has_company() {
                    return;
                }
            }
            if !self.kept.is_empty() || !clients.is_empty() {
                used = Instant::now();
            } else if used.elapsed() >= IDLE {
                return;
            }
        }
    }

    /// Waits for a client or a request, or for the next look at the tickets. Returns whether a client may have come.
    fn wait(&self, clients: &[Client], round: Duration) -> bool {
        let fds = std::iter::once(self.listener.as_fd()).chain(clients.iter().map(|client| client.0.as_fd()));
        let mut fds: Vec<PollFd<'_>> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: round.as_nanos() as i64, // less than a second
        };
        // An interrupted wait is like one whose time is up.
        let _ = poll(&mut fds, Some(&limit));
        !fds[0].revents().is_empty()
    }

    fn accept(&self, clients: &mut Vec<Client>) {
        loop {
            match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC).map(clear_of_streams) {
                Ok(Ok(client)) => clients.push(Client(client, Instant::now())),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Ok(Err(_)) | Err(_) => {
                    // No descriptor is free: the clients stay in the listener's queue until some are.
                    std::thread::sleep(Duration::from_millis(5));
                    return;
                }
            }
        }
    }

    /// Serves the request of this client, if it has arrived.
    fn answer(&mut self, client: BorrowedFd<'_>) -> Answered {
        // One byte more than a request, so that a longer packet shows.
        let mut bytes = [0; REQUEST + 1];
        let (len, fds, exhausted) = match fdpass::recv_now(client, &mut bytes) {
            Ok(packet) => (packet.len, packet.fds, false),
            Err(PassError::OutOfDescriptors { len, .. }) => (len, Vec::new(), true),
            Err(PassError::Os(e)) if e.kind() == io::ErrorKind::WouldBlock => return Answered::NotYet,
            Err(_) => return Answered::Done,
        };
        let Some((ticket, wanted)) = self.read(&bytes[..len]) else {
            return Answered::Done;
        };
        let (answer, copy) = match wanted {
            Request::Look => {
                if !self.seat.family.is_live(ticket.0, ticket.1) {
                    self.kept.remove(&ticket);
                }
                return Answered::Done;
            }
            Request::Keep if exhausted => (Answer::Exhausted, None),
            Request::Keep => match fds.into_iter().next() {
                Some(fd) => {
                    self.kept.insert(ticket, fd);
                    (Answer::Done, None)
                }
                None => (Answer::Unknown, None),
            },
            Request::Fetch => match self.kept.get(&ticket) {
                Some(fd) => (Answer::Done, Some(fd.as_fd())),
                None => (Answer::Unknown, None),
            },
        };
        crash_point!("keeper.not answered");
        // A client that has gone needs no answer.
        let _ = fdpass::send_now(client, &(answer as u32).to_ne_bytes(), copy.as_slice());
        crash_point!("keeper.answered");
        Answered::Done
    }

    /// Decodes a request, if it is one of this family.
    fn read(&self, bytes: &[u8]) -> Option<((u64, u32), Request)> {
        let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
        if bytes[..16] != self.seat.family.id() {
            return None;
        }
        let offset = u64::from_ne_bytes(bytes[16..24].try_into().ok()?);
        let generation = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
        let number = u32::from_ne_bytes(bytes[28..].try_into().ok()?);
        let wanted = [Request::Keep, Request::Fetch, Request::Look]
            .into_iter()
            .find(|request| *request as u32 == number)?;
        Some(((offset, generation), wanted))
    }

    /// Returns whether a member of the family is left that is no keeper.
    fn has_company(&self) -> bool {
        self.seat
            .family
            .seats()
            .any(|seat| seat != self.seat && seat.slot().state().1 != State::Dead && !is_keeper(seat))
    }
}

/// Whether a request was served.
#[derive(PartialEq, Eq)]
enum Answered {
    /// The client is served, or has gone.
    Done,
    /// The request has not arrived yet.
    NotYet,
}

fn is_keeper(seat: Seat) -> bool {
    seat.slot().start_and_role().1 == Role::Keeper as u8
}

/// The seat numbers of the living keepers of a family.
pub(super) fn keepers(family: &'static Family) -> Result<Vec<u64>> {
    family.seat()?;
    Ok(family
        .seats()
        .filter(|seat| is_keeper(*seat) && seat.slot().state().1 == State::Alive)
        .map(|seat| seat.number())
        .filter(|number| family.lives(*number))
        .collect())
}
