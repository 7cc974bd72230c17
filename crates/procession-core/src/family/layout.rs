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
use crate::error::{Error, Result};
use crate::sys::shared::{Shared, shared};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// `PROCESSN`, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROCESSN");
/// Counts up with every change of any layout in family memory.
pub const VERSION: u32 = 2;
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

shared!(FamilyHeader, 64, { magic, version, root, id, length, created, watcher });
#[cfg(not(target_endian = "little"))]
compile_error!(
    "Procession sleeps on the low half of 64-bit words at their own address: it needs a little-endian machine"
);
#[cfg(not(target_os = "linux"))]
compile_error!("Procession needs Linux 5.11 or later on x86-64 or aarch64");

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
    /// If the offset is outside family memory or not aligned: it was overwritten by a foreign hand. If it cannot be mapped
    /// here: see `Family::try_reach`.
    #[inline]
    #[must_use]
    pub fn at<T: Shared>(&'static self, offset: u64) -> &'static T {
        self.reach(offset, size_of::<T>());
        assert!(
            offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: an offset of {offset}"
        );
        // SAFETY: mapped, and that stays so for ever; aligned; any bytes are a T, and a T is made of atomics, so
        // references to it may be shared with other processes.
        unsafe { &*self.area.base().add(offset as usize).cast::<T>() }
    }

    /// `len` of them, one behind the other.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    #[must_use]
    pub(crate) fn slice<T: Shared>(&'static self, offset: u64, len: usize) -> &'static [T] {
        let bytes = size_of::<T>().saturating_mul(len);
        self.reach(offset, bytes);
        assert!(
            offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: an offset of {offset}"
        );
        // SAFETY: mapped, and that stays so for ever; aligned; any bytes are as many Ts, which are made of atomics.
        unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize).cast::<T>(), len) }
    }

    /// The offset of a word that `at` gave.
    pub(crate) fn offset_of(&self, word: &AtomicU64) -> u64 {
        (core::ptr::from_ref(word) as usize - self.area.base() as usize) as u64
    }

    /// Copies bytes into family memory.
    ///
    /// The range belongs to the caller: a buffer or a stretch of a segment that is not committed yet.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub fn copy_in(&'static self, offset: u64, bytes: &[u8]) {
        self.reach(offset, bytes.len());
        // SAFETY: the range is mapped and not a Rust object of anybody; the protocols (a lock held, or a
        // block owned) make sure that nobody reads it before the caller commits.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.area.base().add(offset as usize), bytes.len())
        }
    }

    /// Appends bytes of family memory to a vector.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub fn copy_out(&'static self, offset: u64, len: usize, into: &mut Vec<u8>) {
        self.reach(offset, len);
        into.reserve(len);
        // SAFETY: the source is mapped and committed, so nobody writes to it; the destination was just
        // reserved, and the two cannot overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.area.base().add(offset as usize),
                into.as_mut_ptr().add(into.len()),
                len,
            );
            into.set_len(into.len() + len);
        }
    }

    /// Whether bytes of family memory are these.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    #[must_use]
    pub fn equals(&'static self, offset: u64, bytes: &[u8]) -> bool {
        self.reach(offset, bytes.len());
        // SAFETY: mapped and committed; the caller holds the lock that keeps others from writing there.
        let here = unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize), bytes.len()) };
        here == bytes
    }

    /// The address of a range, for those who hand it to a foreign language. Writing and reading through it follow the
    /// same rules as [`Family::copy_in`] and [`Family::copy_out`].
    ///
    /// # Panics
    /// As [`Family::at`].
    #[must_use]
    pub fn address(&'static self, offset: u64, len: usize) -> *mut u8 {
        self.reach(offset, len);
        self.area.base().wrapping_add(offset as usize)
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&'static self, offset: u64, len: usize) {
        self.reach(offset, len);
        // SAFETY: as in `copy_in`.
        unsafe { core::ptr::write_bytes(self.area.base().add(offset as usize), 0, len) }
    }

    /// Makes a robust mutex of the slot at `offset`, which no other process knows yet.
    pub(crate) fn init_mutex(&'static self, offset: u64) {
        let mutex = self.at::<crate::sys::mutex::RobustMutex>(offset);
        // SAFETY: the caller has just taken this slot from fresh memory, under the ledger.
        unsafe { mutex.init() }
    }

    /// The word at this offset, if that is mapped.
    #[inline]
    pub(super) fn mapped_word(&'static self, offset: u64) -> Option<&'static AtomicU64> {
        let room = (self.area.mapped() as u64).checked_sub(size_of::<AtomicU64>() as u64)?;
        let here = offset <= room && offset.is_multiple_of(8);
        // SAFETY: mapped, and that stays so for ever; aligned; any bytes are an AtomicU64.
        here.then(|| unsafe { &*self.area.base().add(offset as usize).cast::<AtomicU64>() })
    }

    /// Sees to it that a range is mapped, before something is done that cannot go back.
    ///
    /// # Errors
    /// `NoMemory` where the limit on this process's address space (`ulimit -v`) leaves no room for it, or something else
    /// has taken the place.
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
            // The program has closed the descriptor, here and everywhere.
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
                Some(libc::EEXIST) => "something else of this process lies where family memory would grow to",
                _ => return Err(Error::os("mapping family memory", e)),
            },
        };
        Err(Error::NoMemory { wanted, why })
    }

    #[inline(always)]
    fn reach(&'static self, offset: u64, len: usize) {
        // The length of a type is known here, and then this is a subtraction and a comparison.
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
            "family memory is damaged: an offset of {offset}"
        );
        if let Err(e) = self.grow(offset..end) {
            panic!("family memory is out of reach: {e}");
        }
    }
}
