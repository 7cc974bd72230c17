//! Locks and the other objects on which processes wait, and the effects of a process's death on the others.

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{
    Barrier, Condvar, Event, Lock, LockError, Locked, Process, RLock, RLocked, Semaphore, SharedBox,
    SharedSlice,
};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

procession::init_before_main!();

every_way! {
    a_lock_keeps_processes_apart
    a_lock_whose_owner_was_killed_is_the_next_ones_with_the_news
    with_passes_the_death_on_and_leaves_the_value_alone
    only_one_hears_of_the_death
    a_recursive_lock_tells_of_its_dead_owner_too
    a_condition_wakes_as_many_as_it_is_told
    a_killed_waiter_takes_no_wake_up_along
    a_barrier_lets_all_go_at_once
    a_semaphore_counts_across_processes
    atomics_count_exactly
}

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Account {
    balance: i64,
    transfers: u64,
}

fn a_lock_keeps_processes_apart(way: Way) {
    let account = Lock::new(Account {
        balance: 0,
        transfers: 0,
    })
    .unwrap();
    let children: Vec<Process<()>> = (0..3)
        .map(|_| {
            way.start(
                |account: Lock<Account>| {
                    for _ in 0..1000 {
                        let mut guard = account.lock().unwrap().into_guard();
                        let before = *guard;
                        guard.balance = before.balance + 2;
                        guard.transfers = before.transfers + 1;
                    }
                },
                account.clone(),
            )
        })
        .collect();
    children.into_iter().for_each(|child| joined(child).unwrap());
    let found = *account.lock().unwrap().into_guard();
    assert_eq!(
        found,
        Account {
            balance: 6000,
            transfers: 3000
        }
    );
}

/// Starts a process that is killed while it has the lock, in the middle of a change.
fn killed_with(way: Way, lock: &Lock<Account>) -> u32 {
    let torn = Event::new().unwrap();
    let child = way.start(
        |(lock, torn): (Lock<Account>, Event)| {
            let mut guard = lock.lock().unwrap().into_guard();
            guard.balance = -1;
            torn.set();
            std::thread::sleep(LIMIT);
        },
        (lock.clone(), torn.clone()),
    );
    let pid = child.pid();
    assert!(torn.wait_timeout(LIMIT));
    child.kill().unwrap();
    joined(child).unwrap_err();
    pid
}

fn a_lock_whose_owner_was_killed_is_the_next_ones_with_the_news(way: Way) {
    let lock = Lock::new(Account {
        balance: 5,
        transfers: 5,
    })
    .unwrap();
    let pid = killed_with(way, &lock);
    match lock.lock_timeout(LIMIT).unwrap().unwrap() {
        Locked::OwnerDied(mut guard, death) => {
            assert_eq!((death.pid, death.code), (pid, Some(-9)));
            assert!(death.to_string().contains("SIGKILL"));
            assert_eq!(
                *guard,
                Account {
                    balance: -1,
                    transfers: 5
                }
            );
            guard.balance = 5;
            assert!(lock.try_lock().unwrap().is_none());
        }
        Locked::Clean(_) => panic!("the death was not told"),
    }
    assert!(matches!(lock.lock().unwrap(), Locked::Clean(_)));
}

fn with_passes_the_death_on_and_leaves_the_value_alone(way: Way) {
    let lock = Lock::new(Account {
        balance: 5,
        transfers: 5,
    })
    .unwrap();
    let pid = killed_with(way, &lock);
    let mut called = false;
    match lock.with(|_| called = true) {
        Err(LockError::OwnerDied(death)) => assert_eq!(death.pid, pid),
        other => panic!("{other:?}"),
    }
    assert!(!called);
    assert_eq!(lock.with(|account| account.balance).unwrap(), -1);
}

fn only_one_hears_of_the_death(way: Way) {
    let lock = Lock::new(Account {
        balance: 5,
        transfers: 5,
    })
    .unwrap();
    killed_with(way, &lock);
    let told = SharedBox::new(0u32).unwrap();
    let children: Vec<Process<()>> = (0..3)
        .map(|_| {
            way.start(
                |(lock, told): (Lock<Account>, SharedBox<u32>)| match lock.lock().unwrap() {
                    Locked::Clean(guard) => assert_eq!(guard.balance, 5),
                    Locked::OwnerDied(mut guard, _) => {
                        told.as_atomic().fetch_add(1, Ordering::Relaxed);
                        guard.balance = 5;
                    }
                },
                (lock.clone(), told.clone()),
            )
        })
        .collect();
    children.into_iter().for_each(|child| joined(child).unwrap());
    assert_eq!(told.get(), 1);
}

fn a_recursive_lock_tells_of_its_dead_owner_too(way: Way) {
    let lock = RLock::new().unwrap();
    let taken = Event::new().unwrap();
    let child = way.start(
        |(lock, taken): (RLock, Event)| {
            let _once = lock.lock().unwrap();
            let _twice = lock.lock().unwrap();
            taken.set();
            std::thread::sleep(LIMIT);
        },
        (lock.clone(), taken.clone()),
    );
    assert!(taken.wait_timeout(LIMIT));
    assert!(lock.try_lock().unwrap().is_none());
    child.kill().unwrap();
    joined(child).unwrap_err();
    let RLocked::OwnerDied(once, _) = lock.lock_timeout(LIMIT).unwrap().unwrap() else {
        panic!("the death was not told");
    };
    let twice = lock.lock().unwrap();
    drop(once);
    assert!(lock.is_locked());
    drop(twice);
    assert!(!lock.is_locked());
}

fn a_condition_wakes_as_many_as_it_is_told(way: Way) {
    let (lock, changed, woken) = (
        Lock::new(()).unwrap(),
        Condvar::new().unwrap(),
        Semaphore::new(0).unwrap(),
    );
    let children: Vec<Process<()>> = (0..3)
        .map(|_| {
            way.start(
                |(lock, changed, woken): (Lock, Condvar, Semaphore)| {
                    let guard = lock.lock().unwrap().into_guard();
                    drop(changed.wait(guard).unwrap());
                    woken.release(1);
                },
                (lock.clone(), changed.clone(), woken.clone()),
            )
        })
        .collect();
    assert!(eventually(|| changed.waiting() == 3));
    assert_eq!(changed.notify(2), 2);
    assert!(woken.acquire_timeout(LIMIT) && woken.acquire_timeout(LIMIT));
    assert_eq!(changed.waiting(), 1);
    changed.notify_all();
    children.into_iter().for_each(|child| joined(child).unwrap());
}

fn a_killed_waiter_takes_no_wake_up_along(way: Way) {
    let (lock, changed) = (Lock::new(0u32).unwrap(), Condvar::new().unwrap());
    let wait = |(lock, changed): (Lock<u32>, Condvar)| {
        let guard = lock.lock().unwrap().into_guard();
        drop(changed.wait_while(guard, |value| *value == 0).unwrap());
    };
    let first = way.start(wait, (lock.clone(), changed.clone()));
    assert!(eventually(|| changed.waiting() == 1));
    let second = way.start(wait, (lock.clone(), changed.clone()));
    assert!(eventually(|| changed.waiting() == 2));
    first.kill().unwrap();
    joined(first).unwrap_err();
    *lock.lock().unwrap().into_guard() = 1;
    changed.notify_one();
    joined(second).unwrap();
}

fn a_barrier_lets_all_go_at_once(way: Way) {
    let (barrier, leaders) = (Barrier::new(3).unwrap(), SharedBox::new(0u64).unwrap());
    let children: Vec<Process<()>> = (0..2)
        .map(|_| {
            way.start(
                |(barrier, leaders): (Barrier, SharedBox<u64>)| {
                    for _ in 0..20 {
                        if barrier.wait_timeout(LIMIT).unwrap().is_leader() {
                            leaders.as_atomic().fetch_add(1, Ordering::Relaxed);
                        }
                    }
                },
                (barrier.clone(), leaders.clone()),
            )
        })
        .collect();
    for _ in 0..20 {
        if barrier.wait_timeout(LIMIT).unwrap().is_leader() {
            leaders.as_atomic().fetch_add(1, Ordering::Relaxed);
        }
    }
    children.into_iter().for_each(|child| joined(child).unwrap());
    assert_eq!(leaders.get(), 20);
    assert!(barrier.wait_timeout(Duration::from_millis(5)).is_err());
    assert!(barrier.is_broken());
    barrier.reset();
    assert!(!barrier.is_broken());
}

fn a_semaphore_counts_across_processes(way: Way) {
    let permits = Semaphore::bounded(1, 2).unwrap();
    assert!(permits.try_acquire());
    let child = way.start(|permits: Semaphore| permits.release(2), permits.clone());
    assert!(joined(child).unwrap());
    assert!(!permits.release(1));
    assert_eq!(permits.permits(), 2);
    assert!(permits.acquire_timeout(LIMIT) && permits.try_acquire() && !permits.try_acquire());
    assert!(!permits.acquire_timeout(Duration::from_millis(5)));
}

fn atomics_count_exactly(way: Way) {
    let counts = SharedSlice::<u32>::zeroed(100).unwrap();
    let children: Vec<Process<()>> = (0..2)
        .map(|_| {
            way.start(
                |counts: SharedSlice<u32>| {
                    for n in 0..10_000 {
                        counts.as_atomics()[n % 100].fetch_add(1, Ordering::Relaxed);
                    }
                },
                counts.clone(),
            )
        })
        .collect();
    children.into_iter().for_each(|child| joined(child).unwrap());
    assert_eq!(counts.to_vec(), vec![200; 100]);
}

#[test]
fn a_shared_slice_copies_any_range_of_any_type() {
    let slice = SharedSlice::<[u8; 3]>::from_slice(&[[1, 2, 3], [4, 5, 6], [7, 8, 9]]).unwrap();
    assert_eq!(slice.get(1), [4, 5, 6]);
    slice.write(1, &[[9; 3], [8; 3]]);
    let mut two = [[0; 3]; 2];
    slice.read(0, &mut two);
    assert_eq!(two, [[1, 2, 3], [9, 9, 9]]);
    assert!(std::panic::catch_unwind(|| slice.get(3)).is_err());
    assert_eq!(SharedSlice::<u64>::zeroed(0).unwrap().to_vec(), Vec::<u64>::new());
}

#[test]
fn gigabytes_are_there_at_once_and_cost_what_is_written() {
    let big = SharedSlice::<u64>::zeroed(1 << 26).unwrap();
    big.set((1 << 26) - 1, 7);
    assert_eq!(big.get((1 << 26) - 1), 7);
    assert!(
        SharedSlice::<u64>::zeroed(usize::MAX / 4)
            .unwrap_err()
            .is_out_of_memory()
    );
}
