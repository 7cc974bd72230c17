//! Values as messages: how a value goes into a queue, and how it comes out at the other end.
//!
//! A value travels by serde and postcard. These types travel without a codec:
//!
//! | type | sent as | received as |
//! |---|---|---|
//! | `Vec<u8>` | its bytes | a copy |
//! | [`Block<T>`](crate::Block) | a reference to a buffer of family memory | a view of that buffer |
//! | [`Value`], [`Array`] | the format that Python writes and reads | a tree of values, in which arrays are views of buffers |
//!
//! What Python has sent is decoded as a [`Value`] first. If the type is another one, serde makes it of the value (`typed.rs`).
//!
//! Blocks and handles of shared objects *inside* of a value travel the same way: the message has references to them.

use crate::array::Array;
use crate::block::{self, Block};
use crate::error::{DecodeError, EncodeError, FamilyError};
use crate::known_classes::array_of_code;
use crate::numbers;
use crate::pickle;
use crate::transit::{self, Frame};
use crate::typed;
use crate::unpickled::{self, Refusal};
use crate::value::Value;
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold};
use procession_core::message as encoding;
use procession_core::message::buffers::{Head, WAS_READ_ONLY};
use procession_core::process::Fetched;
use procession_core::queue::layout::MOST_REFS;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// A type that can be sent as a message: one that serde can write and read, without borrowing.
///
/// The trait is implemented for all such types. Derive serde's traits, and nothing else is needed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "not a message",
    note = "derive serde's `Serialize` and `Deserialize` for it; borrowed data (`&str`, `&[T]`) has to be owned (`String`, `Vec<T>`)",
    note = "an error type without serde, such as `anyhow::Error`, is sent as its text: `map_err(|e| e.to_string())`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Message for T {}

/// An encoded value, borrowed while it is being sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) encoding: u32,
    pub(crate) refs: Vec<Hold>,
    /// The number of bytes in those buffers of `refs` that are part of the message.
    pub(crate) oob_bytes: u64,
}

/// An encoded value that is kept until it is sent.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) encoding: u32,
    pub(crate) refs: Vec<Hold>,
    pub(crate) oob_bytes: u64,
}

impl Encoded {
    /// Makes a message without references of bytes in postcard's format.
    pub(crate) fn report(bytes: Vec<u8>) -> Encoded {
        Encoded {
            bytes,
            encoding: encoding::POSTCARD,
            refs: Vec::new(),
            oob_bytes: 0,
        }
    }

    /// Encodes a value as a message of a queue.
    pub(crate) fn of<T: Message>(
        family: &'static Family,
        value: &T,
    ) -> Result<Encoded, crate::error::PutError> {
        outgoing(family, value, |message| {
            Ok(Encoded {
                bytes: message.bytes.to_vec(),
                encoding: message.encoding,
                refs: message.refs,
                oob_bytes: message.oob_bytes,
            })
        })
    }

    /// Like [`Encoded::of`], with the error as a text.
    pub(crate) fn as_message<T: Message>(family: &'static Family, value: &T) -> Result<Encoded, String> {
        Encoded::of(family, value).map_err(|e| e.to_string())
    }

    /// Encodes a value in postcard's format, whatever its type.
    pub(crate) fn plainly<T: Message>(family: &'static Family, value: &T) -> Result<Encoded, String> {
        let mut bytes = Vec::new();
        let refs = serialized(family, value, &mut bytes).map_err(|e| e.to_string())?;
        Ok(Encoded {
            bytes,
            encoding: encoding::POSTCARD,
            refs,
            oob_bytes: 0,
        })
    }
}

/// The capacity, in bytes, of the largest scratch vector that a thread keeps.
const MUCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with an empty vector, whose memory this thread uses again and again.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let answer = work(&mut scratch);
    if scratch.capacity() <= MUCH {
        SCRATCH.set(scratch);
    }
    answer
}

/// Encodes a value for a queue of this family, and calls `send` with the result.
pub(crate) fn outgoing<T: Message, R, E: From<EncodeError> + From<FamilyError>>(
    family: &'static Family,
    value: &T,
    send: impl FnOnce(Outgoing<'_>) -> Result<R, E>,
) -> Result<R, E> {
    let any = value as &dyn Any;
    if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        return send(plain(bytes, encoding::BYTES));
    }
    with_scratch(|scratch| {
        let array = any.downcast_ref::<Array>().cloned().map(Value::Array);
        if let Some(value) = array.as_ref().or_else(|| any.downcast_ref::<Value>()) {
            if let Value::Bytes(bytes) = value {
                return send(plain(bytes, encoding::BYTES));
            }
            let frame = Frame::open();
            let encoding = python_message(value, scratch).map_err(EncodeError::new::<T>)?;
            let mut refs = frame.take(family);
            if refs.len() >= MOST_REFS {
                refs = vec![family.bundle(refs).map_err(FamilyError)?];
            }
            return send(Outgoing {
                refs,
                ..plain(scratch, encoding)
            });
        }
        if let Some((head, hold)) = block::as_message(any, family).map_err(FamilyError)? {
            let oob_bytes = hold.len;
            return send(Outgoing {
                bytes: &head,
                encoding: encoding::BLOCK,
                refs: vec![hold.hold],
                oob_bytes,
            });
        }
        let mut refs = serialized(family, value, scratch)?;
        if refs.len() >= MOST_REFS {
            refs = vec![family.bundle(refs).map_err(FamilyError)?];
        }
        let oob_bytes = 0;
        send(Outgoing {
            bytes: scratch,
            encoding: encoding::POSTCARD,
            refs,
            oob_bytes,
        })
    })
}

/// Appends a value as Python reads it. Returns the encoding.
fn python_message(value: &Value, out: &mut Vec<u8>) -> Result<u32, String> {
    if value.is_small(&mut 0, 0) {
        value.write(out, 0)?;
        return Ok(encoding::TREE);
    }
    pickle::write(value, pickle::Memory::Shared, out)?;
    Ok(encoding::PICKLE)
}

fn plain(bytes: &[u8], encoding: u32) -> Outgoing<'_> {
    Outgoing {
        bytes,
        encoding,
        refs: Vec::new(),
        oob_bytes: 0,
    }
}

/// Appends the encoded value to `out`. Returns the references to the shared objects in it.
pub(crate) fn serialized<T: Serialize>(
    family: &'static Family,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<Vec<Hold>, EncodeError> {
    let frame = Frame::open();
    write(value, out)?;
    Ok(frame.take(family))
}

/// Appends an encoded value without shared objects to `out`.
pub(crate) fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    transit::begin();
    postcard::serialize_with_flavor(value, Appending(out))
        .map_err(|e| EncodeError::new::<T>(transit::explained(&e)))
}

/// Decodes a value, which must take all of the bytes.
pub(crate) fn deserialized<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    transit::begin();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError::new::<T>(format!(
            "{} bytes are left over",
            rest.len()
        ))),
        Err(e) => Err(DecodeError::new::<T>(transit::explained(&e))),
    }
}

/// Decodes a value that borrows from the bytes.
pub(crate) fn deserialized_borrowed<'a, T: serde::Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(DecodeError::new::<T>)
}

/// Makes postcard append to a vector.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes a message. Its bytes are `inline`, or the first bytes of the buffer `big`. `refs` are the message's references.
/// They are dropped after the value was decoded: the shared objects in it then have references of their own. If the message is
/// no `T`, the error keeps the message.
pub(crate) fn incoming<T: Message>(
    inline: &[u8],
    encoding: u32,
    big: Option<(Hold, usize)>,
    refs: Vec<Hold>,
) -> Result<T, DecodeError> {
    // These two are what most messages are.
    if big.is_none() && encoding == encoding::POSTCARD && !is_python::<T>() {
        return match deserialized(inline) {
            Ok(value) => {
                if !refs.is_empty() {
                    drop(refs);
                    transit::settle();
                }
                Ok(value)
            }
            Err(error) => Err(error.with(inline.to_vec(), Mutex::new(Raw::new(encoding, refs)))),
        };
    }
    if big.is_none() && encoding == encoding::BYTES && TypeId::of::<T>() == TypeId::of::<Vec<u8>>() {
        return Ok(is(inline.to_vec()));
    }
    let block = match big {
        Some((hold, len)) => Some(Block::<u8>::from_buffer(hold, len).map_err(DecodeError::new::<T>)?),
        None => None,
    };
    let bytes = block.as_deref().unwrap_or(inline);
    let mut raw = Raw::new(encoding, refs);
    let made = decode::<T>(bytes, block.as_ref(), &mut raw);
    raw.fetched = transit::take_fetched();
    match made {
        Ok(value) => Ok(value),
        Err(Refusal { why, class }) => {
            Err(DecodeError::of_class::<T>(why, class).with(bytes.to_vec(), Mutex::new(raw)))
        }
    }
}

/// Returns whether a type is one that Rust never sends in postcard's format.
fn is_python<T: 'static>() -> bool {
    let kind = TypeId::of::<T>();
    kind == TypeId::of::<Value>() || kind == TypeId::of::<Array>() || kind == TypeId::of::<Vec<u8>>()
}

/// Decodes the bytes of a message. `block` is the memory in which they lie, if that is family memory.
fn decode<T: Message>(bytes: &[u8], block: Option<&Block<u8>>, raw: &mut Raw) -> Result<T, Refusal> {
    match raw.encoding {
        encoding::POSTCARD if is_python::<T>() => {
            Err("it was put by a Rust program as a value of another type".into())
        }
        encoding::POSTCARD => deserialized(bytes).map_err(|e| e.reason().into()),
        encoding::BYTES | encoding::BYTEARRAY if TypeId::of::<T>() == TypeId::of::<Vec<u8>>() => {
            Ok(is(bytes.to_vec()))
        }
        // Bytes are a block of bytes, in place.
        encoding::BYTES | encoding::BYTEARRAY if TypeId::of::<T>() == TypeId::of::<Block<u8>>() => {
            Ok(is(block.cloned().unwrap_or_else(|| Block::inline(bytes))))
        }
        _ => {
            let value = python_value(bytes, raw)?;
            if TypeId::of::<T>() == TypeId::of::<Value>() {
                return Ok(is(value));
            }
            match value {
                Value::Bytes(bytes) if TypeId::of::<T>() == TypeId::of::<Vec<u8>>() => Ok(is(bytes)),
                other => {
                    let beside: usize = raw.buffers.iter().map(|buffer| buffer.len()).sum();
                    typed::from_value(other, bytes.len().saturating_add(beside)).map_err(Refusal::from)
                }
            }
        }
    }
}

/// Decodes a message that Python has written, or that Python could have written.
fn python_value(bytes: &[u8], raw: &mut Raw) -> Result<Value, Refusal> {
    match raw.encoding {
        encoding::BYTES | encoding::BYTEARRAY => Ok(Value::Bytes(bytes.to_vec())),
        // This is a message of the family's own queue, or of a connection whose other side knows the key.
        encoding::TREE => Ok(Value::tree(bytes, true)?),
        encoding::PICKLE => unpickled::read(bytes, &[]),
        encoding::BUFFERS => {
            let (head, used) = Head::read(bytes).ok_or(MALFORMED)?;
            raw.take_buffers(&head)?;
            unpickled::read(&bytes[used..], &raw.buffers)
        }
        encoding::ARRAY => {
            let (code, items) = bytes.split_first().ok_or(MALFORMED)?;
            Ok(Value::Array(array_of_code(*code, Block::inline(items))?))
        }
        encoding::NUMBERS => Ok(numbers::read(bytes).ok_or(MALFORMED)?),
        encoding::BLOCK => {
            let (typestr, shape) = encoding::block::read(bytes).ok_or("its description is malformed")?;
            if raw.buffers.is_empty() {
                let hold = raw.refs.pop().ok_or("the block came without its memory")?;
                let room = hold.room() as usize;
                raw.buffers.push(Block::from_buffer(hold, room)?);
            }
            let shape = shape.into_iter().map(|n| n as usize).collect();
            let block = raw.buffers[0].clone();
            Ok(Value::Array(Array::arrived(typestr, shape, false, block)?))
        }
        _ => Err(MALFORMED.into()),
    }
}

const MALFORMED: &str = "it was written by another version of Procession";

impl DecodeError {
    /// Decodes the message as another type, for example as a [`Value`]. The message stays in the error.
    ///
    /// # Errors
    /// The message is no `T`. Or the error has no message: it is about bytes that the caller has.
    pub fn decode<T: Message>(&self) -> Result<T, DecodeError> {
        let rest = self.rest().and_then(|rest| rest.downcast_ref::<Mutex<Raw>>());
        let rest = rest.ok_or_else(|| DecodeError::new::<T>("the error is not about a message"))?;
        let mut raw = rest.lock().unwrap_or_else(PoisonError::into_inner);
        decode(self.bytes(), None, &mut raw)
            .map_err(|Refusal { why, class }| DecodeError::of_class::<T>(why, class))
    }
}

/// What came with a message that could not be decoded.
#[derive(Debug)]
struct Raw {
    encoding: u32,
    refs: Vec<Hold>,
    /// The buffers of the message, once they were taken from `refs`.
    buffers: Vec<Block<u8>>,
    /// The descriptors that were decoded.
    fetched: Vec<Fetched>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.refs.clear();
        self.fetched.drain(..).for_each(Fetched::settle);
    }
}

impl Raw {
    fn new(encoding: u32, refs: Vec<Hold>) -> Raw {
        Raw {
            encoding,
            refs,
            buffers: Vec::new(),
            fetched: transit::take_fetched(),
        }
    }

    /// Takes the buffers that the head describes from the references.
    fn take_buffers(&mut self, head: &Head) -> Result<(), Refusal> {
        if !self.buffers.is_empty() {
            return Ok(());
        }
        let count = head.lengths.len();
        let holds = match &head.places {
            // The references are in a bundle, which stays: it keeps the shared objects of the message.
            Some(places) => {
                let bundle = self.refs.first().ok_or(MALFORMED)?;
                let open = |(offset, generation): &(u64, u32)| {
                    bundle.family.open(*offset, *generation, Kind::Buffer)
                };
                places
                    .iter()
                    .map(open)
                    .collect::<Result<_, _>>()
                    .map_err(|e| e.to_string())?
            }
            None if count <= self.refs.len() => {
                let rest = self.refs.split_off(count);
                std::mem::replace(&mut self.refs, rest)
            }
            None => return Err(MALFORMED.into()),
        };
        // Python has made the buffers for this message, so no process writes to them.
        let buffers = holds.into_iter().zip(&head.lengths).map(|(hold, len)| {
            let len = (len & !WAS_READ_ONLY) as usize;
            Ok(Block::from_buffer(hold, len)?)
        });
        self.buffers = buffers.collect::<Result<_, Refusal>>()?;
        Ok(())
    }
}

/// Returns a value whose type was found to be T.
fn is<T: 'static, V: 'static>(value: V) -> T {
    let mut value = Some(value);
    let same = (&mut value as &mut dyn Any).downcast_mut::<Option<T>>();
    match same.and_then(Option::take) {
        Some(value) => value,
        None => unreachable!("the types were compared"),
    }
}
