//! Accepting connections while the handshakes of others are under way, so that none of them keeps the others waiting.

use crate::connection::{ConnectionError, PATIENCE, Stream};
use procession_core::connection::auth;
use procession_core::connection::handshake::Handshake;
use procession_core::sys::clock::Deadline;
use procession_core::sys::memory::random_bytes;
use procession_core::sys::pidfd;
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Handshakes under way. Whoever comes then takes the place of the oldest.
const MOST: usize = 128;

/// Those who have connected, and have not yet shown that they know the key.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    /// Locked by the thread that accepts. Others wait for it: what it is at is what they would do.
    guests: Mutex<VecDeque<Guest>>,
}

struct Guest {
    stream: Stream,
    handshake: Handshake,
    /// What is still to be written.
    unsent: Vec<u8>,
    limit: Deadline,
}

/// How far a handshake has come.
enum Step {
    Waits,
    Done,
}

impl Reception {
    /// The next stream whose other side knows the key. `next`: accepts one that has connected, without waiting.
    pub(crate) fn accept(
        &self,
        socket: BorrowedFd<'_>,
        key: &[u8],
        next: impl Fn() -> io::Result<Stream>,
    ) -> Result<Stream, ConnectionError> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let limit = guests.iter().map(|guest| guest.limit).min();
            let mut fds = vec![PollFd::from_borrowed_fd(socket, PollFlags::IN)];
            fds.extend(guests.iter().map(Guest::awaited));
            // Whatever it says: all are asked.
            let _ = pidfd::ready(&mut fds, limit.unwrap_or(Deadline::NEVER))?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (place, _) in ready.iter().skip(1).enumerate().filter(|(_, ready)| **ready) {
                match guests[place].go_on() {
                    Ok(Step::Waits) => {}
                    answer => {
                        let guest = guests.remove(place).map(|guest| guest.stream);
                        return answered(answer.map(drop), guest);
                    }
                }
            }
            if let Some(place) = guests.iter().position(|guest| guest.limit.expired()) {
                guests.remove(place);
                return Err(ConnectionError::Refused("it says nothing".into()));
            }
            if !ready[0] {
                continue;
            }
            let stream = match next() {
                Ok(stream) => stream,
                // Whoever it was has gone, or another process with this socket was quicker.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                    ) =>
                {
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            if key.is_empty() {
                stream.set_waiting(true)?;
                return Ok(stream);
            }
            stream.set_waiting(false)?;
            let mut guest = Guest::new(stream, key)?;
            match guest.go_on() {
                Ok(Step::Waits) => guests.push_back(guest),
                answer => return answered(answer.map(drop), Some(guest.stream)),
            }
            if guests.len() > MOST {
                guests.pop_front();
                return Err(ConnectionError::Refused(format!(
                    "it was slow in its handshake, and {MOST} others came"
                )));
            }
        }
    }
}

fn answered(answer: Result<(), ConnectionError>, stream: Option<Stream>) -> Result<Stream, ConnectionError> {
    answer?;
    let stream = stream.ok_or(ConnectionError::Closed)?;
    stream.set_waiting(true)?;
    Ok(stream)
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Guest {
    fn new(stream: Stream, key: &[u8]) -> io::Result<Guest> {
        let mut nonce = [0; auth::NONCE];
        random_bytes(&mut nonce)?;
        Ok(Guest {
            stream,
            handshake: Handshake::of_listener(key, &nonce),
            unsent: Vec::new(),
            limit: Deadline::after(PATIENCE),
        })
    }

    /// What it is waited for.
    fn awaited(&self) -> PollFd<'_> {
        let events = if self.unsent.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        };
        PollFd::from_borrowed_fd(self.stream.as_fd(), events)
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self) -> Result<Step, ConnectionError> {
        let mut piece = [0; 512];
        loop {
            self.unsent.extend(self.handshake.outgoing());
            while !self.unsent.is_empty() {
                match self.stream.write_now(&self.unsent).map_err(of_handshake)? {
                    Some(sent) => drop(self.unsent.drain(..sent)),
                    None => return Ok(Step::Waits),
                }
            }
            let wanted = self.handshake.wants().min(piece.len());
            if wanted == 0 {
                break;
            }
            let Some(read) = self.stream.read_now(&mut piece[..wanted]).map_err(of_handshake)? else {
                return Ok(Step::Waits);
            };
            if let Err(refusal) = self.handshake.feed(&piece[..read]) {
                // It is told so; whether that arrives is all the same.
                let _ = self.stream.write_now(&self.handshake.outgoing());
                return Err(ConnectionError::Refused(format!("{refusal:?}")));
            }
        }
        if self.handshake.succeeded() {
            Ok(Step::Done)
        } else {
            Err(ConnectionError::Refused("the keys differ".into()))
        }
    }
}

/// What goes wrong with the other side during a handshake is that one's fault, and no error of ours.
pub(crate) fn of_handshake(error: ConnectionError) -> ConnectionError {
    match error {
        ConnectionError::Closed => ConnectionError::Refused("it hung up".into()),
        ConnectionError::Io(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            ConnectionError::Refused("it says nothing".into())
        }
        other => other,
    }
}
