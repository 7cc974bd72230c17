//! Processes whose handles were dropped leave no zombies, and the thread that waits for them ends with the last.

#![allow(unsafe_code)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{Event, Process, Queue, StartMethod};
use std::path::PathBuf;

procession::init_before_main!();

every_way! {
    a_dropped_process_that_ends_later_leaves_no_zombie
    a_killed_process_that_was_dropped_leaves_no_zombie
    a_child_waits_for_its_own_dropped_children
    a_dropped_process_is_waited_for_without_a_free_descriptor
    a_dropped_process_is_waited_for_after_the_program_has_closed_all_descriptors
}

/// Returns whether neither a process nor a zombie has this pid.
fn is_gone(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

fn threads_that_wait() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name == "ended children\n").count()
}

type Signals = (Queue<u32>, Event);

/// Reports its pid, and ends when the event is set.
fn wait_for((pids, end): Signals) {
    pids.put(&std::process::id()).unwrap();
    end.wait();
}

fn new_signals() -> Signals {
    (Queue::new().unwrap(), Event::new().unwrap())
}

fn a_dropped_process_that_ends_later_leaves_no_zombie(way: Way) {
    let signals = new_signals();
    for _ in 0..10 {
        drop(way.start(wait_for, signals.clone()));
    }
    let pids: Vec<u32> = (0..10).map(|_| signals.0.get_timeout(LIMIT).unwrap()).collect();
    assert!(!pids.iter().copied().any(is_gone));
    assert!(threads_that_wait() <= 1);
    signals.1.set();
    assert!(eventually(|| pids.iter().copied().all(is_gone)));
    // In a process of its own nothing else keeps the thread.
    let child = way.start(
        |()| {
            let signals = new_signals();
            drop(Process::spawn(wait_for, signals.clone()).unwrap());
            let before = eventually(|| threads_that_wait() == 1);
            signals.1.set();
            let pid = signals.0.get_timeout(LIMIT).unwrap();
            (before, eventually(|| is_gone(pid) && threads_that_wait() == 0))
        },
        (),
    );
    assert_eq!(joined(child).unwrap(), (true, true));
}

fn a_killed_process_that_was_dropped_leaves_no_zombie(way: Way) {
    let signals = new_signals();
    let builder = Process::builder().kill_on_drop(true);
    let child = way.start_with(builder, wait_for, signals.clone());
    let pid = signals.0.get_timeout(LIMIT).unwrap();
    drop(child);
    assert!(eventually(|| is_gone(pid)));
    let child = way.start(wait_for, signals.clone());
    let pid = signals.0.get_timeout(LIMIT).unwrap();
    drop(child);
    procession_core::sys::pidfd::kill(pid, 9).unwrap();
    assert!(eventually(|| is_gone(pid)));
}

/// The list of this process is not that of a forked child, and the thread that looks at it is not there.
fn a_child_waits_for_its_own_dropped_children(way: Way) {
    let mine = new_signals();
    drop(way.start(wait_for, mine.clone()));
    let own = mine.0.get_timeout(LIMIT).unwrap();
    let child = way.start(
        |()| {
            let theirs = new_signals();
            for method in [StartMethod::Spawn, StartMethod::ForkServer] {
                drop(
                    Process::builder()
                        .method(method)
                        .spawn(wait_for, theirs.clone())
                        .unwrap(),
                );
            }
            let forked = theirs.clone();
            // SAFETY: of this process's threads one waits for children, and the other is this one.
            drop(unsafe { Process::builder().fork(move || wait_for(forked)) }.unwrap());
            let pids = [(); 3].map(|()| theirs.0.get_timeout(LIMIT).unwrap());
            theirs.1.set();
            eventually(|| pids.into_iter().all(is_gone))
        },
        (),
    );
    assert!(joined(child).unwrap());
    assert!(!is_gone(own), "a child does not wait for its siblings");
    mine.1.set();
    assert!(eventually(|| is_gone(own)));
}

fn a_dropped_process_is_waited_for_without_a_free_descriptor(way: Way) {
    let child = way.start(
        |()| {
            let signals = new_signals();
            let grandchild = Process::spawn(wait_for, signals.clone()).unwrap();
            let pid = signals.0.get_timeout(LIMIT).unwrap();
            let free = std::fs::File::open("/dev/null").unwrap();
            let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            limit.current = Some(std::os::fd::AsRawFd::as_raw_fd(&free) as u64);
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            drop(grandchild);
            signals.1.set();
            // No file can be opened, so the pid is asked for by a signal that does nothing.
            eventually(|| procession_core::sys::pidfd::kill(pid, 0).is_err())
        },
        (),
    );
    assert!(joined(child).unwrap());
}

fn a_dropped_process_is_waited_for_after_the_program_has_closed_all_descriptors(way: Way) {
    let child = way.start(
        |()| {
            let signals = new_signals();
            let grandchild = Process::spawn(wait_for, signals.clone()).unwrap();
            let pid = signals.0.get_timeout(LIMIT).unwrap();
            drop(grandchild);
            // SAFETY: this process uses no descriptor of its own after this call.
            unsafe { libc::close_range(3, 1000, 0) };
            signals.1.set();
            // The thread may be waiting for what is closed now. The next start looks for all.
            eventually(|| Process::spawn(|()| (), ()).unwrap().join().is_ok() && is_gone(pid))
        },
        (),
    );
    assert!(joined(child).unwrap());
}
