//! Plain old data that any process of the family reads and writes at any time.

use crate::error::FamilyError;
use crate::memory::{self, Atomic, Pod};
use crate::transit::{self, Named};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// A slice of plain old data in family memory that every process which has a handle reads and writes, at any time.
///
/// Elements are copied in and out. One of 1, 2, 4 or 8 bytes is always read as somebody wrote it; a larger one, and a
/// range, may be a mixture of what several processes wrote, unless they take turns (with a [`Lock`](crate::Lock), say).
/// Integers can also be used as [atomics](SharedSlice::as_atomics), and who knows that nobody else is writing takes a
/// plain slice ([`as_slice`](SharedSlice::as_slice), `unsafe`).
///
/// It begins as zeros. Gigabytes are there at once and cost what is written of them. The memory goes back when the last
/// process that has a handle lets go of it or dies. Python sees it as an array.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let squares = procession::SharedSlice::<u32>::zeroed(10)?;
/// squares.set(3, 9);
/// assert_eq!(squares.get(3), 9);
/// assert_eq!(squares.to_vec().iter().sum::<u32>(), 9);
/// # Ok(())
/// # }
/// ```
pub struct SharedSlice<T: Pod> {
    hold: Arc<Hold>,
    len: usize,
    kind: PhantomData<T>,
}

/// One value of plain old data in family memory that every process which has a handle reads and writes, at any time: a
/// [`SharedSlice`] of one element.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use std::sync::atomic::Ordering;
///
/// let count = procession::SharedBox::new(7u64)?;
/// count.as_atomic().fetch_add(1, Ordering::Relaxed);
/// assert_eq!(count.get(), 8);
/// # Ok(())
/// # }
/// ```
pub struct SharedBox<T: Pod>(SharedSlice<T>);

impl<T: Pod> SharedSlice<T> {
    /// A slice of so many elements, whose bytes are all zero.
    ///
    /// # Errors
    /// The machine has less memory left, however much of it would ever be written.
    pub fn zeroed(len: usize) -> Result<Self, FamilyError> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        Ok(SharedSlice {
            hold: Arc::new(Family::home()?.zeroed(bytes)?),
            len,
            kind: PhantomData,
        })
    }

    /// A slice with a copy of these elements.
    ///
    /// # Errors
    /// As [`zeroed`](SharedSlice::zeroed).
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        let made = Self::zeroed(elements.len())?;
        made.write(0, elements);
        Ok(made)
    }

    /// How many elements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at this index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> T {
        let mut value = T::new_zeroed();
        self.read(index, std::slice::from_mut(&mut value));
        value
    }

    /// Replaces the element at this index.
    ///
    /// # Panics
    /// If there is none.
    pub fn set(&self, index: usize, value: T) {
        self.write(index, std::slice::from_ref(&value));
    }

    /// Copies the elements from `start` on into a slice.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn read(&self, start: usize, into: &mut [T]) {
        self.check(start, into.len());
        memory::load(&self.hold, start * size_of::<T>(), into.as_mut_bytes());
    }

    /// Replaces the elements from `start` on.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn write(&self, start: usize, from: &[T]) {
        self.check(start, from.len());
        memory::store(&self.hold, start * size_of::<T>(), from.as_bytes());
    }

    /// A copy of all elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut copy = vec![T::new_zeroed(); self.len];
        self.read(0, &mut copy);
        copy
    }

    /// Where the elements are, for foreign code. Valid for as long as this lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        memory::address(&self.hold)
    }

    /// The elements in place.
    ///
    /// # Safety
    /// As long as the slice is used nobody writes to these elements: no other thread, no other process.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: the contract of this function is that of the call.
        unsafe { memory::array(&self.hold, self.len) }
    }

    /// The elements in place, to write to.
    ///
    /// # Safety
    /// As long as the slice is used nobody else reads or writes these elements: no other thread, no other process, and
    /// not through another slice of this object.
    #[must_use]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub unsafe fn as_mut_slice(&self) -> &mut [T] {
        // SAFETY: the contract of this function is that of the call.
        unsafe { memory::array_mut(&self.hold, self.len) }
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The elements of an array, of which there are so many; None if it is shorter.
    pub(crate) fn of(hold: Hold, len: u64) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<T>() as u64)?;
        (bytes <= hold.room()).then(|| SharedSlice {
            hold: Arc::new(hold),
            len: len as usize,
            kind: PhantomData,
        })
    }

    fn check(&self, start: usize, len: usize) {
        let fits = start.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            fits,
            "elements {start} to {start} + {len} of a shared slice of {}",
            self.len
        );
    }
}

impl<T: Integer> SharedSlice<T> {
    /// The elements as atomics.
    #[must_use]
    pub fn as_atomics(&self) -> &[T::Atomic] {
        memory::atomics(&self.hold, self.len)
    }
}

impl<T: Pod> SharedBox<T> {
    /// A value that is shared from now on.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn new(value: T) -> Result<Self, FamilyError> {
        SharedSlice::from_slice(&[value]).map(SharedBox)
    }

    /// The value. One of more than 8 bytes may be a mixture of several that were written.
    #[must_use]
    pub fn get(&self) -> T {
        self.0.get(0)
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.0.set(0, value);
    }

    /// It as a slice of one element.
    #[must_use]
    pub fn as_shared_slice(&self) -> &SharedSlice<T> {
        &self.0
    }
}

impl<T: Integer> SharedBox<T> {
    /// The value as an atomic.
    #[must_use]
    #[allow(clippy::missing_panics_doc)] // there is one element
    pub fn as_atomic(&self) -> &T::Atomic {
        &self.0.as_atomics()[0]
    }
}

/// The integers, which can be shared as atomics.
pub trait Integer: Pod + sealed::Sealed {
    /// The standard library's atomic for it.
    type Atomic: Atomic;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty => $atomic:ident),*) => {$(
        impl sealed::Sealed for $integer {}
        impl Integer for $integer {
            type Atomic = std::sync::atomic::$atomic;
        }
    )*};
}
integers!(
    u8 => AtomicU8, u16 => AtomicU16, u32 => AtomicU32, u64 => AtomicU64, usize => AtomicUsize,
    i8 => AtomicI8, i16 => AtomicI16, i32 => AtomicI32, i64 => AtomicI64, isize => AtomicIsize
);

impl<T: Pod> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        SharedSlice {
            hold: self.hold.clone(),
            len: self.len,
            kind: PhantomData,
        }
    }
}

impl<T: Pod> Clone for SharedBox<T> {
    fn clone(&self) -> Self {
        SharedBox(self.0.clone())
    }
}

impl<T: Pod> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSlice")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedBox").field(&self.get()).finish()
    }
}

impl<T: Pod> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        departs(&self.hold).map_err(crate::transit::refused)?;
        // The number of elements, the size of one, the handle.
        (self.len as u64, size_of::<T>() as u32, Named(self.hold.handle())).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (len, element, Named(handle)) = <(u64, u32, Named)>::deserialize(deserializer)?;
        if element as usize != size_of::<T>() {
            return Err(crate::transit::unread(format!(
                "a slice of elements of {element} bytes, not of {}",
                size_of::<T>()
            )));
        }
        let hold = handle.open(Kind::Array).map_err(crate::transit::unread)?;
        SharedSlice::of(hold, len)
            .ok_or_else(|| crate::transit::unread("a shared slice is not as long as its handle says"))
    }
}

/// An array departs.
pub(crate) fn departs(hold: &Hold) -> procession_core::Result<()> {
    transit::departs(|| hold.family.open(hold.offset, hold.generation, Kind::Array))
}

impl<T: Pod> Serialize for SharedBox<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedBox<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slice = SharedSlice::<T>::deserialize(deserializer)?;
        if slice.len != 1 {
            return Err(crate::transit::unread(format!(
                "{} values in the place of one",
                slice.len
            )));
        }
        Ok(SharedBox(slice))
    }
}
