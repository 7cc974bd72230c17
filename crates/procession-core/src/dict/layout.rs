//! What a dictionary looks like in family memory.

use crate::family::object::Header;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Values of more bytes than this lie in buffers of their own.
pub const INLINE: usize = 4 << 10;
/// The most references that one value carries.
pub const MOST_CARRIED: usize = 16;
/// Where a table's slots begin.
pub const TABLE_HEADER: u64 = 128;
/// Where an entry's references, key and value begin, in this order.
pub const ENTRY_HEADER: u64 = 128;
/// A slot that has never been used. A search ends there.
pub const EMPTY: u64 = 0;
/// A slot whose entry was removed. A search goes on behind it.
pub const REMOVED: u64 = 1;
/// The fewest slots of a table.
pub const LEAST: u64 = 16;

/// The dictionary itself. Each word changes only through the ledger, by a member that is inside the mutex.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct DictObject {
    pub(super) header: Header,
    /// Offset of the mutex; constant.
    pub(super) mutex: AtomicU64,
    /// A number for each change that was ever made: entries know the last one that made them what they are.
    pub(super) stamp: AtomicU64,
    pub(super) parts: [Part; 2],
    spare: [AtomicU64; 6],
}

/// One of the two mappings of a dictionary.
#[repr(C)]
#[derive(Debug)]
pub struct Part {
    /// Offset of the table; 0 before the first entry.
    pub(super) table: AtomicU64,
    /// Entries.
    pub(super) count: AtomicU64,
    /// Slots that are not [`EMPTY`].
    pub(super) used: AtomicU64,
    /// How many entries there ever were: the next one's place in the order.
    pub(super) order: AtomicU64,
}

shared!(Part, 32, { table, count, used, order });
shared!(DictObject, 192, { header, mutex, stamp, parts, spare });

/// A table's first bytes; its slots follow. A slot is [`EMPTY`], [`REMOVED`], or an entry: its offset (40 bits) and
/// the upper 24 bits of its key's hash.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Table {
    header: Header,
    /// How many slots; a power of two. 0 once its entries are another table's.
    pub(super) capacity: AtomicU64,
    /// While it is taken apart: the next slot to look at.
    pub(super) next: AtomicU64,
    spare: [AtomicU64; 6],
}

shared!(Table, TABLE_HEADER, { header, capacity, next, spare });

/// An entry's first bytes: constant, but for the place in the order, which a replacement takes over.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Entry {
    header: Header,
    pub(super) hash: AtomicU64,
    pub(super) stamp: AtomicU64,
    pub(super) order: AtomicU64,
    /// Bytes of the key by which it is found (lower half), and of the key as it is shown, if that is another.
    pub(super) keys: AtomicU64,
    /// Bytes of the value.
    pub(super) len: AtomicU64,
    /// What the faces make of the value's bytes (lower half), how many references it carries (16 bits), and whether its
    /// bytes are in the buffer that the first of them names.
    pub(super) how: AtomicU64,
    spare: [AtomicU64; 2],
}

shared!(Entry, ENTRY_HEADER, { header, hash, stamp, order, keys, len, how, spare });

/// An entry's slot.
pub(super) fn slot_of(entry: u64, hash: u64) -> u64 {
    entry | tag_of(hash)
}

/// The part of a slot that is of the hash.
pub(super) fn tag_of(hash: u64) -> u64 {
    hash & !OFFSET
}

/// The entry that a slot names.
pub(super) fn entry_of(slot: u64) -> u64 {
    slot & OFFSET
}

/// The bits of an offset: there is a terabyte of addresses.
pub(super) const OFFSET: u64 = (1 << 40) - 1;
