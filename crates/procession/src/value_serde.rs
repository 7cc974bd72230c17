//! How values are written in other formats than Python's: inside of messages of Rust types, and by other formats of serde.

use crate::array::Array;
use crate::big_int::BigInt;
use crate::calendar::{Date, DateTime, Time, TimeDelta};
use crate::handed;
use crate::instance::Instance;
use crate::shared_value::Shared;
use crate::value::{Range, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// The variants of [`Value`], of which serde derives the written form. (A derive on `Value` itself would be its `Deserialize`,
/// which has to accept values that are handed over.)
#[derive(Serialize, Deserialize)]
#[serde(remote = "Value", rename = "Value")]
enum Variants {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Shared(Shared),
    BigInt(BigInt),
    Complex { re: f64, im: f64 },
    Set(Vec<Value>),
    FrozenSet(Vec<Value>),
    Array(Array),
    Date(Date),
    Time(Time),
    DateTime(DateTime),
    TimeDelta(TimeDelta),
    Path(PathBuf),
    Decimal(String),
    Uuid([u8; 16]),
    Range(Range),
    Instance(Instance),
}

impl Serialize for Value {
    /// Writes the variant and its contents.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Variants::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handed::deserialize(deserializer, Ok)
    }
}

impl handed::Written for Value {
    type Form = Read;

    fn from_form(Read(value): Read) -> Result<Self, String> {
        Ok(value)
    }
}

/// A value as the derived function reads it.
pub(crate) struct Read(Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Variants::deserialize(deserializer).map(Read)
    }
}
