//! Sends descriptors to another process, in packets of a `SOCK_SEQPACKET` socket with `SCM_RIGHTS`.
//!
//! A packet arrives whole or not at all, even from a sender that is killed: the kernel queues it, with a reference to
//! every file that it carries, in one step. If a receiver is killed after it took a packet, the packet and its files
//! are lost. If the receiving socket is closed, the kernel drops the queued packets with their files.
//!
//! One case is easy to overlook: if the *receiver* has no free number for a descriptor, the packet arrives without
//! the descriptor and with the flag `MSG_CTRUNC`. This module reports that case as an error of its own.

use super::descriptor::{both_clear_of_streams, clear_of_streams};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;

/// Maximum number of descriptors that the kernel accepts in one packet (`SCM_MAX_FD`).
pub const MOST: usize = 253;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST));

/// A received packet. Its bytes are in the buffer that the caller passed.
#[derive(Debug)]
pub struct Packet {
    /// Number of bytes. A packet of 0 bytes without descriptors means the end: no process can send any more.
    pub len: usize,
    /// The descriptors that came with it; they are not inherited by `exec`.
    pub fds: Vec<OwnedFd>,
}

/// Why a packet could not be sent or received.
#[derive(Debug)]
#[non_exhaustive]
pub enum PassError {
    /// The packet arrived, but this process has too few free numbers for its descriptors (`EMFILE`).
    OutOfDescriptors {
        /// Number of bytes of the packet in the buffer.
        len: usize,
        /// The descriptors that arrived, in the order in which they were sent. Dropping them closes them.
        arrived: Vec<OwnedFd>,
    },
    /// The packet was longer than the buffer; the rest of it and its descriptors are lost.
    TooLong,
    /// More than [`MOST`] descriptors were to be sent.
    TooMany(usize),
    /// The system call failed.
    Os(io::Error),
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassError::OutOfDescriptors { .. } => f.write_str(
                "this process has no free file descriptors left to receive others (raise its limit, `ulimit -n`)",
            ),
            PassError::TooLong => f.write_str("a packet was longer than this protocol allows"),
            PassError::TooMany(count) => write!(f, "{count} descriptors in one message: at most {MOST} can be sent"),
            PassError::Os(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for PassError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PassError::Os(e) => Some(e),
            _ => None,
        }
    }
}

impl From<PassError> for io::Error {
    fn from(error: PassError) -> io::Error {
        match error {
            PassError::Os(e) => e,
            PassError::OutOfDescriptors { .. } => Errno::MFILE.into(),
            PassError::TooLong => Errno::MSGSIZE.into(),
            PassError::TooMany(_) => Errno::INVAL.into(),
        }
    }
}

impl From<Errno> for PassError {
    fn from(errno: Errno) -> PassError {
        PassError::Os(errno.into())
    }
}

/// `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)`: creates two connected sockets that keep packet
/// boundaries.
///
/// # References
///  - [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html)
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    both_clear_of_streams(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// `sendmsg(socket, {bytes, SCM_RIGHTS fds}, MSG_NOSIGNAL)`: sends one packet. Waits while the socket is full.
///
/// # Errors
/// [`PassError::TooMany`], or [`PassError::Os`]: `EPIPE` or `ECONNRESET` if every receiving end is closed.
///
/// # References
///  - [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html)
///  - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PassError> {
    send_with(socket.as_fd(), bytes, fds, SendFlags::NOSIGNAL)
}

/// `sendmsg(…, MSG_NOSIGNAL | MSG_DONTWAIT)`: sends one packet, or returns `EAGAIN` if the socket is full.
///
/// # Errors
/// See [`send`].
pub fn send_now(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PassError> {
    send_with(
        socket.as_fd(),
        bytes,
        fds,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), PassError> {
    if fds.len() > MOST {
        return Err(PassError::TooMany(fds.len()));
    }
    if bytes.is_empty() {
        // The receiver would take an empty packet for the end.
        return Err(Errno::INVAL.into());
    }
    loop {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(PassError::TooMany(fds.len()));
        }
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// `recvmsg(socket, …, MSG_CMSG_CLOEXEC)`: receives one packet. Waits until there is one.
///
/// # Errors
/// [`PassError::OutOfDescriptors`], [`PassError::TooLong`] or [`PassError::Os`]. Only after [`PassError::Os`] is the
/// packet still in the socket.
///
/// # References
///  - [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html)
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> Result<Packet, PassError> {
    recv_with(socket.as_fd(), buffer, RecvFlags::CMSG_CLOEXEC)
}

/// `recvmsg(…, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)`: receives one packet, or returns `EAGAIN` if there is none.
///
/// # Errors
/// See [`recv`].
pub fn recv_now(socket: impl AsFd, buffer: &mut [u8]) -> Result<Packet, PassError> {
    recv_with(
        socket.as_fd(),
        buffer,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )
}

fn recv_with(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> Result<Packet, PassError> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            answer => break answer?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                fds.push(clear_of_streams(fd).map_err(PassError::Os)?);
            }
        }
    }
    let len = received.bytes.min(buffer.len());
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(PassError::OutOfDescriptors { len, arrived: fds });
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(PassError::TooLong);
    }
    Ok(Packet { len, fds })
}
