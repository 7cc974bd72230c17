//! Starting a process and waiting for its end, by the system calls alone; and a named segment of memory.

use crate::{checked, timed};
use std::ffi::CString;
use std::ptr;

/// Starts `program -c pass`, and waits for it, one after the other.
pub fn spawn(count: u64, program: Option<&str>) -> f64 {
    let words = [program.expect("the interpreter"), "-c", "pass"].map(|word| CString::new(word).unwrap());
    let mut argv: Vec<*mut libc::c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    timed(|| {
        for _ in 0..count {
            let mut pid = 0;
            // SAFETY: the strings and the array, which ends with a null pointer, outlive the call.
            let answer = unsafe {
                libc::posix_spawn(
                    &mut pid,
                    argv[0],
                    ptr::null(),
                    ptr::null(),
                    argv.as_ptr(),
                    environment(),
                )
            };
            assert_eq!(answer, 0, "posix_spawn");
            wait(pid);
        }
    })
}

fn environment() -> *const *mut libc::c_char {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: this program has one thread here, and never changes its environment.
    unsafe { environ }
}

/// Forks a process that ends at once. `megabytes`: so much memory of its own this process has.
pub fn fork(count: u64, megabytes: Option<&str>) -> f64 {
    let megabytes: usize = megabytes.map_or(0, |text| text.parse().expect("a number of megabytes"));
    let ballast = vec![1u8; megabytes << 20];
    let seconds = timed(|| {
        for _ in 0..count {
            wait(forked());
        }
    });
    assert_eq!(ballast.len(), megabytes << 20);
    seconds
}

/// Asks a process for a child by one byte, which forks it; the child's end is told by one byte, too.
pub fn served_fork(count: u64, _: Option<&str>) -> f64 {
    let (ours, theirs) = crate::streams::pair();
    // SAFETY: this program has one thread.
    let server = checked(unsafe { libc::fork() }, "fork");
    if server == 0 {
        drop(ours);
        while crate::streams::read(&theirs, &mut [0]) == 1 {
            wait(forked());
            crate::streams::write(&theirs, b"x");
        }
        // SAFETY: it ends this process.
        unsafe { libc::_exit(0) };
    }
    drop(theirs);
    let seconds = timed(|| {
        for _ in 0..count {
            crate::streams::write(&ours, b"x");
            assert_eq!(crate::streams::read(&ours, &mut [0]), 1);
        }
    });
    drop(ours);
    wait(server);
    seconds
}

/// Makes a segment of one page with a name, maps it, unmaps it and removes the name.
pub fn segment(count: u64, _: Option<&str>) -> f64 {
    let name = CString::new(format!("/procession-limits-{}", std::process::id())).unwrap();
    timed(|| {
        for _ in 0..count {
            // SAFETY: the name outlives the calls, and the mapping, which nothing uses, is as long as the file.
            unsafe {
                let fd = checked(
                    libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, 0o600),
                    "shm_open",
                );
                checked(libc::ftruncate(fd, 4096), "ftruncate");
                let at = libc::mmap(
                    ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    fd,
                    0,
                );
                assert_ne!(at, libc::MAP_FAILED, "mmap");
                checked(libc::munmap(at, 4096), "munmap");
                checked(libc::close(fd), "close");
                checked(libc::shm_unlink(name.as_ptr()), "shm_unlink");
            }
        }
    })
}

fn forked() -> libc::pid_t {
    // SAFETY: this program has one thread, and the child does nothing but end.
    unsafe {
        let pid = checked(libc::fork(), "fork");
        if pid == 0 {
            libc::_exit(0);
        }
        pid
    }
}

fn wait(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    checked(unsafe { libc::waitpid(pid, &mut status, 0) }, "waitpid");
    assert_eq!(status, 0, "a process that did not end well");
}
