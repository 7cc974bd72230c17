//! Dumps that are damaged, or made by another user, are refused or shown: nothing panics, and nothing takes long.
#![allow(missing_docs, unreachable_pub)]

mod hostile;

use hostile::exercise;
use procession_core::pool::{Options, Pool};
use procession_core::queue::Queue;
use procession_core::sync::{Lock, RLock};
use procession_inspect::model::Detail;
use procession_inspect::{Extras, Observer, dump};
use std::time::{Duration, Instant};

/// Objects of many kinds in the family of this process, and a dump of it.
fn a_dump(payloads: bool) -> (Vec<u8>, (Lock, RLock, Queue, Pool)) {
    let objects = (
        Lock::new(true).expect("a lock"),
        RLock::new(true).expect("a lock"),
        Queue::new(3, 0).expect("a queue"),
        Pool::new(Options {
            workers: 3,
            ..Options::default()
        })
        .expect("a pool"),
    );
    assert!(objects.0.try_acquire());
    let observer = Observer::attach(std::process::id()).expect("this process");
    let thread = format!("{:?}", std::thread::current().id());
    let path = std::env::temp_dir().join(format!("inspect-{}-{thread}.dump", std::process::id()));
    let length = dump::write(&observer, &path, payloads).expect("written");
    let bytes = std::fs::read(&path).expect("there");
    std::fs::remove_file(&path).expect("there");
    assert_eq!(length, bytes.len() as u64);
    (bytes, objects)
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

#[test]
fn a_dump_shows_what_the_family_showed() {
    for payloads in [false, true] {
        let (bytes, objects) = a_dump(payloads);
        let live = Observer::attach(std::process::id()).expect("this process");
        let now = live.look(Extras::default()).expect("a look");
        let then = dump::open_bytes(bytes)
            .expect("a dump")
            .look(Extras::default())
            .expect("a look");
        let key = objects.0.reference().key().0;
        for family in [&now, &then] {
            let lock = family
                .objects
                .iter()
                .find(|object| object.key.at == key)
                .expect("the lock");
            let Detail::Lock(lock) = &lock.detail else {
                panic!("a lock")
            };
            let holder = lock.holder.as_ref().expect("this process holds it");
            assert_eq!(holder.pid, std::process::id());
        }
        assert_eq!(now.id, then.id);
        assert_eq!(now.members[0].pid, then.members[0].pid);
    }
}

#[test]
fn a_damaged_dump_is_refused_or_shown() {
    let (seed, _objects) = a_dump(false);
    assert!(exercise(&seed));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    // Most bytes of a dump are zeros that mean nothing.
    let places: Vec<usize> = (0..seed.len()).filter(|at| seed[*at] != 0).collect();
    let began = Instant::now();
    let (mut shown, mut refused) = (0, 0);
    while shown + refused < 3000 && began.elapsed() < Duration::from_secs(15) {
        let mut bytes = seed.clone();
        for _ in 0..=dice.below(12) {
            let at = places[dice.below(places.len())].min(bytes.len() - 1);
            match dice.below(5) {
                0 => bytes[at] = dice.next() as u8,
                // Words that are offsets, sizes and counts.
                1..=3 => {
                    let at = at & !7;
                    let from = places[dice.below(places.len())] & !7;
                    let other: Option<[u8; 8]> = bytes.get(from..from + 8).and_then(|w| w.try_into().ok());
                    let word = match dice.below(4) {
                        0 => other.unwrap_or_default(),
                        1 => u64::MAX.to_le_bytes(),
                        2 => (dice.next() >> dice.below(64)).to_le_bytes(),
                        _ => [0; 8],
                    };
                    if let Some(place) = bytes.get_mut(at..at + 8) {
                        place.copy_from_slice(&word);
                    }
                }
                _ => bytes.truncate(at.max(bytes.len() / 2)),
            }
        }
        let one = Instant::now();
        if exercise(&bytes) {
            shown += 1;
        } else {
            refused += 1;
        }
        assert!(
            one.elapsed() < Duration::from_secs(10),
            "a look took {:?}",
            one.elapsed()
        );
    }
    assert!(
        shown > 10 && refused > 10,
        "{shown} were shown, {refused} refused"
    );
}

#[test]
fn what_is_no_dump_is_refused() {
    for bytes in [&b""[..], b"PROCDMP1", b"ELF", &[0; 4096], &[0xff; 4096]] {
        assert!(!exercise(bytes));
    }
}

#[test]
fn a_dump_of_another_version_says_so() {
    let (mut bytes, _objects) = a_dump(false);
    let magic = bytes.windows(8).rposition(|w| w == b"PROCESSN").expect("page 0");
    bytes[magic + 8] = 77;
    let error = dump::open_bytes(bytes).expect_err("another version").to_string();
    assert!(error.contains("layout version 77"), "{error}");
}
