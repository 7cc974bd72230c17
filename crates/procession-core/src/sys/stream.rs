//! Reading and writing streams (pipes and stream sockets), at once or with waiting, and waiting for many of them.
//!
//! Others use the same open file at the same time, in this process or another, and expect it to block. So `O_NONBLOCK`,
//! which belongs to the file, is never set; "at once" is asked of each call: `MSG_DONTWAIT` of sockets, `RWF_NOWAIT` of
//! pipes. What knows neither (a terminal, an old kernel's pipe) is never tried at once.
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

/// What a descriptor was found to be. Zero is "not known yet"; finding out is a part of the first call.
#[derive(Debug, Default)]
pub struct Kind(AtomicU8);

const SOCKET: u8 = 1;
const PIPE: u8 = 2;
const OTHER: u8 = 3;

impl Kind {
    /// Forgets it: the descriptor is another one now.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the other way of calling is to be tried after this error.
    fn mistaken(&self, tried: u8, errno: Errno) -> bool {
        let next = match (tried, errno) {
            (SOCKET, Errno::NOTSOCK) => PIPE,
            (PIPE, Errno::OPNOTSUPP | Errno::SPIPE | Errno::INVAL) => OTHER,
            // An old kernel, or a sandbox whose list of system calls is older than these.
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

/// Reads what there is, at most as much as `into` holds, without waiting: `EAGAIN` if there is nothing. 0 is the end.
///
/// # Errors
/// What the system call says; `EINTR` included.
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
                // SAFETY: one slice of writable memory; position -1 is "as read does".
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

/// Reads what there is, waiting for it if there is nothing. 0 is the end.
///
/// # Errors
/// What the system call says. `EINTR`: a signal came while there was nothing. `EAGAIN`: somebody has made the file
/// non-blocking; see [`ready`].
#[inline]
pub fn read(fd: RawFd, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    // SAFETY: `into` is writable memory of this length.
    outcome(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) })
}

/// Writes the pieces one after the other, or as much of them as there is room for, without waiting: `EAGAIN` if there
/// is none.
///
/// # Errors
/// What the system call says. `EPIPE` from a socket comes without the signal.
#[inline]
pub fn write_now(fd: RawFd, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, libc::MSG_DONTWAIT),
            // SAFETY: slices of readable memory, and an IoSlice is an iovec; position -1 is "as write does".
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

/// Writes the pieces one after the other, or a part of them, waiting for room.
///
/// # Errors
/// As [`read`]; `EPIPE` from a socket comes without the signal.
pub fn write(fd: RawFd, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, 0),
            // SAFETY: slices of readable memory, and an IoSlice is an iovec.
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
        // SAFETY: readable memory of this length.
        return unsafe { libc::send(fd, piece.as_ptr().cast(), piece.len(), flags) };
    }
    // SAFETY: all zeros are a valid message header: no address, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len();
    // SAFETY: the message points to slices of readable memory (an IoSlice is an iovec), which sending does not change.
    unsafe { libc::sendmsg(fd, &raw const message, flags) }
}

/// Has a pipe hold so many bytes, if it holds fewer and the system lets us. Nothing depends on it but speed.
///
/// # References
///  - [F_SETPIPE_SZ](https://man7.org/linux/man-pages/man2/F_SETPIPE_SZ.2const.html)
pub fn widen_pipe(fd: RawFd, bytes: i32) {
    // SAFETY: numbers only.
    unsafe {
        if libc::fcntl(fd, libc::F_GETPIPE_SZ) < bytes {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes);
        }
    }
}

/// `pipe2(O_CLOEXEC)` — the end that is read from, the end that is written to.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pipe() -> Result<(RawFd, RawFd), Errno> {
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    numbers(ends)
}

/// `socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)` — two connected stream sockets.
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

/// Hands two descriptors to the caller, by numbers that are not those of standard streams.
fn numbers(ends: (OwnedFd, OwnedFd)) -> Result<(RawFd, RawFd), Errno> {
    let ends = both_clear_of_streams(ends).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE))?;
    Ok((ends.0.into_raw_fd(), ends.1.into_raw_fd()))
}

/// `close` — the number is free afterwards, whatever is returned.
///
/// # Errors
/// `EBADF`, and what the file system has to report.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: a number; whose it is, is the caller's affair.
    outcome(unsafe { libc::close(fd) } as isize).map(drop)
}

/// A descriptor to wait for, and for what. The kernel's own layout.
pub type Awaited = libc::pollfd;

/// What to wait for: that there is something to read, or the end of it.
pub const READABLE: i16 = libc::POLLIN;
/// What to wait for: that there is room to write.
pub const WRITABLE: i16 = libc::POLLOUT;

/// `ppoll` — waits until one of these is as awaited or is broken in some way; how many are. Each one's `revents` tells.
/// 0: the deadline came.
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
    // SAFETY: that many entries, ours to write to; the signal mask stays as it is.
    outcome(unsafe { libc::ppoll(awaited.as_mut_ptr(), count, limit, core::ptr::null()) } as isize)
}
