//! One write and one read on a pair of sockets, in one process.

use crate::{checked, timed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub fn pair() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the array outlives the call, and both descriptors are new and belong to no other owner.
    unsafe {
        checked(
            libc::socketpair(
                libc::AF_UNIX,
                libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
                0,
                ends.as_mut_ptr(),
            ),
            "socketpair",
        );
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// Reads what is there. Returns the number of bytes, which is 0 at the end.
pub fn read(end: &OwnedFd, into: &mut [u8]) -> usize {
    // SAFETY: the bytes outlive the call.
    let answer = unsafe { libc::read(end.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
    checked(answer as libc::c_int, "read") as usize
}

pub fn write(end: &OwnedFd, bytes: &[u8]) {
    // SAFETY: the bytes outlive the call.
    let answer = unsafe { libc::write(end.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(answer, bytes.len() as isize, "write");
}

/// Writes a small message into one end and reads it from the other.
pub fn flow(count: u64, _: Option<&str>) -> f64 {
    let (one, other) = pair();
    let message = [7u8; 28]; // four bytes of length, and a small tuple
    let mut into = [0u8; 64];
    timed(|| {
        for _ in 0..count {
            write(&one, &message);
            assert_eq!(read(&other, &mut into), message.len());
        }
    })
}
