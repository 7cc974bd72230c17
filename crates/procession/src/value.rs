//! Values that both Python and Rust write and read.

use crate::error::{DecodeError, EncodeError};
use crate::pickle;
use crate::shared_value::Shared;
use procession_core::message::{self as encoding, tag};
use serde::{Deserialize, Serialize};

/// A tree of Python's built-in types, for messages between Rust programs and Python programs.
///
/// A [`Queue<Value>`](crate::Queue) is the same object as a Python `Queue`. Any other object that Python sends (an
/// instance of a class, a set, an integer of more than 64 bits) is a [`DecodeError`] that says so.
///
/// ```
/// use procession::Value;
///
/// let value = Value::Tuple(vec![Value::from("seven"), Value::from(7), Value::from(vec![0.5, 1.5])]);
/// assert_eq!(value.as_slice().unwrap()[1].as_i64(), Some(7));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    #[default]
    None,
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(String),
    /// A `bytes`. A `bytearray` also arrives as this.
    Bytes(Vec<u8>),
    /// A `tuple`.
    Tuple(Vec<Value>),
    /// A `list`.
    List(Vec<Value>),
    /// A `dict`, as its pairs of keys and values in their order.
    Dict(Vec<(Value, Value)>),
    /// A shared object, which is the same object in Python.
    Shared(Shared),
}

impl Value {
    /// Returns the number, if this is an `int`.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, if this is a `float` or an `int`.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// Returns the text, if this is a `str`.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the elements, if this is a `tuple` or a `list`.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(values) | Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the value of a `str` key, if this is a `dict` that has the key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Dict(pairs) => pairs
                .iter()
                .find(|(k, _)| k.as_str() == Some(key))
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// Returns the shared object, if this is one.
    #[must_use]
    pub fn as_shared(&self) -> Option<&Shared> {
        match self {
            Value::Shared(shared) => Some(shared),
            _ => None,
        }
    }

    /// Encodes the value as bytes, which can be sent in any way and which Python reads by `procession.rust.from_bytes`.
    /// The shared objects in it stay alive as long as this process, because the bytes may be read at any later time.
    ///
    /// # Errors
    /// The value is nested more than 8 deep, or one of its parts has more than 255 elements.
    ///
    /// ```
    /// use procession::Value;
    ///
    /// let value = Value::from(vec![1i64, 2, 3]);
    /// assert_eq!(Value::from_bytes(&value.to_bytes()?)?, value);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.write(&mut out, 0).map_err(EncodeError::new::<Value>)?;
        Ok(out)
    }

    /// Decodes the bytes that `to_bytes` has made, here or in Python (`procession.rust.to_bytes`).
    ///
    /// Bytes of any origin do no harm. They take memory in proportion to their length. They can only name shared
    /// objects that the members of this program's family, or of a family that it has joined, could name as well.
    ///
    /// # Errors
    /// `to_bytes` has not made the bytes. Or a shared object in them is gone, or belongs to a program that is no
    /// relative of this one; for such a program there is [`from_bytes_of_relatives`](Value::from_bytes_of_relatives).
    pub fn from_bytes(bytes: &[u8]) -> Result<Value, DecodeError> {
        Value::tree(bytes, false).map_err(DecodeError::new::<Value>)
    }

    /// Decodes bytes from another program of this user that is as trusted as a relative. This process becomes
    /// a member of the family whose objects the bytes name. The members of that family can then write to this process's
    /// shared memory, and this process to theirs.
    ///
    /// # Errors
    /// `to_bytes` has not made the bytes. Or a shared object in them is gone, or cannot be reached.
    pub fn from_bytes_of_relatives(bytes: &[u8]) -> Result<Value, DecodeError> {
        Value::tree(bytes, true).map_err(DecodeError::new::<Value>)
    }

    /// Decodes a tree. `join`: whether it may name objects of a family of which this process is no member yet.
    fn tree(bytes: &[u8], join: bool) -> Result<Value, String> {
        let mut reader = Reader {
            bytes,
            seen: Vec::new(),
            budget: pickle::budget(bytes),
            join,
        };
        let value = reader.object(0)?;
        match reader.bytes {
            [] => Ok(value),
            _ => Err(MALFORMED.into()),
        }
    }

    /// Appends the encoded value to `out`. Returns the encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<u32, String> {
        if let Value::Bytes(bytes) = self {
            out.extend_from_slice(bytes);
            return Ok(encoding::BYTES);
        }
        let mut nodes = 0;
        if self.is_small(&mut nodes, 0) {
            self.write(out, 0)?;
            return Ok(encoding::TREE);
        }
        crate::pickle::write(self, out)?;
        Ok(encoding::PICKLE)
    }

    /// Decodes a message.
    pub(crate) fn decode(bytes: &[u8], encoding: u32) -> Result<Value, String> {
        match encoding {
            encoding::BYTES | encoding::BYTEARRAY => Ok(Value::Bytes(bytes.to_vec())),
            // This is a message of the family's own queue, or of a connection whose other side knows the key.
            encoding::TREE => Value::tree(bytes, true),
            encoding::PICKLE => crate::pickle::read(bytes),
            encoding::BUFFERS => Err("it is an object with arrays, which only Python can unpickle".into()),
            encoding::POSTCARD => Err("it was put by a Rust program as a value of another type".into()),
            encoding::BLOCK => Err("it is a block: receive it as procession::Block".into()),
            _ => Err("it was written by another version of Procession".into()),
        }
    }

    /// Returns whether the value can be written as a small tree.
    fn is_small(&self, nodes: &mut usize, depth: usize) -> bool {
        *nodes += 1;
        if *nodes > tag::MOST_NODES || depth > tag::DEEPEST {
            return false;
        }
        match self {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Shared(_) => true,
            Value::Str(text) => text.len() <= tag::MOST_BYTES,
            Value::Bytes(bytes) => bytes.len() <= tag::MOST_BYTES,
            Value::Tuple(values) | Value::List(values) => values.iter().all(|v| v.is_small(nodes, depth + 1)),
            Value::Dict(pairs) => pairs
                .iter()
                .all(|(k, v)| k.is_small(nodes, depth + 1) && v.is_small(nodes, depth + 1)),
        }
    }

    fn write(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
        if depth > tag::DEEPEST {
            return Err(format!("it is nested more than {} deep", tag::DEEPEST));
        }
        let run = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
            out.push(tag);
            let len = u32::try_from(bytes.len()).map_err(|_| "a string of more than 4 GiB")?;
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(bytes);
            Ok::<_, String>(())
        };
        let head = |out: &mut Vec<u8>, tag: u8, len: usize| {
            out.extend_from_slice(&[tag, u8::try_from(len).map_err(|_| "more than 255 elements")?]);
            Ok::<_, String>(())
        };
        match self {
            Value::None => out.push(tag::NONE),
            Value::Bool(true) => out.push(tag::TRUE),
            Value::Bool(false) => out.push(tag::FALSE),
            Value::Int(value) => {
                out.push(tag::INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Value::Float(value) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Value::Str(text) => run(out, tag::STR, text.as_bytes())?,
            Value::Bytes(bytes) => run(out, tag::BYTES, bytes)?,
            Value::Tuple(values) => {
                head(out, tag::TUPLE, values.len())?;
                values.iter().try_for_each(|v| v.write(out, depth + 1))?;
            }
            Value::List(values) => {
                head(out, tag::LIST, values.len())?;
                values.iter().try_for_each(|v| v.write(out, depth + 1))?;
            }
            Value::Dict(pairs) => {
                head(out, tag::DICT, pairs.len())?;
                for (key, value) in pairs {
                    key.write(out, depth + 1)?;
                    value.write(out, depth + 1)?;
                }
            }
            Value::Shared(shared) => {
                let (kind, bytes) = shared.encode_handle()?;
                out.push(tag::SHARED);
                run(out, kind, &bytes)?;
            }
        }
        Ok(())
    }
}

const MALFORMED: &str = "it is malformed: it was not written by this version of Procession";

struct Reader<'a> {
    bytes: &'a [u8],
    /// The objects that may be referred to again, in the order in which they ended.
    seen: Vec<Value>,
    /// How many bytes may still be copied for repeated references.
    budget: usize,
    join: bool,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn run(&mut self) -> Result<&[u8], String> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (run, rest) = self.bytes.split_at_checked(len).ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(run)
    }

    fn many(&mut self, depth: usize) -> Result<Vec<Value>, String> {
        let [len] = self.take()?;
        (0..len).map(|_| self.object(depth + 1)).collect()
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        if depth > tag::DEEPEST {
            return Err(MALFORMED.into());
        }
        let [kind] = self.take()?;
        let value = match kind {
            tag::NONE => return Ok(Value::None),
            tag::TRUE => return Ok(Value::Bool(true)),
            tag::FALSE => return Ok(Value::Bool(false)),
            tag::INT => return Ok(Value::Int(i64::from_le_bytes(self.take()?))),
            tag::FLOAT => return Ok(Value::Float(f64::from_le_bytes(self.take()?))),
            tag::AGAIN => {
                let [number] = self.take()?;
                let seen = self.seen.get(usize::from(number)).ok_or(MALFORMED)?;
                pickle::spend(&mut self.budget, seen)?;
                return Ok(seen.clone());
            }
            tag::STR => Value::Str(String::from_utf8(self.run()?.to_vec()).map_err(|_| MALFORMED)?),
            tag::BYTES => Value::Bytes(self.run()?.to_vec()),
            tag::TUPLE => Value::Tuple(self.many(depth)?),
            tag::LIST => Value::List(self.many(depth)?),
            tag::DICT => {
                let [len] = self.take()?;
                let pairs = (0..len).map(|_| Ok((self.object(depth + 1)?, self.object(depth + 1)?)));
                Value::Dict(pairs.collect::<Result<_, String>>()?)
            }
            tag::SHARED => {
                let [kind] = self.take()?;
                let join = self.join;
                return Shared::arrived(kind, self.run()?, join).map(Value::Shared);
            }
            tag::INSTANCE => return Err("it is an instance of a Python class; send a dict instead".into()),
            _ => return Err(MALFORMED.into()),
        };
        self.seen.push(value.clone());
        Ok(value)
    }
}

macro_rules! from_types {
    ($($kind:ty => $make:expr),* $(,)?) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Value {
                $make(value)
            }
        }
    )*};
}
from_types!(
    bool => Value::Bool,
    i64 => Value::Int,
    i32 => |v| Value::Int(i64::from(v)),
    u32 => |v| Value::Int(i64::from(v)),
    u8 => |v| Value::Int(i64::from(v)),
    f64 => Value::Float,
    f32 => |v| Value::Float(f64::from(v)),
    String => Value::Str,
    &str => |v: &str| Value::Str(v.to_owned()),
    () => |()| Value::None,
);

impl<T: Into<Value>> From<Vec<T>> for Value {
    /// Makes a list. For bytes, use `Value::Bytes`.
    fn from(values: Vec<T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::None, Into::into)
    }
}
