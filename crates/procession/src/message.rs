//! Values as messages: how a value goes into a queue, and how it comes out at the other end.
//!
//! A value travels by serde and postcard. These types travel without a codec:
//!
//! | type | sent as | received as |
//! |---|---|---|
//! | `Vec<u8>` | its bytes | a copy |
//! | [`Block<T>`](crate::Block) | a reference to a buffer of family memory | a view of that buffer |
//! | [`Value`] | the format that Python writes and reads | a tree of values |
//!
//! Blocks and handles of shared objects *inside* of a value travel the same way: the message has references to them.

use crate::block::{self, Block};
use crate::error::{DecodeError, EncodeError, FamilyError};
use crate::transit::{self, Frame};
use crate::value::Value;
use procession_core::family::object::HEADER;
use procession_core::family::{Family, Hold};
use procession_core::message as encoding;
use procession_core::queue::layout::MOST_REFS;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::cell::Cell;

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
        if let Some(value) = any.downcast_ref::<Value>() {
            let frame = Frame::open();
            let encoding = value.encode(scratch).map_err(EncodeError::new::<T>)?;
            let refs = frame.take(family);
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
/// They are dropped after the value was decoded: the shared objects in it then have references of their own.
pub(crate) fn incoming<T: Message>(
    inline: &[u8],
    encoding: u32,
    big: Option<(Hold, usize)>,
    mut refs: Vec<Hold>,
) -> Result<T, DecodeError> {
    if TypeId::of::<T>() == TypeId::of::<Vec<u8>>() {
        return match encoding {
            encoding::BYTES | encoding::BYTEARRAY => Ok(is(match big {
                Some((hold, len)) => copied(&hold, len),
                None => inline.to_vec(),
            })),
            encoding::TREE | encoding::PICKLE => {
                let message = big.map(|(hold, len)| copied(&hold, len));
                bytes_of_python(message.as_deref().unwrap_or(inline), encoding)
                    .map(is)
                    .ok_or_else(|| unexpected::<T>(encoding))
            }
            other => Err(unexpected::<T>(other)),
        };
    }
    if TypeId::of::<T>() == TypeId::of::<Value>() {
        let bytes = big.map(|(hold, len)| copied(&hold, len));
        return Value::decode(bytes.as_deref().unwrap_or(inline), encoding)
            .map(is)
            .map_err(DecodeError::new::<T>);
    }
    if let Some(made) = block::decode::<T>(inline, encoding, big.as_ref(), &mut refs) {
        return made.map_err(DecodeError::new::<T>);
    }
    if encoding != encoding::POSTCARD {
        return Err(unexpected::<T>(encoding));
    }
    let value = match big {
        None => deserialized(inline),
        // Reads directly from family memory, so the contents are copied once, into the value.
        Some((hold, len)) => {
            deserialized(&Block::<u8>::from_buffer(hold, len).map_err(DecodeError::new::<T>)?)
        }
    };
    if !refs.is_empty() {
        drop(refs);
        transit::settle();
    }
    value
}

/// Returns the bytes of a Python `bytes` object; None if the message is another object. A small one travels as a tree.
pub(crate) fn bytes_of_python(message: &[u8], encoding: u32) -> Option<Vec<u8>> {
    match Value::decode(message, encoding) {
        Ok(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
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

pub(crate) fn copied(hold: &Hold, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    hold.family.copy_out(hold.offset + HEADER, len, &mut bytes);
    bytes
}

fn unexpected<T>(found: u32) -> DecodeError {
    DecodeError::new::<T>(match found {
        encoding::PICKLE | encoding::BUFFERS => {
            "it is a pickle; from Python send None, bool, int, float, str, bytes, tuple, list and dict, and receive them as \
             procession::Value"
        }
        encoding::TREE => "it is a Python object: receive it as procession::Value",
        encoding::BYTES | encoding::BYTEARRAY => "it is plain bytes: receive them as Vec<u8> or Block<u8>",
        encoding::BLOCK => "it is a block: receive it as procession::Block",
        encoding::POSTCARD => "it was put as a value of another type",
        _ => "it was written by another version of Procession",
    })
}
