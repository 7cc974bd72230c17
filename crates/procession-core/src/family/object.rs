//! The 64-byte header with which every block of family memory begins.
//!
//! A block never changes its size class, and its header is never used for anything else, whether the block is in use
//! or free. So at every offset that a stale handle can name there is a header to read, and its generation shows that
//! the handle is stale.

use crate::atomic::Ordering;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// What a block contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// On a free list.
    Free = 0,
    /// A chunk of a member's held table.
    HeldChunk = 1,
    /// Slots for robust mutexes.
    MutexPage = 2,
    /// A [`crate::sync::Lock`].
    Lock = 3,
    /// A [`crate::queue::Queue`].
    Queue = 4,
    /// A segment of a queue.
    Segment = 5,
    /// A [`crate::sync::RLock`].
    RLock = 7,
    /// A [`crate::sync::Semaphore`].
    Semaphore = 8,
    /// A [`crate::sync::Event`].
    Event = 9,
    /// A [`crate::sync::Barrier`].
    Barrier = 10,
    /// A [`crate::sync::Condition`].
    Condition = 11,
    /// The entry of one waiter of a condition or another object.
    Ticket = 12,
    /// References to many objects.
    Bundle = 13,
    /// Bytes: a message too big for a segment, a start message.
    Buffer = 6,
    /// Bytes that are zero at first and that many processes write: see [`super::zeroed`].
    Array = 14,
    /// A [`crate::dict::Dict`].
    Dict = 15,
    /// The slots of a dictionary.
    DictTable = 16,
    /// A key and its value.
    DictEntry = 17,
    /// The data that a pool's members share: see [`crate::pool`].
    Pool = 18,
    /// Bytes that only the owner of a lock reads and writes; opened only together with the lock.
    Guarded = 19,
    /// The name of objects, and the place in the program where they were made: see [`super::label`].
    Label = 20,
    /// What the threads of a member wait for: see [`super::waits`].
    Waits = 21,
    /// The last tasks of a pool's worker: see [`crate::pool::layout::HistoryObject`].
    History = 22,
    /// More worker slots of a pool that has grown: see [`crate::pool::layout::SlotsObject`].
    WorkerSlots = 23,
    /// A message that a consumer has claimed: see [`crate::queue::claim`].
    Claim = 24,
}

impl Kind {
    /// All kinds, each at the index that is its number.
    pub(crate) const ALL: [Kind; 25] = [
        Kind::Free,
        Kind::HeldChunk,
        Kind::MutexPage,
        Kind::Lock,
        Kind::Queue,
        Kind::Segment,
        Kind::Buffer,
        Kind::RLock,
        Kind::Semaphore,
        Kind::Event,
        Kind::Barrier,
        Kind::Condition,
        Kind::Ticket,
        Kind::Bundle,
        Kind::Array,
        Kind::Dict,
        Kind::DictTable,
        Kind::DictEntry,
        Kind::Pool,
        Kind::Guarded,
        Kind::Label,
        Kind::Waits,
        Kind::History,
        Kind::WorkerSlots,
        Kind::Claim,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// Name of the kind in error texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Free => "freed object",
            Kind::HeldChunk => "held table",
            Kind::MutexPage => "mutex page",
            Kind::Lock => "Lock",
            Kind::Queue => "Queue",
            Kind::Segment => "queue segment",
            Kind::Buffer => "buffer",
            Kind::RLock => "RLock",
            Kind::Semaphore => "Semaphore",
            Kind::Event => "Event",
            Kind::Barrier => "Barrier",
            Kind::Condition => "Condition",
            Kind::Ticket => "waiter",
            Kind::Bundle => "bundle",
            Kind::Array => "array",
            Kind::Dict => "dictionary",
            Kind::DictTable => "dictionary table",
            Kind::DictEntry => "dictionary entry",
            Kind::Pool => "pool",
            Kind::Guarded => "lock's value",
            Kind::Label => "label",
            Kind::Waits => "wait records",
            Kind::History => "worker's history",
            Kind::WorkerSlots => "pool's worker slots",
            Kind::Claim => "claimed message",
        }
    }
}

/// The first word of a header: generation (upper half), kind, size class, and whether the block is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u64);

impl Tag {
    /// Creates a tag from its parts.
    #[must_use]
    pub fn new(generation: u32, kind: Kind, class: u8, live: bool) -> Tag {
        Tag(u64::from(generation) << 32
            | u64::from(kind as u16) << 16
            | u64::from(class) << 8
            | u64::from(live))
    }

    /// How often the block had been given out when this tag was written.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Kind of the block; None if this version does not know the number.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        Kind::from_number((self.0 >> 16) as u16)
    }

    /// Size class: the block has `64 << class` bytes.
    #[must_use]
    pub fn class(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Returns whether handles to the block are valid. False for free blocks and for those that are being reclaimed.
    #[must_use]
    pub fn live(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The header. All its words change only through the ledger, except the counters `operations` and `waits`.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Header {
    /// See [`Tag`].
    pub tag: AtomicU64,
    /// The next block of the list that this block is on: a free list, or the deferred-free list.
    pub link: AtomicU64,
    /// Number of entries of held tables and messages that name this block.
    pub refs: AtomicU64,
    /// Blocks of 16 KiB or more: number of bytes from the beginning that have memory reserved. Smaller blocks: the
    /// label ([`named`]), or 0. (The label of an array is in `waits`, that of a pool in its own word.)
    pub resident: AtomicU64,
    /// Pid (upper half) and slot of the creator.
    pub creator: AtomicU64,
    /// Time of creation, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    /// Number of operations so far, if the object has no more exact count.
    pub operations: AtomicU64,
    /// Number of operations that had to wait. Array: its label ([`named`]), or 0.
    pub waits: AtomicU64,
}

/// Size of a header in bytes; an object's own fields begin there.
pub const HEADER: u64 = 64;
shared!(Header, HEADER, { tag, link, refs, resident, creator, created, operations, waits });
const _: () = assert!(align_of::<Header>() == 64);

/// The word by which family memory names a block for observers: its offset in the lower 40 bits, the lower 24 bits of
/// its generation above. 0 names none. If the block has another generation by now, the word is out of date.
#[must_use]
pub fn named(offset: u64, generation: u32) -> u64 {
    offset | u64::from(generation) << 40
}

impl Header {
    /// Reads the tag.
    pub fn tag(&self) -> Tag {
        Tag(self.tag.load(Ordering::Acquire))
    }

    /// Counts a wait. The count is only for observers.
    pub fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
}
