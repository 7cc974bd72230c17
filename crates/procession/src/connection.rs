//! Connections between programs of different families, or on different machines. They use the wire format of Python's
//! `multiprocessing.connection`, by the core's frames and handshake.

use crate::accept::{Handshakes, as_refusal};
use crate::error::{ConnectionError, EncodeError};
use crate::message::{self, Message};
use crate::value::Value;
use procession_core::connection::auth;
use procession_core::connection::frame::{Assembler, Head};
use procession_core::connection::handshake::Handshake;
use procession_core::family::waits::{What, recorded};
use procession_core::message as encoding;
use procession_core::sys::clock::Deadline;
use procession_core::sys::memory::random_bytes;
use std::any::Any;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a handshake may take, as `Listener.HANDSHAKE_TIMEOUT` of Python.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// The most bytes that one read asks for.
const PIECE: usize = 64 << 10;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The address of a TCP socket.
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

/// Listens for programs that connect. Dropping it removes the path of a Unix socket.
///
/// A [`Client`] of this crate or of Python's `multiprocessing` can connect.
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
    handshakes: Handshakes,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// Connects to a [`Listener`] of this crate or of Python's `multiprocessing`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Client;

/// A connection, on which each side sends messages to the other. Messages arrive whole and in order. Several threads may send
/// and receive at once; each message is received by one thread.
///
/// Values travel by serde. A `Vec<u8>` travels as its bytes, as with Python's `send_bytes` and `recv_bytes`. A [`Value`]
/// travels as a pickle, as with Python's `send` and `recv`.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// The part of the next message that has arrived.
    incoming: Mutex<Assembler>,
    outgoing: Mutex<()>,
}

#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    /// Listens on a Unix socket at `path`. Both sides must know `key`; with an empty key, every program may connect.
    ///
    /// # Errors
    /// The path exists, or cannot be created.
    pub fn bind_unix(path: impl AsRef<Path>, key: &[u8]) -> io::Result<Listener> {
        let path = path.as_ref().to_owned();
        let socket = UnixListener::bind(&path)?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Socket::Unix(socket, path),
            key: key.to_vec(),
            handshakes: Handshakes::default(),
        })
    }

    /// Listens on a TCP address. Port 0 stands for a free port. Both sides must know `key`; with an empty key, every
    /// program may connect. Messages are not encrypted.
    ///
    /// # Errors
    /// The address is in use, or is not an address of this machine.
    pub fn bind_tcp(address: impl ToSocketAddrs, key: &[u8]) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Socket::Tcp(socket),
            key: key.to_vec(),
            handshakes: Handshakes::default(),
        })
    }

    /// Gives each program `limit` instead of 20 seconds to complete its handshake. Python's `Listener` has the attribute
    /// `HANDSHAKE_TIMEOUT` for this.
    #[must_use]
    pub fn with_handshake_limit(mut self, limit: Duration) -> Listener {
        self.handshakes.limit = limit;
        self
    }

    /// Returns the address on which this listens.
    ///
    /// # Errors
    /// The system call fails.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Unix(_, path) => Ok(Address::Unix(path.clone())),
            Socket::Tcp(socket) => socket.local_addr().map(Address::Tcp),
        }
    }

    /// Waits for a program to connect, and checks in a handshake that both sides know the key. A program that does not
    /// complete the handshake within 20 seconds ([`Listener::with_handshake_limit`]) is refused; meanwhile others can connect. Several threads may accept
    /// at once.
    ///
    /// # Errors
    /// [`ConnectionError::Refused`]: one program was refused, and the next call may succeed. [`ConnectionError::Io`]: no
    /// descriptor is free, for example.
    pub fn accept(&self) -> Result<Connection, ConnectionError> {
        loop {
            if let Some(connection) = self.accept_one(true)? {
                return Ok(connection);
            }
        }
    }

    /// Returns a connection whose handshake is complete; None if there is none now. It never waits for the program at the other
    /// side: it accepts the programs that have connected, and continues their handshakes as far as these have answered. It also
    /// returns None while another thread is in [`accept`](Listener::accept).
    ///
    /// [`Select::accept`](crate::Select::accept) says when to call it again. A program whose time for the handshake is over is
    /// refused by the next call.
    ///
    /// # Errors
    /// Those of [`accept`](Listener::accept).
    ///
    /// ```
    /// use procession::{Client, Listener, Select};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = Listener::bind_tcp("127.0.0.1:0", b"the secret")?;
    /// assert!(listener.try_accept()?.is_none());
    /// let address = listener.address()?;
    /// let client = std::thread::spawn(move || Client::connect(&address, b"the secret").is_ok());
    /// let mut select = Select::new();
    /// select.accept(&listener)?;
    /// let _connection = loop {
    ///     select.ready();
    ///     if let Some(connection) = listener.try_accept()? {
    ///         break connection;
    ///     }
    /// };
    /// assert!(client.join().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_accept(&self) -> Result<Option<Connection>, ConnectionError> {
        self.accept_one(false)
    }

    fn accept_one(&self, waits: bool) -> Result<Option<Connection>, ConnectionError> {
        let next = || match &self.socket {
            Socket::Unix(socket, _) => Ok(Stream::Unix(socket.accept()?.0)),
            Socket::Tcp(socket) => Ok(Stream::Tcp(socket.accept()?.0)),
        };
        let accepted = self.handshakes.accept(self.as_fd(), &self.key, waits, next)?;
        accepted.map(Connection::new).transpose()
    }

    /// Returns a descriptor that is readable when an attempt to accept has something to do.
    pub(crate) fn news(&self) -> io::Result<BorrowedFd<'_>> {
        self.handshakes.news(self.as_fd())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // This fails only if the path was removed already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Client {
    /// Connects to a listener, and checks in a handshake that both sides know `key`. With an empty key there is no handshake.
    ///
    /// # Errors
    /// [`ConnectionError::Io`] if no program listens at the address; [`ConnectionError::Refused`] if the keys differ.
    pub fn connect(address: &Address, key: &[u8]) -> Result<Connection, ConnectionError> {
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect(address)?),
        };
        if !key.is_empty() {
            let mut nonce = [0; auth::NONCE];
            random_bytes(&mut nonce)?;
            agree(&stream, Handshake::client(key, &nonce))?;
            stream.set_limit(None)?;
        }
        Connection::new(stream)
    }
}

impl Connection {
    fn new(stream: Stream) -> Result<Connection, ConnectionError> {
        if let Stream::Tcp(stream) = &stream {
            // A message is written as a whole, so the kernel need not wait for more of it (TCP_NODELAY, tcp(7)).
            stream.set_nodelay(true)?;
        }
        Ok(Connection {
            stream,
            incoming: Mutex::new(Assembler::new(isize::MAX.unsigned_abs())),
            outgoing: Mutex::new(()),
        })
    }

    /// Limits received messages to `bytes` bytes. A longer message is [`ConnectionError::Malformed`].
    #[must_use]
    pub fn with_limit(self, bytes: usize) -> Self {
        Connection {
            incoming: Mutex::new(Assembler::new(bytes)),
            ..self
        }
    }

    /// Sends a value, and waits until the kernel has taken it.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`], [`ConnectionError::Encode`], [`ConnectionError::Io`].
    pub fn send<T: Message>(&self, value: &T) -> Result<(), ConnectionError> {
        let any = value as &dyn Any;
        if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
            return self.send_bytes(bytes);
        }
        message::with_scratch(|scratch| {
            match any.downcast_ref::<Value>() {
                Some(value) => crate::pickle::write(value, crate::pickle::Memory::Within, scratch)
                    .map_err(EncodeError::new::<T>)?,
                None => message::write(value, scratch)?,
            }
            self.send_bytes(scratch)
        })
    }

    /// Waits for a message, and decodes it.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`], [`ConnectionError::Decode`] (the message is consumed), [`ConnectionError::Malformed`],
    /// [`ConnectionError::Io`].
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

    /// Sends bytes as one message.
    ///
    /// # Errors
    /// Those of [`send`](Connection::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let _turn = self.outgoing.lock();
        send_frame(&self.stream, bytes)
    }

    /// Waits for a message, and returns its bytes.
    ///
    /// # Errors
    /// Those of [`recv`](Connection::recv).
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

/// The descriptor of the listening socket, readable when a program connects.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket, _) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
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
    let end = Instant::now() + HANDSHAKE_LIMIT;
    loop {
        // The time limit is for the whole handshake. A limit for each byte would let a slow peer take an hour.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectionError::Refused(
                "it did not complete the handshake in time".into(),
            ));
        }
        stream.set_limit(Some(left))?;
        stream.write_all(&handshake.outgoing()).map_err(as_refusal)?;
        let wanted = handshake.wants().min(piece.len());
        if wanted == 0 {
            break;
        }
        let read = stream.read(&mut piece[..wanted]).map_err(as_refusal)?;
        if let Err(refusal) = handshake.feed(&piece[..read]) {
            // Tells the other side that it is refused. Whether that arrives does not matter.
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
    let head = Head::for_len(bytes.len());
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

    /// Sets whether reads and writes wait.
    pub(crate) fn set_waiting(&self, waiting: bool) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_nonblocking(!waiting),
            Stream::Tcp(stream) => stream.set_nonblocking(!waiting),
        }
    }

    /// Reads from a stream that does not wait. None if nothing has arrived.
    pub(crate) fn read_now(&self, into: &mut [u8]) -> Result<Option<usize>, ConnectionError> {
        none_yet(self.read(into))
    }

    /// Writes to a stream that does not wait. Returns how many bytes there was room for; None if there was none.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> Result<Option<usize>, ConnectionError> {
        none_yet(self.write_vectored(&[IoSlice::new(bytes)]))
    }

    /// Reads at least one byte.
    fn read(&self, into: &mut [u8]) -> Result<usize, ConnectionError> {
        let waits_for = (What::Receive, self.as_fd().as_raw_fd() as u64);
        loop {
            let read = recorded(
                waits_for,
                Deadline::NEVER,
                |_| false,
                || match self {
                    Stream::Unix(stream) => (&*stream).read(into),
                    Stream::Tcp(stream) => (&*stream).read(into),
                },
            );
            match read {
                Ok(0) => return Err(ConnectionError::Closed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(ConnectionError::Closed),
                read => return Ok(read?),
            }
        }
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> Result<usize, ConnectionError> {
        let waits_for = (What::Send, self.as_fd().as_raw_fd() as u64);
        loop {
            let sent = recorded(
                waits_for,
                Deadline::NEVER,
                |_| false,
                || match self {
                    Stream::Unix(stream) => (&*stream).write_vectored(pieces),
                    Stream::Tcp(stream) => (&*stream).write_vectored(pieces),
                },
            );
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
