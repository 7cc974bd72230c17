//! Arrays of any dimensions, as numpy has them: a block of elements with a shape.

use crate::block::{Block, typestr_of, with_elements};
use crate::handed;
use crate::memory::Pod;
use crate::value::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::TypeId;
use std::fmt;
use std::sync::Arc;
use zerocopy::FromBytes;

/// An array of numbers with any number of dimensions, which Python knows as a numpy array.
///
/// An array that Python sends through a queue is received in place: the elements lie in family memory, where Python's queue
/// has put them, and are not copied. (Arrays of less than 4096 bytes come inside of the message, and arrays that are not
/// contiguous come inside of the pickle; these are copied.) An array that Rust sends is a read-only numpy array of the same
/// memory. A [`Queue<Array>`](crate::Queue) carries single arrays, and a [`Value::Array`] arrays inside of other values.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use procession::{Array, Block, Queue, Value};
///
/// let array = Array::new(Block::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?, &[2, 3])?;
/// let queue = Queue::<Value>::new()?;
/// queue.put(&Value::from(array))?;
/// let received = queue.get()?;
/// let array = received.as_array().ok_or("no array")?;
/// assert_eq!((array.typestr(), array.shape()), ("<f8", &[2, 3][..]));
/// assert_eq!(array.as_slice::<f64>()?[5], 6.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Array(Arc<Inner>);

struct Inner {
    typestr: String,
    shape: Vec<usize>,
    fortran: bool,
    bytes: Block<u8>,
}

/// An array does not have the expected elements or shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ArrayError {
    why: String,
}

impl ArrayError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        ArrayError { why: why.into() }
    }
}

/// A type of elements that numpy knows: integers of 8 to 64 bits, `f32`, `f64`, `[f32; 2]` and `[f64; 2]` for complex numbers
/// (real and imaginary part), and `half::f16` with the feature `half`.
///
/// The trait is sealed. Elements of other types are no arrays for Python; a [`Block`] of them is a message for Rust.
#[diagnostic::on_unimplemented(
    message = "numpy has no elements like `{Self}`",
    note = "it has integers of 8 to 64 bits, `f32`, `f64`, and complex numbers as `[f32; 2]` and `[f64; 2]`"
)]
pub trait Element: Pod + sealed::Sealed {
    /// The name of the type in numpy's array protocol.
    #[doc(hidden)]
    const TYPESTR: &'static str;
}

mod sealed {
    /// Other crates cannot implement the traits that this one bounds.
    #[allow(unreachable_pub)]
    pub trait Sealed {}
}

macro_rules! elements {
    ($($kind:ty => $name:literal),*) => {$(
        impl sealed::Sealed for $kind {}

        impl Element for $kind {
            const TYPESTR: &'static str = $name;
        }
    )*};
}
with_elements!(elements);
#[cfg(feature = "half")]
elements!(half::f16 => "<f2");

impl Array {
    /// Makes an array of a block, in C order: the last index changes fastest. Nothing is copied.
    ///
    /// # Errors
    /// The shape has another number of elements than the block, or more than 32 dimensions.
    pub fn new<T: Element>(block: Block<T>, shape: &[usize]) -> Result<Array, ArrayError> {
        let len = product(shape);
        if len != Some(block.len()) || shape.len() > 32 {
            return Err(ArrayError::new(format!(
                "{} elements are no array of the shape {shape:?}",
                block.len()
            )));
        }
        Ok(Array::raw(T::TYPESTR, shape.to_vec(), false, block.into_bytes()))
    }

    /// Makes an array of a block that has as many elements as the shape says.
    #[cfg(feature = "ndarray")]
    pub(crate) fn shaped<T: Element>(block: Block<T>, shape: Vec<usize>) -> Array {
        Array::raw(T::TYPESTR, shape, false, block.into_bytes())
    }

    /// Makes an array of what a message says. `typestr` is the type of its elements as numpy's array protocol writes it.
    pub(crate) fn arrived(
        typestr: &str,
        shape: Vec<usize>,
        fortran: bool,
        bytes: Block<u8>,
    ) -> Result<Array, String> {
        let size = match typestr.as_bytes() {
            [b'>', ..] => {
                return Err(format!(
                    "its elements are big-endian ({typestr}): convert them in Python, with array.astype(array.dtype.newbyteorder('='))"
                ));
            }
            [_, b'O', ..] => return Err("its elements are Python objects (dtype object)".into()),
            _ => item_size(typestr).ok_or("the type of its elements is malformed")?,
        };
        let len = product(&shape);
        if size == 0 && len != Some(0) {
            return Err("its elements have no bytes".into());
        }
        let needed = len.and_then(|len| len.checked_mul(size));
        if needed.is_none_or(|needed| needed > bytes.len()) || shape.len() > 64 {
            return Err("its memory is shorter than its shape says".into());
        }
        let bytes = bytes.retyped(needed.unwrap_or_default()).unwrap_or(bytes);
        Ok(Array::raw(typestr, shape, fortran, bytes))
    }

    fn raw(typestr: &str, shape: Vec<usize>, fortran: bool, bytes: Block<u8>) -> Array {
        Array(Arc::new(Inner {
            typestr: typestr.to_owned(),
            // In one dimension both orders are the same.
            fortran: fortran && shape.iter().filter(|n| **n > 1).count() > 1,
            shape,
            bytes,
        }))
    }

    /// Returns the type of the elements as numpy's array protocol writes it: `<f8` for `f64`, `|b1` for bool, `<c16` for
    /// complex numbers of two `f64`, `|V12` for records of 12 bytes.
    #[must_use]
    pub fn typestr(&self) -> &str {
        &self.0.typestr
    }

    /// Returns the length of each dimension. It is empty for an array of no dimensions, which has one element.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        product(self.shape()).unwrap_or_default()
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the elements lie in Fortran order: the first index changes fastest. An array of one dimension is in C
    /// order.
    #[must_use]
    pub fn is_fortran(&self) -> bool {
        self.0.fortran
    }

    /// Returns the elements as bytes, in the order in which they lie in memory.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Returns whether the elements lie in family memory. Sending the array then sends a handle.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.0.bytes.is_inline()
    }

    /// Returns the elements in the order in which they lie in memory, without a copy. The block keeps the memory.
    ///
    /// A bool can be read as `u8`, a date or a duration (`M8`, `m8`) as `i64`, and records (`V`) as any plain type of their size.
    ///
    /// # Errors
    /// The elements are of another type.
    pub fn block<T: Pod>(&self) -> Result<Block<T>, ArrayError> {
        let found = self.typestr();
        let is_same = match typestr_of(TypeId::of::<T>()) {
            Some(name) => {
                found == name
                    || (name == "|u1" && found == "|b1")
                    || (name == "<i8" && matches!(found.as_bytes(), [b'<', b'M' | b'm', b'8', ..]))
            }
            None => found.starts_with("|V") && item_size(found) == Some(size_of::<T>()),
        };
        if !is_same {
            let wanted = std::any::type_name::<T>();
            return Err(ArrayError::new(format!(
                "its elements are {found} and not {wanted}"
            )));
        }
        let block = self.0.bytes.retyped(self.len());
        block.ok_or_else(|| ArrayError::new("its elements are not aligned"))
    }

    /// Returns the elements in the order in which they lie in memory.
    ///
    /// # Errors
    /// Those of [`block`](Array::block).
    pub fn as_slice<T: Pod>(&self) -> Result<&[T], ArrayError> {
        let block = self.block::<T>()?;
        let slice = <[T]>::ref_from_bytes_with_elems(self.as_bytes(), block.len());
        slice.map_err(|_| ArrayError::new("its elements are not aligned"))
    }

    /// Returns the elements in C order. Those of an array in Fortran order are refused, because a list of them in that order
    /// would be a surprise.
    pub(crate) fn elements<T: Pod>(&self) -> Result<Block<T>, ArrayError> {
        if self.is_fortran() {
            return Err(ArrayError::new(
                "it is an array in Fortran order: receive it as procession::Array, or send numpy.ascontiguousarray(array)",
            ));
        }
        self.block()
    }

    /// Returns the memory of the elements.
    pub(crate) fn memory(&self) -> &Block<u8> {
        &self.0.bytes
    }

    /// Returns how many elements lie between two neighbours, for each dimension.
    pub(crate) fn strides(&self) -> Vec<usize> {
        let mut strides = vec![0; self.shape().len()];
        let mut step = 1usize;
        let mut set = |place: usize| {
            strides[place] = step;
            step = step.saturating_mul(self.shape()[place]);
        };
        if self.is_fortran() {
            (0..self.shape().len()).for_each(&mut set);
        } else {
            (0..self.shape().len()).rev().for_each(&mut set);
        }
        strides
    }

    /// Returns the element at a place in memory as a value. None if no value has its type.
    pub(crate) fn element(&self, place: usize) -> Option<Value> {
        let size = item_size(self.typestr())?;
        let bytes = self.as_bytes().get(place * size..(place + 1) * size)?;
        scalar(self.typestr(), bytes)
    }
}

/// Returns a scalar of numpy as a value. None if no value has its type.
pub(crate) fn scalar(typestr: &str, bytes: &[u8]) -> Option<Value> {
    let float = |bytes: &[u8]| {
        Some(match bytes.len() {
            2 => half_to_f64(u16::from_le_bytes(bytes.try_into().ok()?)),
            4 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
            8 => f64::from_le_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    };
    let kind = *typestr.as_bytes().get(1)?;
    if typestr.starts_with('>') || Some(bytes.len()) != item_size(typestr) {
        return None;
    }
    Some(match kind {
        b'b' => Value::Bool(*bytes.first()? != 0),
        b'i' | b'u' if bytes.len() <= 8 => {
            let negative = kind == b'i' && bytes.last()? & 0x80 != 0;
            let mut eight = [if negative { 0xff } else { 0 }; 9];
            eight.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Value::from_le_bytes_signed(&eight)
        }
        b'M' | b'm' => Value::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        b'f' => Value::Float(float(bytes)?),
        b'c' => {
            let (re, im) = bytes.split_at(bytes.len() / 2);
            let (re, im) = (float(re)?, float(im)?);
            Value::Complex { re, im }
        }
        b'S' => {
            let len = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            Value::Bytes(bytes[..len].to_vec())
        }
        b'U' => {
            let chars = bytes
                .chunks_exact(4)
                .map(|four| u32::from_le_bytes(four.try_into().unwrap_or_default()));
            let text: Option<String> = chars.map(char::from_u32).collect();
            Value::Str(text?.trim_end_matches('\0').to_owned())
        }
        _ => return None,
    })
}

/// Converts a number of 16 bits (IEEE 754 binary16).
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

/// The longest type of elements that is read, in bytes.
const LONGEST_TYPESTR: usize = 40;

/// Returns the number of bytes of an element. None if `typestr` is malformed.
pub(crate) fn item_size(typestr: &str) -> Option<usize> {
    let rest = typestr.get(2..).filter(|_| typestr.len() <= LONGEST_TYPESTR)?;
    let digits = rest.split('[').next()?;
    let size: usize = digits.parse().ok()?;
    if typestr.as_bytes()[1] == b'U' {
        size.checked_mul(4)
    } else {
        Some(size)
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    // Lengths beside a zero may be anything.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n))
}

impl fmt::Debug for Array {
    /// Shows the type and the shape and no elements: there may be gigabytes of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("typestr", &self.typestr())
            .field("shape", &self.shape())
            .field("fortran", &self.is_fortran())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Array {
    /// Returns whether type, shape, order and the bytes of the elements are equal.
    fn eq(&self, other: &Self) -> bool {
        let head = |array: &Array| {
            (
                array.typestr().to_owned(),
                array.shape().to_vec(),
                array.is_fortran(),
            )
        };
        head(self) == head(other) && self.as_bytes() == other.as_bytes()
    }
}

impl Serialize for Array {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shape: Vec<u64> = self.shape().iter().map(|n| *n as u64).collect();
        let written = (self.typestr(), shape, self.is_fortran(), self.memory());
        serializer.serialize_newtype_struct(handed::NAME, &written)
    }
}

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handed::deserialize(deserializer, |value: Value| match value {
            Value::Array(array) => Ok(array),
            other => Err(format!("it is a {}, not an array", other.kind_name())),
        })
    }
}

impl handed::Written for Array {
    type Form = (String, Vec<u64>, bool, Block<u8>);

    fn from_form((typestr, shape, fortran, bytes): Self::Form) -> Result<Self, String> {
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Array::arrived(&typestr, shape, fortran, bytes)
    }
}

impl<T: Element> From<Block<T>> for Array {
    /// Makes an array of one dimension, of the same memory.
    fn from(block: Block<T>) -> Array {
        Array::raw(T::TYPESTR, vec![block.len()], false, block.into_bytes())
    }
}

impl<T: Pod> TryFrom<&Array> for Block<T> {
    type Error = ArrayError;

    /// Returns the elements in C order, without a copy. An array in Fortran order is an error; there is [`Array::block`].
    fn try_from(array: &Array) -> Result<Self, ArrayError> {
        array.elements()
    }
}
