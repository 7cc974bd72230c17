//! Reads and writes streams (pipes and stream sockets), at once or waiting, and waits for many of them.
//!
//! Other threads and processes use the same open file at the same time and expect it to block. `O_NONBLOCK` belongs to
//! the open file, so it is never set. Each call asks for "at once" instead: `MSG_DONTWAIT` for sockets, `RWF_NOWAIT` for
//! pipes. A descriptor that supports neither (a terminal, a pipe on an old kernel) is never tried at once.
//!
//! # References
//!  - [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html), [send(2)](https://man7.org/linux/man-pages/man2/send.2.html)
//!  - [preadv2(2)](https://man7.org/linux/man-pages/man2/preadv2.2.html)

use super::clock::Deadline;
use super::descriptor::both_clear_of_streams;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

/// What kind of file a descriptor names, as the calls so far have shown. 0: not known yet; the first call finds out.
#[derive(Debug, Default)]
pub struct Kind(AtomicU8);

const SOCKET: u8 = 1;
const PIPE: u8 = 2;
const OTHER: u8 = 3;

/// The offset that makes `preadv2` and `pwritev2` use the file's own position, as `read` and `write` do.
const OWN_POSITION: u64 = u64::MAX;

impl Kind {
    /// Forgets what was found, because the descriptor is replaced by another one.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns whether `errno` means that the descriptor is not of the kind `tried`. Notes the kind to try next.
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

/// Reads what is available into `into`, without waiting. Returns the number of bytes, which `into` then begins with; 0 is
/// the end of the stream.
///
/// # Errors
/// `EAGAIN` if nothing is available; otherwise the error of the system call, `EINTR` included.
#[inline]
pub fn read_now(fd: BorrowedFd<'_>, kind: &Kind, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let got = match tried {
            SOCKET => rustix::net::recv(fd, &mut *into, RecvFlags::DONTWAIT).map(|((read, _), _)| read.len()),
            PIPE => read_pipe_now(fd, into),
            _ => return Err(Errno::AGAIN),
        };
        match got {
            Err(errno) if kind.mistaken(tried, errno) => {}
            answer => {
                kind.found(tried);
                return answer;
            }
        }
    }
}

/// `preadv2(RWF_NOWAIT)` at the file's own position.
fn read_pipe_now(fd: BorrowedFd<'_>, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    let slice = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: the one slice describes `into`, which this call may write to; the kernel keeps no pointer to it. (rustix's
    // preadv2 takes initialised memory only.)
    let got = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const slice, 1, -1, libc::RWF_NOWAIT) };
    usize::try_from(got)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Reads what is available into `into`, and waits if nothing is. Returns the number of bytes; 0 is the end of the stream.
///
/// # Errors
/// `EINTR` if a signal came before any byte. `EAGAIN` if another user of the file made it non-blocking: wait with
/// [`ready`]. Otherwise the error of the system call.
#[inline]
pub fn read(fd: BorrowedFd<'_>, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    rustix::io::read(fd, into).map(|(read, _)| read.len())
}

/// Writes the pieces one after the other, as far as there is room, without waiting. Returns the number of bytes written.
///
/// # Errors
/// `EAGAIN` if there is no room; otherwise the error of the system call. A socket reports `EPIPE` without SIGPIPE.
#[inline]
pub fn write_now(fd: BorrowedFd<'_>, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, SendFlags::DONTWAIT),
            PIPE => rustix::io::pwritev2(fd, pieces, OWN_POSITION, ReadWriteFlags::NOWAIT),
            _ => return Err(Errno::AGAIN),
        };
        match sent {
            Err(errno) if kind.mistaken(tried, errno) => {}
            answer => {
                kind.found(tried);
                return answer;
            }
        }
    }
}

/// Writes the pieces one after the other, and waits for room. Returns the number of bytes written, which may be a part.
///
/// # Errors
/// `EINTR` if a signal came before any byte was written. `EAGAIN` if another user of the file made it non-blocking: wait
/// with [`ready`]. A socket reports `EPIPE` without SIGPIPE. Otherwise the error of the system call.
pub fn write(fd: BorrowedFd<'_>, kind: &Kind, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let tried = kind.get();
        let sent = match tried {
            SOCKET => send(fd, pieces, SendFlags::empty()),
            _ => rustix::io::writev(fd, pieces),
        };
        match sent {
            Err(errno) if tried == SOCKET && kind.mistaken(tried, errno) => {}
            answer => return answer,
        }
    }
}

fn send(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>], flags: SendFlags) -> Result<usize, Errno> {
    let flags = flags | SendFlags::NOSIGNAL;
    match pieces {
        [piece] => rustix::net::send(fd, piece, flags),
        pieces => rustix::net::sendmsg(fd, pieces, &mut SendAncillaryBuffer::default(), flags),
    }
}

/// Enlarges the buffer of a pipe to `bytes`, if it is smaller and the system allows it. Only speed depends on it.
///
/// # References
///  - [F_SETPIPE_SZ](https://man7.org/linux/man-pages/man2/F_SETPIPE_SZ.2const.html)
pub fn widen_pipe(fd: BorrowedFd<'_>, bytes: usize) {
    if rustix::pipe::fcntl_getpipe_size(fd).is_ok_and(|now| now < bytes) {
        let _ = rustix::pipe::fcntl_setpipe_size(fd, bytes);
    }
}

/// `pipe2(O_CLOEXEC)`: returns the end to read from and the end to write to. Neither has the number of a standard stream.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    clear_of_streams(ends)
}

/// `socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)`: returns two connected stream sockets. Neither has the number of a
/// standard stream.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let ends = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    clear_of_streams(ends)
}

fn clear_of_streams(ends: (OwnedFd, OwnedFd)) -> Result<(OwnedFd, OwnedFd), Errno> {
    both_clear_of_streams(ends).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE))
}

/// `close`, which unlike dropping the descriptor reports errors. The number is free afterwards in any case.
///
/// # Errors
/// `EBADF` if the program has closed the descriptor; otherwise what the file system has to report.
pub fn close(fd: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the number is out of its owner here, so nothing else of this program closes or uses it after this call.
    match unsafe { libc::close(fd.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// A descriptor to wait for and the events to wait for, in the kernel's layout.
pub type Awaited<'fd> = PollFd<'fd>;
/// The events to wait for.
pub type Events = PollFlags;

/// Waits until there is something to read, or the end of the stream.
pub const READABLE: Events = PollFlags::IN;
/// Waits until there is room to write.
pub const WRITABLE: Events = PollFlags::OUT;

/// `ppoll`: waits until one of `awaited` is ready or broken, or until `deadline`. Returns how many are; their `revents`
/// say which. 0: the deadline passed.
///
/// # Errors
/// `EINTR`, `ENOMEM`, `EINVAL`.
///
/// # References
///  - [ppoll(2)](https://man7.org/linux/man-pages/man2/ppoll.2.html)
pub fn ready(awaited: &mut [Awaited<'_>], deadline: Deadline) -> Result<usize, Errno> {
    let left = deadline.left().map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    rustix::event::poll(awaited, left.as_ref())
}
