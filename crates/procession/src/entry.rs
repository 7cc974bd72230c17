//! Where a child that begins as a new program comes in.
//!
//! # How a process knows what it is
//!
//! A child's `argv[0]` begins with `procession:child:SLOT.GENERATION:`, `procession:forkserver:SLOT.GENERATION:` or
//! `procession:keeper:SLOT.GENERATION:`, followed by the program's own name. The other arguments are the parent's, so code that reads them before `main` finds what it
//! expects. The environment is not used for this, so programs that a child starts inherit nothing of it. The name counts
//! only if descriptor 3 is family memory in which that seat waits for this process.
//!
//! # Before `main`
//!
//! [`init_before_main!`](crate::init_before_main) makes the C library call [`before_main`] as one of the executable's
//! constructors. At that time the libraries' constructors have run, the allocator and threads work, and the loader's lock is
//! free. The standard library may be used, except for what it promises only within `main`: its handler for stack overflows
//! is not installed yet, and the list of arguments must be read from `/proc`.

use crate::startup::{self, Inherited};
use std::os::fd::OwnedFd;

/// Runs the child's function and ends the process, if this process was started as a child. Otherwise it does nothing. Call
/// it first in `main`.
///
/// A child begins as a new instance of the program, so every child also runs the part of `main` that is before this call.
/// A program that does not call `init` gets [`StartError::NotInitialised`](crate::StartError::NotInitialised) from the first
/// attempt to start a process. Python's `multiprocessing` has no such call; it imports the main module under another name.
///
///
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

/// The constructor that [`init_before_main!`](crate::init_before_main) registers.
#[doc(hidden)]
pub extern "C" fn before_main() {
    startup::is_initialised_from_now_on();
    // So early, only some C libraries have given the standard library its list of arguments.
    if let Ok(line) = std::fs::read("/proc/self/cmdline")
        && let Some(name) = line.split(|byte| *byte == 0).next()
    {
        begin(name);
    }
}

/// The same for the binary of tests, whose harness captures what tests print.
#[doc(hidden)]
pub extern "C" fn before_main_of_tests() {
    before_main();
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = line.split(|byte| *byte == 0);
    // As the harness does.
    let shown = words
        .into_iter()
        .any(|word| word == b"--nocapture" || word == b"--no-capture")
        || std::env::var_os("RUST_TEST_NOCAPTURE").is_some_and(|value| value != "0");
    startup::output_is_captured_from_now_on(!shown);
}

/// Calls [`init`] before `main`, in a program whose `main` is not your own: a test binary.
///
/// Write it once, outside of functions, in each file in `tests/`, and in the library itself under `cfg(test)` if its unit
/// tests start processes. It works with `cargo test` and with nextest. Where you can call `init` in `main`, do that instead.
///
/// In a test binary, what children write to their standard output and error is shown as output of the test that has
/// joined or dropped them: see [`Stdio::Captured`](crate::Stdio::Captured).
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
            static BEFORE_MAIN: extern "C" fn() = if cfg!(test) {
                $crate::__before_main_of_tests
            } else {
                $crate::__before_main
            };
        };
    };
}

/// Becomes a child, a fork server, a keeper or a started program, if that is what this `argv[0]` says.
fn begin(name: &[u8]) {
    let Some(mut inherited) = Inherited::once() else {
        return;
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let life: fn(OwnedFd, Inherited, u32, u32) = match () {
        () if name.starts_with(startup::CHILD) => crate::process::child::live,
        () if name.starts_with(startup::FORK_SERVER) => crate::process::forkserver::serve,
        () if name.starts_with(startup::KEEPER) => crate::process::keeper::serve,
        () if name.starts_with(startup::GIVEN) => crate::python::join,
        () => return,
    };
    let numbers = name.split(':').nth(2).and_then(|seat| seat.split_once('.'));
    let Some((Ok(slot), Ok(generation))) = numbers.map(|(s, g)| (s.parse(), g.parse())) else {
        return;
    };
    if let Some(memory) = inherited.next() {
        life(memory, inherited, slot, generation);
    }
}
