//! A pool with forked workers and a thread that supervises it, as a Rust face would have it.
#![allow(dead_code, unsafe_code, unreachable_pub)]

use crate::common;
use procession_core::family::fork;
use procession_core::pool::{
    Event, Options, Outcome, Outgoing, Pool, Report, Submission, TaskOptions, WaitOutcome, Worker,
};
use procession_core::process::Child;
use procession_core::sys::clock::Deadline;
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(20);

/// Computes the result of a task from its payload.
pub fn work(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        b"die" => {
            // SAFETY: the call takes numbers only.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        // SAFETY: ends the process at once.
        b"exit" => unsafe { libc::_exit(3) },
        b"sleep" => std::thread::sleep(Duration::from_secs(60)),
        b"nap" => std::thread::sleep(Duration::from_millis(100)),
        [b'r', b'u', b'n', address @ ..] => {
            let address = usize::from_ne_bytes(address.try_into().unwrap());
            // SAFETY: the address lies in memory that the test has mapped and shares with its workers.
            unsafe { &*(address as *const AtomicU32) }.fetch_add(1, Ordering::Relaxed);
        }
        [b'g', b'a', b't', b'e', address @ ..] => {
            let address = usize::from_ne_bytes(address.try_into().unwrap());
            // SAFETY: the address is that of a `Gate`, which was mapped before the worker was forked.
            let open = unsafe { &*(address as *const AtomicU32) };
            common::eventually(|| open.load(Ordering::Acquire) != 0);
        }
        _ => {}
    }
    bytes.iter().rev().copied().collect()
}

/// A word that the test shares with its workers: a task waits until the test opens the gate. Make it before the pool.
pub struct Gate(&'static AtomicU32);

impl Gate {
    pub fn new() -> Gate {
        let (all, shared) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, which replaces nothing.
        let word = unsafe { libc::mmap(core::ptr::null_mut(), 4, all, shared, -1, 0) };
        assert_ne!(word, libc::MAP_FAILED);
        // SAFETY: the mapping is zeroed, is aligned, and stays until the end of the process.
        Gate(unsafe { &*word.cast::<AtomicU32>() })
    }

    /// The payload of a task that waits until the gate is open.
    pub fn task(&self) -> Vec<u8> {
        let address = std::ptr::from_ref(self.0) as usize;
        [b"gate", address.to_ne_bytes().as_slice()].concat()
    }

    pub fn open(&self) {
        self.0.store(1, Ordering::Release);
    }
}

/// A pool with a thread that supervises it.
pub struct Running {
    pub pool: Arc<Pool>,
    pub thread: Option<JoinHandle<()>>,
    pub reports: Arc<Mutex<Vec<Report>>>,
    pub starts: Arc<AtomicU32>,
}

impl Running {
    pub fn with(options: Options, fails: bool) -> Running {
        let pool = Arc::new(Pool::new(options).unwrap());
        let (reports, starts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
        let (its, heard, counted) = (pool.clone(), reports.clone(), starts.clone());
        let thread = std::thread::spawn(move || supervise(&its, &heard, &counted, fails));
        Running {
            pool,
            thread: Some(thread),
            reports,
            starts,
        }
    }

    pub fn new(workers: u32) -> Running {
        let options = Options {
            workers,
            ..Options::default()
        };
        Running::with(options, false)
    }

    pub fn submit(&self, bytes: &[u8], options: TaskOptions) -> u64 {
        let task = Submission {
            options,
            ..Submission::default()
        };
        let outgoing = Outgoing {
            parts: [bytes, &[]],
            ..Outgoing::default()
        };
        self.pool.submit(task, outgoing).unwrap()
    }

    pub fn outcome(&self, id: u64) -> Outcome {
        let deadline = Deadline::after(LIMIT);
        while self.pool.wait(id, deadline) != WaitOutcome::Ready(()) {
            assert!(!deadline.expired(), "a task hangs");
        }
        self.pool.take(id).unwrap()
    }

    pub fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        returned(self.outcome(self.submit(bytes, TaskOptions::default())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pool.terminate();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn returned(outcome: Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Returned(arrived) => arrived.into_bytes(),
        other => panic!("not returned: {other:?}"),
    }
}

pub fn supervise(pool: &Pool, reports: &Mutex<Vec<Report>>, starts: &AtomicU32, fails: bool) {
    let mut children = HashMap::new();
    loop {
        match pool.next_event(Deadline::NEVER) {
            Event::Start(slot) => {
                starts.fetch_add(1, Ordering::SeqCst);
                let handle = pool.handle();
                let pid = common::fork_child(move || {
                    let Ok(worker) = Worker::take_slot(&handle, slot) else {
                        return 4;
                    };
                    if fails {
                        return 1;
                    }
                    worker.run(|task| (0, work(&task.bytes))).map_or(5, |()| 0)
                });
                let child = Child::new(pid, fork::forked(pid), true);
                // SAFETY: the child holds it open.
                let fd = unsafe { BorrowedFd::borrow_raw(child.sentinel().unwrap()) };
                let fd: OwnedFd = fd.try_clone_to_owned().unwrap();
                children.insert(slot, child);
                pool.started(slot, pid, Some(fd));
            }
            Event::Exited(slot) => {
                let code = match children[&slot].wait(Deadline::after(LIMIT)) {
                    procession_core::process::ExitOutcome::Exited(code) => Some(code),
                    _ => None,
                };
                let _ = pool.ended(slot, code, false);
            }
            Event::Reports(more) => reports.lock().unwrap().extend(more),
            Event::Ended => return,
            Event::TimedOut => {}
        }
    }
}
