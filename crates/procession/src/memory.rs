//! Typed views of family memory. This is the one module in which bytes that other processes have mapped become references.
//!
//! There are three kinds of memory, each with a rule of its own, and each rule is a type here.
//!
//! - A **buffer** is written by one process before any other process knows of it ([`OwnBuffer`]), and by no process
//!   afterwards ([`FrozenBuffer`]). A frozen buffer behaves like a `&'static [u8]` whose lifetime is that of a reference in
//!   the held table, so plain shared slices are sound.
//! - An **array** ([`Array`]) is written by any process at any time. This module never makes a plain slice of it: it
//!   reads and writes words atomically (relaxed). A read therefore returns a mixture of values that were written. The
//!   element types are valid for all bytes, so every mixture is a value.
//! - A **guarded** value ([`guarded`]) is read and written by the thread that has the lock it belongs to, and by no other.
//!
//! The members of a family trust each other to keep to these rules, in every language; all of family memory rests on this.
//!
//! Accesses of different sizes can meet at one place of an array: one process writes bytes where another reads a word. The
//! language's memory model does not define what such a read returns. The hardware (x86-64, aarch64) does: some mixture of
//! the bytes that were written. This is the only place where the crate relies on the hardware; it does so between the
//! threads of one process as well.
#![allow(unsafe_code)]

use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Handle, Hold};
use procession_core::sys::memory::Map;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Plain old data: a type whose values are their bytes, and for which all bytes are a value. It has no pointers, no
/// references and no padding.
///
/// The trait is implemented for every type that has zerocopy's traits, which can be derived: numbers, arrays of numbers, and
/// `repr(C)` structs of them. The crate zerocopy is exported as [`procession::zerocopy`](crate::zerocopy), so that a program
/// needs no dependency of its own, and cannot have one of another version:
///
/// ```
/// use procession::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// use procession::Lock;
///
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
/// #[zerocopy(crate = "procession::zerocopy")] // where the derived code finds the crate
/// #[repr(C)]
/// struct Account {
///     cents: i64,
///     bookings: u64,
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let account = Lock::new(Account { cents: 0, bookings: 0 })?;
///     let cents = account.with(|account| {
///         account.bookings += 1;
///         account.cents += 250;
///         account.cents
///     })?;
///     assert_eq!(cents, 250);
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain old data",
    label = "other processes cannot read and write this in place",
    note = "shared memory holds numbers, arrays of numbers, and `#[repr(C)]` structs of these that derive `Copy` and zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and `KnownLayout`",
    note = "a `bool` is a `u8` here, and text is a `[u8; N]`; values of other types are sent through a `Queue`"
)]
pub trait Pod: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static {}

#[diagnostic::do_not_recommend]
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static> Pod for T {}

/// The alignment of every block in family memory, in bytes.
pub(crate) const ALIGNED: usize = 64;

/// Returns the address of the first byte after the object's header, which is aligned for a `T`.
///
/// # Panics
/// The object is shorter than `len` elements.
fn checked<T>(hold: &Hold, len: usize) -> *mut T {
    const { assert!(align_of::<T>() <= ALIGNED, "family memory is aligned to 64 bytes") };
    let bytes = len.checked_mul(size_of::<T>());
    let bytes = bytes.filter(|bytes| *bytes as u64 <= hold.room());
    assert!(bytes.is_some(), "a block is shorter than its handle says");
    hold.family
        .address(hold.offset + HEADER, bytes.unwrap_or_default())
        .cast()
}

/// Returns whether `hold` is a reference to an object of this kind.
fn is_kind(hold: &Hold, kind: Kind) -> bool {
    hold.header().tag().kind() == Some(kind)
}

// --- buffers ---

/// A buffer that no process writes to any more.
#[derive(Debug)]
pub(crate) struct FrozenBuffer(Hold);

impl FrozenBuffer {
    /// Takes over a reference to a buffer that arrived from another process or stands in a message: its writer has frozen it.
    /// None if the object is no buffer.
    pub(crate) fn new(hold: Hold) -> Option<FrozenBuffer> {
        is_kind(&hold, Kind::Buffer).then_some(FrozenBuffer(hold))
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.0
    }

    /// Returns the first `len` elements.
    ///
    /// # Panics
    /// The buffer is shorter.
    pub(crate) fn elements<T: Pod>(&self, len: usize) -> &[T] {
        let start = checked::<T>(&self.0, len);
        // SAFETY: `checked` has made sure that `len` elements lie inside the mapping, aligned. They stay there as long as
        // the reference in `self` lives. All bytes are a T. No process writes to a frozen buffer.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Makes the buffer writable again if `self` is the only reference to it in the family. The buffer then has a new
    /// generation, so a handle that was written down earlier cannot open it.
    ///
    /// # Errors
    /// The buffer itself: another process or a message refers to it.
    pub(crate) fn thaw(mut self) -> Result<OwnBuffer, FrozenBuffer> {
        if self.0.make_sole() {
            Ok(OwnBuffer(self))
        } else {
            Err(self)
        }
    }
}

/// A buffer that only the owner of this value knows: it has the only reference to it in the family, and no handle of it
/// exists. `freeze` ends that.
#[derive(Debug)]
pub(crate) struct OwnBuffer(FrozenBuffer);

impl OwnBuffer {
    /// Allocates a buffer of `bytes` bytes. It contains what the former owner of this memory has left there.
    pub(crate) fn recycled(family: &'static Family, bytes: u64) -> procession_core::Result<OwnBuffer> {
        Ok(OwnBuffer(FrozenBuffer(family.empty_buffer(bytes)?)))
    }

    /// Returns the first `len` elements.
    ///
    /// # Panics
    /// The buffer is shorter.
    pub(crate) fn elements<T: Pod>(&self, len: usize) -> &[T] {
        self.0.elements(len)
    }

    /// Returns the first `len` elements, to write to.
    ///
    /// # Panics
    /// The buffer is shorter.
    pub(crate) fn elements_mut<T: Pod>(&mut self, len: usize) -> &mut [T] {
        let start = checked::<T>(self.0.hold(), len);
        // SAFETY: `checked` has made sure that `len` elements lie inside the mapping, aligned. They stay there as long as
        // the reference in `self` lives. All bytes are a T. No other process and no other value of this process knows this
        // buffer, and `self` is mutably borrowed for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Ends the writing, so that the buffer can be shared.
    pub(crate) fn freeze(self) -> FrozenBuffer {
        self.0
    }
}

// --- guarded values ---

/// Returns the address of a lock's value. `hold` is None for a value of no bytes, which needs no memory.
fn guarded_address<T>(hold: Option<&Hold>) -> *mut T {
    hold.map_or(std::ptr::NonNull::<T>::dangling().as_ptr(), |hold| {
        checked::<T>(hold, 1)
    })
}

/// Returns the value that a lock guards. `hold` is None for a value of no bytes.
///
/// # Safety
/// The calling thread has the lock to which family memory says that this value belongs (`Lock::guards`), and keeps it as long
/// as the reference is used. During that time no mutable reference to the value is used.
pub(crate) unsafe fn guarded<T: Pod>(hold: Option<&Hold>) -> &T {
    // SAFETY: the value lies inside the mapping as long as `hold` is borrowed, or has no size. It is aligned, and all bytes
    // are a T. Only the owner of the lock writes to it; that is the caller, who uses no mutable reference meanwhile.
    unsafe { &*guarded_address(hold) }
}

/// Returns the value that a lock guards, to write to. `hold` is None for a value of no bytes.
///
/// # Safety
/// The calling thread has the lock to which family memory says that this value belongs (`Lock::guards`), and keeps it as long
/// as the reference is used. During that time no other reference to the value is used.
#[allow(clippy::mut_from_ref)] // the contract makes this the only reference
pub(crate) unsafe fn guarded_mut<T: Pod>(hold: Option<&Hold>) -> &mut T {
    // SAFETY: the value lies inside the mapping as long as `hold` is borrowed, or has no size. It is aligned, and all bytes
    // are a T. Only the owner of the lock uses it; that is the caller, who uses no other reference meanwhile.
    unsafe { &mut *guarded_address(hold) }
}

// --- arrays ---

/// An array: memory that any process reads and writes at any time.
#[derive(Debug)]
pub(crate) struct Array(Hold);

impl Array {
    /// Allocates a zeroed array of `bytes` bytes.
    pub(crate) fn zeroed(family: &'static Family, bytes: u64) -> procession_core::Result<Array> {
        Ok(Array(family.zeroed(bytes)?))
    }

    /// Takes over a reference to an array. None if the object is no array.
    pub(crate) fn new(hold: Hold) -> Option<Array> {
        is_kind(&hold, Kind::Array).then_some(Array(hold))
    }

    /// Opens the buffer of an array that Python has moved on: the sender still has a view of it, and may write to it. So it is
    /// read as an array.
    pub(crate) fn moved(handle: &[u8], len: usize) -> Result<Array, String> {
        let handle = Handle::from_bytes(handle).map_err(|e| e.to_string())?;
        let hold = handle.open(Kind::Buffer).map_err(|e| e.to_string())?;
        if len as u64 > hold.room() {
            return Err("a buffer is shorter than its handle says".into());
        }
        Ok(Array(hold))
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.0
    }

    /// Returns the address of the first of `len` elements, which is aligned for a `T`.
    ///
    /// # Panics
    /// The array is shorter.
    pub(crate) fn address<T>(&self, len: usize) -> *mut T {
        checked::<T>(&self.0, len)
    }

    /// Returns the first `len` elements as atomics.
    ///
    /// # Panics
    /// The array is shorter.
    pub(crate) fn atomics<A: Atomic>(&self, len: usize) -> &[A] {
        let start = checked::<A>(&self.0, len);
        // SAFETY: `checked` has made sure that `len` elements lie inside the mapping, aligned. They stay there as long as
        // the reference in `self` lives. All bytes are an A. The crate accesses arrays by atomic operations only; for other
        // processes the module's documentation says what holds.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Copies bytes from offset `start` on into `into`, while other processes may write there. An element of 1, 2, 4 or 8
    /// bytes at an address that is a multiple of its size is read as one word.
    ///
    /// # Panics
    /// The array is shorter.
    pub(crate) fn load(&self, start: usize, into: &mut [u8]) {
        load_from(&self.atomics(start + into.len())[start..], into);
    }

    /// Copies `from` into the array at offset `start`, while other processes may read there. An element of 1, 2, 4 or 8
    /// bytes at an address that is a multiple of its size is written as one word.
    ///
    /// # Panics
    /// The array is shorter.
    pub(crate) fn store(&self, start: usize, from: &[u8]) {
        store_to(&self.atomics(start + from.len())[start..], from);
    }
}

/// The atomic types that [`crate::Integer`] names.
///
/// # Safety
/// The type has the size of its integer, all bytes are a value of it, and it can be changed through a shared reference.
#[allow(unreachable_pub)] // it bounds a public type, and other crates must not implement it
pub unsafe trait Atomic {}

macro_rules! atomic {
    ($($name:ident)*) => {$(
        // SAFETY: the standard library's atomics have the size and the values of their integers, and interior mutability.
        unsafe impl Atomic for std::sync::atomic::$name {}
    )*};
}
atomic!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize);

/// Returns the first bytes as one atomic; None if they are too few, or do not begin at a multiple of its size.
#[inline]
fn first_word<A: Atomic>(bytes: &[AtomicU8]) -> Option<&A> {
    let fits = size_of::<A>() <= bytes.len() && bytes.as_ptr().addr().is_multiple_of(size_of::<A>());
    // SAFETY: the bytes of an A lie there, and the address is a multiple of its size and so of its alignment. They stay as
    // long as `bytes` is borrowed. All bytes are an A. Both types have interior mutability, so other references may exist.
    fits.then(|| unsafe { &*bytes.as_ptr().cast::<A>() })
}

/// Reads as many bytes as `into` has, in words of 8, 4, 2 or 1 bytes: at each address the largest that is aligned and fits.
fn load_from(mut bytes: &[AtomicU8], mut into: &mut [u8]) {
    while !into.is_empty() {
        let bytes_left = &bytes[..into.len()];
        let moved = if let Some(word) = first_word::<AtomicU64>(bytes_left) {
            put(into, word.load(Ordering::Relaxed).to_ne_bytes())
        } else if let Some(word) = first_word::<AtomicU32>(bytes_left) {
            put(into, word.load(Ordering::Relaxed).to_ne_bytes())
        } else if let Some(word) = first_word::<AtomicU16>(bytes_left) {
            put(into, word.load(Ordering::Relaxed).to_ne_bytes())
        } else {
            put(into, [bytes[0].load(Ordering::Relaxed)])
        };
        bytes = &bytes[moved..];
        into = &mut into[moved..];
    }
}

/// Writes `from`, in words of 8, 4, 2 or 1 bytes: at each address the largest that is aligned and fits.
fn store_to(mut bytes: &[AtomicU8], mut from: &[u8]) {
    while !from.is_empty() {
        let bytes_left = &bytes[..from.len()];
        let moved = if let Some(word) = first_word::<AtomicU64>(bytes_left) {
            word.store(u64::from_ne_bytes(first(from)), Ordering::Relaxed);
            8
        } else if let Some(word) = first_word::<AtomicU32>(bytes_left) {
            word.store(u32::from_ne_bytes(first(from)), Ordering::Relaxed);
            4
        } else if let Some(word) = first_word::<AtomicU16>(bytes_left) {
            word.store(u16::from_ne_bytes(first(from)), Ordering::Relaxed);
            2
        } else {
            bytes[0].store(from[0], Ordering::Relaxed);
            1
        };
        bytes = &bytes[moved..];
        from = &from[moved..];
    }
}

/// Copies a word to the beginning of `into`. Returns its size.
fn put<const N: usize>(into: &mut [u8], word: [u8; N]) -> usize {
    into[..N].copy_from_slice(&word);
    N
}

/// Returns the first `N` bytes, of which there are at least `N`.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

// --- segments ---

/// A mapped file, which is unmapped when this is dropped. It is read and written as an array is.
#[derive(Debug)]
pub(crate) struct Mapping(Option<Map>);

impl Mapping {
    /// Maps the first `len` bytes of a file, which must have them.
    pub(crate) fn new(file: &std::fs::File, len: usize) -> std::io::Result<Mapping> {
        Map::new(file, len).map(|map| Mapping(Some(map)))
    }

    /// Returns the address of the first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.0.as_ref().map_or(std::ptr::null_mut(), Map::base)
    }

    fn bytes(&self, start: usize, len: usize) -> &[AtomicU8] {
        let Some(map) = &self.0 else { return &[] };
        // SAFETY: the whole file is mapped as long as `self` lives, and all bytes are an AtomicU8. This process
        // accesses it by atomic operations only; for other processes the module's documentation says what holds.
        let all = unsafe { std::slice::from_raw_parts(map.base().cast::<AtomicU8>(), map.len()) };
        let fits = start.checked_add(len).is_some_and(|end| end <= all.len());
        assert!(
            fits,
            "bytes {start} to {start} + {len} of a segment of {}",
            all.len()
        );
        &all[start..start + len]
    }

    /// Copies bytes from offset `start` on into `into`.
    ///
    /// # Panics
    /// The segment is shorter.
    pub(crate) fn load(&self, start: usize, into: &mut [u8]) {
        load_from(self.bytes(start, into.len()), into);
    }

    /// Copies `from` into the segment at offset `start`.
    ///
    /// # Panics
    /// The segment is shorter.
    pub(crate) fn store(&self, start: usize, from: &[u8]) {
        store_to(self.bytes(start, from.len()), from);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(map) = self.0.take() {
            // SAFETY: every reference into the mapping borrows from `self`, so none is left. Raw addresses (`base`) are
            // valid only as long as this lives, which is what their documentation says.
            unsafe { map.unmap() };
        }
    }
}
