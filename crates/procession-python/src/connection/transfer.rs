//! Moves bytes through a descriptor: at once while attached to the interpreter; detached if it has to wait or moves many
//! bytes.
//!
//! A system call that need not wait takes less time than detaching and attaching again, which takes milliseconds where
//! other threads compute. So every transfer is tried at once first.

use crate::errors::system_text;
use crate::interpreter::DETACH_ABOVE;
use procession_core::connection::adaptive_poll::AdaptivePoll;
use procession_core::family::waits::{What, recorded};
use procession_core::sys::clock::Deadline;
use procession_core::sys::stream::{self, Kind};
use pyo3::exceptions::{PyEOFError, PyOSError};
use pyo3::prelude::*;
use rustix::io::Errno;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The size in bytes to which a pipe's buffer is enlarged when it carries big messages.
const WIDE: usize = 1 << 20;

/// Returns the OSError for an error of the system. Python chooses the subclass by the number.
#[cold]
pub fn os_error(errno: Errno) -> PyErr {
    PyOSError::new_err((errno.raw_os_error(), system_text(&errno.into())))
}

/// A descriptor and what is known about it.
#[derive(Clone, Copy)]
pub struct Channel<'a> {
    pub fd: BorrowedFd<'a>,
    pub kind: &'a Kind,
    pub poll: &'a AdaptivePoll,
}

/// The error that ended a transfer early.
pub struct Torn {
    pub error: PyErr,
    /// Whether a part of a message has been transferred, so that the bytes that follow would be misread.
    pub midway: bool,
}

impl From<Torn> for PyErr {
    fn from(torn: Torn) -> PyErr {
        torn.error
    }
}

impl Channel<'_> {
    /// Fills `into` with bytes received. `begun`: a message has begun, so the end of the stream is an error here.
    #[inline]
    pub fn fill(self, py: Python<'_>, into: &mut [u8], begun: bool) -> Result<(), Torn> {
        let len = into.len();
        // SAFETY: the same bytes, of which `fill_new` writes to them initialised ones only.
        let into = unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast(), len) };
        self.fill_new(py, into, begun).map(drop)
    }

    /// Fills memory that need not be initialised, as [`Channel::fill`] does, and returns it as initialised.
    #[inline]
    pub fn fill_new<'b>(
        self,
        py: Python<'_>,
        into: &'b mut [MaybeUninit<u8>],
        begun: bool,
    ) -> Result<&'b mut [u8], Torn> {
        let mut done = 0;
        while done < into.len() {
            let rest = &mut into[done..];
            let got = if rest.len() > DETACH_ABOVE {
                py.detach(|| self.read_on(rest))
            } else {
                match stream::read_now(self.fd, self.kind, rest) {
                    Err(Errno::AGAIN) if begun => py.detach(|| self.read_on(rest)),
                    Err(Errno::AGAIN) => py.detach(|| self.read_next(rest)),
                    answer => (answer, 0),
                }
            };
            done += got.1;
            match got.0 {
                Ok(0) => return Err(ended(begun || done > 0)),
                Ok(more) => done += more,
                Err(Errno::INTR) => {
                    let midway = begun || done > 0;
                    py.check_signals().map_err(|error| Torn { error, midway })?;
                }
                Err(errno) => {
                    return Err(Torn {
                        error: os_error(errno),
                        midway: begun || done > 0,
                    });
                }
            }
        }
        // SAFETY: `done` is `into.len()`: the system calls have written to every byte.
        Ok(unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast(), into.len()) })
    }

    /// Reads the beginning of a message that has not come yet. A reader that waits for an answer gets it sooner by polling for a
    /// while than by falling asleep.
    fn read_next(self, into: &mut [MaybeUninit<u8>]) -> (Result<usize, Errno>, usize) {
        let found = self
            .poll
            .until(|| match stream::read_now(self.fd, self.kind, into) {
                Err(Errno::AGAIN) => None,
                answer => Some(answer),
            });
        match found {
            Some(answer) => (answer, 0),
            None => self.read_on(into),
        }
    }

    /// Reads until the buffer is full or a call fails. Returns the answer of the last call, and the number of bytes read
    /// before it.
    fn read_on(self, into: &mut [MaybeUninit<u8>]) -> (Result<usize, Errno>, usize) {
        let waits_for = (What::Receive, self.fd.as_raw_fd() as u64);
        let interrupted = |read: &(Result<usize, Errno>, usize)| read.0 == Err(Errno::INTR);
        recorded(waits_for, Deadline::NEVER, interrupted, || self.read_all(into))
    }

    fn read_all(self, into: &mut [MaybeUninit<u8>]) -> (Result<usize, Errno>, usize) {
        let mut done = 0;
        loop {
            let answer = match stream::read(self.fd, &mut into[done..]) {
                // Another user of the file has made it non-blocking.
                Err(Errno::AGAIN) => match self.await_one(stream::READABLE) {
                    Ok(()) => continue,
                    Err(errno) => Err(errno),
                },
                answer => answer,
            };
            match answer {
                Ok(more) if more > 0 && done + more < into.len() => done += more,
                answer => return (answer, done),
            }
        }
    }

    /// Sends the pieces.
    #[inline]
    pub fn drain(self, py: Python<'_>, pieces: &mut [IoSlice<'_>]) -> Result<(), Torn> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut left = total;
        let mut pieces = pieces;
        let mut at_once = total <= DETACH_ABOVE;
        while left > 0 {
            let sent = if at_once {
                stream::write_now(self.fd, self.kind, pieces)
            } else {
                py.detach(|| self.write_on(pieces, total > DETACH_ABOVE))
            };
            match sent {
                Ok(more) => {
                    left -= more;
                    if !at_once && left > 0 {
                        // A write that may wait ends early only for a signal.
                        let midway = true;
                        py.check_signals().map_err(|error| Torn { error, midway })?;
                    }
                    at_once = false;
                    IoSlice::advance_slices(&mut pieces, more);
                }
                Err(Errno::AGAIN) if at_once => at_once = false,
                Err(Errno::INTR) => {
                    let midway = left < total;
                    py.check_signals().map_err(|error| Torn { error, midway })?;
                }
                Err(errno) => {
                    return Err(Torn {
                        error: os_error(errno),
                        midway: left < total,
                    });
                }
            }
        }
        Ok(())
    }

    fn write_on(self, pieces: &[IoSlice<'_>], much: bool) -> Result<usize, Errno> {
        if much {
            stream::widen_pipe(self.fd, WIDE);
        }
        let waits_for = (What::Send, self.fd.as_raw_fd() as u64);
        let interrupted = |sent: &Result<usize, Errno>| *sent == Err(Errno::INTR);
        recorded(waits_for, Deadline::NEVER, interrupted, || {
            loop {
                match stream::write(self.fd, self.kind, pieces) {
                    Err(Errno::AGAIN) => self.await_one(stream::WRITABLE)?,
                    answer => return answer,
                }
            }
        })
    }

    fn await_one(self, what: stream::Events) -> Result<(), Errno> {
        let mut one = [stream::Awaited::from_borrowed_fd(self.fd, what)];
        stream::ready(&mut one, Deadline::NEVER).map(drop)
    }

    /// Waits until there is something to read, or the end. Returns whether there is, by the deadline.
    pub fn readable(self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let mut one = [stream::Awaited::from_borrowed_fd(self.fd, stream::READABLE)];
        Ok(awaited(py, &mut one, deadline)? > 0)
    }
}

/// Waits until a descriptor is ready, and runs signal handlers in between. Returns how many are ready; 0: the deadline
/// passed.
pub fn awaited(py: Python<'_>, list: &mut [stream::Awaited<'_>], deadline: Deadline) -> PyResult<usize> {
    let mut at_once = true;
    let waits_for = match &*list {
        [one] => (What::Receive, one.as_fd().as_raw_fd() as u64),
        many => (What::Any, many.len() as u64),
    };
    let interrupted = |ready: &Result<usize, Errno>| *ready == Err(Errno::INTR);
    loop {
        let answer = if at_once {
            stream::ready(list, Deadline::PAST)
        } else {
            py.detach(|| recorded(waits_for, deadline, interrupted, || stream::ready(list, deadline)))
        };
        match answer {
            Ok(0) if at_once && deadline != Deadline::PAST => at_once = false,
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => py.check_signals()?,
            Err(errno) => return Err(os_error(errno)),
        }
    }
}

#[cold]
fn ended(midway: bool) -> Torn {
    Torn {
        error: if midway {
            PyOSError::new_err("got end of file during message")
        } else {
            PyEOFError::new_err(())
        },
        midway: false,
    }
}
