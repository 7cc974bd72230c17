//! The field table in the first page of family memory, as an observer reads it.

use core::fmt::Write as _;
use procession_core::family::Family;
use procession_core::family::fields::{FIELDS, hash, names};
use procession_core::family::layout::{MAGIC, VERSION};
use std::collections::HashMap;

mod common;

fn words(family: &'static Family, at: u64, count: usize) -> Vec<u64> {
    let mut bytes = vec![0; 8 * count];
    rustix::io::pread(family.checked_fd().unwrap(), &mut bytes, at).unwrap();
    let word = |eight: &[u8]| u64::from_le_bytes(eight.try_into().unwrap());
    bytes.chunks_exact(8).map(word).collect()
}

#[test]
fn the_first_page_says_where_every_field_lies() {
    let family = Family::home().unwrap();
    let first = words(family, 0, 512);
    assert_eq!((first[0], first[1] as u32), (MAGIC, VERSION));
    let table = &first[FIELDS as usize / 8..];
    assert_ne!(table[0], 0, "no build id");
    assert_eq!(table[2] as usize, names().len());
    let entries: HashMap<u32, u32> = table[3..3 + table[2] as usize]
        .iter()
        .map(|entry| (*entry as u32, (*entry >> 32) as u32))
        .collect();
    assert_eq!(entries.len(), names().len(), "two names have the same hash");
    let place = |name: &str| {
        let place = entries[&hash(name)];
        (u64::from(place & 0xffff), place >> 16)
    };
    // By the table alone: this process's slot holds its pid.
    let registry = u64::from(entries[&hash("at.registry")]);
    let (at, width) = place("Slot.who");
    assert_eq!(width, 8);
    assert_eq!(words(family, registry + at, 1)[0] as u32, std::process::id());
    let (at, _) = place("Ledger.slots");
    assert!(words(family, u64::from(entries[&hash("at.ledger")]) + at, 1)[0] >= 1);
    assert_eq!(entries[&hash("Slot")], 256);
    assert_eq!(entries[&hash("Kind.Queue")], 4);
}

#[test]
fn the_list_of_names_is_that_of_the_table() {
    let mut list = String::new();
    for (name, entry) in names() {
        // The list has the place of glibc's lock word; musl's lies elsewhere.
        let upper = if name == "at.owner" { 0 } else { entry >> 32 };
        let plain = !name.contains('.') || !name.starts_with(char::is_uppercase);
        let number = ["Kind.", "What.", "Start.", "Role.", "State."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if plain || number {
            writeln!(list, "{name} {upper}").unwrap();
        } else {
            writeln!(list, "{name} {} {}", upper & 0xffff, upper >> 16).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fields.txt");
    if std::env::var_os("WRITE_FIELDS").is_some() {
        std::fs::write(path, &list).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        known, list,
        "fields.txt is out of date: run this test once with WRITE_FIELDS=1"
    );
}
