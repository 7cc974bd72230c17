//! The output of a process that this process prints as its own.
//!
//! A test harness captures `print!` and `println!` of the thread of a test, and of the threads that it starts. It does not
//! capture what a child writes, because a child writes to a descriptor. So the child gets a file in memory for its
//! standard output and error (one for both, so the order is kept), and the thread that joins the process, or drops its
//! handle, prints the contents by `print!`. A pipe and a thread would show the output earlier, but the test harness shows it
//! at the end of the test in any case; and a file never blocks the child.
//!
//! # Forked children
//!
//! A forked child has a copy of the thread that the harness captures: what it prints goes to its copy of the harness's
//! buffer, which is lost. There is no stable function that ends the capture. But while `print!` formats a value, the
//! standard library puts the capture aside, so that a value that prints itself does so to the real standard output. So
//! the function of a forked child runs inside of the formatting of a value ([`uncaptured`]).
//!
//! That must not be done where nothing is captured: there `print!` holds the lock of the standard output meanwhile, which
//! other threads of the child need. The child finds it out by printing a line while its standard output is a file of its
//! own ([`is_captured`]).

use crate::startup;
use rustix::fs::MemfdFlags;
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

/// What a process writes to its standard output and error.
#[derive(Debug)]
pub(super) struct Captured {
    file: File,
    /// How many bytes were printed already.
    printed: Mutex<u64>,
}

impl Captured {
    /// Creates an empty file in memory.
    ///
    /// # Errors
    /// No descriptor or memory is free.
    pub(super) fn new() -> io::Result<Captured> {
        Ok(Captured {
            file: file_in_memory()?,
            printed: Mutex::new(0),
        })
    }

    /// Returns a descriptor for the process.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Prints what was written since the last call. Invalid UTF-8 is replaced by U+FFFD.
    pub(super) fn print(&self) {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        let mut room = vec![0; 64 << 10];
        while let Ok(count @ 1..) = self.file.read_at(&mut room, *printed) {
            bytes.extend_from_slice(&room[..count]);
            *printed += count as u64;
        }
        drop(printed);
        if !bytes.is_empty() {
            // The handle may be dropped by a thread that panics already. The program's own output fails in the same way.
            let _ = catch_unwind(|| print(&String::from_utf8_lossy(&bytes)));
        }
    }
}

fn file_in_memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create(c"procession-output", MemfdFlags::CLOEXEC)?.into())
}

/// Prints by `print!`, which is what a test harness captures. It panics if the standard output is closed.
#[allow(clippy::print_stdout)]
fn print(what: &dyn fmt::Display) {
    print!("{what}");
}

/// In a child that was just forked, which has one thread: returns whether `print!` goes elsewhere than to the standard
/// output. False also if no descriptor is free.
pub(super) fn is_captured() -> bool {
    let look = || -> io::Result<bool> {
        let own = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
        let file = file_in_memory()?;
        startup::put_in_place(&file.as_fd().try_clone_to_owned()?, 1)?;
        print(&"\n");
        let _ = io::stdout().flush();
        startup::put_in_place(&own, 1)?;
        Ok(file.metadata()?.len() == 0)
    };
    look().unwrap_or(false)
}

/// Calls a function, in which `print!` goes to the standard output although this thread is captured.
pub(super) fn uncaptured<R>(function: impl FnOnce() -> R) -> Option<R> {
    struct Call<F, R> {
        function: Cell<Option<F>>,
        returned: Cell<Option<R>>,
    }

    impl<F: FnOnce() -> R, R> fmt::Display for Call<F, R> {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.returned.set(self.function.take().map(|function| function()));
            Ok(())
        }
    }

    let call = Call {
        function: Cell::new(Some(function)),
        returned: Cell::new(None),
    };
    print(&call);
    call.returned.take()
}
