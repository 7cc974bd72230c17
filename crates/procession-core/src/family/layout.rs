//! Where things are in the family's file, and how they are reached.
//!
//! | from | what |
//! |---|---|
//! | 0 | [`FamilyHeader`]: magic, version, id, root |
//! | 4 KiB | [`super::ledger::Ledger`]: mutex, journal, books |
//! | 64 KiB | the registry: 65 535 slots of 256 bytes, of which only those ever used have memory |
//! | 32 MiB | the heap, growing upwards |
#![allow(unsafe_code)]

use super::Family;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// `PROCESSN`, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROCESSN");
/// Counts up with every change of any layout in family memory.
pub const VERSION: u32 = 1;
/// Where the ledger is.
pub const LEDGER: u64 = 4096;
/// Where the registry is.
pub const REGISTRY: u64 = 64 << 10;
/// Where the heap begins.
pub const HEAP: u64 = 32 << 20;

/// The first bytes of the file. Written by the root before anybody else can see them; constant from then on, but for
/// the counters of growth that the ledger keeps elsewhere.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct FamilyHeader {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// The root's pid.
    pub root: AtomicU32,
    /// The family id: 128 random bits.
    pub id: [AtomicU64; 2],
    /// How many bytes every member maps.
    pub length: AtomicU64,
    /// When the root made it, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    /// See [`super::watcher`]: pid (upper half) and descriptor, or 0; and when it was started.
    pub watcher: [AtomicU64; 2],
}

const _: () = assert!(size_of::<FamilyHeader>() == 64);
#[cfg(not(target_endian = "little"))]
compile_error!(
    "Procession sleeps on the low half of 64-bit words at their own address: it needs a little-endian machine"
);
#[cfg(not(target_os = "linux"))]
compile_error!("Procession needs Linux 5.11 or later on x86-64 or aarch64");

/// Types that may be seen through a pointer into family memory.
///
/// # Safety
/// `repr(C)`, made of atomics and robust mutexes only, valid for every content of its bytes.
pub unsafe trait Shared: Sized + 'static {}

// SAFETY: atomics only.
unsafe impl Shared for FamilyHeader {}
// SAFETY: atomics only.
unsafe impl Shared for super::object::Header {}
// SAFETY: one robust mutex, the journal and the books of atomics.
unsafe impl Shared for super::ledger::Ledger {}
// SAFETY: atomics and a robust mutex.
unsafe impl Shared for super::registry::Slot {}
// SAFETY: atomics only.
unsafe impl Shared for super::held::Chunk {}
// SAFETY: a robust mutex.
unsafe impl Shared for crate::sys::mutex::RobustMutex {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU64 {}
// SAFETY: atomics only (the sleeping word is a transparent atomic outside the model checker).
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::lock::LockObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::semaphore::SemaphoreObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::event::EventObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::barrier::BarrierObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::condition::ConditionObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::sync::condition::TicketObject {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Shared for crate::queue::layout::QueueObject {}
// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::queue::layout::Segment {}

// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::dict::layout::DictObject {}
// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::dict::layout::Table {}
// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::dict::layout::Entry {}

// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::pool::layout::PoolObject {}
// SAFETY: atomics only.
#[cfg(not(loom))]
unsafe impl Shared for crate::pool::layout::Desk {}

/// The half of a 64-bit counter that can be slept on. All writers of such a counter write it whole.
#[cfg(not(loom))]
#[inline]
#[must_use]
pub fn low_half(word: &AtomicU64) -> &crate::atomic::Word {
    // SAFETY: a Word is a transparent AtomicU32, the low half of a little-endian u64 lies at its own address, and both
    // alignments hold. Both sides access it atomically, and the machines this is built for order such accesses.
    unsafe { &*core::ptr::from_ref(word).cast::<crate::atomic::Word>() }
}

impl Family {
    /// What lies at this offset.
    ///
    /// # Panics
    /// If the offset is outside the map or not aligned: family memory was overwritten by a foreign hand.
    #[inline]
    #[must_use]
    pub fn at<T: Shared>(&'static self, offset: u64) -> &'static T {
        let fits = offset
            .checked_add(size_of::<T>() as u64)
            .is_some_and(|end| end <= self.map.len() as u64);
        assert!(
            fits && offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: an offset of {offset}"
        );
        // SAFETY: inside the mapping, which stays for ever; aligned; any bytes are a T, and a T is made of atomics, so
        // references to it may be shared with other processes.
        unsafe { &*self.map.base().add(offset as usize).cast::<T>() }
    }

    /// The offset of a word that `at` gave.
    pub(crate) fn offset_of(&self, word: &AtomicU64) -> u64 {
        (core::ptr::from_ref(word) as usize - self.map.base() as usize) as u64
    }

    /// Copies bytes into family memory.
    ///
    /// The range belongs to the caller: a buffer or a stretch of a segment that is not committed yet.
    ///
    /// # Panics
    /// If the range is outside the map.
    #[inline]
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) {
        self.check_range(offset, bytes.len());
        // SAFETY: the range is inside the mapping and not a Rust object of anybody; the protocols (a lock held, or a
        // block owned) make sure that nobody reads it before the caller commits.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.base().add(offset as usize), bytes.len())
        }
    }

    /// Appends bytes of family memory to a vector.
    ///
    /// # Panics
    /// If the range is outside the map.
    #[inline]
    pub fn copy_out(&self, offset: u64, len: usize, into: &mut Vec<u8>) {
        self.check_range(offset, len);
        into.reserve(len);
        // SAFETY: the source is inside the mapping and committed, so nobody writes to it; the destination was just
        // reserved, and the two cannot overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.map.base().add(offset as usize),
                into.as_mut_ptr().add(into.len()),
                len,
            );
            into.set_len(into.len() + len);
        }
    }

    /// Whether bytes of family memory are these.
    ///
    /// # Panics
    /// If the range is outside the map.
    #[inline]
    #[must_use]
    pub fn equals(&self, offset: u64, bytes: &[u8]) -> bool {
        self.check_range(offset, bytes.len());
        // SAFETY: inside the mapping and committed; the caller holds the lock that keeps others from writing there.
        let here = unsafe { core::slice::from_raw_parts(self.map.base().add(offset as usize), bytes.len()) };
        here == bytes
    }

    /// The address of a range, for those who hand it to a foreign language. Writing and reading through it follow the
    /// same rules as [`Family::copy_in`] and [`Family::copy_out`].
    ///
    /// # Panics
    /// If the range is outside the map.
    #[must_use]
    pub fn address(&self, offset: u64, len: usize) -> *mut u8 {
        self.check_range(offset, len);
        self.map.base().wrapping_add(offset as usize)
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&self, offset: u64, len: usize) {
        self.check_range(offset, len);
        // SAFETY: as in `copy_in`.
        unsafe { core::ptr::write_bytes(self.map.base().add(offset as usize), 0, len) }
    }

    /// Makes a robust mutex of the slot at `offset`, which no other process knows yet.
    pub(crate) fn init_mutex(&'static self, offset: u64) {
        let mutex = self.at::<crate::sys::mutex::RobustMutex>(offset);
        // SAFETY: the caller has just taken this slot from fresh memory, under the ledger.
        unsafe { mutex.init() }
    }

    #[inline]
    fn check_range(&self, offset: u64, len: usize) {
        let fits = usize::try_from(offset)
            .ok()
            .and_then(|o| o.checked_add(len))
            .is_some_and(|end| end <= self.map.len());
        assert!(fits, "family memory is damaged: {len} bytes at {offset}");
    }
}
