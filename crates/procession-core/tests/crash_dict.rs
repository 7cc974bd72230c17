//! A process is killed at every step of every operation on a dictionary. The other processes never hang, lose a value
//! or read a torn one, and nothing leaks.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point};
use procession_core::Result;
use procession_core::dict::layout::INLINE;
use procession_core::dict::{Dict, Key, New, Put, Tried, When};
use procession_core::family::Hold;
use procession_core::queue::{LockPolicy, Queue};
use procession_core::sync::{Acquired, Lock, RLock};
use procession_core::sys::clock::Deadline;

fn patiently<T>(mut attempt: impl FnMut(LockPolicy) -> Result<Tried<T>>) -> T {
    loop {
        if let Tried::Done(answer) = attempt(LockPolicy::Bounded).unwrap() {
            return answer;
        }
    }
}

fn put_when(dict: &Dict, key: &[u8], value: &[u8], refs: Vec<Hold>, when: When) -> Put {
    let mut new = New::pack(dict.family(), value, 7, refs).unwrap();
    let key = Key {
        bytes: key,
        shown: b"",
    };
    patiently(|policy| dict.try_put(key, &mut new, when, policy))
}

fn put(dict: &Dict, key: &[u8], value: &[u8]) {
    assert_eq!(put_when(dict, key, value, Vec::new(), When::Always), Put::Done);
}

fn get(dict: &Dict, key: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let value = patiently(|policy| dict.try_get(key, &mut bytes, policy))?;
    assert_eq!(value.encoding, 7);
    if let Some((buffer, len)) = &value.big {
        Queue::copy_big(buffer, *len, &mut bytes);
    }
    Some(bytes)
}

fn remove(dict: &Dict, key: &[u8]) -> Put {
    patiently(|policy| dict.try_remove(key, When::Always, policy))
}

fn key(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn filled(count: u32) -> Dict {
    let dict = Dict::new().unwrap();
    (0..count).for_each(|n| put(&dict, &key(n), &[n as u8; 20]));
    dict
}

/// Checks that all entries except those of `except` exist, and that the dictionary's count is correct.
fn is_whole(dict: &Dict, count: u32, except: &[u32]) {
    for n in (0..count).filter(|n| !except.contains(n)) {
        assert_eq!(get(dict, &key(n)), Some(vec![n as u8; 20]), "the value of {n}");
    }
    let shown = patiently(|policy| dict.try_snapshot(true, policy));
    assert_eq!(shown.len() as u64, dict.len());
}

/// Puts a value of `len` bytes for key `number` into a dictionary with `count` keys; the process is killed at every
/// point.
fn put_survives(count: u32, number: u32, len: usize) -> u32 {
    at_every_point(
        || filled(count),
        |dict| put(dict, &key(number), &vec![250; len]),
        |dict, end| {
            let old = (number < count).then(|| vec![number as u8; 20]);
            let now = get(&dict, &key(number));
            assert!(
                now == Some(vec![250; len]) || (end == End::Killed && now == old),
                "a torn value"
            );
            is_whole(&dict, count, &[number]);
            put(&dict, b"after", b"more");
            assert_eq!(get(&dict, b"after").unwrap(), b"more");
        },
    )
}

#[test]
fn a_process_killed_at_any_point_of_its_first_put_harms_nobody() {
    assert!(put_survives(0, 0, 20) > 20);
}

#[test]
fn a_process_killed_while_it_adds_a_key_harms_nobody() {
    assert!(put_survives(3, 3, 100) > 10);
}

#[test]
fn a_process_killed_while_it_replaces_a_value_harms_nobody() {
    assert!(put_survives(3, 1, 100) > 10);
    assert!(put_survives(3, 1, INLINE + 1) > 20);
}

#[test]
fn a_process_killed_while_the_table_grows_harms_nobody() {
    // Ten of sixteen slots are used: the next key takes a larger table.
    assert!(put_survives(10, 10, 20) > 40);
}

#[test]
fn a_process_killed_while_it_removes_a_key_harms_nobody() {
    for count in [1, 5] {
        at_every_point(
            || filled(count),
            |dict| assert_eq!(remove(dict, &key(0)), Put::Done),
            |dict, end| {
                let now = get(&dict, &key(0));
                assert!(now.is_none() || (end == End::Killed && now == Some(vec![0; 20])));
                is_whole(&dict, count, &[0]);
            },
        );
    }
}

#[test]
fn a_process_killed_while_the_table_shrinks_harms_nobody() {
    let points = at_every_point(
        || {
            let dict = filled(100);
            // Shrinking begins below an eighth of 256.
            (32..100).for_each(|n| assert_eq!(remove(&dict, &key(n)), Put::Done));
            dict
        },
        |dict| assert_eq!(remove(dict, &key(31)), Put::Done),
        |dict, _| is_whole(&dict, 32, &[31]),
    );
    assert!(points > 20, "{points}");
}

#[test]
fn a_process_killed_while_it_clears_all_leaves_all_or_nothing() {
    at_every_point(
        || filled(20),
        |dict| patiently(|policy| dict.try_clear(policy)),
        |dict, end| {
            assert!(dict.is_empty() || (end == End::Killed && dict.len() == 20));
            if !dict.is_empty() {
                is_whole(&dict, 20, &[]);
            }
            put(&dict, b"after", b"more");
            assert_eq!(get(&dict, b"after").unwrap(), b"more");
        },
    );
}

#[test]
fn what_a_value_refers_to_has_one_owner_wherever_its_writer_is_killed() {
    at_every_point(
        || (filled(2), Lock::new(true).unwrap()),
        |(dict, lock)| {
            let refs = vec![lock.try_clone().unwrap(), lock.try_clone().unwrap()];
            assert_eq!(put_when(dict, b"l", &[1; 5000], refs, When::Always), Put::Done);
            assert_eq!(
                put_when(dict, b"l", b"2", vec![lock.try_clone().unwrap()], When::Always),
                Put::Done
            );
            assert_eq!(get(dict, b"l").unwrap(), b"2");
            assert_eq!(remove(dict, b"l"), Put::Done);
        },
        |(dict, lock), _| {
            is_whole(&dict, 2, &[]);
            assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
    );
}

#[test]
fn a_reader_killed_at_any_point_harms_nobody() {
    at_every_point(
        || {
            let dict = filled(3);
            let lock = Lock::new(true).unwrap();
            put_when(
                &dict,
                b"l",
                &[1; 9000],
                vec![lock.try_clone().unwrap()],
                When::Always,
            );
            dict
        },
        |dict| {
            assert_eq!(get(dict, b"l").unwrap(), [1; 9000]);
            assert_eq!(patiently(|policy| dict.try_snapshot(true, policy)).len(), 4);
        },
        |dict, _| is_whole(&dict, 3, &[]),
    );
}

#[test]
fn a_dictionary_whose_last_owner_is_killed_at_any_point_is_taken_apart() {
    let points = at_every_point(
        || (),
        |()| {
            let dict = filled(12);
            let lock = Lock::new(true).unwrap();
            put_when(
                &dict,
                b"l",
                &[1; 9000],
                vec![lock.try_clone().unwrap()],
                When::Always,
            );
            patiently(|policy| dict.try_lock_of(b"l", policy));
        },
        |(), _| (),
    );
    assert!(points > 100, "{points}");
}

#[test]
fn the_lock_of_a_key_is_one_lock_whoever_is_killed_making_it() {
    at_every_point(
        || filled(1),
        |dict| drop(patiently(|policy| dict.try_lock_of(b"k", policy))),
        |dict, _| {
            let [one, other] = [(); 2].map(|()| {
                let hold = patiently(|policy| dict.try_lock_of(b"k", policy));
                RLock::open(&hold.handle()).unwrap()
            });
            assert_eq!(one.reference().key(), other.reference().key());
            assert_eq!(dict.locks(), 1);
            assert_eq!(one.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(one.release());
        },
    );
}

#[test]
fn locks_that_nobody_uses_are_removed_and_those_in_use_are_not() {
    let _turn = crash::take_turn();
    let dict = Dict::new().unwrap();
    let used = patiently(|policy| dict.try_lock_of(b"used", policy));
    for n in 0..1000 {
        drop(patiently(|policy| dict.try_lock_of(&key(n), policy)));
    }
    assert!(dict.locks() < 20, "{}", dict.locks());
    let again = patiently(|policy| dict.try_lock_of(b"used", policy));
    assert_eq!(used.offset, again.offset);
}

#[test]
fn a_change_that_comes_too_late_is_refused() {
    let _turn = crash::take_turn();
    let dict = filled(1);
    let mut bytes = Vec::new();
    let seen = patiently(|policy| dict.try_get(&key(0), &mut bytes, policy)).unwrap();
    let mine = When::Stamp(seen.stamp);
    assert_eq!(put_when(&dict, &key(0), b"1", Vec::new(), mine), Put::Done);
    assert_eq!(put_when(&dict, &key(0), b"2", Vec::new(), mine), Put::Refused);
    assert_eq!(
        put_when(&dict, &key(0), b"3", Vec::new(), When::Absent),
        Put::Refused
    );
    assert_eq!(patiently(|p| dict.try_remove(&key(0), mine, p)), Put::Refused);
    assert_eq!(get(&dict, &key(0)).unwrap(), b"1");
}

#[test]
fn a_dictionary_gives_its_memory_back() {
    let _turn = crash::take_turn();
    let family = procession_core::family::Family::home().unwrap();
    drop(filled(5));
    let before = family.blocks();
    let dict = filled(5000);
    (0..5000).for_each(|n| assert_eq!(remove(&dict, &key(n)), Put::Done));
    assert!(
        family.blocks() <= before + 4,
        "{} blocks",
        family.blocks() - before
    );
    put(&dict, b"k", &[1; 100_000]);
    drop(dict);
    assert_eq!(family.blocks(), before);
}
