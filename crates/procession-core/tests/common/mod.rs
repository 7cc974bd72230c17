//! Helpers of the tests with real processes: children that cannot outlive their test, and waits that cannot hang it.
#![allow(dead_code, unsafe_code, unreachable_pub)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The longest time that any test waits.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Runs `work` in a forked child, which ends with the code that `work` returns (101 if it panics). Returns the
/// child's pid.
///
/// The child is killed when the thread that started it ends, so a failed test leaves no child behind.
pub fn fork_child(work: impl FnOnce() -> i32) -> u32 {
    // SAFETY: the child leaves by _exit and takes no lock that another thread of the harness may have held: the
    // allocator is reset by fork, and what a panic prints goes to this thread's own capture.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: the call takes numbers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: `_exit` has no preconditions; it does not run the harness's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => u32::try_from(pid)
            .ok()
            .filter(|pid| *pid > 0)
            .expect("fork failed"),
    }
}

/// Waits for a child of this process with `waitpid` and returns its exit code. If the child hangs, kills it and fails
/// the test.
pub fn join(pid: u32) -> i32 {
    let mut status = 0;
    let ended = eventually(|| {
        // SAFETY: `waitpid` writes only to `status`, and the pid is a child of this process.
        unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) == pid as i32 }
    });
    if !ended {
        send(pid, libc::SIGKILL);
        panic!("the child hangs");
    }
    procession_core::sys::procfs::exit_code_of_status(status)
}

/// Runs `work` in a forked child, which must end with code 0. Returns the child's pid.
pub fn in_child(work: impl FnOnce()) -> u32 {
    fork_child(|| {
        work();
        0
    })
}

/// Waits for a child of [`in_child`] and returns whether it ended with code 0.
pub fn ended_well(pid: u32) -> bool {
    join(pid) == 0
}

/// Sends a signal to the process `pid`.
pub fn send(pid: u32, signal: i32) {
    // SAFETY: the call takes numbers only.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Calls `is_so` until it returns true, for at most [`LIMIT`]. Returns whether it did.
pub fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if is_so() {
            return true;
        }
        std::thread::yield_now();
    }
    is_so()
}

/// Creates a pipe: read end, write end, both close-on-exec.
pub fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), File::from(write))
}

/// Reads a pipe until its last write end is closed.
pub fn read_all(fd: impl Into<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(fd.into()).read_to_string(&mut text).unwrap();
    text
}

/// Waits until the other end of the pipe is closed. For children that must live until the test ends them.
pub fn linger(mut pipe: &File) {
    let _ = pipe.read(&mut [0]);
}

/// Writes one byte into a pipe.
pub fn send_byte(mut pipe: &File) {
    let _ = pipe.write_all(b"!");
}

/// Installs a signal handler that only interrupts system calls, and runs it every few milliseconds.
pub fn interrupt_often(handler: extern "C" fn(libc::c_int)) {
    // SAFETY: zeros are a valid sigaction, without SA_RESTART; the pointers are to locals.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let often = libc::timeval {
            tv_sec: 0,
            tv_usec: 3000,
        };
        let timer = libc::itimerval {
            it_interval: often,
            it_value: often,
        };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// Limits this process to descriptors below this number from now on.
pub fn limit_descriptors(most: u64) {
    // SAFETY: the structure is a local.
    unsafe {
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

/// Number of bytes of address space that this process uses.
pub fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

/// Limits this process's address space to `more` bytes more than it uses now.
pub fn limit_address_space(more: u64) {
    let most = address_space() + more;
    limit(libc::RLIMIT_AS, most, most);
}

/// The type of `RLIMIT_AS` and the like.
#[cfg(target_env = "musl")]
pub type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
pub type Resource = libc::__rlimit_resource_t;

/// Sets a resource limit of this process.
pub fn limit(what: Resource, current: u64, maximum: u64) {
    let limit = libc::rlimit {
        rlim_cur: current,
        rlim_max: maximum,
    };
    // SAFETY: the structure is a local.
    assert_eq!(unsafe { libc::setrlimit(what, &raw const limit) }, 0);
}
