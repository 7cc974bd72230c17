//! Lays out the family's file, and turns offsets into references and bytes.
//!
//! | offset | contents |
//! |---|---|
//! | 0 | [`FamilyHeader`]: magic, version, id, root |
//! | 64 | [`super::fields::FieldTable`]: where observers find the fields of all other structs |
//! | 4 KiB | [`super::ledger::Ledger`]: mutex, journal, books |
//! | 64 KiB | the registry: 65 535 slots of 256 bytes, of which only those ever used take memory |
//! | 32 MiB | the heap, which grows upwards |
#![allow(unsafe_code)]

use super::Family;
use crate::error::{Error, Result};
use crate::sys::shared::{Shared, shared};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `PROCESSN` as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROCESSN");
/// The version of the layout, raised with every change of any layout in family memory. The upper half says whose mutexes lie
/// in the memory: 0 those of glibc, 1 those of musl. A program with one C library cannot lock those of the other.
pub const VERSION: u32 = 3 | if cfg!(target_env = "musl") { 1 << 16 } else { 0 };
/// The offset of the ledger.
pub const LEDGER: u64 = 4096;
/// The offset of the registry.
pub const REGISTRY: u64 = 64 << 10;
/// The offset at which the heap begins.
pub const HEAP: u64 = 32 << 20;
/// Number of bytes of a limited address space that a process does not use for new blocks, so that its program can go on: it
/// imports modules, starts threads and handles the error.
const SPARE: usize = 16 << 20;

/// The first bytes of the file. The root writes them before any other process can see them. All but `tracker` are constant
/// from then on; the counters of growth are in the ledger.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct FamilyHeader {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// The pid of the root, the process that founded the family.
    pub root: AtomicU32,
    /// The family id: 128 random bits.
    pub id: [AtomicU64; 2],
    /// The length of family memory in bytes, which every member may map.
    pub length: AtomicU64,
    /// The time at which the root made the file, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    /// See [`super::tracker`]. Word 0: the tracker's pid (upper half) and descriptor (lower half), or 0. Word 1: its start
    /// time.
    pub tracker: [AtomicU64; 2],
}

shared!(FamilyHeader, 64, { magic, version, root, id, length, created, tracker });
#[cfg(not(target_endian = "little"))]
compile_error!(
    "Procession sleeps on the low half of 64-bit words at their own address: it needs a little-endian machine"
);
#[cfg(not(target_os = "linux"))]
compile_error!("Procession needs Linux 5.11 or later on x86-64 or aarch64");

/// Returns the low half of a 64-bit counter, on which a process can sleep (futexes have 32 bits). All writers of such a
/// counter write the whole of it.
#[cfg(not(loom))]
#[inline]
#[must_use]
pub fn low_half(word: &AtomicU64) -> &crate::atomic::Word {
    // SAFETY: a Word is a transparent AtomicU32. The low half of a little-endian u64 lies at the address of the u64, and the
    // alignment of an AtomicU64 is enough. Both sides access it atomically, and the supported machines order such accesses.
    unsafe { &*core::ptr::from_ref(word).cast::<crate::atomic::Word>() }
}

impl Family {
    /// Returns a reference to the `T` at `offset`.
    ///
    /// # Panics
    /// If `offset` is outside family memory or not aligned: foreign code overwrote the word that it was read from. If it
    /// cannot be mapped here: see `Family::try_reach`.
    #[inline]
    #[must_use]
    pub fn at<T: Shared>(&'static self, offset: u64) -> &'static T {
        self.reach(offset, size_of::<T>());
        assert!(
            offset.is_multiple_of(align_of::<T>() as u64),
            "family memory is damaged: {offset} is not a valid offset"
        );
        // SAFETY: `reach` has mapped the bytes of a T here, and family memory is never unmapped; the alignment was checked.
        // Every content is a valid T, and other processes may change it at any time: `Shared` says so of the type.
        unsafe { &*self.area.base().add(offset as usize).cast::<T>() }
    }

    /// Returns a slice of the `len` values of type `T` that begin at `offset`.
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
            "family memory is damaged: {offset} is not a valid offset"
        );
        // SAFETY: `reach` has mapped `len` values of T here (a product that overflows is refused), and family memory is never
        // unmapped; the alignment was checked. `Shared` allows every content and changes by other processes.
        unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize).cast::<T>(), len) }
    }

    /// Returns the offset of a word that `at` or `slice` returned.
    pub(crate) fn offset_of(&self, word: &AtomicU64) -> u64 {
        (core::ptr::from_ref(word) as usize - self.area.base() as usize) as u64
    }

    /// Copies `bytes` into family memory at `offset`.
    ///
    /// # Safety
    /// Only the caller knows of this range until it commits or publishes it: the range is in a block that it has just made,
    /// or in a stretch of a segment behind the last committed message. No other thread or process reads or writes there
    /// during the call, and no reference to it exists.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub unsafe fn copy_in(&'static self, offset: u64, bytes: &[u8]) {
        self.reach(offset, bytes.len());
        // SAFETY: `reach` has mapped the range. Only the caller knows of it (contract), so `bytes` lie elsewhere, and no other
        // access happens at the same time.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.area.base().add(offset as usize), bytes.len())
        }
    }

    /// Appends `len` bytes of family memory from `offset` on to `into`.
    ///
    /// The bytes are committed ones: of a message, an entry or a buffer, none of which is written to again while the caller
    /// has it.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub fn copy_out(&'static self, offset: u64, len: usize, into: &mut Vec<u8>) {
        self.reach(offset, len);
        into.reserve(len);
        // SAFETY: `reach` has mapped the source, and committed bytes are not written to. The destination was just reserved in
        // the vector, and is initialised by the copy.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.area.base().add(offset as usize),
                into.as_mut_ptr().add(into.len()),
                len,
            );
            into.set_len(into.len() + len);
        }
    }

    /// Fills `into` with bytes of family memory from `offset` on. The bytes are committed ones, as for
    /// [`Family::copy_out`].
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub fn copy_into(&'static self, offset: u64, into: &mut [u8]) {
        self.reach(offset, into.len());
        // SAFETY: `reach` has mapped the source, and committed bytes are not written to. The destination is a Rust slice,
        // none of which lies in family memory that others have committed.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.area.base().add(offset as usize),
                into.as_mut_ptr(),
                into.len(),
            );
        }
    }

    /// Fills memory that need not be initialised, as [`Family::copy_into`] does, and returns it as initialised.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    pub fn copy_into_new<'a>(&'static self, offset: u64, into: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        self.reach(offset, into.len());
        let (start, len) = (into.as_mut_ptr().cast::<u8>(), into.len());
        // SAFETY: `reach` has mapped the source, and committed bytes are not written to; the destination is a slice of `len`
        // bytes elsewhere. After the copy each of its bytes is initialised.
        unsafe {
            core::ptr::copy_nonoverlapping(self.area.base().add(offset as usize), start, len);
            core::slice::from_raw_parts_mut(start, len)
        }
    }

    /// Returns whether the bytes of family memory at `offset` equal `bytes`.
    ///
    /// # Safety
    /// No thread or process writes to these bytes during the call: they are committed bytes of an entry or a buffer that
    /// no process changes, and that the caller's lock or reference keeps.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[inline]
    #[must_use]
    pub unsafe fn equals(&'static self, offset: u64, bytes: &[u8]) -> bool {
        self.reach(offset, bytes.len());
        // SAFETY: `reach` has mapped the range. No process writes to it while this slice lives, which is until the end of
        // this function (contract).
        let here = unsafe { core::slice::from_raw_parts(self.area.base().add(offset as usize), bytes.len()) };
        here == bytes
    }

    /// Returns the address of the `len` bytes from `offset` on, for views that another language reads and writes through.
    /// The range is mapped for ever. Making the address is safe. Code that reads or writes through it must keep the rules of
    /// [`Family::copy_out`] and [`Family::copy_in`], unless the bytes are an array's, which any process may change at any
    /// time.
    ///
    /// # Panics
    /// As [`Family::at`].
    #[must_use]
    pub fn address(&'static self, offset: u64, len: usize) -> *mut u8 {
        self.reach(offset, len);
        self.area.base().wrapping_add(offset as usize)
    }

    /// Sets `len` bytes from `offset` on to zero, each word by an atomic store. `len` is rounded up to whole words, of which
    /// every block consists.
    ///
    /// # Panics
    /// As [`Family::at`].
    pub(crate) fn zero(&'static self, offset: u64, len: usize) {
        for word in self.slice::<AtomicU64>(offset, len.div_ceil(8)) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Makes a robust mutex of the slot at `offset`.
    ///
    /// # Safety
    /// The caller has just taken the slot from unused memory, and has not published it: no other thread or process uses it.
    ///
    /// # Panics
    /// As [`Family::at`].
    pub(crate) unsafe fn init_mutex(&'static self, offset: u64) {
        let mutex = self.at::<crate::sys::mutex::RobustMutex>(offset);
        // SAFETY: no other thread or process uses the slot (contract).
        unsafe { mutex.init() }
    }

    /// Returns the word at `offset`, if that is mapped here.
    #[inline]
    pub(super) fn mapped_word(&'static self, offset: u64) -> Option<&'static AtomicU64> {
        let room = (self.area.mapped() as u64).checked_sub(size_of::<AtomicU64>() as u64)?;
        let here = offset <= room && offset.is_multiple_of(8);
        // SAFETY: `here` says that the eight bytes are mapped and aligned, and family memory is never unmapped; every content
        // is a valid AtomicU64.
        here.then(|| unsafe { &*self.area.base().add(offset as usize).cast::<AtomicU64>() })
    }

    /// Maps a range that holds an object of the family, if it is not mapped yet. Called before a change that cannot be
    /// undone.
    ///
    /// # Errors
    /// `NoMemory` if the limit on this process's address space (`ulimit -v`) leaves no room for it, or if another mapping
    /// lies at its address.
    #[inline]
    pub(crate) fn try_reach(&'static self, offset: u64, len: u64) -> Result<()> {
        self.try_reach_sparing(offset, len, 0)
    }

    /// Maps a range of which this process is about to take memory, if it is not mapped yet. Leaves [`SPARE`] bytes of the
    /// limit on address space to the program.
    ///
    /// # Errors
    /// As [`Family::try_reach`].
    #[inline]
    pub(crate) fn try_reach_new(&'static self, offset: u64, len: u64) -> Result<()> {
        self.try_reach_sparing(offset, len, SPARE)
    }

    #[inline]
    fn try_reach_sparing(&'static self, offset: u64, len: u64, spare: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.area.mapped() as u64 => Ok(()),
            Some(end) => self.grow(offset..end, spare),
            None => Err(Error::os(
                "mapping family memory",
                std::io::Error::from_raw_os_error(libc::EINVAL),
            )),
        }
    }

    #[cold]
    fn grow(&'static self, range: core::ops::Range<u64>, spare: usize) -> Result<()> {
        let wanted = range.end - range.start;
        let in_memory = range.start as usize..range.end as usize;
        if self.area.covers(in_memory.clone()) {
            return Ok(());
        }
        let reached = match self.fd() {
            Ok(fd) => self.area.reach(fd, in_memory, spare),
            // The program has closed the descriptor, here and in every other member.
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
        // Inlined: where the compiler knows `len`, this is one subtraction and one comparison.
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
        if let Err(e) = self.grow(offset..end, 0) {
            panic!("family memory is out of reach: {e}");
        }
    }
}
