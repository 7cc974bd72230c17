//! Where a child that begins as a new program comes in.
//!
//! # Which process this is
//!
//! A child's `argv[0]` says so: `procession:child:SLOT.GENERATION:` or `procession:forkserver:SLOT.GENERATION:` before the
//! program's own. The other arguments are the parent's, so whatever reads them before `main` is not surprised, and the
//! environment is not touched, so nothing is left there for programs that a child starts. It counts only if descriptor 3
//! is family memory in which that seat waits for us.
//!
//! # Before `main`
//!
//! [`init_before_main!`](crate::init_before_main) has the C library call [`before_main`] with the executable's other
//! constructors: after the libraries' own ones, with the allocator and the threads in order, outside of the loader's lock.
//! The standard library may be used there, but for what it promises only within `main`: it has installed no handler for
//! stack overflows yet, and an argument list has to be read from `/proc`.

use crate::startup;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Begins a child's life in a process that was started as one, and never returns there; elsewhere, does nothing. To be
/// called first in `main`.
///
/// A child begins as a new instance of the program. What `main` does before this call, it does in every child as well.
///
/// ```
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let child = procession::Process::spawn(|n: u32| n * n, 12)?;
///     assert_eq!(child.join()?, 144);
///     Ok(())
/// }
/// ```
pub fn init() {
    startup::is_initialised_from_now_on();
    if let Some(name) = std::env::args_os().next() {
        begin(name.as_encoded_bytes());
    }
}

/// What [`init_before_main!`](crate::init_before_main) has called.
#[doc(hidden)]
pub extern "C" fn before_main() {
    startup::is_initialised_from_now_on();
    // The standard library's own list is there only with some C libraries so early.
    if let Ok(line) = std::fs::read("/proc/self/cmdline")
        && let Some(name) = line.split(|byte| *byte == 0).next()
    {
        begin(name);
    }
}

/// Has [`init`](crate::init) happen before `main`, in a program whose `main` is not one's own: a test binary.
///
/// To be written once, outside of functions, in each file below `tests/`, and in the library itself under `cfg(test)` if its
/// unit tests start processes. It works with `cargo test` and with nextest. Where `main` can call `init`, that is better.
///
/// ```
/// procession::init_before_main!();
///
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// # /*
/// #[test]
/// # */
/// fn children_double() {
///     let child = procession::Process::spawn(double, 21).unwrap();
///     assert_eq!(child.join().unwrap(), 42);
/// }
/// # fn main() { children_double() }
/// ```
#[macro_export]
macro_rules! init_before_main {
    () => {
        const _: () = {
            #[used]
            #[allow(unsafe_code)]
            #[unsafe(link_section = ".init_array")]
            static BEFORE_MAIN: extern "C" fn() = $crate::__before_main;
        };
    };
}

fn begin(name: &[u8]) {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Descriptors are taken over here, which must happen once: later they are somebody else's.
    if BEGUN.swap(true, Ordering::AcqRel) {
        return;
    }
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let life: fn(OwnedFd, u32, u32) = match () {
        () if name.starts_with(startup::CHILD) => crate::process::child::live,
        () if name.starts_with(startup::FORK_SERVER) => crate::process::forkserver::serve,
        () if name.starts_with(startup::GIVEN) => crate::python::join,
        () => return,
    };
    let numbers = name.split(':').nth(2).and_then(|seat| seat.split_once('.'));
    let Some((Ok(slot), Ok(generation))) = numbers.map(|(s, g)| (s.parse(), g.parse())) else {
        return;
    };
    if let Some(memory) = startup::inherited(0) {
        life(memory, slot, generation);
    }
}
