//! Reads and writes streams (pipes and stream sockets), with or without waiting, and waits for several of them.
//!
//! Other threads and processes use the same open file and expect it to block. So `O_NONBLOCK`, which belongs to the
//! open file, is never set; each call asks not to wait by itself: `MSG_DONTWAIT` for sockets, `RWF_NOWAIT` for pipes.
//! A file that supports neither (a terminal, a pipe of an old kernel) is never tried without waiting.
//!
//! # References
//!  - [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html), [send(2)](https://man7.org/linux/man-pages/man2/send.2.html)
//!  - [preadv2(2)](https://man7.org/linux/man-pages/man2/preadv2.2.html)

use super::clock::Deadline;
use super::descriptor::both_clear_of_streams;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::IoSlice;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// The kind of file that a descriptor names. Zero is "not known yet"; the first call finds it out.
#[derive(Debug, Default)]
pub struct Kind(AtomicU8);

const SOCKET: u8 = 1;
const PIPE: u8 = 2;
const OTHER: u8 = 3;

impl Kind {
    /// Forgets the kind, because the descriptor names another file now.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns whether this error shows that the file is of another kind, so that the caller tries the next one.
    fn mistaken(&self, tried: u8, errno: Errno) -> bool {
        let next = match (tried, errno) {
            (SOCKET, Errno::NOTSOCK) => PIPE,
            (PIPE, Errno::OPNOTSUPP | Errno::SPIPE | Errno::INVAL) => OTHER,
            // An old kernel, or a sandbox whose list of allowed system calls lacks these.
            (PIPE, Errno::NOSYS | Errno::PERM | Errno::ACCESS) => OTHER,
            _ => return false,
        };
        self.0.store(next, Ordering::Relaxed);
        true
    }

    fn get(&self) -> u8 {
        match self.0.load(Ordering::Relaxed) {
            0 => SOCKET,
            known => known,
        }
    }

    fn found(&self, kind: u8) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(kind, Ordering::Relaxed);
        }
    }
}

fn outcome(returned: isize) -> Result<usize, Errno> {
    usize::try_from(returned)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Reads the bytes that are available, at most `into.len()`, without waiting: `EAGAIN` if there are none. 0 means the
/// end.
///
/// # Errors
/// The error of the system call, `EINTR` included.
#[inline]
pub fn read_now(fd: RawFd, kind: &Kind, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let got = match tried {
            // SAFETY: `into` is writable memory of this length.
            SOCKET => unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) },
            PIPE => {
                let slice = libc::iovec {
                    iov_base: into.as_mut_ptr().cast(),
                    iov_len: into.len(),
                };
                // SAFETY: one iovec that describes writable memory and outlives the call; position -1 reads like
                // `read`.
                unsafe { libc::preadv2(fd, &raw const slice, 1, -1, libc::RWF_NOWAIT) }
            }
            _ => return Err(Errno::AGAIN),
        };
        match outcome(got) {
            Err(errno) if kind.mistaken(tried, errno) => {}
            answer => {
                kind.found(tried);
                return answer;
            }
        }
    }
}

/// Reads the bytes that are available. Waits if there are none. 0 means the end.
///
/// # Errors
/// The error of the system call. `EINTR`: a signal arrived while there was nothing to read. `EAGAIN`: another user
/// has made the file non-blocking; see [`ready`].
#[inline]
pub fn read(fd: RawFd, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    // SAFETY: `into` is writable memory of this length.
    outcome(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) })
}

/// Writes the pieces one after the other, or as many bytes as there is room for, without waiting: `EAGAIN` if there
/// is no room.
///
/// # Errors
/// The error of the system call. A socket reports `EPIPE` without the signal SIGPIPE.
#[inline]
pub fn write_now(fd: RawFd, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, libc::MSG_DONTWAIT),
            // SAFETY: the slices are readable memory, and an `IoSlice` has the layout of an iovec; position -1 writes
            // like `write`.
            PIPE => unsafe {
                libc::pwritev2(
                    fd,
                    pieces.as_ptr().cast(),
                    pieces.len() as i32,
                    -1,
                    libc::RWF_NOWAIT,
                )
            },
            _ => return Err(Errno::AGAIN),
        };
        match outcome(sent) {
            Err(errno) if kind.mistaken(tried, errno) => {}
            answer => {
                kind.found(tried);
                return answer;
            }
        }
    }
}

/// Writes the pieces one after the other, or a part of them. Waits for room.
///
/// # Errors
/// See [`read`]; a socket reports `EPIPE` without the signal SIGPIPE.
pub fn write(fd: RawFd, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, 0),
            // SAFETY: the slices are readable memory, and an `IoSlice` has the layout of an iovec.
            _ => unsafe { libc::writev(fd, pieces.as_ptr().cast(), pieces.len() as i32) },
        };
        match outcome(sent) {
            Err(errno) if tried == SOCKET && kind.mistaken(tried, errno) => {}
            answer => return answer,
        }
    }
}

fn send(fd: RawFd, pieces: &[IoSlice<'_>], flags: i32) -> isize {
    let flags = flags | libc::MSG_NOSIGNAL;
    if let [piece] = pieces {
        // SAFETY: the slice is readable memory of this length.
        return unsafe { libc::send(fd, piece.as_ptr().cast(), piece.len(), flags) };
    }
    // SAFETY: all zeros are a valid message header: no address, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len();
    // SAFETY: the message points to slices of readable memory (an `IoSlice` has the layout of an iovec), which
    // sending does not change.
    unsafe { libc::sendmsg(fd, &raw const message, flags) }
}

/// Enlarges a pipe's buffer to `bytes`, if it is smaller and the system allows it. Only speed depends on it.
///
/// # References
///  - [F_SETPIPE_SZ](https://man7.org/linux/man-pages/man2/F_SETPIPE_SZ.2const.html)
pub fn widen_pipe(fd: RawFd, bytes: i32) {
    // SAFETY: the calls take numbers only.
    unsafe {
        if libc::fcntl(fd, libc::F_GETPIPE_SZ) < bytes {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes);
        }
    }
}

/// `pipe2(O_CLOEXEC)`: returns the reading end and the writing end.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pipe() -> Result<(RawFd, RawFd), Errno> {
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    numbers(ends)
}

/// `socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)`: creates two connected stream sockets.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn socket_pair() -> Result<(RawFd, RawFd), Errno> {
    let ends = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    numbers(ends)
}

/// Passes two descriptors to the caller as numbers that do not belong to standard streams.
fn numbers(ends: (OwnedFd, OwnedFd)) -> Result<(RawFd, RawFd), Errno> {
    let ends = both_clear_of_streams(ends).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE))?;
    Ok((ends.0.into_raw_fd(), ends.1.into_raw_fd()))
}

/// `close`: closes the descriptor. The number is free afterwards, whatever is returned.
///
/// # Errors
/// `EBADF`, and errors that the file system reports.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes a number only; the caller guarantees that it owns the descriptor.
    outcome(unsafe { libc::close(fd) } as isize).map(drop)
}

/// A descriptor and the events to wait for, in the kernel's layout.
pub type Awaited = libc::pollfd;

/// Event: there is something to read, or the end was reached.
pub const READABLE: i16 = libc::POLLIN;
/// Event: there is room to write.
pub const WRITABLE: i16 = libc::POLLOUT;

/// `ppoll`: waits until one of the descriptors has an awaited event or is broken. Returns how many do; their
/// `revents` tell which events. 0: the deadline passed.
///
/// # Errors
/// `EINTR`, `ENOMEM`, `EINVAL`.
///
/// # References
///  - [ppoll(2)](https://man7.org/linux/man-pages/man2/ppoll.2.html)
pub fn ready(awaited: &mut [Awaited], deadline: Deadline) -> Result<usize, Errno> {
    let left = deadline.left().map(|left| libc::timespec {
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let limit = left.as_ref().map_or(core::ptr::null(), |left| &raw const *left);
    let count = awaited.len() as libc::nfds_t;
    // SAFETY: `awaited` has `count` entries that the call may write to; a null mask leaves the signal mask unchanged.
    outcome(unsafe { libc::ppoll(awaited.as_mut_ptr(), count, limit, core::ptr::null()) } as isize)
}
