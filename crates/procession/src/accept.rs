//! Accepting connections. Several handshakes are under way at once, so a slow program does not keep the others waiting.

use crate::connection::{HANDSHAKE_LIMIT, Stream};
use crate::error::ConnectionError;
use procession_core::connection::auth;
use procession_core::connection::handshake::Handshake;
use procession_core::sys::clock::Deadline;
use procession_core::sys::descriptor::{GuardedFd, clear_of_streams};
use procession_core::sys::memory::random_bytes;
use procession_core::sys::pidfd;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

/// The most handshakes that are under way at once. The next program to connect takes the place of the oldest.
const MOST: usize = 128;

/// The programs that have connected and not yet shown that they know the key.
#[derive(Debug)]
pub(crate) struct Handshakes {
    /// How long each may take.
    pub(crate) limit: Duration,
    /// Locked by the thread that accepts. Other threads wait for it: it does what they would do.
    pending: Mutex<VecDeque<Pending>>,
    /// An epoll descriptor of the socket and of all handshakes that are under way, once a `Select` waits for programs.
    news: OnceLock<GuardedFd>,
}

struct Pending {
    stream: Stream,
    handshake: Handshake,
    /// The bytes that are still to be written.
    unsent: Vec<u8>,
    limit: Deadline,
}

/// The state of a handshake.
enum Progress {
    Waits,
    Done,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes {
            limit: HANDSHAKE_LIMIT,
            pending: Mutex::default(),
            news: OnceLock::new(),
        }
    }
}

impl Handshakes {
    /// Returns a descriptor that is readable while [`Handshakes::accept`] has something to do.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(crate) fn news(&self, socket: BorrowedFd<'_>) -> io::Result<BorrowedFd<'_>> {
        if self.news.get().is_none() {
            let news = clear_of_streams(epoll::create(CreateFlags::CLOEXEC)?)?;
            epoll::add(&news, socket, EventData::new_u64(0), EventFlags::IN)?;
            self.news.get_or_init(|| GuardedFd::new(news));
            // If the lock is not free, a thread is in `accept`, which continues these handshakes by itself.
            if let Ok(pending) = self.pending.try_lock() {
                pending.iter().for_each(|peer| self.watch(peer));
            }
        }
        let news = self.news.get().and_then(GuardedFd::get);
        news.ok_or_else(|| Errno::BADF.into()) // the program has closed it
    }

    /// Has the epoll descriptor tell of the event for which a handshake waits.
    fn watch(&self, peer: &Pending) {
        let Some(news) = self.news.get().and_then(GuardedFd::get) else {
            return;
        };
        let (fd, data) = (peer.stream.as_fd(), EventData::new_u64(0));
        let events = if peer.unsent.is_empty() {
            EventFlags::IN
        } else {
            EventFlags::OUT
        };
        // If no memory is left for it, the handshake goes on when another program connects.
        let _ = epoll::modify(news, fd, data, events).or_else(|_| epoll::add(news, fd, data, events));
    }

    /// Takes a handshake that has ended, in whatever way.
    fn remove(&self, pending: &mut VecDeque<Pending>, place: usize) -> Option<Stream> {
        let stream = pending.remove(place)?.stream;
        if let Some(news) = self.news.get().and_then(GuardedFd::get) {
            // Closing is not enough if another process has a copy of the descriptor.
            let _ = epoll::delete(news, stream.as_fd());
        }
        Some(stream)
    }

    /// Returns the next stream whose other side has shown that it knows the key. `next` accepts one connection without
    /// waiting. None if `waits` is false, and no handshake is complete.
    pub(crate) fn accept(
        &self,
        socket: BorrowedFd<'_>,
        key: &[u8],
        waits: bool,
        next: impl Fn() -> io::Result<Stream>,
    ) -> Result<Option<Stream>, ConnectionError> {
        let mut pending = match self.pending.try_lock() {
            Ok(pending) => pending,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if !waits => return Ok(None),
            Err(TryLockError::WouldBlock) => self.pending.lock().unwrap_or_else(PoisonError::into_inner),
        };
        loop {
            let limit = pending.iter().map(|peer| peer.limit).min();
            let mut fds = vec![PollFd::from_borrowed_fd(socket, PollFlags::IN)];
            fds.extend(pending.iter().map(Pending::awaited));
            let until = if waits {
                limit.unwrap_or(Deadline::NEVER)
            } else {
                Deadline::PAST
            };
            // The result does not matter: every descriptor is looked at below.
            let _ = pidfd::ready(&mut fds, until)?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (place, _) in ready.iter().skip(1).enumerate().filter(|(_, ready)| **ready) {
                let answer = pending[place].advance();
                if let Ok(Progress::Waits) = answer {
                    self.watch(&pending[place]);
                    continue;
                }
                let peer = self.remove(&mut pending, place);
                return answered(answer.map(drop), peer).map(Some);
            }
            if let Some(place) = pending.iter().position(|peer| peer.limit.expired()) {
                self.remove(&mut pending, place);
                return Err(ConnectionError::Refused(
                    "it did not complete the handshake in time".into(),
                ));
            }
            if !ready[0] {
                if waits {
                    continue;
                }
                return Ok(None);
            }
            let stream = match next() {
                Ok(stream) => stream,
                // The program has gone already, or another process that has this socket has accepted it.
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
                return Ok(Some(stream));
            }
            stream.set_waiting(false)?;
            let mut peer = Pending::new(stream, key, self.limit)?;
            match peer.advance() {
                Ok(Progress::Waits) => {
                    self.watch(&peer);
                    pending.push_back(peer);
                }
                answer => return answered(answer.map(drop), Some(peer.stream)).map(Some),
            }
            if pending.len() > MOST {
                self.remove(&mut pending, 0);
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

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Pending {
    fn new(stream: Stream, key: &[u8], limit: Duration) -> io::Result<Pending> {
        let mut nonce = [0; auth::NONCE];
        random_bytes(&mut nonce)?;
        Ok(Pending {
            stream,
            handshake: Handshake::listener(key, &nonce),
            unsent: Vec::new(),
            limit: Deadline::after(limit),
        })
    }

    /// Returns the descriptor and the event for which this handshake waits.
    fn awaited(&self) -> PollFd<'_> {
        let events = if self.unsent.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        };
        PollFd::from_borrowed_fd(self.stream.as_fd(), events)
    }

    /// Continues the handshake as far as possible without waiting.
    fn advance(&mut self) -> Result<Progress, ConnectionError> {
        let mut piece = [0; 512];
        loop {
            self.unsent.extend(self.handshake.outgoing());
            while !self.unsent.is_empty() {
                match self.stream.write_now(&self.unsent).map_err(as_refusal)? {
                    Some(sent) => drop(self.unsent.drain(..sent)),
                    None => return Ok(Progress::Waits),
                }
            }
            let wanted = self.handshake.wants().min(piece.len());
            if wanted == 0 {
                break;
            }
            let Some(read) = self.stream.read_now(&mut piece[..wanted]).map_err(as_refusal)? else {
                return Ok(Progress::Waits);
            };
            if let Err(refusal) = self.handshake.feed(&piece[..read]) {
                // Tells the other side that it is refused. Whether that arrives does not matter.
                let _ = self.stream.write_now(&self.handshake.outgoing());
                return Err(ConnectionError::Refused(format!("{refusal:?}")));
            }
        }
        if self.handshake.succeeded() {
            Ok(Progress::Done)
        } else {
            Err(ConnectionError::Refused("the keys differ".into()))
        }
    }
}

/// Turns an error that the other side causes during the handshake into a refusal: it is no error of the listener.
pub(crate) fn as_refusal(error: ConnectionError) -> ConnectionError {
    match error {
        ConnectionError::Closed => ConnectionError::Refused("it closed the connection".into()),
        ConnectionError::Io(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            ConnectionError::Refused("it did not answer in time".into())
        }
        other => other,
    }
}
