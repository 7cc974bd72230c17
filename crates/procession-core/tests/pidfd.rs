//! References to processes, with and without pidfds, and their exit codes.
#![allow(unsafe_code)]

mod common;

use common::{eventually, fork_child, interrupt_often, join, linger, pipe, send, send_byte};
use procession_core::family::{Family, Seat};
use procession_core::process::{Child, ExitOutcome};
use procession_core::sys::clock::Deadline;
use procession_core::sys::pidfd;
use procession_core::sys::procfs::{self, Liveness};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

fn soon() -> Deadline {
    Deadline::after(common::LIMIT)
}

fn child(work: impl FnOnce() -> i32) -> Child {
    Child::new(fork_child(work), None, true)
}

fn reaped(pid: u32) -> bool {
    procfs::liveness(pid, 0) == Liveness::Gone
}

#[test]
fn the_exit_code_is_learned_once_and_kept() {
    let child = child(|| 7);
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(7));
    assert!(reaped(child.pid()), "the zombie is gone");
    assert_eq!(child.poll(), Some(7));
    child.close();
    assert_eq!(child.wait(Deadline::PAST), ExitOutcome::Exited(7));
}

#[test]
fn a_process_that_runs_has_no_exit_code_and_outlasts_the_deadline() {
    let (read, _write) = pipe();
    let child = child(|| {
        linger(&read);
        0
    });
    assert_eq!(child.poll(), None);
    let began = Instant::now();
    assert_eq!(
        child.wait(Deadline::after(Duration::from_millis(30))),
        ExitOutcome::TimedOut
    );
    assert!(began.elapsed() >= Duration::from_millis(30));
    child.send_signal(libc::SIGKILL).unwrap();
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(-9));
    child
        .send_signal(libc::SIGKILL)
        .expect("a signal to one who has ended is nothing");
}

#[test]
fn the_sentinel_is_readable_when_the_process_has_ended() {
    let child = child(|| 0);
    // SAFETY: `child` owns the sentinel and outlives the borrow.
    let sentinel = unsafe { BorrowedFd::borrow_raw(child.sentinel().unwrap()) };
    let mut fds = [PollFd::from_borrowed_fd(sentinel, PollFlags::IN)];
    assert_eq!(pidfd::ready(&mut fds, soon()).unwrap(), pidfd::PollOutcome::Ready);
    assert_eq!(child.poll(), Some(0), "and then the code is there at once");
}

#[test]
fn all_threads_that_wait_at_once_get_the_same_code() {
    for _ in 0..50 {
        let (read, write) = pipe();
        let child = child(|| {
            linger(&read);
            3
        });
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| child.wait(soon()))).collect();
            send_byte(&write);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), ExitOutcome::Exited(3));
            }
        });
    }
}

#[test]
fn closing_it_does_not_disturb_a_thread_that_waits() {
    let (read, write) = pipe();
    let child = child(|| {
        linger(&read);
        5
    });
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| child.wait(soon()));
        child.close();
        send_byte(&write);
        assert_eq!(waiter.join().unwrap(), ExitOutcome::Exited(5));
    });
    assert!(child.sentinel().is_err());
}

/// Returns whether this kernel tells the exit code of a process that was waited for.
fn kernel_tells() -> bool {
    let pid = fork_child(|| 4);
    let fd = pidfd::open(pid).unwrap();
    assert_eq!(
        pidfd::exit_code_after_reaping(&fd),
        None,
        "no process has waited yet"
    );
    assert_eq!(join(pid), 4);
    let told = pidfd::exit_code_after_reaping(&fd);
    assert!(matches!(told, None | Some(4)));
    told.is_some()
}

#[test]
fn how_a_child_ended_that_somebody_else_waited_for_is_told_by_the_kernel_or_255() {
    let kernel_tells = kernel_tells();
    for (work, code) in [(4, 4), (-15, -15)] {
        let (read, write) = pipe();
        let pid = fork_child(|| {
            linger(&read);
            work
        });
        let child = Child::new(pid, None, true);
        if work < 0 {
            child.send_signal(-work).unwrap();
        }
        send_byte(&write);
        join(pid);
        let expected = if kernel_tells { code } else { 255 };
        assert_eq!(child.wait(soon()), ExitOutcome::Exited(expected));
        assert_eq!(child.poll(), Some(expected));
    }
}

#[test]
fn what_the_process_announced_is_better_than_255() {
    let seat = Seat::reserve(Family::home().unwrap(), "announcer").unwrap();
    let pid = fork_child(|| 4);
    seat.bind(pid);
    seat.slot()
        .declared
        .store(1 << 32 | 4, std::sync::atomic::Ordering::Release);
    let child = Child::new(pid, Some(seat), true);
    assert_eq!(join(pid), 4);
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(4));
    seat.vacate();
}

#[test]
fn the_code_is_in_the_seat_when_the_process_is_gone() {
    let seat = Seat::reserve(Family::home().unwrap(), "recorded").unwrap();
    let pid = fork_child(|| 6);
    seat.bind(pid);
    let child = Child::new(pid, Some(seat), true);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| child.wait(soon()));
        assert!(eventually(|| reaped(pid)));
        assert_eq!(seat.exit_code(), Some(6));
        assert_eq!(waiter.join().unwrap(), ExitOutcome::Exited(6));
    });
    seat.vacate();
}

#[test]
fn a_forked_copy_tells_of_the_end_and_leaves_the_waiting_to_the_parent() {
    let (read, write) = pipe();
    let (told, tell) = pipe();
    let child = child(|| {
        linger(&read);
        9
    });
    let copy = fork_child(|| {
        let running = child.poll().is_none() && child.wait(Deadline::PAST) == ExitOutcome::TimedOut;
        send_byte(&tell);
        let ended = child.wait(soon()) == ExitOutcome::Exited(9);
        i32::from(!(running && ended))
    });
    linger(&told);
    send_byte(&write);
    assert_eq!(
        join(copy),
        0,
        "as long as the parent has not waited, everybody can see how it ended"
    );
    assert_eq!(
        child.wait(soon()),
        ExitOutcome::Exited(9),
        "the copy took nothing away"
    );
    assert_eq!(join(fork_child(|| i32::from(child.poll() != Some(9)))), 0);
}

#[test]
fn a_forked_copy_does_not_guess_what_only_the_parent_has_learned() {
    let (read, write) = pipe();
    let (told, tell) = pipe();
    let child = child(|| {
        linger(&read);
        9
    });
    let expected = if kernel_tells() {
        ExitOutcome::Exited(9)
    } else {
        ExitOutcome::TimedOut
    };
    let copy = fork_child(|| {
        linger(&told);
        i32::from(child.wait(soon()) != expected)
    });
    send_byte(&write);
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(9));
    send_byte(&tell);
    assert_eq!(join(copy), 0);
}

extern "C" fn nothing(_: libc::c_int) {}

#[test]
fn a_signal_ends_the_wait_and_the_deadline_holds_across() {
    let code = join(fork_child(|| {
        let (read, _write) = pipe();
        let child = child(|| {
            linger(&read);
            0
        });
        interrupt_often(nothing);
        let began = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(100));
        let mut interrupted = 0;
        while child.wait(deadline) == ExitOutcome::Interrupted {
            interrupted += 1;
        }
        child.send_signal(libc::SIGKILL).unwrap();
        i32::from(!(interrupted > 2 && began.elapsed() < Duration::from_secs(5)))
    }));
    assert_eq!(code, 0);
}

#[test]
fn without_pidfds_everything_but_the_sentinel_works() {
    let code = join(fork_child(|| {
        pidfd::pretend_refused(true);
        let ended = child(|| 7);
        assert_eq!(ended.wait(soon()), ExitOutcome::Exited(7));
        assert!(reaped(ended.pid()));

        let (read, write) = pipe();
        let killed = child(|| {
            linger(&read);
            0
        });
        assert_eq!(
            killed.sentinel().unwrap_err().kind(),
            std::io::ErrorKind::Unsupported
        );
        assert_eq!(
            killed.wait(Deadline::after(Duration::from_millis(20))),
            ExitOutcome::TimedOut
        );
        killed.send_signal(libc::SIGTERM).unwrap();
        assert_eq!(killed.wait(soon()), ExitOutcome::Exited(-libc::SIGTERM));
        drop(write);

        let elsewhere = child(|| 2);
        assert_eq!(join(elsewhere.pid()), 2);
        assert_eq!(elsewhere.wait(soon()), ExitOutcome::Exited(255));
        0
    }));
    assert_eq!(code, 0);
}

#[test]
fn a_pipe_serves_as_the_sentinel_where_there_are_no_pidfds() {
    let code = join(fork_child(|| {
        pidfd::pretend_refused(true);
        let (read, write) = pipe();
        let (go, start) = pipe();
        let pid = fork_child(|| {
            linger(&go);
            1
        });
        drop(write);
        let child = Child::with_pidfd(pid, None, read.into(), true);
        // SAFETY: `child` owns the sentinel and outlives the borrow.
        let sentinel = unsafe { BorrowedFd::borrow_raw(child.sentinel().unwrap()) };
        let mut fds = [PollFd::from_borrowed_fd(sentinel, PollFlags::IN)];
        assert_eq!(
            pidfd::ready(&mut fds, Deadline::PAST).unwrap(),
            pidfd::PollOutcome::TimedOut
        );
        send_byte(&start);
        assert_eq!(pidfd::ready(&mut fds, soon()).unwrap(), pidfd::PollOutcome::Ready);
        assert_eq!(child.wait(soon()), ExitOutcome::Exited(1));
        0
    }));
    assert_eq!(code, 0);
}

#[test]
fn a_process_that_has_vanished_already_has_ended_and_has_a_sentinel() {
    let pid = fork_child(|| 0);
    join(pid);
    let child = Child::new(pid, None, true);
    // SAFETY: `child` owns the sentinel and outlives the borrow.
    let sentinel = unsafe { BorrowedFd::borrow_raw(child.sentinel().unwrap()) };
    assert!(pidfd::ended(sentinel).unwrap());
    assert_eq!(child.poll(), Some(255));
}

#[test]
fn only_a_pidfd_is_taken_for_one() {
    let own = pidfd::open(std::process::id()).unwrap();
    assert!(pidfd::is_pidfd(&own));
    assert!(!pidfd::is_pidfd(pipe().0.as_fd()));
    assert!(!pidfd::ended(&own).unwrap());
}

#[test]
fn a_start_time_tells_a_process_from_another_with_its_pid() {
    let me = std::process::id();
    let start = procfs::start_time(me);
    assert_ne!(start, 0);
    assert_eq!(procfs::liveness(me, start), Liveness::Alive);
    assert_eq!(procfs::liveness(me, 0), Liveness::Alive);
    assert_eq!(procfs::liveness(me, start + 1), Liveness::Gone);
    assert_eq!(procfs::liveness(0, 0), Liveness::Gone);
    assert_eq!(procfs::liveness(u32::MAX, 0), Liveness::Gone);
    assert_eq!(procfs::start_time(u32::MAX), 0);
}

#[test]
fn a_zombie_counts_as_dead_and_shows_how_it_ended() {
    for (end, code) in [(None, 0), (None, 12), (Some(libc::SIGKILL), -9)] {
        let pid = fork_child(|| {
            if let Some(signal) = end {
                send(std::process::id(), signal);
            }
            code
        });
        let start = procfs::start_time(pid);
        assert!(eventually(|| procfs::liveness(pid, start) != Liveness::Alive));
        let Liveness::Zombie { status } = procfs::liveness(pid, start) else {
            panic!("no process has waited for it")
        };
        assert_eq!(status.map(procfs::exit_code_of_status), Some(code));
        assert_eq!(join(pid), code);
        assert_eq!(procfs::liveness(pid, start), Liveness::Gone);
    }
}

#[test]
fn a_name_full_of_parentheses_confuses_nobody() {
    let (read, write) = pipe();
    let (told, tell) = pipe();
    let pid = fork_child(|| {
        // SAFETY: the name is a C string.
        unsafe { libc::prctl(libc::PR_SET_NAME, c") Z 1 (a b".as_ptr()) };
        send_byte(&tell);
        linger(&read);
        0
    });
    linger(&told);
    let stat = procfs::stat(pid).unwrap().unwrap();
    assert!(matches!(stat.state, b'S' | b'R'), "{stat:?}");
    assert!(stat.start_time >= procfs::start_time(std::process::id()));
    send_byte(&write);
    assert_eq!(join(pid), 0);
}

#[test]
fn a_process_lives_as_long_as_any_of_its_threads() {
    let (read, write) = pipe();
    let pid = fork_child(|| {
        std::thread::spawn(move || linger(&read));
        // SAFETY: the call ends this thread only, which owns nothing that must be dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        1
    });
    let child = Child::new(pid, None, true);
    assert!(eventually(|| procfs::stat(pid).unwrap().unwrap().state == b'Z'));
    assert_eq!(procfs::liveness(pid, 0), Liveness::Alive);
    assert_eq!(child.poll(), None);
    send_byte(&write);
    assert_eq!(child.wait(soon()), ExitOutcome::Exited(0));
}
