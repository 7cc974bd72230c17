//! Shared objects inside of values: their handles, with the description that Python needs of an array.

use crate::array::{Array, Element};
use crate::memory::Pod;
use crate::transit::{self, HandleBytes};
use crate::{Barrier, Block, Event, Lock, Message, Queue, RLock, Semaphore, SharedSlice, Value};
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::family::object::Kind;
use procession_core::family::{Handle, Hold};
use procession_core::message::block;
use procession_core::sync as core;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
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
#[derive(Clone)]
pub struct Shared(Arc<Named<dyn Owner>>);

/// A shared object and what keeps it.
struct Named<O: Owner + ?Sized> {
    kind: Kind,
    /// The description of an array: the type and the number of its elements, as [`block`] encodes them. Otherwise empty.
    described: Vec<u8>,
    owner: O,
}

/// What keeps a shared object alive: a reference of its own, or the object of a handle.
trait Owner: Send + Sync + 'static {
    fn hold(&self) -> &Hold;
}

impl Owner for Hold {
    fn hold(&self) -> &Hold {
        self
    }
}

/// A value is not of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is no {wanted}: {why}")]
pub struct NotShared {
    wanted: &'static str,
    why: String,
}

impl NotShared {
    /// The value is another one.
    pub(crate) fn new(wanted: &'static str, value: &Value) -> Self {
        NotShared {
            wanted,
            why: format!("it is a {}", value.kind_name()),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0.kind.name()).finish()
    }
}

impl PartialEq for Shared {
    /// Returns whether both are the same shared object.
    fn eq(&self, other: &Shared) -> bool {
        let key = |shared: &Shared| (shared.hold().offset, shared.hold().generation);
        key(self) == key(other) && std::ptr::eq(self.hold().family, other.hold().family)
    }
}

impl Shared {
    fn new(kind: Kind, described: Vec<u8>, owner: impl Owner) -> Shared {
        Shared(Arc::new(Named {
            kind,
            described,
            owner,
        }))
    }

    fn hold(&self) -> &Hold {
        self.0.owner.hold()
    }

    /// Returns the kind, and the bytes of the handle and the description. Keeps the object alive until they have arrived.
    pub(crate) fn encode_handle(&self) -> Result<(u8, Vec<u8>), String> {
        let (kind, mut handle, described) = self.named()?;
        handle.extend_from_slice(described);
        Ok((kind, handle))
    }

    /// Returns the kind, the bytes of the handle, and the description. Keeps the object alive until they have arrived.
    pub(crate) fn named(&self) -> Result<(u8, Vec<u8>, &[u8]), String> {
        transit::register_in_transit(|| self.try_clone()).map_err(|e| e.to_string())?;
        Ok((
            self.0.kind as u8,
            self.hold().handle().to_bytes().to_vec(),
            &self.0.described,
        ))
    }

    /// Returns the bytes of the handle, for a reader that opens it while this object lives.
    pub(crate) fn handle_bytes(&self) -> Vec<u8> {
        self.hold().handle().to_bytes().to_vec()
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
        let hold = handle.open(kind).map_err(|e| e.to_string())?;
        Ok(Shared::new(kind, described.to_vec(), hold))
    }

    fn try_clone(&self) -> procession_core::Result<Hold> {
        let hold = self.hold();
        hold.family.open(hold.offset, hold.generation, self.0.kind)
    }

    fn handle(&self, kind: Kind, wanted: &'static str) -> Result<Handle, NotShared> {
        if self.0.kind == kind {
            Ok(self.hold().handle())
        } else {
            Err(NotShared {
                wanted,
                why: format!("it is a {}", self.0.kind.name()),
            })
        }
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::register_in_transit(|| self.try_clone()).map_err(crate::transit::refused)?;
        (
            self.0.kind as u16,
            HandleBytes(self.hold().handle()),
            &self.0.described,
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, HandleBytes(handle), described) =
            <(u16, HandleBytes, Vec<u8>)>::deserialize(deserializer)?;
        let kind = Kind::from_number(kind)
            .ok_or_else(|| crate::transit::unread("a shared object of an unknown kind"))?;
        let hold = handle.open(kind).map_err(crate::transit::unread)?;
        Ok(Shared::new(kind, described, hold))
    }
}

fn shared<'a>(value: &'a Value, wanted: &'static str) -> Result<&'a Shared, NotShared> {
    value.as_shared().ok_or_else(|| NotShared {
        wanted,
        why: "it is no shared object".into(),
    })
}

/// Implements the conversions for the types that need no description: what keeps the object, how its reference is found, how a
/// handle is opened.
macro_rules! plain {
    ($($name:ty, $kind:ident, [$($generics:tt)*], $inner:ty, |$object:ident| $reference:expr, |$handle:ident| $open:expr;)*) => {$(
        impl Owner for Arc<$inner> {
            fn hold(&self) -> &Hold {
                let $object = self;
                $reference.hold()
            }
        }

        impl<$($generics)*> From<&$name> for Value {
            /// Makes a value of the shared object, which keeps it alive. The object is the same one in Python.
            fn from(object: &$name) -> Value {
                Value::Shared(Shared::new(Kind::$kind, Vec::new(), object.inner.clone()))
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
    Queue<T>, Queue, [T: Message], procession_core::queue::Queue, |q| q.reference(), |h| core_queue(&h);
    Lock, Lock, [], crate::lock::Inner, |l| l.lock.reference(), |h| core::Lock::open(&h).map(Lock::from_core);
    RLock, RLock, [], core::RLock, |l| l.reference(), |h| core::RLock::open(&h).map(RLock::from_core);
    Semaphore, Semaphore, [], core::Semaphore, |s| s.reference(), |h| core::Semaphore::open(&h).map(Semaphore::from_core);
    Event, Event, [], core::Event, |e| e.reference(), |h| core::Event::open(&h).map(Event::from_core);
    Barrier, Barrier, [], core::Barrier, |b| b.reference(), |h| core::Barrier::open(&h).map(Barrier::from_core);
}

fn core_queue<T: Message>(handle: &Handle) -> procession_core::Result<Queue<T>> {
    procession_core::queue::Queue::open(handle).map(Queue::from_core)
}

/// Implements the conversions for arrays whose element types Python knows.
macro_rules! arrays {
    ($($kind:ty => $name:literal),*) => {$(
        impl From<&SharedSlice<$kind>> for Value {
            /// Makes a `procession.ndarray` of one dimension: the same memory.
            fn from(slice: &SharedSlice<$kind>) -> Value {
                let described = block::describe($name, &[slice.len() as u64]);
                Value::Shared(Shared::new(Kind::Array, described, slice.array().clone()))
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
        block::read(&array.0.described).ok_or_else(|| error("its description is malformed".into()))?;
    if found != name {
        return Err(error(format!("its elements are {found}, not {name}")));
    }
    let len = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let len = len.ok_or_else(|| error("it is longer than any memory".into()))?;
    let hold = array.try_clone().map_err(|e| error(e.to_string()))?;
    SharedSlice::from_hold(hold, len).ok_or_else(|| error("it is shorter than its description says".into()))
}

impl Owner for Arc<crate::memory::Array> {
    fn hold(&self) -> &Hold {
        crate::memory::Array::hold(self)
    }
}

impl<T: Element> From<Block<T>> for Value {
    /// Makes an array of one dimension, of the same memory. In Python it is a read-only numpy array.
    fn from(block: Block<T>) -> Value {
        Value::Array(block.into())
    }
}

impl<T: Element> From<&Block<T>> for Value {
    /// Makes an array of one dimension, of the same memory. In Python it is a read-only numpy array.
    fn from(block: &Block<T>) -> Value {
        block.clone().into()
    }
}

impl<T: Pod> TryFrom<&Value> for Block<T> {
    type Error = NotShared;

    /// Returns the elements of an array in C order, without a copy.
    fn try_from(value: &Value) -> Result<Self, NotShared> {
        let Value::Array(array) = value else {
            return Err(NotShared::new("Block", value));
        };
        Block::try_from(array).map_err(|e| NotShared {
            wanted: "Block",
            why: e.to_string(),
        })
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Value {
        Value::Array(array)
    }
}
