//! Blocks: plain old data in family memory that is written once, sent without being copied, and read in place.

use crate::error::FamilyError;
use crate::handed;
use crate::memory::{FrozenBuffer, OwnBuffer, Pod};
use crate::transit::{self, HandleBytes};
use crate::value::Value;
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold};
use procession_core::message as encoding;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// An immutable slice of plain old data in family memory, which any number of processes read in place.
///
/// Sending a block through a queue, alone or inside of another value, sends a handle: the data is not copied, whatever its
/// length, and the receiver's block is the same memory as the sender's. The memory is freed when the last process that has a
/// handle drops it or dies.
///
/// In Python, a queue of blocks delivers numpy arrays of the same memory, or memoryviews if numpy is not installed.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use procession::{Block, Queue};
///
/// let queue = Queue::<Block<f32>>::new()?;
/// queue.put(&Block::from_slice(&[1.0, 2.0, 3.0])?)?;
/// let received = queue.get()?;
/// assert_eq!(received[1], 2.0);
/// # Ok(())
/// # }
/// ```
pub struct Block<T: Pod = u8> {
    memory: Memory,
    len: usize,
    kind: PhantomData<T>,
}

/// Where the data is.
#[derive(Clone)]
enum Memory {
    Shared(Arc<FrozenBuffer>),
    /// The bytes of a small message, which came in the message itself. The words of 16 bytes align them.
    Inline(Arc<[u128]>),
}

/// A slice of plain old data in family memory that only this process knows and writes, until it is frozen into a [`Block`].
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let mut squares = procession::BlockMut::<u64>::zeroed(100)?;
/// for (i, square) in squares.iter_mut().enumerate() {
///     *square = (i * i) as u64;
/// }
/// let squares = squares.freeze();
/// assert_eq!(squares[9], 81);
/// # Ok(())
/// # }
/// ```
pub struct BlockMut<T: Pod = u8> {
    buffer: OwnBuffer,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> BlockMut<T> {
    /// Creates a block of `len` zeroed elements.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn zeroed(len: usize) -> Result<Self, FamilyError> {
        let mut made = Self::recycled(len)?;
        made.as_mut_bytes().fill(0);
        Ok(made)
    }

    /// Creates a block with a copy of `elements`.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        let mut made = Self::recycled(elements.len())?;
        made.copy_from_slice(elements);
        Ok(made)
    }

    /// Creates a block whose contents are what the former owner of this memory has left there.
    fn recycled(len: usize) -> Result<Self, FamilyError> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        Ok(BlockMut {
            buffer: OwnBuffer::recycled(Family::home().map_err(FamilyError)?, bytes).map_err(FamilyError)?,
            len,
            kind: PhantomData,
        })
    }

    /// Ends the writing. The block can then be sent.
    #[must_use]
    pub fn freeze(self) -> Block<T> {
        Block {
            memory: Memory::Shared(Arc::new(self.buffer.freeze())),
            len: self.len,
            kind: PhantomData,
        }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.buffer.elements_mut(self.len * size_of::<T>())
    }
}

impl<T: Pod> Deref for BlockMut<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.buffer.elements(self.len)
    }
}

impl<T: Pod> DerefMut for BlockMut<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.buffer.elements_mut(self.len)
    }
}

impl<T: Pod> fmt::Debug for BlockMut<T> {
    /// Shows the length and no elements: there may be gigabytes of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockMut")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: Pod> Block<T> {
    /// Creates a block with a copy of `elements`.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        Ok(BlockMut::from_slice(elements)?.freeze())
    }

    /// Makes the block writable, if this is the only reference to it: no other `Block` in this process, no other
    /// process and no message refers to it.
    ///
    /// # Errors
    /// The block itself, unchanged, for the caller to copy: it is in use elsewhere, or came inside of a small message.
    pub fn try_into_mut(self) -> Result<BlockMut<T>, Self> {
        let Block { memory, len, kind } = self;
        let back = |memory| Block { memory, len, kind };
        match memory {
            Memory::Shared(buffer) => match Arc::try_unwrap(buffer) {
                Ok(buffer) => match buffer.thaw() {
                    Ok(buffer) => Ok(BlockMut { buffer, len, kind }),
                    Err(buffer) => Err(back(Memory::Shared(Arc::new(buffer)))),
                },
                Err(shared) => Err(back(Memory::Shared(shared))),
            },
            inline => Err(back(inline)),
        }
    }

    /// Makes another reference to the data, in this family's memory, and says how many bytes it has.
    fn reference_in(&self, family: &'static Family) -> procession_core::Result<BlockReference> {
        let len = (self.len * size_of::<T>()) as u64;
        let hold = match &self.memory {
            Memory::Shared(buffer) if std::ptr::eq(buffer.hold().family, family) => try_clone(buffer.hold())?,
            Memory::Shared(buffer) => family.buffer(buffer.elements(len as usize))?,
            Memory::Inline(_) => family.buffer(<[T]>::as_bytes(self))?,
        };
        Ok(BlockReference { hold, len })
    }
}

impl Block<u8> {
    /// Takes over a reference to a buffer of at least `len` bytes.
    pub(crate) fn from_buffer(hold: Hold, len: usize) -> Result<Self, String> {
        from_hold(hold, len as u64)
    }

    /// Makes a block of the bytes of a small message, in this process's own memory.
    pub(crate) fn inline(bytes: &[u8]) -> Self {
        let words = bytes.chunks(16).map(|chunk| {
            let mut word = [0; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(word)
        });
        Block {
            memory: Memory::Inline(words.collect()),
            len: bytes.len(),
            kind: PhantomData,
        }
    }

    /// Returns a handle of the memory in this family. A reference keeps the memory until the handle has arrived.
    pub(crate) fn handle_in_transit(&self) -> Result<Vec<u8>, String> {
        let made = Family::home().and_then(|home| self.reference_in(home));
        let BlockReference { hold, .. } = made.map_err(|e| e.to_string())?;
        let handle = hold.handle().to_bytes().to_vec();
        transit::register_in_transit(|| Ok(hold)).map_err(|e| e.to_string())?;
        Ok(handle)
    }

    /// Reads the first bytes as `len` elements of another type, in place. None if they are too few, or are not aligned.
    pub(crate) fn retyped<T: Pod>(&self, len: usize) -> Option<Block<T>> {
        let fits = len.checked_mul(size_of::<T>())? <= self.len;
        let aligned = match self.memory {
            Memory::Shared(_) => true,
            Memory::Inline(_) => align_of::<T>() <= align_of::<u128>(),
        };
        (fits && aligned).then(|| Block {
            memory: self.memory.clone(),
            len,
            kind: PhantomData,
        })
    }
}

impl<T: Pod> Block<T> {
    /// Returns the block as bytes, in place.
    pub(crate) fn into_bytes(self) -> Block<u8> {
        Block {
            len: self.len * size_of::<T>(),
            memory: self.memory,
            kind: PhantomData,
        }
    }

    /// Returns whether the data is in this process's own memory: it came inside of a small message.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self.memory, Memory::Inline(_))
    }
}

impl<T: Pod> Clone for Block<T> {
    fn clone(&self) -> Self {
        Block {
            memory: self.memory.clone(),
            len: self.len,
            kind: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Shared(buffer) => buffer.elements(self.len),
            // `retyped` and `inline` have compared the alignment and the length.
            Memory::Inline(words) => {
                let bytes = words.as_bytes().get(..self.len * size_of::<T>());
                <[T]>::ref_from_bytes(bytes.unwrap_or_default()).unwrap_or_default()
            }
        }
    }
}

impl<T: Pod> TryFrom<&[T]> for Block<T> {
    type Error = FamilyError;

    /// Copies the elements, as [`from_slice`](Block::from_slice) does.
    fn try_from(elements: &[T]) -> Result<Self, FamilyError> {
        Self::from_slice(elements)
    }
}

impl<T: Pod> TryFrom<Vec<T>> for Block<T> {
    type Error = FamilyError;

    /// Copies the elements into family memory. There is no `From`: that memory can be exhausted, and a vector lies elsewhere.
    fn try_from(elements: Vec<T>) -> Result<Self, FamilyError> {
        Self::from_slice(&elements)
    }
}

impl<T: Pod> AsRef<[T]> for Block<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> fmt::Debug for Block<T> {
    /// Shows the length and no elements: there may be gigabytes of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: Pod + PartialEq> PartialEq for Block<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

fn try_clone(hold: &Hold) -> procession_core::Result<Hold> {
    hold.family.open(hold.offset, hold.generation, Kind::Buffer)
}

impl<T: Pod> Serialize for Block<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let custom = transit::refused;
        let BlockReference { hold, .. } = Family::home()
            .and_then(|home| self.reference_in(home))
            .map_err(custom)?;
        // The number of elements, the size of one element in bytes, the handle.
        let written = (self.len as u64, size_of::<T>() as u32, HandleBytes(hold.handle()));
        transit::register_in_transit(|| Ok(hold)).map_err(crate::transit::refused)?;
        serializer.serialize_newtype_struct(handed::NAME, &written)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Block<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handed::deserialize(deserializer, |value: Value| match value {
            Value::Array(array) => array.elements().map_err(|e| e.to_string()),
            Value::Bytes(bytes) => {
                let (len, rest) = (
                    bytes.len() / size_of::<T>().max(1),
                    bytes.len() % size_of::<T>().max(1),
                );
                let block = Block::<u8>::inline(&bytes).retyped(len).filter(|_| rest == 0);
                block.ok_or_else(|| format!("{} bytes are no whole number of elements", bytes.len()))
            }
            other => Err(format!("it is a {}, not an array", other.kind_name())),
        })
    }
}

/// A block as postcard writes it: the number of elements, the size of one element in bytes, the handle.
impl<T: Pod> handed::Written for Block<T> {
    type Form = (u64, u32, HandleBytes);

    fn from_form((len, element, HandleBytes(handle)): (u64, u32, HandleBytes)) -> Result<Self, String> {
        if element as usize != size_of::<T>() {
            return Err(format!(
                "the elements of the block have {element} bytes each, not {}",
                size_of::<T>()
            ));
        }
        from_hold(handle.open(Kind::Buffer).map_err(|e| e.to_string())?, len)
    }
}

fn from_hold<T: Pod>(hold: Hold, len: u64) -> Result<Block<T>, String> {
    let bytes = len.checked_mul(size_of::<T>() as u64);
    if bytes.is_none_or(|bytes| bytes > hold.room()) {
        return Err("the block is shorter than its handle says".into());
    }
    let buffer = FrozenBuffer::new(hold).ok_or("its memory is no buffer")?;
    Ok(Block {
        memory: Memory::Shared(Arc::new(buffer)),
        len: len as usize,
        kind: PhantomData,
    })
}

// --- as whole messages ---

/// A reference that goes out with a message, and the number of bytes that it stands for.
pub(crate) struct BlockReference {
    pub(crate) hold: Hold,
    pub(crate) len: u64,
}

/// Calls a macro with the element types that Python knows, and their names in numpy's array protocol.
macro_rules! with_elements {
    ($then:ident) => {
        $then!(
            u8 => "|u1", u16 => "<u2", u32 => "<u4", u64 => "<u8",
            i8 => "|i1", i16 => "<i2", i32 => "<i4", i64 => "<i8",
            f32 => "<f4", f64 => "<f8", [f32; 2] => "<c8", [f64; 2] => "<c16"
        );
    };
}
pub(crate) use with_elements;

macro_rules! numpy_types {
    ($($kind:ty => $name:literal),*) => {
        /// Returns the description and the memory of a value that is a block; None if the value is no block.
        pub(crate) fn as_message(
            value: &dyn Any,
            family: &'static Family,
        ) -> procession_core::Result<Option<(Vec<u8>, BlockReference)>> {
            $(if let Some(block) = value.downcast_ref::<Block<$kind>>() {
                let head = encoding::block::describe($name, &[block.len as u64]);
                return Ok(Some((head, block.reference_in(family)?)));
            })*
            Ok(None)
        }

        /// Returns the name of an element type; None if Python does not know it.
        pub(crate) fn typestr_of(kind: TypeId) -> Option<&'static str> {
            $(if kind == TypeId::of::<$kind>() {
                return Some($name);
            })*
            #[cfg(feature = "half")]
            if kind == TypeId::of::<half::f16>() {
                return Some("<f2");
            }
            None
        }
    };
}
with_elements!(numpy_types);
