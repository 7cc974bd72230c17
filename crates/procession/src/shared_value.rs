//! Shared objects inside of values: their handles, with the description that Python needs of an array.

use crate::memory::Pod;
use crate::transit::{self, HandleBytes};
use crate::{Barrier, Block, Event, Lock, Message, Queue, RLock, Semaphore, SharedSlice, Value};
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::family::object::Kind;
use procession_core::family::{Handle, Hold};
use procession_core::message::block;
use procession_core::sync as core;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// A shared object inside of a [`Value`], on its way to Python or from there.
///
/// `Value::from(&event)` makes one from a handle of the object. `Event::try_from(&value)` makes a handle from it.
///
/// ```
/// use procession::{Event, Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Event::new()?;
/// let same = Event::try_from(&Value::from(&event))?;
/// same.set();
/// assert!(event.is_set());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Shared {
    kind: Kind,
    hold: Arc<Hold>,
    /// The description of an array: the type and the number of its elements, as [`block`] encodes them. Otherwise empty.
    described: Vec<u8>,
}

/// A value is not a shared object of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is no {wanted}: {why}")]
pub struct NotShared {
    wanted: &'static str,
    why: String,
}

impl PartialEq for Shared {
    /// Returns whether both are the same shared object.
    fn eq(&self, other: &Shared) -> bool {
        let key = |shared: &Shared| (shared.hold.offset, shared.hold.generation);
        key(self) == key(other) && std::ptr::eq(self.hold.family, other.hold.family)
    }
}

impl Shared {
    /// Returns the kind, and the bytes of the handle and the description. Keeps the object alive until they have arrived.
    pub(crate) fn encode_handle(&self) -> Result<(u8, Vec<u8>), String> {
        transit::register_in_transit(|| self.try_clone()).map_err(|e| e.to_string())?;
        let mut bytes = self.hold.handle().to_bytes().to_vec();
        bytes.extend_from_slice(&self.described);
        Ok((self.kind as u8, bytes))
    }

    /// Opens the object of a handle. `join`: whether it may belong to a family of which this process is no member yet.
    pub(crate) fn arrived(kind: u8, bytes: &[u8], join: bool) -> Result<Shared, String> {
        let kind = Kind::from_number(kind.into()).ok_or("it names a shared object of an unknown kind")?;
        let (handle, described) = bytes
            .split_at_checked(HANDLE_BYTES)
            .ok_or("a handle in it is too short")?;
        let handle = Handle::from_bytes(handle).map_err(|e| e.to_string())?;
        if !join && !handle.is_within_reach() {
            return Err("it names an object of a program that is no relative of this one".into());
        }
        Ok(Shared {
            kind,
            hold: Arc::new(handle.open(kind).map_err(|e| e.to_string())?),
            described: described.to_vec(),
        })
    }

    fn try_clone(&self) -> procession_core::Result<Hold> {
        self.hold
            .family
            .open(self.hold.offset, self.hold.generation, self.kind)
    }

    fn handle(&self, kind: Kind, wanted: &'static str) -> Result<Handle, NotShared> {
        if self.kind == kind {
            Ok(self.hold.handle())
        } else {
            Err(NotShared {
                wanted,
                why: format!("it is a {}", self.kind.name()),
            })
        }
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::register_in_transit(|| self.try_clone()).map_err(crate::transit::refused)?;
        (self.kind as u16, HandleBytes(self.hold.handle()), &self.described).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, HandleBytes(handle), described) =
            <(u16, HandleBytes, Vec<u8>)>::deserialize(deserializer)?;
        let kind = Kind::from_number(kind)
            .ok_or_else(|| crate::transit::unread("a shared object of an unknown kind"))?;
        Ok(Shared {
            kind,
            hold: Arc::new(handle.open(kind).map_err(crate::transit::unread)?),
            described,
        })
    }
}

fn shared<'a>(value: &'a Value, wanted: &'static str) -> Result<&'a Shared, NotShared> {
    value.as_shared().ok_or_else(|| NotShared {
        wanted,
        why: "it is no shared object".into(),
    })
}

/// Implements the conversions for the types that need no description: how another reference is made, how a handle is opened.
macro_rules! plain {
    ($($name:ty, $kind:ident, [$($generics:tt)*], |$object:ident| $reference:expr, |$handle:ident| $open:expr;)*) => {$(
        impl<$($generics)*> From<&$name> for Value {
            /// Makes a value of the shared object. It is `None` if family memory has no room for another reference.
            fn from($object: &$name) -> Value {
                let again = $reference.try_clone();
                again.map_or(Value::None, |hold| {
                    Value::Shared(Shared {
                        kind: Kind::$kind,
                        hold: Arc::new(hold),
                        described: Vec::new(),
                    })
                })
            }
        }

        impl<$($generics)*> TryFrom<&Value> for $name {
            type Error = NotShared;

            fn try_from(value: &Value) -> Result<Self, NotShared> {
                let wanted = stringify!($kind);
                let $handle = shared(value, wanted)?.handle(Kind::$kind, wanted)?;
                $open.map_err(|e: procession_core::Error| NotShared { wanted, why: e.to_string() })
            }
        }
    )*};
}
plain! {
    Queue<T>, Queue, [T: Message], |q| q.inner.reference(), |h| core_queue(&h);
    Lock, Lock, [], |l| l.inner.lock.reference(), |h| core::Lock::open(&h).map(Lock::from_core);
    RLock, RLock, [], |l| l.inner.reference(), |h| core::RLock::open(&h).map(RLock::from_core);
    Semaphore, Semaphore, [], |s| s.inner.reference(), |h| core::Semaphore::open(&h).map(Semaphore::from_core);
    Event, Event, [], |e| e.inner.reference(), |h| core::Event::open(&h).map(Event::from_core);
    Barrier, Barrier, [], |b| b.inner.reference(), |h| core::Barrier::open(&h).map(Barrier::from_core);
}

fn core_queue<T: Message>(handle: &Handle) -> procession_core::Result<Queue<T>> {
    procession_core::queue::Queue::open(handle).map(Queue::from_core)
}

/// Implements the conversions for arrays whose element types Python knows.
macro_rules! arrays {
    ($($kind:ty => $name:literal),*) => {$(
        impl From<&SharedSlice<$kind>> for Value {
            /// Makes a `procession.ndarray` of one dimension. It is `None` if family memory has no room for another
            /// reference.
            fn from(slice: &SharedSlice<$kind>) -> Value {
                let hold = slice.hold();
                let again = hold.family.open(hold.offset, hold.generation, Kind::Array);
                again.map_or(Value::None, |hold| {
                    Value::Shared(Shared {
                        kind: Kind::Array,
                        hold: Arc::new(hold),
                        described: block::describe($name, &[slice.len() as u64]),
                    })
                })
            }
        }

        impl TryFrom<&Value> for SharedSlice<$kind> {
            type Error = NotShared;

            /// Opens the array as a slice of all its elements, in the order of their addresses, whatever its dimensions.
            fn try_from(value: &Value) -> Result<Self, NotShared> {
                slice_of(value, $name)
            }
        }
    )*};
}
arrays!(
    u8 => "|u1", u16 => "<u2", u32 => "<u4", u64 => "<u8",
    i8 => "|i1", i16 => "<i2", i32 => "<i4", i64 => "<i8",
    f32 => "<f4", f64 => "<f8"
);

fn slice_of<T: Pod>(value: &Value, name: &'static str) -> Result<SharedSlice<T>, NotShared> {
    let wanted = "SharedSlice";
    let error = |why: String| NotShared { wanted, why };
    let array = shared(value, wanted)?;
    array.handle(Kind::Array, wanted)?;
    let (found, shape) =
        block::read(&array.described).ok_or_else(|| error("its description is malformed".into()))?;
    if found != name {
        return Err(error(format!("its elements are {found}, not {name}")));
    }
    let len = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let len = len.ok_or_else(|| error("it is longer than any memory".into()))?;
    let hold = array.try_clone().map_err(|e| error(e.to_string()))?;
    SharedSlice::from_hold(hold, len).ok_or_else(|| error("it is shorter than its description says".into()))
}

impl From<&Block<u8>> for Value {
    /// Makes a `bytes` with a copy of the block. To send the memory itself, put the block into a queue of blocks.
    fn from(block: &Block<u8>) -> Value {
        Value::Bytes(block.to_vec())
    }
}
