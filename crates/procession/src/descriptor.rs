//! Descriptors in messages: files, sockets and pipes that travel to other processes.

use crate::process::keeper;
use crate::transit::{self, HandleBytes};
use procession_core::process::{FetchError, Ticket};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A file, a socket, the end of a pipe, or another owner of a descriptor, that can be sent to other processes.
///
/// An `Fd` may stand anywhere in a message: in a [`Queue`](crate::Queue), a [`channel`](crate::channel()), the arguments and the
/// value of a [`Process`](crate::Process), the tasks and values of a [`Pool`](crate::Pool). `T` is any type that owns a
/// descriptor: `File`, `TcpListener`, `TcpStream`, `UdpSocket`, the types of `std::os::unix::net`, `PipeReader`, `OwnedFd`, and
/// those of other crates.
///
/// ```
/// use procession::{Fd, Process};
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// fn serve(listener: Fd<TcpListener>) -> std::net::SocketAddr {
///     let (mut client, address) = listener.accept().unwrap();
///     client.write_all(b"hello").unwrap();
///     address
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let worker = Process::spawn(serve, Fd(listener))?;
///     let mut text = String::new();
///     client.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     assert_eq!(worker.join()?, client.local_addr()?);
///     Ok(())
/// }
/// ```
///
/// # Copies
///
/// Sending makes a copy of the descriptor, as `SCM_RIGHTS` (unix(7)) and `dup(2)` do: sender and receiver have two descriptors of
/// one open file, with one position and one set of status flags. The sender keeps its own until it drops it; a pipe, for
/// instance, ends only when all copies of its writing end are closed. The received descriptor is closed on `exec`. Every
/// decoding of a message makes one more copy: a pool that runs a task again finds the descriptor again, and all workers of a pool
/// can get it through the initializer.
///
/// Descriptors have no type. A receiver that decodes a message as another `T` gets the sender's descriptor in a `T`.
///
/// # In flight
///
/// While a message is in flight, a small process of the family, the *keeper*, has a copy of the descriptor. It is an instance of
/// this program that stops in [`init`](crate::init), which the first process that sends a descriptor starts. It ends by itself
/// when it keeps nothing any more. So the sender may end, or be killed, before its message arrives. The keeper closes the copy
/// when no process and no message refers to it: after the message was received, after it was discarded, after the queue was
/// dropped, after the receiver was killed with it. It does so at once where a receiver has decoded the message, and otherwise
/// within about half a second. If the keeper itself is killed, the descriptors in flight are lost: receivers then get an error
/// that says so, and the next sender starts a new keeper.
///
/// An `Fd` that is serialised outside of Procession (into a file, a socket, a [`Connection`](crate::Connection)) can be decoded
/// until this process ends, by processes that may open family memory.
///
/// # Errors
///
/// Sending fails with an [`EncodeError`](crate::EncodeError) if the program has not called [`init`](crate::init), if the keeper
/// cannot be started, or if too many descriptors are in flight for its limit. Receiving fails with a
/// [`DecodeError`](crate::DecodeError) if the keeper was killed, or if this process has no free descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fd<T>(pub T);

impl<T> Fd<T> {
    /// Returns the owner of the descriptor.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Fd<T> {
    fn from(owner: T) -> Fd<T> {
        Fd(owner)
    }
}

impl<T> Deref for Fd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Fd<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsFd> AsFd for Fd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsRawFd> AsRawFd for Fd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl<T: AsFd> Serialize for Fd<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ticket = keeper::keep(self.0.as_fd()).map_err(transit::refused)?;
        let handle = ticket.hold().handle();
        transit::register_in_transit(|| Ok(ticket.into_hold())).map_err(transit::refused)?;
        HandleBytes(handle).serialize(serializer)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Fd<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let HandleBytes(handle) = Deserialize::deserialize(deserializer)?;
        let ticket = Ticket::open(&handle).map_err(transit::unread)?;
        match ticket.fetch() {
            Ok(fd) => {
                transit::fetched(ticket.fetched());
                Ok(Fd(T::from(fd)))
            }
            Err(e) => {
                if let FetchError::Exhausted(_) = e {
                    transit::exhausted();
                }
                Err(transit::unread(e))
            }
        }
    }
}
