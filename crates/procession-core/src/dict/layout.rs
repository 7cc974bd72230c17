//! The layout of a dictionary in family memory.

use crate::family::object::Header;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Maximum number of bytes of a value that lies in its entry; longer values lie in buffers of their own.
pub const INLINE: usize = 4 << 10;
/// Maximum number of references of one value.
pub const MOST_REFS: usize = 16;
/// Offset in a table at which its slots begin.
pub const TABLE_HEADER: u64 = 128;
/// Offset in an entry at which its references, key and value begin, in this order.
pub const ENTRY_HEADER: u64 = 128;
/// A slot that has never been used. A search ends there.
pub const EMPTY: u64 = 0;
/// A slot whose entry was removed. A search continues behind it.
pub const REMOVED: u64 = 1;
/// Minimum number of slots of a table.
pub const LEAST: u64 = 16;

/// The dictionary object. Its words change only through the ledger, by a member that holds the mutex.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct DictObject {
    pub(super) header: Header,
    /// Offset of the mutex; does not change.
    pub(super) mutex: AtomicU64,
    /// Number of changes so far. Each entry stores the number of the change that made it.
    pub(super) stamp: AtomicU64,
    pub(super) parts: [Part; 2],
    spare: [AtomicU64; 6],
}

/// One of the two mappings of a dictionary: values or locks.
#[repr(C)]
#[derive(Debug)]
pub struct Part {
    /// Offset of the table; 0 before the first entry.
    pub(super) table: AtomicU64,
    /// Number of entries.
    pub(super) count: AtomicU64,
    /// Number of slots that are not [`EMPTY`].
    pub(super) used: AtomicU64,
    /// Number of entries that were ever added: the position of the next entry in the order.
    pub(super) order: AtomicU64,
}

shared!(Part, 32, { table, count, used, order });
shared!(DictObject, 192, { header, mutex, stamp, parts, spare });

/// The first bytes of a table; its slots follow. A slot is [`EMPTY`], [`REMOVED`], or an entry: its offset (40 bits)
/// and the upper 24 bits of its key's hash.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Table {
    header: Header,
    /// Number of slots, a power of two. 0 after its entries have moved to another table.
    pub(super) capacity: AtomicU64,
    /// While the table is reclaimed: index of the next slot to check.
    pub(super) next: AtomicU64,
    spare: [AtomicU64; 6],
}

shared!(Table, TABLE_HEADER, { header, capacity, next, spare });

/// The first bytes of an entry, which do not change after the commit. A replacement takes over `order`.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Entry {
    header: Header,
    pub(super) hash: AtomicU64,
    pub(super) stamp: AtomicU64,
    pub(super) order: AtomicU64,
    /// Lower half: length of the key by which the entry is found. Upper half: length of the key as it is shown, if
    /// that differs.
    pub(super) keys: AtomicU64,
    /// Length of the value in bytes.
    pub(super) len: AtomicU64,
    /// Lower half: how the face encodes the value's bytes. Next 16 bits: number of references. Bit 48: the bytes are
    /// in the buffer that the first reference names.
    pub(super) how: AtomicU64,
    spare: [AtomicU64; 2],
}

shared!(Entry, ENTRY_HEADER, { header, hash, stamp, order, keys, len, how, spare });

/// The slot word of an entry.
pub(super) fn slot_of(entry: u64, hash: u64) -> u64 {
    entry | tag_of(hash)
}

/// The part of a slot word that comes from the hash.
pub(super) fn tag_of(hash: u64) -> u64 {
    hash & !OFFSET
}

/// Offset of the entry that a slot word names.
pub(super) fn entry_of(slot: u64) -> u64 {
    slot & OFFSET
}

/// The bits of an offset: family memory has at most a terabyte.
pub(super) const OFFSET: u64 = (1 << 40) - 1;
