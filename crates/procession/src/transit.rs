//! Handles in transit: what serde sees of a shared object, and what keeps the object alive until its handle has arrived.
//!
//! A handle is only a name. From the time when it is written until it is read, a reference must keep the object alive.
//! Where the bytes travel through Procession (in a queue's message, the start of a process, its return value), the
//! message keeps the references: the code that writes the message opens a [`Frame`] in this thread, every object that
//! is serialised while it is open adds a reference to it, and the references travel with the bytes. A handle that is
//! serialised elsewhere (into a file, a socket) may be read at any later time. So its object is *pinned*: this process
//! holds it until it ends.

use procession_core::Result;
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::family::{Family, Handle, Hold};
use procession_core::process::Fetched;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

thread_local! {
    static FRAMES: RefCell<Vec<Vec<Hold>>> = const { RefCell::new(Vec::new()) };
}

/// Collects the references to the objects that are serialised in this thread, until the frame is taken or dropped.
pub(crate) struct Frame {
    taken: bool,
}

impl Frame {
    pub(crate) fn open() -> Frame {
        FRAMES.with_borrow_mut(|frames| frames.push(Vec::new()));
        Frame { taken: false }
    }

    /// Returns the collected references to objects of `family`. The others cannot travel in its messages, and are pinned.
    pub(crate) fn take(mut self, family: &'static Family) -> Vec<Hold> {
        self.taken = true;
        let collected = FRAMES.with_borrow_mut(Vec::pop).unwrap_or_default();
        let (own, foreign): (Vec<Hold>, Vec<Hold>) = collected
            .into_iter()
            .partition(|hold| std::ptr::eq(hold.family, family));
        foreign.into_iter().for_each(pin);
        own
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if !self.taken {
            drop(FRAMES.with_borrow_mut(Vec::pop));
        }
    }
}

thread_local! {
    /// The reason why one of this crate's types could not be written or read. Postcard's errors have no room for it.
    static REFUSAL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes the error of a type that cannot be written, and notes the reason.
pub(crate) fn refused<E: serde::ser::Error>(why: impl fmt::Display) -> E {
    let why = why.to_string();
    let error = E::custom(&why);
    REFUSAL.set(Some(why));
    error
}

/// Makes the error of a type that cannot be read, and notes the reason.
pub(crate) fn unread<E: serde::de::Error>(why: impl fmt::Display) -> E {
    let why = why.to_string();
    let error = E::custom(&why);
    REFUSAL.set(Some(why));
    error
}

/// Forgets the reason noted earlier.
pub(crate) fn begin() {
    drop(REFUSAL.take());
    EXHAUSTED.set(false);
}

/// Returns the noted reason, or else what postcard's error says.
pub(crate) fn explained(error: &postcard::Error) -> String {
    REFUSAL.take().unwrap_or_else(|| error.to_string())
}

thread_local! {
    /// The descriptors that this thread has decoded from the message at hand.
    static FETCHED: RefCell<Vec<Fetched>> = const { RefCell::new(Vec::new()) };
    /// Whether a descriptor could not be decoded because this process has no free one.
    static EXHAUSTED: Cell<bool> = const { Cell::new(false) };
}

/// Notes a descriptor that was decoded.
pub(crate) fn fetched(fetched: Fetched) {
    FETCHED.with_borrow_mut(|all| all.push(fetched));
}

/// Has the copies of the decoded descriptors closed. Called when the message they came with has no references any more.
pub(crate) fn settle() {
    take_fetched().into_iter().for_each(Fetched::settle);
}

/// Takes the notes of the decoded descriptors, for a caller that settles them later.
pub(crate) fn take_fetched() -> Vec<Fetched> {
    FETCHED.with_borrow_mut(std::mem::take)
}

/// Notes that a descriptor could not be decoded because this process has no free one.
pub(crate) fn exhausted() {
    EXHAUSTED.set(true);
}

/// Returns whether the last message could not be decoded because this process has no free descriptor.
pub(crate) fn is_exhausted() -> bool {
    EXHAUSTED.get()
}

/// Keeps an object alive until the handle that is being written has arrived. `make_reference` makes a reference to it.
pub(crate) fn register_in_transit(make_reference: impl FnOnce() -> Result<Hold>) -> Result<()> {
    let hold = make_reference()?;
    let unframed = FRAMES.with_borrow_mut(|frames| match frames.last_mut() {
        Some(frame) => {
            frame.push(hold);
            None
        }
        None => Some(hold),
    });
    if let Some(hold) = unframed {
        pin(hold);
    }
    Ok(())
}

static PINNED: Mutex<BTreeSet<([u8; 16], u64, u32)>> = Mutex::new(BTreeSet::new());

/// Returns a lock to be held across a fork, so that the mutex is free in the child.
pub(crate) fn hold_still() -> impl Sized {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds an object until this process ends. Pinning an object twice holds it once.
fn pin(hold: Hold) {
    let key = (hold.family.id(), hold.offset, hold.generation);
    if PINNED.lock().is_ok_and(|mut pinned| pinned.insert(key)) {
        // The entry in the held table stays. The reaper finds it there when this process has ended.
        std::mem::forget(hold);
    }
}

/// A handle as serde sees it: bytes.
pub(crate) struct HandleBytes(pub(crate) Handle);

impl Serialize for HandleBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl<'de> Deserialize<'de> for HandleBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = HandleBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a handle")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<HandleBytes, E> {
                Handle::from_bytes(bytes).map(HandleBytes).map_err(E::custom)
            }

            // Formats for people write bytes as a list of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<HandleBytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element::<u8>()? {
                    if bytes.len() == HANDLE_BYTES {
                        return Err(A::Error::custom("too long for a handle"));
                    }
                    bytes.push(byte);
                }
                self.visit_bytes(&bytes)
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// Implements `Serialize`, `Deserialize`, equality and the construction from the core's object, for a type of the form
/// `struct Name { inner: Arc<core> }`.
macro_rules! travels {
    ($name:ident, $core:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                let reference = self.inner.reference();
                crate::transit::register_in_transit(|| reference.try_clone())
                    .map_err(crate::transit::refused)?;
                serde::Serialize::serialize(&crate::transit::HandleBytes(reference.handle()), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let crate::transit::HandleBytes(handle) = serde::Deserialize::deserialize(deserializer)?;
                <$core>::open(&handle)
                    .map(Self::from_core)
                    .map_err(crate::transit::unread)
            }
        }

        impl $name {
            pub(crate) fn from_core(inner: $core) -> Self {
                $name {
                    inner: std::sync::Arc::new(inner),
                }
            }
        }

        impl PartialEq for $name {
            /// Returns whether both are the same shared object.
            fn eq(&self, other: &Self) -> bool {
                let (one, two) = (self.inner.reference(), other.inner.reference());
                one.key() == two.key() && std::ptr::eq(one.family(), two.family())
            }
        }

        impl Eq for $name {}
    };
}
pub(crate) use travels;
