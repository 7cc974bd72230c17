//! Connections between programs that are no family, or not on one machine: in the wire format of Python's
//! `multiprocessing.connection`, by the core's frames and handshake.

use crate::error::{DecodeError, EncodeError};
use crate::message::{self, Message};
use crate::reception::{Reception, of_handshake};
use crate::value::Value;
use procession_core::connection::auth;
use procession_core::connection::frame::{Assembler, Head};
use procession_core::connection::handshake::Handshake;
use procession_core::message as encoding;
use procession_core::sys::memory::random_bytes;
use std::any::Any;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A handshake that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// So many bytes are read at a time.
const PIECE: usize = 64 << 10;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket of this path.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }
}

/// Something is wrong with a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side has closed it, or is gone.
    #[error("the connection was closed at the other end")]
    Closed,
    /// The other side does not know the key, or does not know that this one does.
    #[error("the other side was refused, or has refused: {0}")]
    Refused(String),
    /// The other side sends no frames, or one that is longer than may be.
    #[error("the other side sent something malformed, or more than may be in one message")]
    Malformed,
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What has come is no value of that type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Waits for programs to connect. Dropping it removes a Unix socket's path.
///
/// ```
/// use procession::{Client, Listener};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = Listener::bind_tcp("127.0.0.1:0", b"the secret")?;
/// let address = listener.address()?;
/// let client = std::thread::spawn(move || {
///     let server = Client::connect(&address, b"the secret").unwrap();
///     server.send(&("question".to_string(), 1u32)).unwrap();
///     server.recv::<bool>().unwrap()
/// });
/// let connection = listener.accept()?;
/// assert_eq!(connection.recv::<(String, u32)>()?.1, 1);
/// connection.send(&true)?;
/// assert!(client.join().unwrap());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    key: Vec<u8>,
    reception: Reception,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// Connects to a [`Listener`], of this crate or of Python's `multiprocessing`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Client;

/// A connection: messages both ways, whole and in order. Threads may use it at once; each message is one thread's.
///
/// Values travel by serde; a `Vec<u8>` as its bytes (`send_bytes` and `recv_bytes` in Python), a [`Value`] as what
/// Python's `send` and `recv` exchange.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// What is under way of the next message.
    incoming: Mutex<Assembler>,
    outgoing: Mutex<()>,
}

#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    /// Listens on a Unix socket of this path. `key`: what both sides have to know; empty: anybody may connect.
    ///
    /// # Errors
    /// There is something of that name, or it cannot be made.
    pub fn bind_unix(path: impl AsRef<Path>, key: &[u8]) -> io::Result<Listener> {
        let path = path.as_ref().to_owned();
        let socket = UnixListener::bind(&path)?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Socket::Unix(socket, path),
            key: key.to_vec(),
            reception: Reception::default(),
        })
    }

    /// Listens on a TCP address; port 0: one that is free. What is said can be read on the way, unless it stays on this machine.
    ///
    /// # Errors
    /// The address is in use, or not this machine's.
    pub fn bind_tcp(address: impl ToSocketAddrs, key: &[u8]) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Socket::Tcp(socket),
            key: key.to_vec(),
            reception: Reception::default(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Unix(_, path) => Ok(Address::Unix(path.clone())),
            Socket::Tcp(socket) => socket.local_addr().map(Address::Tcp),
        }
    }

    /// Waits for a program to connect, and makes sure that both know the key. A program that says nothing, or too little, is
    /// given up after ten seconds; meanwhile it keeps no other one waiting. Several threads may accept at a time.
    ///
    /// # Errors
    /// [`ConnectionError::Refused`] of one program: the next may be better. `Io`: no descriptor is free, say.
    pub fn accept(&self) -> Result<Connection, ConnectionError> {
        let socket = match &self.socket {
            Socket::Unix(socket, _) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        };
        let stream = self.reception.accept(socket, &self.key, || match &self.socket {
            Socket::Unix(socket, _) => Ok(Stream::Unix(socket.accept()?.0)),
            Socket::Tcp(socket) => Ok(Stream::Tcp(socket.accept()?.0)),
        })?;
        Connection::of(stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // An error is that somebody has removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Client {
    /// Connects to a listener, and makes sure that both know the key (empty: that none is asked for).
    ///
    /// # Errors
    /// Nobody listens there; [`ConnectionError::Refused`].
    pub fn connect(address: &Address, key: &[u8]) -> Result<Connection, ConnectionError> {
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect(address)?),
        };
        if !key.is_empty() {
            let mut nonce = [0; auth::NONCE];
            random_bytes(&mut nonce)?;
            agree(&stream, Handshake::of_client(key, &nonce))?;
            stream.set_limit(None)?;
        }
        Connection::of(stream)
    }
}

impl Connection {
    fn of(stream: Stream) -> Result<Connection, ConnectionError> {
        if let Stream::Tcp(stream) = &stream {
            // Messages go out whole, so there is nothing to wait for.
            stream.set_nodelay(true)?;
        }
        Ok(Connection {
            stream,
            incoming: Mutex::new(Assembler::new(isize::MAX.unsigned_abs())),
            outgoing: Mutex::new(()),
        })
    }

    /// Refuses messages of more than so many bytes from now on.
    #[must_use]
    pub fn with_limit(self, bytes: usize) -> Self {
        Connection {
            incoming: Mutex::new(Assembler::new(bytes)),
            ..self
        }
    }

    /// Sends a value, waiting until the system has taken it.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`], [`ConnectionError::Encode`], `Io`.
    pub fn send<T: Message>(&self, value: &T) -> Result<(), ConnectionError> {
        let any = value as &dyn Any;
        if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
            return self.send_bytes(bytes);
        }
        message::with_scratch(|scratch| {
            match any.downcast_ref::<Value>() {
                Some(value) => crate::pickle::write(value, scratch).map_err(EncodeError::of::<T>)?,
                None => message::write(value, scratch)?,
            }
            self.send_bytes(scratch)
        })
    }

    /// Waits for a value.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`], [`ConnectionError::Decode`] (the message is consumed), `Malformed`, `Io`.
    pub fn recv<T: Message>(&self) -> Result<T, ConnectionError> {
        let bytes = self.recv_bytes()?;
        let any = std::any::TypeId::of::<T>();
        let how = if any == std::any::TypeId::of::<Vec<u8>>() {
            encoding::BYTES
        } else if any == std::any::TypeId::of::<Value>() {
            encoding::PICKLE
        } else {
            encoding::POSTCARD
        };
        Ok(message::incoming(&bytes, how, None, Vec::new())?)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// As [`send`](Connection::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let _turn = self.outgoing.lock();
        send_frame(&self.stream, bytes)
    }

    /// Waits for bytes.
    ///
    /// # Errors
    /// As [`recv`](Connection::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, ConnectionError> {
        let mut incoming = self.incoming.lock().map_err(|_| ConnectionError::Malformed)?;
        let mut piece = vec![0; 32];
        loop {
            let wanted = incoming.wants().min(PIECE);
            if piece.len() < wanted {
                piece.resize(wanted, 0);
            }
            let read = self.stream.read(&mut piece[..wanted])?;
            if let Some(bytes) = incoming
                .feed(&piece[..read])
                .map_err(|_| ConnectionError::Malformed)?
            {
                return Ok(bytes);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

fn agree(stream: &Stream, mut handshake: Handshake) -> Result<(), ConnectionError> {
    let mut piece = [0; 512];
    let end = Instant::now() + PATIENCE;
    loop {
        // All of it has its time, and not each byte: one at a time would hold us up for an hour.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectionError::Refused("it takes too long".into()));
        }
        stream.set_limit(Some(left))?;
        stream.write_all(&handshake.outgoing()).map_err(of_handshake)?;
        let wanted = handshake.wants().min(piece.len());
        if wanted == 0 {
            break;
        }
        let read = stream.read(&mut piece[..wanted]).map_err(of_handshake)?;
        if let Err(refusal) = handshake.feed(&piece[..read]) {
            // It is told so; whether that arrives is all the same.
            let _ = stream.write_all(&handshake.outgoing());
            return Err(ConnectionError::Refused(format!("{refusal:?}")));
        }
    }
    if handshake.succeeded() {
        Ok(())
    } else {
        Err(ConnectionError::Refused("the keys differ".into()))
    }
}

fn none_yet(moved: Result<usize, ConnectionError>) -> Result<Option<usize>, ConnectionError> {
    match moved {
        Err(ConnectionError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        moved => moved.map(Some),
    }
}

fn send_frame(stream: &Stream, bytes: &[u8]) -> Result<(), ConnectionError> {
    let head = Head::of(bytes.len());
    let (mut head, mut body) = (head.as_bytes(), bytes);
    while !head.is_empty() || !body.is_empty() {
        let sent = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
        let of_head = sent.min(head.len());
        head = &head[of_head..];
        body = &body[sent - of_head..];
    }
    Ok(())
}

impl Stream {
    fn set_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream
                .set_read_timeout(limit)
                .and_then(|()| stream.set_write_timeout(limit)),
            Stream::Tcp(stream) => stream
                .set_read_timeout(limit)
                .and_then(|()| stream.set_write_timeout(limit)),
        }
    }

    /// Whether reading and writing wait.
    pub(crate) fn set_waiting(&self, waiting: bool) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_nonblocking(!waiting),
            Stream::Tcp(stream) => stream.set_nonblocking(!waiting),
        }
    }

    /// What is there, of a stream that does not wait; None if there is nothing.
    pub(crate) fn read_now(&self, into: &mut [u8]) -> Result<Option<usize>, ConnectionError> {
        none_yet(self.read(into))
    }

    /// How much there was room for, in a stream that does not wait; None if there was none.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> Result<Option<usize>, ConnectionError> {
        none_yet(self.write_vectored(&[IoSlice::new(bytes)]))
    }

    /// At least one byte.
    fn read(&self, into: &mut [u8]) -> Result<usize, ConnectionError> {
        loop {
            let read = match self {
                Stream::Unix(stream) => (&*stream).read(into),
                Stream::Tcp(stream) => (&*stream).read(into),
            };
            match read {
                Ok(0) => return Err(ConnectionError::Closed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(ConnectionError::Closed),
                read => return Ok(read?),
            }
        }
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> Result<usize, ConnectionError> {
        loop {
            let sent = match self {
                Stream::Unix(stream) => (&*stream).write_vectored(pieces),
                Stream::Tcp(stream) => (&*stream).write_vectored(pieces),
            };
            match sent {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Err(ConnectionError::Closed);
                }
                sent => return Ok(sent?),
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            let sent = self.write_vectored(&[IoSlice::new(bytes)])?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}
