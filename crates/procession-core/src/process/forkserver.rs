//! The fork server: a process that forks itself on request, so that children begin with its small memory and its
//! imported modules. This module has the server's loop; the face does the fork itself, between two calls.
//!
//! # Protocol
//!
//! All clients share one end of a `SOCK_SEQPACKET` pair, the *control socket*; one packet is a whole request. Numbers
//! have 32 bits in the machine's byte order: both ends are on one machine and of one version.
//!
//! | packet | bytes | descriptors |
//! |---|---|---|
//! | request, client → control | magic `PrF1`, slot, generation, count of passed descriptors | the reply socket, then those |
//! | answer, server → reply socket | magic `PrF2`, error number, pid, length of the text; the text | a pidfd, or none |
//!
//! The reply socket is the end of a new pair, so an answer reaches exactly the client that asked, and the death of
//! either side shows as the end of that socket at the other. The pid in an answer is 0 if there is no child; the text
//! then says why.
//!
//! # What happens when a process is killed
//!
//! | killed | then |
//! |---|---|
//! | client, before its request is sent | its seat is reaped like that of a child that never came |
//! | client, before the server takes the request | the seat may be reaped by then, and the request is refused; otherwise as in the next row |
//! | client, before the answer | the answer is lost; the child runs like one whose parent was killed |
//! | server, before the fork | the reply socket ends: [`ForkError::ServerGone`] |
//! | server, between fork and answer | the reply socket ends, but the child exists; it takes its seat unless the client has given that up |
//! | server, later | its children live on; their exit codes are those that they announce ([`super::child`]) |
//! | server, between recording an exit code and reaping | the code is recorded; `init` inherits the zombie |
//! | child, before it takes its seat | the server has bound its pid to the seat, waits for it and records its code |
//!
//! If a request is malformed, or if the server has too few free numbers for its descriptors, only that request fails:
//! the server closes the descriptors that arrived, answers if the reply socket is among them, and continues.

use super::error::ForkError;
use super::spares::{Spare, Spares};
use crate::family::registry::Role;
use crate::family::{Family, Seat};
use crate::sys::clock::Deadline;
use crate::sys::fdpass::{self, PassError};
use crate::sys::fork;
use crate::sys::pidfd::{self, ChildBell, PollOutcome, Which};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;

pub(super) const REQUEST: u32 = u32::from_be_bytes(*b"PrF1");
const ANSWER: u32 = u32::from_be_bytes(*b"PrF2");
const HEAD: usize = 16;
/// Maximum length of an answer's text, in bytes.
const LONGEST: usize = 2048;
/// Interval at which the server checks its children without a signal: shorter than [`super::child::EXIT_CODE_GRACE`], in
/// case the program replaces the signal handler.
const ROUND: Duration = Duration::from_secs(1);

/// Maximum number of descriptors that a request can pass.
pub const MOST: usize = fdpass::MOST - 1;

/// `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)`: creates the two ends of a control socket, the clients'
/// and the server's.
pub fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    fdpass::pair()
}

/// A request to fork. Dropping it refuses it without an answer.
#[derive(Debug)]
pub struct Request {
    /// Slot of the seat.
    pub slot: u32,
    /// Generation of the seat.
    pub generation: u32,
    /// The socket for the answer.
    pub reply: OwnedFd,
    /// The descriptors for the child.
    pub fds: Vec<OwnedFd>,
}

/// What the server must do next.
#[derive(Debug)]
#[must_use]
pub enum Next {
    /// Fork, then call [`ForkServer::forked`] or [`ForkServer::refused`].
    Fork(Request),
    /// Fork a spare, because there is time, then call [`ForkServer::spare_forked`] (or nothing, if the fork fails).
    ForkSpare,
    /// Run the signal handlers, then ask again.
    Interrupted,
    /// End: every client has gone.
    Closed,
}

/// The server's side. A process has at most one.
#[derive(Debug)]
pub struct ForkServer {
    control: OwnedFd,
    bell: ChildBell,
    children: BTreeMap<u32, Option<Seat>>,
    spares: Spares,
    /// Number of spares to keep. None are made before the first request, nor after the fork of a spare has failed
    /// until the next request.
    wanted: usize,
    forks_spares: bool,
}

impl ForkServer {
    /// Creates the server of the clients at the other end of this socket. From now on it is notified of ended
    /// children.
    ///
    /// # Errors
    /// No descriptor is free, or this process has a fork server already (`EBUSY`).
    pub fn new(control: OwnedFd) -> io::Result<ForkServer> {
        Family::has_role(Role::ForkServer);
        Ok(ForkServer {
            control,
            bell: ChildBell::new()?,
            children: BTreeMap::new(),
            spares: Spares::default(),
            wanted: 0,
            forks_spares: false,
        })
    }

    /// Sets how many spares to keep from the first request on: children that are forked ahead, while there is nothing
    /// else to do.
    pub fn keep_spares(&mut self, count: usize) {
        self.wanted = count;
    }

    /// Waits for a request, and meanwhile for ended children. A request that a spare can take is not returned.
    ///
    /// # Errors
    /// Errors after which no later request can succeed.
    pub fn next_request(&mut self) -> io::Result<Next> {
        loop {
            self.look_after_children();
            let short = self.forks_spares && self.spares.count() < self.wanted;
            let round = if short {
                Deadline::PAST
            } else if self.children.is_empty() {
                Deadline::NEVER
            } else {
                Deadline::after(ROUND)
            };
            let control = PollFd::new(&self.control, PollFlags::IN | PollFlags::RDHUP);
            let mut fds = [control, PollFd::new(&self.bell, PollFlags::IN)];
            match pidfd::ready(&mut fds, round)? {
                PollOutcome::Interrupted => return Ok(Next::Interrupted),
                PollOutcome::TimedOut if short => {
                    // If the fork fails, try again after the next request.
                    self.forks_spares = false;
                    if self.spares.prepare().is_ok() {
                        return Ok(Next::ForkSpare);
                    }
                }
                PollOutcome::TimedOut => {}
                PollOutcome::Ready if fds[0].revents().is_empty() => {}
                PollOutcome::Ready => {
                    let hung_up = fds[0].revents().intersects(PollFlags::HUP | PollFlags::RDHUP);
                    match self.receive(hung_up)? {
                        Some(Next::Fork(request)) => {
                            self.forks_spares = true;
                            if let Some(request) = self.hand_to_spare(request) {
                                return Ok(Next::Fork(request));
                            }
                        }
                        Some(Next::Closed) => {
                            self.dismiss_spares();
                            return Ok(Next::Closed);
                        }
                        Some(next) => return Ok(next),
                        None => {}
                    }
                }
            }
        }
    }

    fn receive(&mut self, hung_up: bool) -> io::Result<Option<Next>> {
        let mut bytes = [0; 2 * HEAD];
        let packet = match fdpass::recv_now(&self.control, &mut bytes) {
            Ok(packet) => packet,
            Err(PassError::OutOfDescriptors { arrived, .. }) => {
                if let Some(reply) = arrived.first() {
                    let why = "it has no free file descriptors left (raise its limit, `ulimit -n`)";
                    refuse(reply.as_fd(), Errno::MFILE.raw_os_error(), why);
                }
                return Ok(None);
            }
            Err(PassError::Os(e)) => return after_error(e),
            Err(_) => return Ok(None),
        };
        if packet.len == 0 && packet.fds.is_empty() {
            // An empty packet looks like the end, but it is the end only if every client has closed its socket.
            return Ok(hung_up.then_some(Next::Closed));
        }
        let mut fds = packet.fds;
        if packet.len != HEAD || fds.is_empty() {
            return Ok(None);
        }
        let [magic, slot, generation, count] = numbers(&bytes);
        let passed = fds.split_off(1);
        let Some(reply) = fds.pop() else { return Ok(None) };
        if magic != REQUEST || usize::try_from(count) != Ok(passed.len()) {
            refuse(
                reply.as_fd(),
                Errno::PROTO.raw_os_error(),
                "it does not understand the request",
            );
            return Ok(None);
        }
        if Family::home_if_any().is_some() && Seat::find(slot, generation).is_none() {
            refuse(
                reply.as_fd(),
                Errno::STALE.raw_os_error(),
                "the seat for the child has been given up",
            );
            return Ok(None);
        }
        Ok(Some(Next::Fork(Request {
            slot,
            generation,
            reply,
            fds: passed,
        })))
    }

    /// Gives the request to a spare, which becomes the requested child. Returns the request if there is no spare.
    ///
    /// Where the server blocks SIGINT, a child gets the one that comes before it is ready. A SIGINT that came before the
    /// request is not for the child, but it waits in the spares, too: so they are not used any more.
    fn hand_to_spare(&mut self, request: Request) -> Option<Request> {
        if fork::take_pending_interrupt() {
            self.dismiss_spares();
        }
        let sent = self.spares.send(request.slot, request.generation, &request.fds);
        match sent {
            Some(pid) => self.forked(request, pid),
            None => return Some(request),
        }
        None
    }

    /// In the server, after the fork of a spare: records it.
    pub fn spare_forked(&mut self, pid: u32) {
        self.spares.add(pid);
        self.children.insert(pid, None);
        self.forks_spares = true;
    }

    /// In the spare, before anything else: does what [`ForkServer::leave`] does, and returns the object that waits
    /// for a request.
    #[must_use]
    pub fn leave_as_spare(mut self) -> Option<Spare> {
        self.spares.become_one()
    }

    /// Kills the spares and waits for them.
    fn dismiss_spares(&mut self) {
        for pid in self.spares.dismiss() {
            // Only this process waits for its children, so the pid still belongs to the spare.
            let _ = pidfd::kill(pid, libc::SIGKILL);
            self.children.remove(&pid);
            if let Ok(fd) = pidfd::open(pid) {
                let _ = pidfd::ready(&mut [PollFd::new(&fd, PollFlags::IN)], Deadline::after(ROUND));
            }
            let _ = pidfd::reap(Which::Pid(pid));
        }
    }

    /// In the server, after the fork: binds the pid to the seat and answers the client. Closes the request's
    /// descriptors.
    pub fn forked(&mut self, request: Request, pid: u32) {
        let seat = Seat::find(request.slot, request.generation);
        if let Some(seat) = seat {
            seat.bind(pid);
        }
        // Only this process can wait for the child, so the pid still belongs to it, even if it has ended.
        self.children.insert(pid, seat);
        let pidfd = pidfd::open(pid).ok();
        let fds: Vec<BorrowedFd<'_>> = pidfd.iter().map(AsFd::as_fd).collect();
        answer(request.reply.as_fd(), 0, pid, "", &fds);
    }

    /// In the server: answers the client that there is no child, and why. Closes the request's descriptors.
    pub fn refused(&mut self, request: Request, errno: i32, why: &str) {
        refuse(request.reply.as_fd(), errno, why);
    }

    /// In the child, before anything else: undoes the server's setup. Restores the signal's disposition and mask as
    /// they were before the server existed, and closes the server's descriptors.
    pub fn leave(self) {
        drop(self);
    }

    /// Number of children that have not been waited for.
    #[must_use]
    pub fn children(&self) -> usize {
        self.children.len()
    }

    /// Records the exit codes of the children that have ended, and reaps them.
    fn look_after_children(&mut self) {
        self.bell.clear();
        while !self.children.is_empty() {
            match pidfd::any_zombie() {
                Ok(None) => return,
                Ok(Some(pid)) if self.children.contains_key(&pid) => {
                    if !self.reap_child(pid) {
                        return;
                    }
                }
                // Another component's zombie (started by a preloaded module) hides the others, and this server must
                // not wait for it. Or there are no children left, because other code has waited for them.
                Ok(Some(_)) | Err(_) => {
                    let pids: Vec<u32> = self.children.keys().copied().collect();
                    for pid in pids {
                        self.reap_child(pid);
                    }
                    return;
                }
            }
        }
    }

    /// Records the exit code of one child and reaps it, if it has ended.
    fn reap_child(&mut self, pid: u32) -> bool {
        let seat = match pidfd::peek(Which::Pid(pid)) {
            Ok(None) => return false,
            Ok(Some(code)) => {
                self.spares.forget(pid);
                let seat = self.children.remove(&pid).flatten();
                if let Some(seat) = seat {
                    seat.record_exit(code);
                }
                let _ = pidfd::reap(Which::Pid(pid));
                return true;
            }
            // Other code has waited for it: the exit code is lost, but its end is known.
            Err(_) => self.children.remove(&pid).flatten(),
        };
        if let Some(seat) = seat {
            seat.family.reap(seat);
        }
        true
    }
}

fn after_error(error: io::Error) -> io::Result<Option<Next>> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => Ok(None),
        Some(Errno::CONNRESET | Errno::NOTCONN) => Ok(Some(Next::Closed)),
        Some(Errno::NOMEM | Errno::NOBUFS | Errno::MFILE | Errno::NFILE) => {
            // The machine is short of memory or descriptors, and the packet is still in the socket.
            let _ = pidfd::ready(&mut [], Deadline::after(Duration::from_millis(20)))?;
            Ok(None)
        }
        _ => Err(error),
    }
}

fn refuse(reply: BorrowedFd<'_>, errno: i32, why: &str) {
    answer(reply, errno, 0, why, &[]);
}

fn answer(reply: BorrowedFd<'_>, errno: i32, pid: u32, text: &str, fds: &[BorrowedFd<'_>]) {
    let cut = (0..=LONGEST.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    let text = &text.as_bytes()[..cut];
    let mut packet = Vec::with_capacity(HEAD + text.len());
    for number in [ANSWER, errno.unsigned_abs(), pid, text.len() as u32] {
        packet.extend_from_slice(&number.to_ne_bytes());
    }
    packet.extend_from_slice(text);
    // Never waits, because a client's new socket has room; a client that has gone needs no answer.
    let _ = fdpass::send_now(reply, &packet, fds);
}

pub(super) fn numbers(bytes: &[u8]) -> [u32; 4] {
    let mut numbers = [0; 4];
    for (number, four) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_ne_bytes(four.try_into().unwrap_or_default());
    }
    numbers
}

/// The fork server's answer.
#[derive(Debug)]
#[must_use]
pub enum Answer {
    /// There is a child.
    Forked {
        /// Its pid.
        pid: u32,
        /// Its pidfd. None if this system has no pidfds, or one of the two processes has no free descriptor.
        pidfd: Option<OwnedFd>,
    },
    /// The deadline passed first. The request is still valid, so wait again.
    TimedOut,
    /// A signal arrived first. The request is still valid, so wait again.
    Interrupted,
}

/// A client's request in progress. Dropping it abandons the answer; a child that was forked runs anyway.
#[derive(Debug)]
pub struct ForkCall<'a> {
    control: BorrowedFd<'a>,
    reply: OwnedFd,
    /// The packet, until it is sent.
    unsent: Option<([u8; HEAD], OwnedFd, &'a [BorrowedFd<'a>])>,
}

impl<'a> ForkCall<'a> {
    /// Creates a request for a child with this seat and these descriptors, without sending it.
    ///
    /// # Errors
    /// More than [`MOST`] descriptors, or no descriptor free for the reply socket.
    pub fn new(
        control: BorrowedFd<'a>,
        slot: u32,
        generation: u32,
        fds: &'a [BorrowedFd<'a>],
    ) -> Result<ForkCall<'a>, ForkError> {
        if fds.len() > MOST {
            return Err(PassError::TooMany(fds.len()).into());
        }
        let (reply, servers) = fdpass::pair()?;
        let mut packet = [0; HEAD];
        for (four, number) in packet
            .chunks_exact_mut(4)
            .zip([REQUEST, slot, generation, fds.len() as u32])
        {
            four.copy_from_slice(&number.to_ne_bytes());
        }
        Ok(ForkCall {
            control,
            reply,
            unsent: Some((packet, servers, fds)),
        })
    }

    /// Sends the request, unless it was sent already, and waits for the answer.
    ///
    /// # Errors
    /// See [`ForkError`]; the request has then ended.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Answer, ForkError> {
        while let Some((packet, servers, fds)) = &self.unsent {
            let all: Vec<BorrowedFd<'_>> = [servers.as_fd()].into_iter().chain(fds.iter().copied()).collect();
            match fdpass::send_now(self.control, packet, &all) {
                // Drop this process's copy of the server's end, so that the socket ends when the server does.
                Ok(()) => self.unsent = None,
                Err(PassError::Os(e)) => match e.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::AGAIN) => {
                        let room = PollFd::from_borrowed_fd(self.control, PollFlags::OUT);
                        if let Some(early) = unready(pidfd::ready(&mut [room], deadline)?) {
                            return Ok(early);
                        }
                    }
                    Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                        return Err(ForkError::ServerGone);
                    }
                    _ => return Err(e.into()),
                },
                Err(e) => return Err(e.into()),
            }
        }
        let mut bytes = [0; HEAD + LONGEST];
        let (len, mut fds) = loop {
            let reply = PollFd::new(&self.reply, PollFlags::IN);
            if let Some(early) = unready(pidfd::ready(&mut [reply], deadline)?) {
                return Ok(early);
            }
            match fdpass::recv_now(&self.reply, &mut bytes) {
                Ok(packet) => break (packet.len, packet.fds),
                // There is a child, and it can be used without its pidfd.
                Err(PassError::OutOfDescriptors { len, arrived }) => break (len, arrived),
                Err(PassError::Os(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(PassError::Os(e)) if e.kind() == io::ErrorKind::ConnectionReset => break (0, Vec::new()),
                Err(e) => return Err(e.into()),
            }
        };
        if len == 0 {
            return Err(self.silence());
        }
        let [magic, errno, pid, text] = numbers(&bytes);
        let text = bytes[..len]
            .get(HEAD..)
            .filter(|rest| magic == ANSWER && rest.len() == text as usize);
        match text {
            None => Err(ForkError::Garbled),
            Some(_) if pid != 0 => Ok(Answer::Forked {
                pid,
                pidfd: fds.pop(),
            }),
            Some(text) => {
                let why = String::from_utf8_lossy(text).into_owned();
                Err(ForkError::Refused {
                    errno: i32::try_from(errno).unwrap_or(0),
                    why,
                })
            }
        }
    }

    /// The reply socket has ended without an answer: finds out whether the server has ended or only dropped the
    /// request. The kernel closes the descriptors of a dead process in an unspecified order, so this gives the
    /// control socket a moment to end as well.
    fn silence(&self) -> ForkError {
        let deadline = Deadline::after(Duration::from_millis(500));
        loop {
            // No events are requested, so only the socket's end is reported.
            let mut control = [PollFd::from_borrowed_fd(self.control, PollFlags::empty())];
            match pidfd::ready(&mut control, deadline) {
                Ok(PollOutcome::TimedOut) => return ForkError::Dropped,
                Ok(PollOutcome::Interrupted) => {}
                _ => return ForkError::ServerGone,
            }
        }
    }
}

fn unready(waited: PollOutcome) -> Option<Answer> {
    match waited {
        PollOutcome::Ready => None,
        PollOutcome::TimedOut => Some(Answer::TimedOut),
        PollOutcome::Interrupted => Some(Answer::Interrupted),
    }
}

/// Asks the fork server at the other end of `control` for a child with this seat, which receives these descriptors in
/// the same order. Returns its pid, and its pidfd if there is one. Signals do not end the wait.
///
/// # Errors
/// See [`ForkError`].
pub fn request_fork(
    control: BorrowedFd<'_>,
    slot: u32,
    generation: u32,
    fds: &[BorrowedFd<'_>],
) -> Result<(u32, Option<OwnedFd>), ForkError> {
    let mut call = ForkCall::new(control, slot, generation, fds)?;
    loop {
        if let Answer::Forked { pid, pidfd } = call.wait(Deadline::NEVER)? {
            return Ok((pid, pidfd));
        }
    }
}
