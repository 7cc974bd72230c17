//! Family memory as Rust sees it: the one place where bytes that other processes have mapped become references.
//!
//! Two kinds of memory are looked at, under two different rules.
//!
//! - A **buffer** is written by one process before anybody else knows of it, and by nobody afterwards. From then on it is
//!   like a `&'static [u8]` whose lifetime is that of a reference in the held table: plain shared slices are sound. That
//!   the members of a family keep to this is the trust on which all of family memory rests.
//! - An **array** is written by anybody at any time. It is never a slice here, but words that are read and written
//!   atomically (relaxed), so whatever others do, what is read is some mixture of values that were written, and, since
//!   the types allowed are valid for all bytes, a value.
//!   Words of different sizes may meet at one place, if one process writes bytes where another reads a word: that the
//!   language's memory model leaves open what comes of it, the hardware (x86-64, aarch64) does not. This is the one place where
//!   the crate relies on hardware, between the threads of one process as well.
#![allow(unsafe_code)]

use procession_core::family::Hold;
use procession_core::family::object::HEADER;
use procession_core::sys::memory::Map;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Plain old data: every value is its bytes, and all bytes are a value. No pointers, no references, no padding.
///
/// Implemented for all types with zerocopy's traits, which can be derived: numbers, arrays of them, and `repr(C)`
/// structs of them.
pub trait Pod: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static> Pod for T {}

/// Blocks begin on a multiple of this.
pub(crate) const ALIGNED: usize = 64;

fn checked<T>(hold: &Hold, len: usize) -> *mut T {
    const { assert!(align_of::<T>() <= ALIGNED, "family memory is aligned to 64 bytes") };
    let bytes = len.checked_mul(size_of::<T>());
    let bytes = bytes.filter(|bytes| *bytes as u64 <= hold.room());
    assert!(bytes.is_some(), "a block is not as long as it was said to be");
    hold.family
        .address(hold.offset + HEADER, bytes.unwrap_or_default())
        .cast()
}

/// The elements of a buffer that nobody writes to any more.
pub(crate) fn buffer<T: Pod>(hold: &Hold, len: usize) -> &[T] {
    let start = checked::<T>(hold, len);
    // SAFETY: inside the mapping, for as long as the hold lives; aligned; all bytes are a T; a buffer that is known to
    // more than its maker is not written to.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The elements of a buffer that nobody else knows of.
pub(crate) fn own_buffer<T: Pod>(hold: &mut Hold, len: usize) -> &mut [T] {
    let start = checked::<T>(hold, len);
    // SAFETY: as above, and the caller has the only reference there is in the family, mutably borrowed.
    unsafe { std::slice::from_raw_parts_mut(start, len) }
}

/// What a lock guards. None: a value of no bytes. `guard`: it has the lock.
///
/// For the guard of a lock alone: it exists in one thread of one process of the family at a time, and hands this on
/// under its own borrow. A value belongs to one lock, which family memory says, and not the bytes that named the two. That
/// the other faces keep to the lock is the trust on which family memory rests.
pub(crate) fn guarded<'a, G, T: Pod>(_guard: &'a G, hold: Option<&Hold>) -> &'a T {
    // SAFETY: inside the mapping for as long as the hold lives, or of no size; aligned; all bytes are a T; nobody writes
    // to it meanwhile, since the guard has the lock and is borrowed.
    unsafe { &*place(hold) }
}

/// The same, to write to.
pub(crate) fn guarded_mut<'a, G, T: Pod>(_guard: &'a mut G, hold: Option<&Hold>) -> &'a mut T {
    // SAFETY: as above, and nobody else uses it, since the guard is mutably borrowed.
    unsafe { &mut *place(hold) }
}

fn place<T>(hold: Option<&Hold>) -> *mut T {
    hold.map_or(std::ptr::NonNull::<T>::dangling().as_ptr(), |hold| {
        checked::<T>(hold, 1)
    })
}

/// The elements of an array.
///
/// # Safety
/// As long as the slice is used, nobody writes to these elements: no other thread, no other process.
pub(crate) unsafe fn array<T: Pod>(hold: &Hold, len: usize) -> &[T] {
    // SAFETY: the contract.
    unsafe { std::slice::from_raw_parts(checked::<T>(hold, len), len) }
}

/// The elements of an array, to write to.
///
/// # Safety
/// As long as the slice is used, nobody else reads or writes these elements: no other thread, no other process.
#[allow(clippy::mut_from_ref)] // that this is the only reference is the contract
pub(crate) unsafe fn array_mut<T: Pod>(hold: &Hold, len: usize) -> &mut [T] {
    // SAFETY: the contract.
    unsafe { std::slice::from_raw_parts_mut(checked::<T>(hold, len), len) }
}

/// Where a block's bytes begin.
pub(crate) fn address<T>(hold: &Hold) -> *mut T {
    checked::<T>(hold, 0)
}

/// The elements of an array as atomics.
pub(crate) fn atomics<A: Atomic>(hold: &Hold, len: usize) -> &[A] {
    let start = checked::<A>(hold, len);
    // SAFETY: inside the mapping for as long as the hold lives, aligned; all bytes are an A, and others reach this memory
    // by atomic operations as well.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The atomic types that [`crate::Integer`] names.
///
/// # Safety
/// All bytes are a value, and it is as big as the integer.
#[allow(unreachable_pub)] // it bounds a public type, and nobody else is to implement it
pub unsafe trait Atomic {}

macro_rules! atomic {
    ($($name:ident)*) => {$(
        // SAFETY: an integer with interior mutability.
        unsafe impl Atomic for std::sync::atomic::$name {}
    )*};
}
atomic!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize);

/// Reads bytes of an array that others may be writing to. Elements of 1, 2, 4 or 8 bytes, at their natural places, are
/// read whole.
pub(crate) fn load(hold: &Hold, start: usize, into: &mut [u8]) {
    let base = range(hold, start, into.len());
    // SAFETY: `range` has checked that the bytes are inside the mapping, which stays; others access them atomically.
    unsafe { load_from(base, into) }
}

/// Writes bytes of an array that others may be reading, in the same way.
pub(crate) fn store(hold: &Hold, start: usize, from: &[u8]) {
    let base = range(hold, start, from.len());
    // SAFETY: as above.
    unsafe { store_to(base, from) }
}

/// # Safety
/// So many bytes lie there, in memory that stays for the length of the call and that others access atomically.
unsafe fn load_from(base: *mut u8, into: &mut [u8]) {
    let mut at = 0;
    while at < into.len() {
        let step = step(base as usize + at, into.len() - at);
        // SAFETY: the contract, and so many bytes begin here on a multiple of their number.
        unsafe {
            let from = base.add(at);
            let into = &mut into[at..at + step];
            match step {
                8 => into.copy_from_slice(&word::<AtomicU64>(from).load(Ordering::Relaxed).to_ne_bytes()),
                4 => into.copy_from_slice(&word::<AtomicU32>(from).load(Ordering::Relaxed).to_ne_bytes()),
                2 => into.copy_from_slice(&word::<AtomicU16>(from).load(Ordering::Relaxed).to_ne_bytes()),
                _ => into[0] = word::<AtomicU8>(from).load(Ordering::Relaxed),
            }
        }
        at += step;
    }
}

/// # Safety
/// As [`load_from`].
unsafe fn store_to(base: *mut u8, from: &[u8]) {
    let mut at = 0;
    while at < from.len() {
        let step = step(base as usize + at, from.len() - at);
        // SAFETY: the contract, and so many bytes begin here on a multiple of their number.
        unsafe {
            let into = base.add(at);
            let from = &from[at..at + step];
            match step {
                8 => word::<AtomicU64>(into).store(u64::from_ne_bytes(exactly(from)), Ordering::Relaxed),
                4 => word::<AtomicU32>(into).store(u32::from_ne_bytes(exactly(from)), Ordering::Relaxed),
                2 => word::<AtomicU16>(into).store(u16::from_ne_bytes(exactly(from)), Ordering::Relaxed),
                _ => word::<AtomicU8>(into).store(from[0], Ordering::Relaxed),
            }
        }
        at += step;
    }
}

/// A file that is mapped for as long as this lives, and read and written as arrays are.
#[derive(Debug)]
pub(crate) struct Mapping(Option<Map>);

impl Mapping {
    /// Maps so many bytes of a file, which has them.
    pub(crate) fn new(file: &std::fs::File, len: usize) -> std::io::Result<Mapping> {
        Map::new(file, len).map(|map| Mapping(Some(map)))
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.0.as_ref().map_or(std::ptr::null_mut(), Map::base)
    }

    fn range(&self, start: usize, len: usize) -> *mut u8 {
        let all = self.0.as_ref().map_or(0, Map::len);
        let fits = start.checked_add(len).is_some_and(|end| end <= all);
        assert!(fits, "bytes {start} to {start} + {len} of a segment of {all}");
        self.base().wrapping_add(start)
    }

    pub(crate) fn load(&self, start: usize, into: &mut [u8]) {
        let base = self.range(start, into.len());
        // SAFETY: inside the mapping, which this keeps.
        unsafe { load_from(base, into) }
    }

    pub(crate) fn store(&self, start: usize, from: &[u8]) {
        let base = self.range(start, from.len());
        // SAFETY: inside the mapping, which this keeps.
        unsafe { store_to(base, from) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(map) = self.0.take() {
            // SAFETY: no reference into it was ever handed out that outlives this.
            unsafe { map.unmap() };
        }
    }
}

/// How many bytes to move at once from this address.
fn step(address: usize, left: usize) -> usize {
    [8, 4, 2]
        .into_iter()
        .find(|n| address.is_multiple_of(*n) && *n <= left)
        .unwrap_or(1)
}

fn exactly<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// # Safety
/// An A lies there, in memory that stays and that others access atomically.
unsafe fn word<'a, A: Atomic>(address: *mut u8) -> &'a A {
    // SAFETY: the contract.
    unsafe { &*address.cast::<A>() }
}

fn range(hold: &Hold, start: usize, len: usize) -> *mut u8 {
    let fits = start
        .checked_add(len)
        .is_some_and(|end| end as u64 <= hold.room());
    assert!(fits, "bytes outside of an array");
    hold.family.address(hold.offset + HEADER + start as u64, len)
}
