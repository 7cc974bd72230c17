//! The layout of the family's file, and access to it by offset.
//!
//! | from | contents |
//! |---|---|
//! | 0 | [`FamilyHeader`]: magic, version, id, root |
//! | 4 KiB | [`super::ledger::Ledger`]: mutex, journal, books |
//! | 64 KiB | the registry: 65 535 slots of 256 bytes; only slots that were used have memory |
//! | 32 MiB | the heap, which grows upwards |
#![allow(unsafe_code)]

use super::Family;
use crate::error::{Error, Result};
use crate::sys::shared::{Shared, shared};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// `PROCESSN`, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROCESSN");
/// Layout version; increases with every change of a layout in family memory.
pub const VERSION: u32 = 2;
/// Offset of the ledger.
pub const LEDGER: u64 = 4096;
/// Offset of the registry.
pub const REGISTRY: u64 = 64 << 10;
/// Offset at which the heap begins.
pub const HEAP: u64 = 32 << 20;

/// The first bytes of the file. The root writes them before any other process can see them; they do not change later,
/// except `tracker`.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct FamilyHeader {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// Pid of the root.
    pub root: AtomicU32,
    /// The family id: 128 random bits.
    pub id: [AtomicU64; 2],
    /// Length of the file in bytes, the same for every member.
    pub length: AtomicU64,
    /// Time of the foundation, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    /// The resource tracker (see [`super::tracker`]): pid (upper half) and descriptor, or 0; and its start time.
    pub tracker: [AtomicU64; 2],
}

shared!(FamilyHeader, 64, { magic, version, root, id, length, created, tracker });
#[cfg(not(target_endian = "little"))]
compile_error!(
    "Procession sleeps on the low half of 64-bit words at their own address: it needs a little-endian machine"
);
#[cfg(not(target_os = "linux"))]
compile_error!("Procession needs Linux 5.11 or later on x86-64 or aarch64");

/// The half of a 64-bit counter on which a futex can wait. All writers of such a counter write it whole.
#[cfg(not(loom))]
#[inline]
#[must_use]
pub fn low_half(word: &AtomicU64) -> &crate::atomic::Word {
    // SAFETY: a Word is a transparent AtomicU32, the low half of a little-endian u64 lies at the address of the u64,
    // and it is aligned for both. Both sizes are accessed atomically only, and the supported machines order such
    // accesses.
    unsafe { &*core::ptr::from_ref(word).cast::<crate::atomic::Word>() }
}

impl Family {
    /// The object at this offset.
    ///
    /// # Panics
    /// If the offset is outside family memory or not aligned, because foreign code has overwritten family memory. If
    /// this process cannot map it: see `Family::try_reach`.
    #[inline]
    #[must_use]
    pub fn at<T: Shared>(&'static self, offset: u64) -> &'static T {
        self.reach(offset, size_of::<T>());
        assert!(
            offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: {offset} is not a valid offset"
        );
        // SAFETY: `reach` has mapped the range, and it stays mapped while the family has users; the offset is
        // aligned; any bytes are a valid T, and a T consists of atomics, so references to it may be shared with other
        // processes.
        unsafe { &*self.area.base().add(offset as usize).cast::<T>() }
    }

    /// The `len` objects that lie one behind the other from `offset` on.
    ///
    /// # Panics
    /// In the cases of [`Family::at`].
    #[inline]
    #[must_use]
    pub(crate) fn slice<T: Shared>(&'static self, offset: u64, len: usize) -> &'static [T] {
        let bytes = size_of::<T>().saturating_mul(len);
        self.reach(offset, bytes);
        assert!(
            offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: {offset} is not a valid offset"
        );
        // SAFETY: `reach` has mapped the range, and it stays mapped while the family has users; the offset is
        // aligned; any bytes are valid Ts, which consist of atomics.
        unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize).cast::<T>(), len) }
    }

    /// The offset of a word that `at` returned.
    pub(crate) fn offset_of(&self, word: &AtomicU64) -> u64 {
        (core::ptr::from_ref(word) as usize - self.area.base() as usize) as u64
    }

    /// Copies bytes into family memory.
    ///
    /// The caller owns the range: a buffer, or a part of a segment that is not committed yet.
    ///
    /// # Panics
    /// In the cases of [`Family::at`].
    #[inline]
    pub fn copy_in(&'static self, offset: u64, bytes: &[u8]) {
        self.reach(offset, bytes.len());
        // SAFETY: the range is mapped and no Rust reference points to it; the protocols (a lock held, or a block
        // owned) guarantee that no process reads it before the caller commits.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.area.base().add(offset as usize), bytes.len())
        }
    }

    /// Appends bytes of family memory to a vector.
    ///
    /// # Panics
    /// In the cases of [`Family::at`].
    #[inline]
    pub fn copy_out(&'static self, offset: u64, len: usize, into: &mut Vec<u8>) {
        self.reach(offset, len);
        into.reserve(len);
        // SAFETY: the source is mapped and committed, so no process writes to it; the destination was just reserved
        // in memory of this process, so the two do not overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.area.base().add(offset as usize),
                into.as_mut_ptr().add(into.len()),
                len,
            );
            into.set_len(into.len() + len);
        }
    }

    /// Returns whether family memory contains these bytes at `offset`.
    ///
    /// # Panics
    /// In the cases of [`Family::at`].
    #[inline]
    #[must_use]
    pub fn equals(&'static self, offset: u64, bytes: &[u8]) -> bool {
        self.reach(offset, bytes.len());
        // SAFETY: the range is mapped and committed; the caller holds the lock that keeps other processes from
        // writing to it.
        let here = unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize), bytes.len()) };
        here == bytes
    }

    /// The address of a range, for a caller that passes it to another language. Reads and writes through it follow
    /// the rules of [`Family::copy_in`] and [`Family::copy_out`].
    ///
    /// # Panics
    /// In the cases of [`Family::at`].
    #[must_use]
    pub fn address(&'static self, offset: u64, len: usize) -> *mut u8 {
        self.reach(offset, len);
        self.area.base().wrapping_add(offset as usize)
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&'static self, offset: u64, len: usize) {
        self.reach(offset, len);
        // SAFETY: the range is mapped, and the caller owns it: it belongs to a block that is not committed yet.
        unsafe { core::ptr::write_bytes(self.area.base().add(offset as usize), 0, len) }
    }

    /// Initialises the slot at `offset`, which no other process knows yet, as a robust mutex.
    pub(crate) fn init_mutex(&'static self, offset: u64) {
        let mutex = self.at::<crate::sys::mutex::RobustMutex>(offset);
        // SAFETY: the caller has just taken this slot from unused memory, while it holds the ledger.
        unsafe { mutex.init() }
    }

    /// The word at this offset, if it is mapped.
    #[inline]
    pub(super) fn mapped_word(&'static self, offset: u64) -> Option<&'static AtomicU64> {
        let room = (self.area.mapped() as u64).checked_sub(size_of::<AtomicU64>() as u64)?;
        let here = offset <= room && offset.is_multiple_of(8);
        // SAFETY: the word is mapped, and stays mapped while the family has users; it is aligned; any bytes are a
        // valid AtomicU64.
        here.then(|| unsafe { &*self.area.base().add(offset as usize).cast::<AtomicU64>() })
    }

    /// Maps a range, before an operation does something that it cannot undo.
    ///
    /// # Errors
    /// `NoMemory`: the limit on this process's address space (`ulimit -v`) leaves no room for the range, or another
    /// mapping lies there.
    #[inline]
    pub(crate) fn try_reach(&'static self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.area.mapped() as u64 => Ok(()),
            Some(end) => self.grow(offset..end),
            None => Err(Error::os(
                "mapping family memory",
                std::io::Error::from_raw_os_error(libc::EINVAL),
            )),
        }
    }

    #[cold]
    fn grow(&'static self, range: core::ops::Range<u64>) -> Result<()> {
        let wanted = range.end - range.start;
        let in_memory = range.start as usize..range.end as usize;
        if self.area.covers(in_memory.clone()) {
            return Ok(());
        }
        let reached = match self.fd() {
            Ok(fd) => self.area.reach(fd, in_memory),
            // The program has closed the descriptor, in this process and in all other members.
            Err(lost) => self
                .area
                .stretch(in_memory.end)
                .map_err(|_| lost)
                .map_err(std::io::Error::other),
        };
        let why = match reached {
            Ok(()) => return Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOMEM) => {
                    "this process's address space (ulimit -v) or number of mappings is at its limit"
                }
                Some(libc::EEXIST) => "another mapping of this process lies where family memory would grow",
                _ => return Err(Error::os("mapping family memory", e)),
            },
        };
        Err(Error::NoMemory { wanted, why })
    }

    #[inline(always)]
    fn reach(&'static self, offset: u64, len: usize) {
        // For a type, `len` is a constant, so this is one subtraction and one comparison.
        let room = (self.area.mapped() as u64).checked_sub(len as u64);
        if room.is_none_or(|room| offset > room) {
            self.must_reach(offset, len);
        }
    }

    #[cold]
    #[inline(never)]
    fn must_reach(&'static self, offset: u64, len: usize) {
        let end = offset.saturating_add(len as u64);
        assert!(
            end <= self.area.len() as u64,
            "family memory is damaged: {offset} is not a valid offset"
        );
        if let Err(e) = self.grow(offset..end) {
            panic!("family memory is out of reach: {e}");
        }
    }
}
