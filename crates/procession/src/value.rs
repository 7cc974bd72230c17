//! Values that both Python and Rust write and read.

use crate::array::Array;
use crate::big_int::BigInt;
use crate::calendar::{Date, DateTime, Time, TimeDelta};
use crate::error::{DecodeError, EncodeError};
use crate::instance::Instance;
use crate::shared_value::Shared;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A value of Python, for messages between Rust programs and Python programs.
///
/// A [`Queue<Value>`](crate::Queue) is the same object as a Python `Queue`. The built-in types, the common types of the
/// standard library and numpy's arrays and scalars have variants of their own. An instance of any other class is an
/// [`Instance`]. What is no value (a class or a function, an object that contains itself) is a [`DecodeError`], which names
/// the class and has the bytes of the message.
///
/// A queue of another type receives the same objects by serde, if the type's `Deserialize` accepts them: a
/// `Queue<Point>` takes a dict or a dataclass with the fields of `Point`, and a `Queue<Vec<f64>>` an array.
///
/// ```
/// use procession::Value;
///
/// let value = Value::Tuple(vec![Value::from("seven"), Value::from(7), Value::from(vec![0.5, 1.5])]);
/// assert_eq!(value.as_slice().unwrap()[1].as_i64(), Some(7));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    #[default]
    None,
    /// A `bool`, or numpy's.
    Bool(bool),
    /// An `int`, or an integer of numpy.
    Int(i64),
    /// A `float`, or a float of numpy of up to 64 bits.
    Float(f64),
    /// A `str`, or numpy's.
    Str(String),
    /// A `bytes`, or numpy's. A `bytearray` also arrives as this.
    Bytes(Vec<u8>),
    /// A `tuple`.
    Tuple(Vec<Value>),
    /// A `list`. A `collections.deque` also arrives as this.
    List(Vec<Value>),
    /// A `dict`, as its pairs of keys and values in their order. An `OrderedDict`, `defaultdict` or `Counter` also arrives
    /// as this.
    Dict(Vec<(Value, Value)>),
    /// A shared object, which is the same object in Python.
    Shared(Shared),
    /// An `int` that does not fit into an `i64`.
    BigInt(BigInt),
    /// A `complex`, or numpy's.
    Complex {
        /// The real part.
        re: f64,
        /// The imaginary part.
        im: f64,
    },
    /// A `set`, in any order.
    Set(Vec<Value>),
    /// A `frozenset`, in any order.
    FrozenSet(Vec<Value>),
    /// A numpy array, or an `array.array`. A numpy scalar that no other variant can hold arrives as an array without
    /// dimensions.
    Array(Array),
    /// A `datetime.date`.
    Date(Date),
    /// A `datetime.time`.
    Time(Time),
    /// A `datetime.datetime`.
    DateTime(DateTime),
    /// A `datetime.timedelta`.
    TimeDelta(TimeDelta),
    /// A `pathlib.Path` or `PurePosixPath`. It becomes a `pathlib.Path`.
    Path(PathBuf),
    /// A `decimal.Decimal`, as its digits.
    Decimal(String),
    /// A `uuid.UUID`: its bytes, the most significant one first.
    Uuid([u8; 16]),
    /// A `range`.
    Range(Range),
    /// An instance of another class.
    Instance(Instance),
}

/// A Python `range`: the numbers from `start` on, before `stop`, in steps of `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The first number.
    pub start: i64,
    /// The number before which the range ends.
    pub stop: i64,
    /// The distance of the numbers. It may be negative, and is not 0.
    pub step: i64,
}

impl Value {
    /// Returns the bool, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, if this is an `int` of at most 64 bits, or a member of an `Enum` with such a value.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Instance(instance) => instance.single()?.as_i64(),
            _ => None,
        }
    }

    /// Returns the number, if this is an `int` of at most 128 bits.
    #[must_use]
    pub fn as_i128(&self) -> Option<i128> {
        match self {
            Value::BigInt(value) => i128::try_from(value).ok(),
            other => other.as_i64().map(i128::from),
        }
    }

    /// Returns the number, if this is a `float` or an `int`.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            Value::BigInt(value) => Some(value.to_f64()),
            Value::Instance(instance) => instance.single()?.as_f64(),
            _ => None,
        }
    }

    /// Returns the text, if this is a `str`, or a member of an `Enum` with such a value.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(value) => Some(value),
            Value::Instance(instance) => match instance.single()? {
                Value::Str(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the bytes, if this is a `bytes`.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the path, if this is one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Value::Path(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the elements, if this is a `tuple`, a namedtuple, a `list` (or an instance of a subclass), a `set` or a
    /// `frozenset`.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(values) | Value::List(values) | Value::Set(values) | Value::FrozenSet(values) => {
                Some(values)
            }
            Value::Instance(instance) if !instance.items().is_empty() => Some(instance.items()),
            Value::Instance(instance) if instance.is_tuple() => Some(instance.args()),
            _ => None,
        }
    }

    /// Returns the value of a `str` key, if this is a `dict` that has the key, or an instance that has the attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let pairs = match self {
            Value::Dict(pairs) => pairs,
            Value::Instance(instance) => match instance.get(key) {
                Some(value) => return Some(value),
                None => instance.pairs(),
            },
            _ => return None,
        };
        pairs
            .iter()
            .find(|(k, _)| matches!(k, Value::Str(k) if k == key))
            .map(|(_, v)| v)
    }

    /// Returns the array, if this is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Returns the instance, if this is one of a class without a variant of its own.
    #[must_use]
    pub fn as_instance(&self) -> Option<&Instance> {
        match self {
            Value::Instance(instance) => Some(instance),
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

    /// Returns the name of the Python type of the variant, for errors.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Shared(_) => "shared object",
            Value::Complex { .. } => "complex",
            Value::Set(_) => "set",
            Value::FrozenSet(_) => "frozenset",
            Value::Array(_) => "array",
            Value::Date(_) => "date",
            Value::Time(_) => "time",
            Value::DateTime(_) => "datetime",
            Value::TimeDelta(_) => "timedelta",
            Value::Path(_) => "path",
            Value::Decimal(_) => "Decimal",
            Value::Uuid(_) => "UUID",
            Value::Range(_) => "range",
            Value::Instance(_) => "instance of a Python class",
        }
    }

    /// Encodes the value as bytes, which can be sent in any way and which Python reads by `procession.rust.from_bytes`.
    /// The shared objects in it stay alive as long as this process, because the bytes may be read at any later time.
    ///
    /// # Errors
    /// The value is nested more than 8 deep, one of its parts has more than 255 elements, or it has something else in it than
    /// None, bool, int of 64 bits, float, str, bytes, tuple, list, dict and shared objects.
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
    i8 => |v| Value::Int(i64::from(v)),
    i16 => |v| Value::Int(i64::from(v)),
    u16 => |v| Value::Int(i64::from(v)),
    PathBuf => Value::Path,
    &Path => |v: &Path| Value::Path(v.to_owned()),
    Date => Value::Date,
    Time => Value::Time,
    DateTime => Value::DateTime,
    TimeDelta => Value::TimeDelta,
    Range => Value::Range,
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
