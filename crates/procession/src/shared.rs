//! Plain old data that any process of the family reads and writes at any time.

use crate::error::FamilyError;
use crate::label::{named, placed};
use crate::memory::{Array, Atomic, Pod};
use crate::transit::{self, HandleBytes};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// A slice of plain old data in family memory. Every process that has a handle reads and writes it at any time.
///
/// Elements are copied in and out. An element of 1, 2, 4 or 8 bytes is always read as some process wrote it. A larger
/// element, or a range of elements, can be a mixture of what several processes wrote, unless they take turns (with a
/// [`Lock`](crate::Lock), for example). Integers can also be used as [atomics](SharedSlice::as_atomics). A caller that knows
/// that no other thread or process writes can use a plain slice ([`as_slice`](SharedSlice::as_slice), `unsafe`).
///
/// The elements are zero at first. Creating a slice of gigabytes takes no longer than a small one; memory is used only for
/// the pages that are written. It is freed when the last process that has a handle drops it or dies. A process that is
/// killed while it writes a range leaves the part that it has written.
///
/// The same object is a `procession.ndarray` in Python. Unlike a `multiprocessing.Array` it has no lock of its own.
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
    array: Arc<Array>,
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

named!(SharedSlice<T: Pod>, slice, slice.array.hold());
named!(SharedBox<T: Pod>, shared, shared.0.array.hold());

impl<T: Pod> SharedSlice<T> {
    /// Creates a zeroed slice of `len` elements.
    ///
    /// # Errors
    /// The machine or its control group has less memory left than the slice has bytes, even if few of them will be written.
    #[track_caller]
    pub fn zeroed(len: usize) -> Result<Self, FamilyError> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let array = placed(|| Array::zeroed(Family::home()?, bytes)).map_err(FamilyError)?;
        Ok(SharedSlice {
            array: Arc::new(array),
            len,
            kind: PhantomData,
        })
    }

    /// Creates a slice with a copy of `elements`.
    ///
    /// # Errors
    /// Those of [`zeroed`](SharedSlice::zeroed).
    #[track_caller]
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        let made = Self::zeroed(elements.len())?;
        made.write(0, elements);
        Ok(made)
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the slice has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the element at `index`.
    ///
    /// # Panics
    /// `index` is not less than the length.
    #[must_use]
    pub fn get(&self, index: usize) -> T {
        let mut value = T::new_zeroed();
        self.read(index, std::slice::from_mut(&mut value));
        value
    }

    /// Replaces the element at `index`.
    ///
    /// # Panics
    /// `index` is not less than the length.
    pub fn set(&self, index: usize, value: T) {
        self.write(index, std::slice::from_ref(&value));
    }

    /// Copies elements from index `start` on into `into`, until `into` is full.
    ///
    /// # Panics
    /// The range ends after the last element.
    pub fn read(&self, start: usize, into: &mut [T]) {
        self.check(start, into.len());
        self.array.load(start * size_of::<T>(), into.as_mut_bytes());
    }

    /// Replaces the elements from index `start` on by those of `from`.
    ///
    /// # Panics
    /// The range ends after the last element.
    pub fn write(&self, start: usize, from: &[T]) {
        self.check(start, from.len());
        self.array.store(start * size_of::<T>(), from.as_bytes());
    }

    /// Returns a copy of all elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut copy = vec![T::new_zeroed(); self.len];
        self.read(0, &mut copy);
        copy
    }

    /// Returns the address of the first element, for foreign code. It is valid as long as this handle lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        self.array.address(0)
    }

    /// Returns the elements in place.
    ///
    /// # Safety
    /// As long as the slice is used, no other thread and no other process writes to these elements.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: `address` has checked that `len` elements lie inside the mapping, aligned. They stay there as long as the
        // reference in `self` lives. All bytes are a T. The caller promises that nothing writes to them meanwhile.
        unsafe { std::slice::from_raw_parts(self.array.address(self.len), self.len) }
    }

    /// Returns the elements in place, to write to.
    ///
    /// # Safety
    /// As long as the slice is used, no other thread and no other process reads or writes these elements, and the
    /// caller uses no other slice of this object.
    #[must_use]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub unsafe fn as_mut_slice(&self) -> &mut [T] {
        // SAFETY: `address` has checked that `len` elements lie inside the mapping, aligned. They stay there as long as the
        // reference in `self` lives. All bytes are a T. The caller promises that nothing else reads or writes them meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.array.address(self.len), self.len) }
    }

    pub(crate) fn hold(&self) -> &Hold {
        self.array.hold()
    }

    pub(crate) fn array(&self) -> &Arc<Array> {
        &self.array
    }

    /// Takes over an array of `len` elements. None if it is shorter, or no array.
    pub(crate) fn from_hold(hold: Hold, len: u64) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<T>() as u64)?;
        let fits = bytes <= hold.room();
        let array = Array::new(hold).filter(|_| fits)?;
        Some(SharedSlice {
            array: Arc::new(array),
            len: len as usize,
            kind: PhantomData,
        })
    }

    fn check(&self, start: usize, len: usize) {
        let fits = start.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            fits,
            "elements {start} to {start} + {len} of a shared slice that has {}",
            self.len
        );
    }
}

impl<T: Integer> SharedSlice<T> {
    /// Returns the elements as atomics of the standard library.
    #[must_use]
    pub fn as_atomics(&self) -> &[T::Atomic] {
        self.array.atomics(self.len)
    }
}

impl<T: Pod> SharedBox<T> {
    /// Creates a shared value.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new(value: T) -> Result<Self, FamilyError> {
        SharedSlice::from_slice(&[value]).map(SharedBox)
    }

    /// Returns a copy of the value. A value of more than 8 bytes can be a mixture of several that were written.
    #[must_use]
    pub fn get(&self) -> T {
        self.0.get(0)
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.0.set(0, value);
    }

    /// Returns the value as a slice of one element.
    #[must_use]
    pub fn as_shared_slice(&self) -> &SharedSlice<T> {
        &self.0
    }
}

impl<T: Integer> SharedBox<T> {
    /// Returns the value as an atomic of the standard library.
    #[must_use]
    #[allow(clippy::missing_panics_doc)] // there is one element
    pub fn as_atomic(&self) -> &T::Atomic {
        &self.0.as_atomics()[0]
    }
}

/// The integers that can be shared as atomics.
pub trait Integer: Pod + sealed::Sealed {
    /// The standard library's atomic type for this integer.
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
            array: self.array.clone(),
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
        register_in_transit(self.hold()).map_err(crate::transit::refused)?;
        // The number of elements, the size of one, the handle.
        (
            self.len as u64,
            size_of::<T>() as u32,
            HandleBytes(self.hold().handle()),
        )
            .serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (len, element, HandleBytes(handle)) = <(u64, u32, HandleBytes)>::deserialize(deserializer)?;
        if element as usize != size_of::<T>() {
            return Err(crate::transit::unread(format!(
                "the elements of the slice have {element} bytes each, not {}",
                size_of::<T>()
            )));
        }
        let hold = handle.open(Kind::Array).map_err(crate::transit::unread)?;
        SharedSlice::from_hold(hold, len)
            .ok_or_else(|| crate::transit::unread("a shared slice is shorter than its handle says"))
    }
}

/// Keeps the array alive until the handle that is being written has arrived.
pub(crate) fn register_in_transit(hold: &Hold) -> procession_core::Result<()> {
    transit::register_in_transit(|| hold.family.open(hold.offset, hold.generation, Kind::Array))
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
                "a shared box has one value, not {}",
                slice.len
            )));
        }
        Ok(SharedBox(slice))
    }
}
