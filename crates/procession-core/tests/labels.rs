//! Names of objects, and the places where they were made, as observers find them.
#![allow(unsafe_code)]

mod common;

use common::{ended_well, eventually, in_child};
use core::sync::atomic::Ordering;
use procession_core::family::label::{LONGEST, Label, TEXT, given};
use procession_core::family::object::{Header, Kind, Tag};
use procession_core::family::{Family, Hold};
use procession_core::queue::Queue;
use procession_core::sync::Lock;
use std::sync::Mutex;

/// The tests count blocks.
static TURN: Mutex<()> = Mutex::new(());

/// Name and place of an object.
fn label_of(hold: &Hold) -> Option<(String, String)> {
    let header = hold.header();
    let word = match header.tag().kind() {
        Some(Kind::Array | Kind::Pool) => &header.waits,
        _ => &header.resident,
    };
    let word = word.load(Ordering::Acquire);
    let offset = word & ((1 << 40) - 1);
    if offset == 0 {
        return None;
    }
    let label = hold.family.at::<Header>(offset);
    let tag = Tag(label.tag.load(Ordering::Acquire));
    assert_eq!(tag.kind(), Some(Kind::Label));
    assert_eq!(u64::from(tag.generation()) & 0xff_ffff, word >> 40);
    let mut text = Vec::new();
    hold.family.copy_out(
        offset + TEXT,
        label.operations.load(Ordering::Relaxed) as usize,
        &mut text,
    );
    let text = String::from_utf8(text).unwrap();
    let (name, place) = text.split_once('\0').unwrap();
    Some((name.to_owned(), place.to_owned()))
}

fn pair(name: &str, place: &str) -> Option<(String, String)> {
    Some((name.to_owned(), place.to_owned()))
}

#[test]
fn an_object_has_the_label_that_it_was_given_last() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let lock = Lock::new(true).unwrap();
    let hold = lock.try_clone().unwrap();
    assert_eq!(label_of(&hold), None);
    hold.set_label(&Label::new(family, "accounts", "bank.py:7 main").unwrap())
        .unwrap();
    assert_eq!(label_of(&hold), pair("accounts", "bank.py:7 main"));
    hold.set_label(&Label::new(family, "", "bank.py:8 main").unwrap())
        .unwrap();
    assert_eq!(label_of(&hold), pair("", "bank.py:8 main"));
    assert!(lock.try_acquire() && lock.release(), "and it works as before");
}

#[test]
fn queues_and_arrays_of_all_sizes_have_labels() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let label = Label::new(family, "n", "p").unwrap();
    for len in [8, 5_000, 100_000, 3_000_000] {
        let array = family.zeroed(len).unwrap();
        array.set_label(&label).unwrap();
        assert_eq!(label_of(&array), pair("n", "p"));
        let mut bytes = Vec::new();
        family.copy_out(array.offset + TEXT, len as usize, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
    let queue = Queue::new(0, 0).unwrap().reference().try_clone().unwrap();
    queue.set_label(&label).unwrap();
    assert_eq!(label_of(&queue), pair("n", "p"));
    assert!(family.buffer(b"no").unwrap().set_label(&label).is_err());
}

#[test]
fn an_object_gets_the_label_that_is_given_while_it_is_made() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let label = Label::new(family, "given", "p").unwrap();
    let refs = || label_refs(&label);
    let before = refs();
    given(Some(&label), || {
        for len in [8, 5_000, 100_000, 3_000_000] {
            assert_eq!(label_of(&family.zeroed(len).unwrap()), pair("given", "p"));
        }
        let queue = Queue::new(0, 0).unwrap();
        assert_eq!(queue.reference().name().as_deref(), Some("given"));
        let lock = Lock::new(true).unwrap();
        assert_eq!(label_of(&lock.try_clone().unwrap()), pair("given", "p"));
        assert_eq!(refs(), before + 2);
    });
    assert_eq!(refs(), before, "each object has released it");
    assert_eq!(
        Lock::new(true).unwrap().reference().name(),
        None,
        "later ones have none"
    );
    let panicked = std::panic::catch_unwind(|| given(Some(&label), || panic!("no object")));
    assert!(panicked.is_err());
    assert_eq!(Lock::new(true).unwrap().reference().name(), None);
}

fn label_refs(label: &Label) -> u64 {
    let offset = label.named() & ((1 << 40) - 1);
    label.family().at::<Header>(offset).refs.load(Ordering::Relaxed)
}

#[test]
fn a_label_is_freed_with_the_last_object_that_has_it() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let round = |number: u32| {
        let lock = Lock::new(true).unwrap();
        let label = Label::new(family, &format!("lock {number}"), "").unwrap();
        lock.try_clone().unwrap().set_label(&label).unwrap();
    };
    // This process remembers a limited number of labels.
    (0..600).for_each(round);
    let before = family.blocks();
    (600..6000).for_each(round);
    assert!(family.blocks() <= before + 300, "labels leak");
}

#[test]
fn a_label_outlives_the_process_that_made_it() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let lock = Lock::new(true).unwrap();
    let hold = lock.try_clone().unwrap();
    let child = in_child(|| {
        hold.set_label(&Label::new(family, "made by the child", "").unwrap())
            .unwrap();
    });
    assert!(ended_well(child));
    family.sweep();
    assert_eq!(label_of(&hold), pair("made by the child", ""));
    let before = family.blocks();
    drop((hold, lock));
    assert!(eventually(|| family.blocks() <= before - 2));
}

#[test]
fn long_names_and_places_are_cut_between_characters() {
    let _turn = TURN.lock();
    let family = Family::home().unwrap();
    let lock = Lock::new(true).unwrap().try_clone().unwrap();
    let label = Label::new(family, &"ä".repeat(999), &format!("{}:7 f", "/ö".repeat(999))).unwrap();
    lock.set_label(&label).unwrap();
    let (name, place) = label_of(&lock).unwrap();
    assert!(name.len() + place.len() < LONGEST && name.starts_with('ä') && place.ends_with(":7 f"));
}
