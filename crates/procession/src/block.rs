//! Blocks: plain old data in family memory that is written once, sent without being copied, and read in place.

use crate::error::FamilyError;
use crate::memory::{self, Pod};
use crate::transit::{self, Named};
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

/// Plain old data in family memory, unchangeable and shared: a slice that any number of processes read in place.
///
/// To send a block through a queue, alone or inside any other value, is to send a handle: the data is not copied, however
/// long it is, and the receiver's block *is* the sender's. It goes back to the family when the last process lets go of it
/// or dies.
///
/// From Python a queue of blocks delivers numpy arrays (or memoryviews, where there is no numpy) of the same memory.
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
    Shared(Arc<Hold>),
    /// It came inside a small message. Bytes only, which need no alignment.
    Inline(Arc<[u8]>),
}

/// Plain old data in family memory that this process alone knows of, and writes to, until it is frozen into a [`Block`].
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
    hold: Hold,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> BlockMut<T> {
    /// A block of so many zeros.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn zeroed(len: usize) -> Result<Self, FamilyError> {
        let mut made = Self::recycled(len)?;
        made.as_mut_bytes().fill(0);
        Ok(made)
    }

    /// A block with a copy of these elements.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        let mut made = Self::recycled(elements.len())?;
        made.copy_from_slice(elements);
        Ok(made)
    }

    /// A block with whatever somebody has left there.
    fn recycled(len: usize) -> Result<Self, FamilyError> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let hold = Family::home()?.empty_buffer(bytes)?;
        Ok(BlockMut {
            hold,
            len,
            kind: PhantomData,
        })
    }

    /// From now on it is not written to any more, and can be sent.
    #[must_use]
    pub fn freeze(self) -> Block<T> {
        Block {
            memory: Memory::Shared(Arc::new(self.hold)),
            len: self.len,
            kind: PhantomData,
        }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        memory::own_buffer(&mut self.hold, self.len * size_of::<T>())
    }
}

impl<T: Pod> Deref for BlockMut<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        memory::buffer(&self.hold, self.len)
    }
}

impl<T: Pod> DerefMut for BlockMut<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        memory::own_buffer(&mut self.hold, self.len)
    }
}

impl<T: Pod> fmt::Debug for BlockMut<T> {
    /// Its length: it may be gigabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockMut")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: Pod> Block<T> {
    /// A block with a copy of these elements.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn from_slice(elements: &[T]) -> Result<Self, FamilyError> {
        Ok(BlockMut::from_slice(elements)?.freeze())
    }

    /// The block to write to, if nobody else has it: no other `Block` here, no other process, no message. Otherwise the
    /// block as it is, to be copied.
    ///
    /// # Errors
    /// The block is in use elsewhere, or came inside a small message.
    pub fn try_into_mut(self) -> Result<BlockMut<T>, Self> {
        let Block { memory, len, kind } = self;
        let back = |memory| Block { memory, len, kind };
        match memory {
            Memory::Shared(hold) => match Arc::try_unwrap(hold) {
                // With one reference in all of the family, and that one here, only a handle that was written down could
                // make another; and none is good any more.
                Ok(mut hold) => match hold.make_sole() {
                    true => Ok(BlockMut { hold, len, kind }),
                    false => Err(back(Memory::Shared(Arc::new(hold)))),
                },
                Err(shared) => Err(back(Memory::Shared(shared))),
            },
            inline => Err(back(inline)),
        }
    }

    /// Another reference to the memory, and how many bytes of it are meant.
    fn departing(&self, family: &'static Family) -> procession_core::Result<Departing> {
        let len = (self.len * size_of::<T>()) as u64;
        let hold = match &self.memory {
            Memory::Shared(hold) if std::ptr::eq(hold.family, family) => again(hold)?,
            Memory::Shared(hold) => family.buffer(memory::buffer(hold, len as usize))?,
            Memory::Inline(bytes) => family.buffer(bytes)?,
        };
        Ok(Departing { hold, len })
    }
}

impl Block<u8> {
    pub(crate) fn of_buffer(hold: Hold, len: usize) -> Self {
        Block {
            memory: Memory::Shared(Arc::new(hold)),
            len,
            kind: PhantomData,
        }
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
            Memory::Shared(hold) => memory::buffer(hold, self.len),
            // Only made for types without alignment, and of a whole number of them.
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
    /// Its length: it may be gigabytes.
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

fn again(hold: &Hold) -> procession_core::Result<Hold> {
    hold.family.open(hold.offset, hold.generation, Kind::Buffer)
}

impl<T: Pod> Serialize for Block<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let custom = transit::refused;
        let Departing { hold, .. } = Family::home()
            .and_then(|home| self.departing(home))
            .map_err(custom)?;
        // The number of elements, the size of one, the handle.
        let written = (self.len as u64, size_of::<T>() as u32, Named(hold.handle()));
        transit::departs(|| Ok(hold)).map_err(crate::transit::refused)?;
        written.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Block<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (len, element, Named(handle)) = <(u64, u32, Named)>::deserialize(deserializer)?;
        if element as usize != size_of::<T>() {
            return Err(crate::transit::unread(format!(
                "a block of elements of {element} bytes, not of {}",
                size_of::<T>()
            )));
        }
        let hold = handle.open(Kind::Buffer).map_err(crate::transit::unread)?;
        of_hold(hold, len).map_err(crate::transit::unread)
    }
}

fn of_hold<T: Pod>(hold: Hold, len: u64) -> Result<Block<T>, String> {
    let bytes = len.checked_mul(size_of::<T>() as u64);
    if bytes.is_none_or(|bytes| bytes > hold.room()) {
        return Err("a block is not as long as its handle says".into());
    }
    Ok(Block {
        memory: Memory::Shared(Arc::new(hold)),
        len: len as usize,
        kind: PhantomData,
    })
}

// --- as whole messages ---

/// A reference on its way, and how many bytes it is about.
pub(crate) struct Departing {
    pub(crate) hold: Hold,
    pub(crate) len: u64,
}

/// Element types that Python knows, as numpy's array protocol writes them.
macro_rules! known {
    ($($kind:ty => $name:literal),*) => {
        /// What a message says of a value that is a block; None if it is none.
        pub(crate) fn as_message(
            value: &dyn Any,
            family: &'static Family,
        ) -> procession_core::Result<Option<(Vec<u8>, Departing)>> {
            $(if let Some(block) = value.downcast_ref::<Block<$kind>>() {
                let head = encoding::block::describe($name, &[block.len as u64]);
                return Ok(Some((head, block.departing(family)?)));
            })*
            Ok(None)
        }

        /// The block that a message is, if T is one.
        pub(crate) fn of_message<T: 'static>(
            inline: &[u8],
            encoding: u32,
            big: Option<&(Hold, usize)>,
            carried: &mut Vec<Hold>,
        ) -> Option<Result<T, String>> {
            $(if TypeId::of::<T>() == TypeId::of::<Block<$kind>>() {
                return Some(received::<$kind>($name, inline, encoding, big, carried).and_then(|block| {
                    let mut block = Some(block);
                    let same = (&mut block as &mut dyn Any).downcast_mut::<Option<T>>();
                    same.and_then(Option::take).ok_or_else(|| "of another type".into())
                }));
            })*
            None
        }
    };
}
known!(
    u8 => "|u1", u16 => "<u2", u32 => "<u4", u64 => "<u8",
    i8 => "|i1", i16 => "<i2", i32 => "<i4", i64 => "<i8",
    f32 => "<f4", f64 => "<f8"
);

fn received<T: Pod>(
    name: &str,
    inline: &[u8],
    encoding: u32,
    big: Option<&(Hold, usize)>,
    carried: &mut Vec<Hold>,
) -> Result<Block<T>, String> {
    match encoding {
        // Plain bytes, from Python or from a `Vec<u8>`.
        encoding::BYTES | encoding::BYTEARRAY if size_of::<T>() == 1 => match big {
            Some((hold, len)) => of_hold(again(hold).map_err(|e| e.to_string())?, *len as u64),
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
                return Err(format!("a block of {found}, not of {name}"));
            }
            let len = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
            let hold = carried.pop().ok_or("a block without its memory")?;
            of_hold(hold, len.ok_or("a block longer than any memory")?)
        }
        encoding::POSTCARD => Err("it was put as a value of another type".into()),
        _ => Err("it is a Python object: receive it as procession::Value".into()),
    }
}
