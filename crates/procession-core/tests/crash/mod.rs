//! The driver of the crash-point tests: kills a child at every step of an operation, and checks what the others see.
#![allow(dead_code, unsafe_code, unreachable_pub)]

use procession_core::crash;
use procession_core::family::Family;
use procession_core::family::waits::{What, recorded};
use procession_core::sys::clock::Deadline;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a forked child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed at the crash point.
    Killed,
    /// It passed fewer crash points than that and ended by itself.
    Done,
}

/// Runs `work` in a forked child, which then ends; returns its pid.
pub fn fork_child(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs only code of the core, which needs no lock of another thread, and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            work();
            // SAFETY: `_exit` has no preconditions; it does not run the harness's exit handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0, "fork failed: {}", std::io::Error::last_os_error());
            pid
        }
    }
}

/// Waits for a child with a deadline. If the child hangs, kills it and fails the test.
pub fn wait_for(pid: i32) -> End {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let mut status = 0;
        // SAFETY: `waitpid` writes only to `status`, and the pid is a child of this process.
        let answer = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        if answer == pid {
            if libc::WIFSIGNALED(status) {
                assert_eq!(
                    libc::WTERMSIG(status),
                    libc::SIGKILL,
                    "the child died of something else"
                );
                return End::Killed;
            }
            assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
            return End::Done;
        }
        if Instant::now() > limit {
            // SAFETY: the call takes numbers only, and the pid is a child of this process that was not waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::yield_now();
    }
}

/// These tests count every block of the family, so only one runs at a time, whatever the harness does.
pub fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `operation` in a child once for every crash point in it, each time on a new result of `setup`, and calls
/// `check` on what the survivor sees. Afterwards nothing may be leaked: as many blocks are in use as before. Returns
/// the number of crash points.
pub fn at_every_point<S>(setup: impl Fn() -> S, operation: impl Fn(&S), check: impl Fn(S, End)) -> u32 {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    // The first sleep of this thread makes a block, which stays. On a busy machine that could be at any point.
    recorded((What::Any, 0), Deadline::PAST, |()| false, || ());
    let mut before = None;
    for k in 1..2000 {
        let state = setup();
        let pid = fork_child(|| {
            crash::arm(k);
            operation(&state);
            crash::disarm();
        });
        let end = wait_for(pid);
        family.sweep();
        check(state, end);
        family.sweep();
        let blocks = family.blocks();
        // The first round may leave pages that are never freed (mutex slots).
        let expected = *before.get_or_insert(blocks);
        assert_eq!(
            blocks,
            expected,
            "point {k} leaks {} blocks",
            blocks as i64 - expected as i64
        );
        if end == End::Done {
            return k - 1;
        }
    }
    panic!("the operation does not end");
}
