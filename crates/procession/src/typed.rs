//! Makes values of a Rust type of what Python has sent, by serde.
//!
//! | value | is for serde |
//! |---|---|
//! | dict, dataclass, instance | a map or struct |
//! | tuple, list, set, namedtuple, array (a list of lists, if it has two dimensions), range | a sequence |
//! | member of an `Enum` | its value; for a Rust enum the variant of this name or number |
//! | datetime, date, time | text, as ISO 8601 has it |
//! | timedelta | a [`Duration`](std::time::Duration), or else a number of seconds |
//! | path, Decimal, UUID | text |
//! | complex | a sequence of two floats |
//! | shared object | a handle |

use crate::array::Array;
use crate::handed;
use crate::value::Value;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, SeqAccess, VariantAccess,
    Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// Makes a `T` of the value of a message. `weight`: the number of bytes of the message.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value, weight: usize) -> Result<T, String> {
    crate::transit::begin();
    let before = EXPANDED.replace(Some(Expanded {
        left: weight.saturating_add(FREE),
        seen: HashSet::new(),
    }));
    let made = T::deserialize(Typed(value)).map_err(|Mismatch(why)| why);
    EXPANDED.set(before);
    made
}

/// How many elements ranges and arrays may become in a message of no bytes.
const FREE: usize = 16 << 20;

thread_local! {
    static EXPANDED: RefCell<Option<Expanded>> = const { RefCell::new(None) };
}

/// How many elements ranges and arrays may still become. Without a limit, the few bytes of a range, of an array of empty rows
/// or of an array that occurs many times could become a list that has no room in any memory.
struct Expanded {
    left: usize,
    /// The addresses of the shared memory of which elements were made: each has as many elements as it has bytes at most.
    seen: HashSet<usize>,
}

fn expand(elements: usize, shared: Option<&Array>) -> Result<(), Mismatch> {
    EXPANDED.with_borrow_mut(|expanded| {
        let Some(expanded) = expanded else { return Ok(()) };
        if let Some(array) = shared
            && expanded.seen.insert(array.as_bytes().as_ptr().addr())
        {
            expanded.left = expanded.left.saturating_add(array.as_bytes().len());
        }
        match expanded.left.checked_sub(elements) {
            Some(left) => expanded.left = left,
            None => {
                return Err(Mismatch::custom(format!(
                    "its ranges and arrays have too many elements for a list ({elements} in one of them)"
                )));
            }
        }
        Ok(())
    })
}

/// The reason why a value is no value of the type.
#[derive(Debug)]
struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Mismatch(why.to_string())
    }
}

/// The largest int, in bytes, that becomes a text. Digits cost time in the square of their number; Python's own limit is 4300.
const MOST_DIGITS: usize = 2048;

struct Typed(Value);

impl<'de> Deserializer<'de> for Typed {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::None => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Int(value) => visitor.visit_i64(value),
            Value::BigInt(value) => match (u128::try_from(&value), i128::try_from(&value)) {
                (Ok(value), _) => match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_u128(value),
                },
                (_, Ok(value)) => visitor.visit_i128(value),
                _ if value.to_le_bytes().len() <= MOST_DIGITS => visitor.visit_string(value.to_string()),
                _ => Err(Mismatch::custom(format!(
                    "it is {value:?}, which is too long to be written in decimal digits"
                ))),
            },
            Value::Float(value) => visitor.visit_f64(value),
            Value::Complex { re, im } => elements(vec![Value::Float(re), Value::Float(im)], visitor),
            Value::Str(value) | Value::Decimal(value) => visitor.visit_string(value),
            Value::Bytes(value) => visitor.visit_byte_buf(value),
            Value::Tuple(values) | Value::List(values) | Value::Set(values) | Value::FrozenSet(values) => {
                elements(values, visitor)
            }
            Value::Dict(pairs) => map(pairs, visitor),
            // The object stays alive until this function returns, and the handle is opened before.
            Value::Shared(shared) => visitor.visit_bytes(&shared.handle_bytes()),
            Value::Array(array) => {
                expand(0, array.is_shared().then_some(&array))?;
                let strides = array.strides();
                array_from(
                    Place {
                        array: &array,
                        strides: &strides,
                        first: 0,
                    },
                    visitor,
                )
            }
            Value::Date(value) => visitor.visit_string(value.to_string()),
            Value::Time(value) => visitor.visit_string(value.to_string()),
            Value::DateTime(value) => visitor.visit_string(value.to_string()),
            Value::TimeDelta(value) => visitor.visit_f64(value.total_microseconds() as f64 / 1e6),
            Value::Path(path) => match path.into_os_string().into_string() {
                Ok(text) => visitor.visit_string(text),
                Err(name) => visitor.visit_byte_buf(std::os::unix::ffi::OsStringExt::into_vec(name)),
            },
            Value::Uuid(bytes) => visitor.visit_string(hyphenated(bytes)),
            Value::Range(range) => {
                let numbers = Numbers {
                    next: range.start.into(),
                    stop: range.stop.into(),
                    step: range.step.into(),
                };
                expand(numbers.len(), None)?;
                visitor.visit_seq(numbers)
            }
            Value::Instance(instance) => {
                if let Some(single) = instance.single() {
                    return Typed(single.clone()).deserialize_any(visitor);
                }
                let attributes: Vec<(Value, Value)> = instance
                    .attributes()
                    .map(|(name, value)| (Value::from(name), value.clone()))
                    .collect();
                let parts = instance.into_parts();
                match parts.state {
                    _ if !attributes.is_empty() => map(attributes, visitor),
                    _ if !parts.items.is_empty() => elements(parts.items, visitor),
                    _ if !parts.pairs.is_empty() => map(parts.pairs, visitor),
                    // The fields of a frozen dataclass with slots.
                    Some(Value::List(fields)) => elements(fields, visitor),
                    _ if !parts.args.is_empty() => elements(parts.args, visitor),
                    _ => map(Vec::new(), visitor),
                }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::None => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match name {
            handed::NAME => handed::visit(self.0, visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match (&self.0, name, fields) {
            (Value::TimeDelta(delta), "Duration", ["secs", "nanos"]) => {
                let total = u128::try_from(delta.total_microseconds());
                let total = total.map_err(|_| Mismatch::custom("the timedelta is negative"))?;
                let (seconds, nanos) = (total / 1_000_000, (total % 1_000_000) as i64 * 1000);
                elements(vec![Value::from(seconds), Value::Int(nanos)], visitor)
            }
            (Value::Range(range), "Range", ["start", "end"]) if range.step == 1 => {
                elements(vec![Value::Int(range.start), Value::Int(range.stop)], visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let (variant, content) = match self.0 {
            Value::Dict(pairs) if pairs.len() == 1 => match pairs.into_iter().next() {
                Some(pair) => pair,
                None => return Err(Mismatch::custom("an empty dict is no variant")),
            },
            Value::Instance(instance) => match instance.single() {
                Some(single) => (single.clone(), Value::None),
                None => return Err(Mismatch::custom(format!("a {} is no variant", instance.class()))),
            },
            other => (other, Value::None),
        };
        visitor.visit_enum(Variant { variant, content })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            // For a `Vec<u8>`.
            Value::Bytes(bytes) => {
                visitor.visit_seq(serde::de::value::SeqDeserializer::new(bytes.into_iter()))
            }
            other => Typed(other).deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple_struct map identifier
    }
}

impl<'de> IntoDeserializer<'de, Mismatch> for Typed {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn elements<'de, V: Visitor<'de>>(values: Vec<Value>, visitor: V) -> Result<V::Value, Mismatch> {
    let mut values = serde::de::value::SeqDeserializer::new(values.into_iter().map(Typed));
    let made = visitor.visit_seq(&mut values)?;
    values.end()?;
    Ok(made)
}

fn map<'de, V: Visitor<'de>>(pairs: Vec<(Value, Value)>, visitor: V) -> Result<V::Value, Mismatch> {
    let pairs = pairs.into_iter().map(|(key, value)| (Typed(key), Typed(value)));
    let mut pairs = serde::de::value::MapDeserializer::new(pairs);
    let made = visitor.visit_map(&mut pairs)?;
    pairs.end()?;
    Ok(made)
}

fn hyphenated(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A variant of a Rust enum, named by a text or a number, with its content.
struct Variant {
    variant: Value,
    content: Value,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Mismatch;
    type Variant = Content;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content), Mismatch> {
        let named = match &self.variant {
            // A number is the number of the variant.
            Value::Int(number) => {
                let number = u64::try_from(*number)
                    .map_err(|_| Mismatch::custom(format!("there is no variant {number}")))?;
                seed.deserialize(number.into_deserializer())?
            }
            _ => seed.deserialize(Typed(self.variant))?,
        };
        Ok((named, Content(self.content)))
    }
}

struct Content(Value);

impl<'de> VariantAccess<'de> for Content {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        match self.0 {
            Value::None => Ok(()),
            other => Err(Mismatch::custom(format!(
                "the variant has no content, but a {} came with it",
                other.kind_name()
            ))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mismatch> {
        seed.deserialize(Typed(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        Typed(self.0).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        Typed(self.0).deserialize_any(visitor)
    }
}

/// The numbers of a range.
struct Numbers {
    next: i128,
    stop: i128,
    step: i128,
}

impl<'de> SeqAccess<'de> for Numbers {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let is_inside = match self.step {
            0 => return Err(Mismatch::custom("the step of the range is 0")),
            1.. => self.next < self.stop,
            _ => self.next > self.stop,
        };
        if !is_inside {
            return Ok(None);
        }
        let number = self.next as i64;
        self.next += self.step;
        seed.deserialize(Typed(Value::Int(number))).map(Some)
    }
}

impl Numbers {
    fn len(&self) -> usize {
        let distance = self.stop - self.next;
        if self.step == 0 || (distance < 0) != (self.step < 0) {
            return 0;
        }
        usize::try_from(distance.unsigned_abs().div_ceil(self.step.unsigned_abs())).unwrap_or(usize::MAX)
    }
}

/// A part of an array: all elements whose first indices are given.
#[derive(Clone, Copy)]
struct Place<'a> {
    array: &'a Array,
    /// The distances of neighbours in the dimensions that are left.
    strides: &'a [usize],
    /// The place of the first element.
    first: usize,
}

fn array_from<'de, V: Visitor<'de>>(place: Place<'_>, visitor: V) -> Result<V::Value, Mismatch> {
    let dimension = place.array.shape().len() - place.strides.len();
    match place.strides.split_first() {
        Some((stride, rest)) => {
            let left = place.array.shape()[dimension];
            // Rows with elements are no more than these.
            if rest.is_empty() || place.array.is_empty() {
                expand(left, None)?;
            }
            visitor.visit_seq(Row {
                left,
                stride: *stride,
                next: Place {
                    strides: rest,
                    ..place
                },
            })
        }
        None => {
            let element = place.array.element(place.first);
            let element = element.ok_or_else(|| {
                Mismatch::custom(format!(
                    "an element of type {} has no twin in serde",
                    place.array.typestr()
                ))
            })?;
            Typed(element).deserialize_any(visitor)
        }
    }
}

struct Row<'a> {
    left: usize,
    stride: usize,
    next: Place<'a>,
}

impl<'de> SeqAccess<'de> for Row<'_> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = self.next;
        // The array has no elements if this would overflow.
        self.next.first = self.next.first.saturating_add(self.stride);
        seed.deserialize(Part(place)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Deserialises a part of an array.
struct Part<'a>(Place<'a>);

impl<'de> Deserializer<'de> for Part<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        array_from(self.0, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
