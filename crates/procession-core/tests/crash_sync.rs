//! A process is killed at every step of every operation on a semaphore, a condition, an event and a barrier.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point, fork_child, wait_for};
use procession_core::family::Family;
use procession_core::sync::barrier::Outcome;
use procession_core::sync::wait::WaitOutcome;
use procession_core::sync::{Acquired, Barrier, Condition, Event, Lock, RLock, Semaphore};
use procession_core::sys::clock::Deadline;
use std::time::Duration;

/// Returns whether this child has ended. Leaves the zombie.
fn ended(child: libc::pid_t) -> bool {
    // SAFETY: zeros are a valid siginfo, which the call fills in; the pid is a child of this process.
    unsafe {
        let mut facts = core::mem::zeroed::<libc::siginfo_t>();
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child as libc::id_t, &mut facts, how) == 0 && facts.si_pid() == child
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

#[test]
fn a_semaphore_is_usable_after_a_kill_at_any_point() {
    let points = at_every_point(
        || Semaphore::new(2, 2).unwrap(),
        |semaphore| {
            assert_eq!(semaphore.acquire(soon()), WaitOutcome::Ready(()));
            assert!(semaphore.release(1));
        },
        |semaphore, end| {
            let left = semaphore.value();
            assert!(left == 2 || (left == 1 && end == End::Killed), "{left}");
            assert_eq!(semaphore.acquire(soon()), WaitOutcome::Ready(()));
            assert!(semaphore.release(1));
        },
    );
    assert_eq!(points, 2);
}

#[test]
fn an_event_set_by_a_process_that_dies_before_it_rings_wakes_all_the_same() {
    at_every_point(
        || {
            let event = Event::new().unwrap();
            let waiter = fork_child(|| assert_eq!(event.wait(soon()), WaitOutcome::Ready(())));
            (event, waiter)
        },
        |(event, _)| event.set(),
        |(event, waiter), end| {
            if end == End::Killed && !event.is_set() {
                event.set();
            }
            assert_eq!(wait_for(waiter), End::Done);
        },
    );
}

#[test]
fn an_rlock_whose_owner_is_killed_at_any_point_is_handed_over() {
    at_every_point(
        || RLock::new(true).unwrap(),
        |lock| {
            for _ in 0..2 {
                assert_eq!(lock.acquire(soon()).unwrap(), Acquired::Yes);
            }
            for _ in 0..2 {
                assert!(lock.release());
            }
        },
        |lock, end| {
            match lock.acquire(soon()).unwrap() {
                Acquired::Yes => {}
                Acquired::OwnerDied(_) if end == End::Killed => {
                    assert_eq!(lock.acquire(soon()).unwrap(), Acquired::Yes);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(lock.depth(), 1);
            assert!(lock.release() && !lock.locked());
        },
    );
}

#[test]
fn a_waiter_killed_at_any_point_leaves_the_list_and_passes_its_call_on() {
    let points = at_every_point(
        || {
            let condition = Condition::new().unwrap();
            let mine = condition.enlist().unwrap();
            (condition, std::cell::RefCell::new(mine))
        },
        |(condition, _)| {
            let mut ticket = condition.enlist().unwrap();
            // The first call is for the survivor's ticket, the second for this one.
            assert_eq!(condition.call(1, None) + condition.call(1, None), 2);
            assert_eq!(ticket.wait(soon()), WaitOutcome::Ready(()));
            ticket.acknowledge();
        },
        |(condition, ticket), _| {
            // Whatever the dead process had done, a call for all reaches the survivor, and no waiter is left.
            condition.call(u32::MAX, None);
            assert_eq!(ticket.borrow_mut().wait(soon()), WaitOutcome::Ready(()));
            assert_eq!(condition.waiting(), 0);
        },
    );
    assert!(points > 40, "{points}");
}

#[test]
fn a_caller_killed_at_any_point_of_moving_a_sleeper_to_its_lock_leaves_nobody_asleep() {
    let points = at_every_point(
        || {
            let (condition, lock) = (Condition::new().unwrap(), Lock::new(true).unwrap());
            let waiter = fork_child(|| {
                let mut ticket = condition.enlist().unwrap();
                assert_eq!(ticket.wait(soon()), WaitOutcome::Ready(()));
                while lock.acquire(soon()).unwrap() != Acquired::Yes {}
                ticket.acknowledge();
                // The ticket is used for a second wait.
                assert!(condition.enlist_again(&mut ticket).unwrap());
                assert!(lock.release());
                assert_eq!(ticket.wait(soon()), WaitOutcome::Ready(()));
                ticket.acknowledge();
            });
            while condition.waiting() == 0 {
                std::thread::yield_now();
            }
            (condition, lock, waiter)
        },
        |(condition, lock, _)| {
            assert!(lock.try_acquire());
            assert_eq!(condition.call(1, Some(lock.reference())), 1);
            assert!(lock.release());
        },
        |(condition, lock, waiter), _| {
            let _ = Family::home().unwrap().sweep();
            // Call until the waiter has waited twice: the first call may not have happened.
            while !ended(waiter) {
                if lock.try_acquire() || lock.acquire(Deadline::PAST).unwrap() == Acquired::Yes {
                    condition.call(1, Some(lock.reference()));
                    assert!(lock.release());
                }
                std::thread::yield_now();
            }
            assert_eq!(wait_for(waiter), End::Done);
        },
    );
    assert!(points > 10, "{points}");
}

#[test]
fn a_call_that_went_to_a_dead_waiter_reaches_the_next() {
    let _turn = crash::take_turn();
    let condition = Condition::new().unwrap();
    // This process takes the first ticket and dies with it, unnoticed.
    let dead = fork_child(|| {
        std::mem::forget(condition.enlist().unwrap());
        procession_core::sys::memory::die();
    });
    while condition.waiting() == 0 {
        std::thread::yield_now();
    }
    let mut mine = condition.enlist().unwrap();
    // Either the notifier sees the death, or the reaper passes the call on.
    assert_eq!(condition.call(1, None), 1);
    assert_eq!(wait_for(dead), End::Killed);
    Family::home().unwrap().sweep();
    assert_eq!(mine.wait(soon()), WaitOutcome::Ready(()));
}

#[test]
fn a_ticket_that_is_given_up_swallows_no_call() {
    let _turn = crash::take_turn();
    let condition = Condition::new().unwrap();
    let mut first = condition.enlist().unwrap();
    let mut second = condition.enlist().unwrap();
    assert_eq!(first.wait(Deadline::PAST), WaitOutcome::TimedOut);
    assert!(!first.withdraw());
    assert_eq!(condition.call(1, None), 1);
    assert_eq!(second.wait(soon()), WaitOutcome::Ready(()));
    // A ticket that was called and is dropped passes the call on.
    let first = condition.enlist().unwrap();
    let mut second = condition.enlist().unwrap();
    assert_eq!(condition.call(1, None), 1);
    drop(first);
    assert_eq!(second.wait(soon()), WaitOutcome::Ready(()));
}

#[test]
fn a_barrier_can_be_used_after_a_kill_at_any_point_of_a_round() {
    at_every_point(
        || Barrier::new(2).unwrap(),
        |barrier| {
            // This process alone arrives twice: the second arrival trips the round.
            let WaitOutcome::Ready(Some(first)) = barrier.arrive(false, soon()).unwrap() else {
                panic!("not counted")
            };
            assert!(matches!(
                barrier.arrive(false, soon()).unwrap(),
                WaitOutcome::Ready(Some(_))
            ));
            assert_eq!(
                barrier.pass(first.round, soon()),
                WaitOutcome::Ready(Outcome::Tripped)
            );
        },
        |barrier, _| {
            barrier.reset();
            let WaitOutcome::Ready(Some(first)) = barrier.arrive(false, soon()).unwrap() else {
                panic!("not counted")
            };
            assert!(matches!(
                barrier.arrive(false, soon()).unwrap(),
                WaitOutcome::Ready(Some(_))
            ));
            assert_eq!(
                barrier.pass(first.round, soon()),
                WaitOutcome::Ready(Outcome::Tripped)
            );
        },
    );
}

#[test]
fn a_process_that_dies_while_it_runs_the_action_breaks_the_barrier() {
    let _turn = crash::take_turn();
    let barrier = Barrier::new(2).unwrap();
    let WaitOutcome::Ready(Some(mine)) = barrier.arrive(true, soon()).unwrap() else {
        panic!("not counted")
    };
    let actor = fork_child(|| {
        assert!(matches!(
            barrier.arrive(true, soon()).unwrap(),
            WaitOutcome::Ready(Some(_))
        ));
        procession_core::sys::memory::die();
    });
    assert_eq!(wait_for(actor), End::Killed);
    assert_eq!(
        barrier.pass(mine.round, soon()),
        WaitOutcome::Ready(Outcome::Broken)
    );
    assert!(barrier.broken());
}

#[test]
fn a_call_reaches_the_one_who_lives_behind_many_who_have_died() {
    let _turn = crash::take_turn();
    let condition = Condition::new().unwrap();
    let dead: Vec<_> = (0..70)
        .map(|n| {
            let pid = fork_child(|| {
                std::mem::forget(condition.enlist().unwrap());
                // SAFETY: `pause` has no preconditions; it waits for a signal.
                unsafe { libc::pause() };
            });
            while condition.waiting() <= n {
                std::thread::yield_now();
            }
            pid
        })
        .collect();
    let mut mine = condition.enlist().unwrap();
    // The first of them is called, and all of them are killed before any process notices a death.
    assert_eq!(condition.call(1, None), 1);
    for pid in &dead {
        // SAFETY: the call takes numbers only, and the pid is a child of this process that was not waited for.
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
    for pid in dead {
        assert_eq!(wait_for(pid), End::Killed);
    }
    Family::home().unwrap().sweep();
    assert_eq!(mine.wait(soon()), WaitOutcome::Ready(()));
    mine.acknowledge();
    assert_eq!(condition.waiting(), 0);
}

#[test]
fn the_end_of_a_forked_child_gives_up_no_place_of_its_parents() {
    let _turn = crash::take_turn();
    let condition = Condition::new().unwrap();
    let mut mine = condition.enlist().unwrap();
    assert_eq!(wait_for(fork_child(|| ())), End::Done);
    Family::home().unwrap().sweep();
    assert_eq!(condition.waiting(), 1);
    assert_eq!(
        mine.wait(Deadline::after(Duration::from_millis(50))),
        WaitOutcome::TimedOut
    );
    assert_eq!(condition.call(1, None), 1);
    assert_eq!(mine.wait(soon()), WaitOutcome::Ready(()));
    mine.acknowledge();
}

#[test]
fn the_record_of_a_wait_is_freed_with_the_process_that_was_killed_while_it_made_it() {
    let points = at_every_point(
        || Event::new().unwrap(),
        |event| {
            // More threads than a block has records.
            std::thread::scope(|s| {
                for _ in 0..procession_core::family::waits::RECORDS + 1 {
                    s.spawn(|| event.wait(Deadline::after(Duration::from_millis(50))));
                }
            });
        },
        |event, _| event.set(),
    );
    assert!(points > 10, "{points}");
}
