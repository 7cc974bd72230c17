//! The field table: where each field of each shared struct lies, written into the first page of family memory for
//! observers. An observer reads family memory only by this table, so it works with every build that has the same
//! names.
//!
//! | offset in the file | width | contents |
//! |---|---|---|
//! | 0 | 64 | [`super::layout::FamilyHeader`], whose layout never changes: magic (8), version (4), root's pid (4), id (16), length (8), created (8), tracker (16) |
//! | 64 | 8 | build id: the FNV-1a hash (64 bits) of all entries as they lie in memory; equal layouts have equal ids |
//! | 72 | 8 | version of Procession: major, minor and patch, 16 bits each, from bit 32 on downwards |
//! | 80 | 8 | number of entries |
//! | 88 | 8 each | the entries |
//!
//! An entry is one little-endian word. Its lower half is the FNV-1a hash (32 bits: start 0x811c9dc5, for each byte
//! xor, then multiply by 0x01000193) of a name in ASCII. What the upper half says depends on the name:
//!
//! | name | upper half |
//! |---|---|
//! | `Struct` | the size of the struct in bytes |
//! | `Struct.field` | lower 16 bits: offset of the field in the struct; upper 16 bits: its width in bytes |
//! | `Kind.Name`, `What.Name`, `Start.Name`, `Role.Name`, `State.Name` | the number of a kind of block, … |
//! | `at.name`, `size.name`, `flag.name` | another number of the layout |
//!
//! A field whose type is another struct has the width of that struct, and its own fields are found under the name of
//! that struct (`QueueObject.items` is a `WaitPoint`, `WaitPoint.tally` a `Tally`). An array has the width of all its
//! elements, one behind the other. A robust mutex (`Ledger.mutex`, `Slot.life`, and what `QueueObject.put_mutex`,
//! `QueueObject.get_mutex` and `DictObject.mutex` name by its offset) has 64 bytes; the lower 30 bits of its 4 bytes at
//! `at.owner` are the id of the thread that is inside, or 0. All other fields are unsigned numbers of 4 or 8 bytes. The file `fields.txt` of this
//! crate lists all names.
//!
//! A task of an event loop that waits for an object has a wait record with `flag.in_loop` ([`super::loop_waits`]). Its process
//! is registered with the object's bells: each number of `Wakers.places` that is not 0 is the pid of such a process, shifted
//! by 10 bits.
//!
//! The words that are there for observers only, with who writes them, are described at the structs:
//! [`super::waits`] (what threads wait for), [`super::label`] (names and places), [`super::registry::Slot`] (`how`:
//! start method and role), [`super::ledger::Ledger`] (`sequence`), `pool::layout` (worker slots, history, totals) and
//! `pool::definition` (the name of a function).

use super::Family;
use super::layout::{FamilyHeader, HEAP, LEDGER, REGISTRY};
use super::object::Kind;
use super::registry::{Role, Start, State};
use super::waits::What;
use crate::sys::shared::{Described, Field, shared};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// Number of entries for which there is room.
const ROOM: usize = 501;
/// The offset of the table.
pub const FIELDS: u64 = 64;

/// The table. The founder of a family writes it before another process can see the file.
#[repr(C)]
#[derive(Debug)]
pub struct FieldTable {
    /// Hash of the entries.
    pub build: AtomicU64,
    /// Version of Procession.
    pub release: AtomicU64,
    /// Number of entries.
    pub count: AtomicU64,
    /// The entries.
    pub entries: [AtomicU64; ROOM],
}

shared!(FieldTable, 4096 - FIELDS, { build, release, count, entries });
const _: () = assert!(size_of::<FamilyHeader>() as u64 == FIELDS);

/// A struct of the table.
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    /// Its name.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

impl Struct {
    /// Describes a shared struct.
    #[must_use]
    pub const fn of<T: Described>() -> Struct {
        Struct {
            name: T::NAME,
            size: size_of::<T>(),
            fields: T::FIELDS,
        }
    }
}

/// The numbers of the table that are no fields.
pub const NUMBERS: &[(&str, u32)] = &[
    // Offsets in the file; where the text of a label begins in its block.
    ("at.ledger", LEDGER as u32),
    ("at.registry", REGISTRY as u32),
    ("at.heap", HEAP as u32),
    ("at.label", super::label::TEXT as u32),
    // Where in a robust mutex the id of the thread that is inside stands.
    ("at.owner", crate::sys::mutex::LOCK_WORD as u32),
    // The heap: size of the chunks from which blocks of the first classes are cut, and number of those classes.
    ("size.chunk", super::alloc::CHUNK as u32),
    ("size.classes", super::alloc::SMALL as u32),
    // Kinds of blocks (`Header.tag`, bits 16 to 31).
    ("Kind.Free", Kind::Free as u32),
    ("Kind.HeldChunk", Kind::HeldChunk as u32),
    ("Kind.MutexPage", Kind::MutexPage as u32),
    ("Kind.Lock", Kind::Lock as u32),
    ("Kind.Queue", Kind::Queue as u32),
    ("Kind.Segment", Kind::Segment as u32),
    ("Kind.Buffer", Kind::Buffer as u32),
    ("Kind.RLock", Kind::RLock as u32),
    ("Kind.Semaphore", Kind::Semaphore as u32),
    ("Kind.Event", Kind::Event as u32),
    ("Kind.Barrier", Kind::Barrier as u32),
    ("Kind.Condition", Kind::Condition as u32),
    ("Kind.Ticket", Kind::Ticket as u32),
    ("Kind.Bundle", Kind::Bundle as u32),
    ("Kind.Array", Kind::Array as u32),
    ("Kind.Dict", Kind::Dict as u32),
    ("Kind.DictTable", Kind::DictTable as u32),
    ("Kind.DictEntry", Kind::DictEntry as u32),
    ("Kind.Pool", Kind::Pool as u32),
    ("Kind.Guarded", Kind::Guarded as u32),
    ("Kind.Label", Kind::Label as u32),
    ("Kind.Waits", Kind::Waits as u32),
    ("Kind.History", Kind::History as u32),
    ("Kind.WorkerSlots", Kind::WorkerSlots as u32),
    ("Kind.Claim", Kind::Claim as u32),
    // What a thread waits for (`WaitRecord.thread`, lower half).
    ("What.Acquire", What::Acquire as u32),
    ("What.Item", What::Item as u32),
    ("What.Room", What::Room as u32),
    ("What.Done", What::Done as u32),
    ("What.Set", What::Set as u32),
    ("What.Barrier", What::Barrier as u32),
    ("What.Ticket", What::Ticket as u32),
    ("What.Join", What::Join as u32),
    ("What.Receive", What::Receive as u32),
    ("What.Send", What::Send as u32),
    ("What.Result", What::Result as u32),
    ("What.Any", What::Any as u32),
    ("What.Inside", What::Inside as u32),
    ("What.Ledger", What::Ledger as u32),
    ("What.Supervise", What::Supervise as u32),
    ("flag.in_loop", super::waits::IN_LOOP as u32),
    // How a process became a member, and what it is for (`Slot.how`).
    ("Start.Founded", Start::Founded as u32),
    ("Start.Fork", Start::Fork as u32),
    ("Start.Spawn", Start::Spawn as u32),
    ("Start.ForkServer", Start::ForkServer as u32),
    ("Start.Visit", Start::Visit as u32),
    ("Role.Program", Role::Program as u32),
    ("Role.Worker", Role::Worker as u32),
    ("Role.ForkServer", Role::ForkServer as u32),
    ("Role.Spare", Role::Spare as u32),
    ("Role.Manager", Role::Manager as u32),
    ("Role.Tracker", Role::Tracker as u32),
    ("Role.Keeper", Role::Keeper as u32),
    // State of a slot (`Slot.state`, lower half).
    ("State.Free", State::Free as u32),
    ("State.Reserved", State::Reserved as u32),
    ("State.Alive", State::Alive as u32),
    ("State.Dead", State::Dead as u32),
    ("State.Dying", State::Dying as u32),
];

/// The whole table, as the top floor makes it.
#[derive(Debug)]
pub struct Table {
    /// The structs of all floors.
    pub structs: &'static [Struct],
    /// The numbers of the floors above this one; those of this floor are [`NUMBERS`].
    pub numbers: &'static [(&'static str, u32)],
    /// The entries.
    pub words: &'static [u64],
}

/// Hashes a name: FNV-1a with 32 bits.
#[must_use]
pub const fn hash(name: &str) -> u32 {
    hash_on(0x811c_9dc5, name)
}

const fn hash_on(mut hash: u32, name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// Number of entries of a table with these structs and numbers.
pub(crate) const fn count(structs: &[Struct], numbers: &[(&str, u32)]) -> usize {
    let mut count = structs.len() + numbers.len() + NUMBERS.len();
    let mut at = 0;
    while at < structs.len() {
        count += structs[at].fields.len();
        at += 1;
    }
    count
}

/// The entries of a table, in the order of [`names`].
pub(crate) const fn entries<const N: usize>(structs: &[Struct], numbers: &[(&str, u32)]) -> [u64; N] {
    assert!(N <= ROOM, "the table does not fit into the first page");
    let mut words = [0; N];
    let (mut next, mut at) = (0, 0);
    while at < structs.len() {
        let one = structs[at];
        let name = hash(one.name);
        words[next] = word(name, one.size as u32);
        next += 1;
        let mut nth = 0;
        while nth < one.fields.len() {
            let field = one.fields[nth];
            assert!(field.offset < 1 << 16 && field.width < 1 << 16);
            let place = field.offset as u32 | (field.width as u32) << 16;
            words[next] = word(hash_on(hash_on(name, "."), field.name), place);
            next += 1;
            nth += 1;
        }
        at += 1;
    }
    let both = [numbers, NUMBERS];
    let mut part = 0;
    while part < both.len() {
        let mut nth = 0;
        while nth < both[part].len() {
            let (name, number) = both[part][nth];
            words[next] = word(hash(name), number);
            next += 1;
            nth += 1;
        }
        part += 1;
    }
    words
}

const fn word(hash: u32, upper: u32) -> u64 {
    hash as u64 | (upper as u64) << 32
}

static TABLE: OnceLock<&'static Table> = OnceLock::new();

/// Registers the table. Only the first registration counts.
pub(crate) fn register(table: &'static Table) {
    TABLE.get_or_init(|| table);
}

/// All names of the table, each with its entry.
#[must_use]
pub fn names() -> Vec<(String, u64)> {
    let Some(table) = TABLE.get() else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for one in table.structs {
        names.push(one.name.to_owned());
        names.extend(one.fields.iter().map(|f| format!("{}.{}", one.name, f.name)));
    }
    let numbers = table.numbers.iter().chain(NUMBERS);
    names.extend(numbers.map(|(name, _)| (*name).to_owned()));
    names.into_iter().zip(table.words.iter().copied()).collect()
}

/// Writes the table into the memory of a family that no other process can see yet.
pub(super) fn write(family: &'static Family) {
    let Some(known) = TABLE.get() else { return };
    let table = family.at::<FieldTable>(FIELDS);
    let mut build = 0xcbf2_9ce4_8422_2325_u64;
    for (entry, word) in table.entries.iter().zip(known.words) {
        entry.store(*word, Ordering::Relaxed);
        for byte in word.to_le_bytes() {
            build = (build ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    table.build.store(build, Ordering::Relaxed);
    table.count.store(known.words.len() as u64, Ordering::Relaxed);
    let number = |text: &str| text.parse::<u64>().unwrap_or(0) & 0xffff;
    let release = number(env!("CARGO_PKG_VERSION_MAJOR")) << 32
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 16
        | number(env!("CARGO_PKG_VERSION_PATCH"));
    table.release.store(release, Ordering::Relaxed);
}
