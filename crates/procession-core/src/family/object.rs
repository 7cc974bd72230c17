//! What every block of family memory begins with: its 64-byte header.
//!
//! A block never changes its size class and its header is never anything else, in use or free. So whatever offset a
//! stale handle names, there is a header to read there, and its generation tells the handle that its time is over.

use crate::atomic::Ordering;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// What a block is.
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
    /// A place among those who wait on one.
    Ticket = 12,
    /// References to many others.
    Bundle = 13,
    /// Bytes: a message too big for a segment, a start message.
    Buffer = 6,
    /// Bytes that began as zeros and that many processes write: see [`super::zeroed`].
    Array = 14,
    /// A [`crate::dict::Dict`].
    Dict = 15,
    /// The slots of one.
    DictTable = 16,
    /// A key and its value.
    DictEntry = 17,
    /// What a pool's members share: see [`crate::pool`].
    Pool = 18,
    /// Bytes that only the owner of a lock reads and writes, never opened but together with the lock.
    Guarded = 19,
}

impl Kind {
    /// All of them, each at the place that is its number.
    pub(crate) const ALL: [Kind; 20] = [
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
    ];

    /// The kind with this number.
    #[must_use]
    pub fn of(number: u16) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// Its name, as errors say it.
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
        }
    }
}

/// A header's first word: generation (upper half), kind, size class, and whether the block is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u64);

impl Tag {
    /// A tag of these parts.
    #[must_use]
    pub fn new(generation: u32, kind: Kind, class: u8, live: bool) -> Tag {
        Tag(u64::from(generation) << 32
            | u64::from(kind as u16) << 16
            | u64::from(class) << 8
            | u64::from(live))
    }

    /// How often the block had been given out when this was written.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What the block is; None if the number is of no kind known here.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        Kind::of((self.0 >> 16) as u16)
    }

    /// The size class: the block has `64 << class` bytes.
    #[must_use]
    pub fn class(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Whether handles to it are good. False for free blocks and for those that are being taken apart.
    #[must_use]
    pub fn live(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The header. All its words change only through the ledger, but for the counters.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Header {
    /// See [`Tag`].
    pub tag: AtomicU64,
    /// The next block of the list that this one is on: a free list, or the deferred-free list.
    pub link: AtomicU64,
    /// How many entries of held tables and messages name this block.
    pub refs: AtomicU64,
    /// Big blocks: how many bytes from the beginning have memory reserved for them. Others: offset of the name, or 0.
    pub resident: AtomicU64,
    /// pid (upper half) and slot of the creator.
    pub creator: AtomicU64,
    /// When it was made, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    /// Operations so far, where the object has no better count of them.
    pub operations: AtomicU64,
    /// How many of them had to wait.
    pub waits: AtomicU64,
}

/// The bytes a header takes; an object's own fields begin there.
pub const HEADER: u64 = 64;
shared!(Header, HEADER, { tag, link, refs, resident, creator, created, operations, waits });
const _: () = assert!(align_of::<Header>() == 64);

impl Header {
    /// The tag as it is now.
    pub fn tag(&self) -> Tag {
        Tag(self.tag.load(Ordering::Acquire))
    }

    /// Counts a wait. A counter that loses one in a race is good enough for those who look in from outside.
    pub fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
}
