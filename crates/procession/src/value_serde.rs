//! How values are written in other formats than Python's: inside of messages of Rust types, and by other formats of serde.

use crate::array::Array;
use crate::big_int::BigInt;
use crate::calendar::{Date, DateTime, Time, TimeDelta};
use crate::handed;
use crate::instance::Instance;
use crate::shared_value::Shared;
use crate::transit;
use crate::unpickled::DEEPEST;
use crate::value::{Range, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::Cell;
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
    /// Writes the variant and its contents. It is an error if values are nested more than 200 deep.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let _level = Level::enter().ok_or_else(|| transit::refused(TOO_DEEP))?;
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

const TOO_DEEP: &str = "it is nested too deeply";

thread_local! {
    /// How many values this thread is inside of, while it writes or reads them.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One level of nesting. Two bytes of a message are a level, so without a limit a short message overflows the stack.
struct Level;

impl Level {
    fn enter() -> Option<Level> {
        let depth = DEPTH.get();
        (depth <= DEEPEST).then(|| {
            DEPTH.set(depth + 1);
            Level
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A value as the derived function reads it.
pub(crate) struct Read(Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let _level = Level::enter().ok_or_else(|| transit::unread(TOO_DEEP))?;
        Variants::deserialize(deserializer).map(Read)
    }
}
