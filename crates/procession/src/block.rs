//! Blocks: plain old data in family memory that is written once, sent without being copied, and read in place.

use crate::error::FamilyError;
use crate::memory::{FrozenBuffer, OwnBuffer, Pod};
use crate::transit::{self, HandleBytes};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold};
use procession_core::message as encoding;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use zerocopy::FromBytes;

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
    /// The bytes of a small message, which came in the message itself. Bytes need no alignment.
    Inline(Arc<[u8]>),
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
            Memory::Inline(bytes) => family.buffer(bytes)?,
        };
        Ok(BlockReference { hold, len })
    }
}

impl Block<u8> {
    /// Takes over a reference to a buffer of at least `len` bytes.
    pub(crate) fn from_buffer(hold: Hold, len: usize) -> Result<Self, String> {
        from_hold(hold, len as u64)
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
            // Inline blocks are only made for types without alignment, and have a whole number of elements.
            Memory::Inline(bytes) => <[T]>::ref_from_bytes(bytes).unwrap_or_default(),
        }
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
        written.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Block<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (len, element, HandleBytes(handle)) = <(u64, u32, HandleBytes)>::deserialize(deserializer)?;
        if element as usize != size_of::<T>() {
            return Err(crate::transit::unread(format!(
                "the elements of the block have {element} bytes each, not {}",
                size_of::<T>()
            )));
        }
        let hold = handle.open(Kind::Buffer).map_err(crate::transit::unread)?;
        from_hold(hold, len).map_err(crate::transit::unread)
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

/// The element types that Python knows, with their names in numpy's array protocol.
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

        /// Returns the block that a message stands for; None if T is not a block.
        pub(crate) fn decode<T: 'static>(
            inline: &[u8],
            encoding: u32,
            big: Option<&(Hold, usize)>,
            refs: &mut Vec<Hold>,
        ) -> Option<Result<T, String>> {
            $(if TypeId::of::<T>() == TypeId::of::<Block<$kind>>() {
                return Some(from_message::<$kind>($name, inline, encoding, big, refs).and_then(|block| {
                    let mut block = Some(block);
                    let same = (&mut block as &mut dyn Any).downcast_mut::<Option<T>>();
                    same.and_then(Option::take).ok_or_else(|| "of another type".into())
                }));
            })*
            None
        }
    };
}
numpy_types!(
    u8 => "|u1", u16 => "<u2", u32 => "<u4", u64 => "<u8",
    i8 => "|i1", i16 => "<i2", i32 => "<i4", i64 => "<i8",
    f32 => "<f4", f64 => "<f8"
);

fn from_message<T: Pod>(
    name: &str,
    inline: &[u8],
    encoding: u32,
    big: Option<&(Hold, usize)>,
    refs: &mut Vec<Hold>,
) -> Result<Block<T>, String> {
    match encoding {
        // Plain bytes, from Python or from a `Vec<u8>`.
        encoding::BYTES | encoding::BYTEARRAY if size_of::<T>() == 1 => match big {
            Some((hold, len)) => from_hold(try_clone(hold).map_err(|e| e.to_string())?, *len as u64),
            None => Ok(Block {
                memory: Memory::Inline(inline.into()),
                len: inline.len(),
                kind: PhantomData,
            }),
        },
        encoding::TREE | encoding::PICKLE if size_of::<T>() == 1 => {
            let message = big.map(|(hold, len)| crate::message::copied(hold, *len));
            let bytes = crate::message::bytes_of_python(message.as_deref().unwrap_or(inline), encoding);
            let bytes = bytes.ok_or("it is a Python object: receive it as procession::Value")?;
            Ok(Block {
                len: bytes.len(),
                memory: Memory::Inline(bytes.into()),
                kind: PhantomData,
            })
        }
        encoding::BLOCK => {
            let (found, shape) = encoding::block::read(inline).ok_or("its description is malformed")?;
            if found != name {
                return Err(format!("the elements of the block are {found}, not {name}"));
            }
            let len = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
            let hold = refs.pop().ok_or("the block came without its memory")?;
            from_hold(hold, len.ok_or("the block is longer than any memory")?)
        }
        encoding::POSTCARD => Err("it was put as a value of another type".into()),
        _ => Err("it is a Python object: receive it as procession::Value".into()),
    }
}
