//! Handles on their way: what serde sees of a shared object, and who keeps it alive until it arrives.
//!
//! A handle is only a name. While it is written down and not yet read, somebody must hold the object. Where the bytes go
//! through Procession (a queue's message, the start of a process, its return value) that is the message itself: whoever
//! writes it opens a [`Frame`] in this thread, every object that is serialised inside adds a reference to it, and the
//! references travel with the bytes. A handle that is serialised elsewhere (into a file, a socket) may arrive at any
//! time, so its object is *pinned*: this process holds it until it ends.

use procession_core::Result;
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::family::{Family, Handle, Hold};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

thread_local! {
    static FRAMES: RefCell<Vec<Vec<Hold>>> = const { RefCell::new(Vec::new()) };
}

/// Collects the references of what is serialised in this thread until it is taken or dropped.
pub(crate) struct Frame {
    taken: bool,
}

impl Frame {
    pub(crate) fn open() -> Frame {
        FRAMES.with_borrow_mut(|frames| frames.push(Vec::new()));
        Frame { taken: false }
    }

    /// What was collected that is of this family. What is of another cannot travel in its messages, and is pinned.
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
    /// What postcard has no place for in its errors: why one of our own types could not be written or read.
    static REFUSAL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The error of a type that cannot be written.
pub(crate) fn refused<E: serde::ser::Error>(why: impl fmt::Display) -> E {
    let why = why.to_string();
    let error = E::custom(&why);
    REFUSAL.set(Some(why));
    error
}

/// The error of a type that cannot be read.
pub(crate) fn unread<E: serde::de::Error>(why: impl fmt::Display) -> E {
    let why = why.to_string();
    let error = E::custom(&why);
    REFUSAL.set(Some(why));
    error
}

/// Forgets what was refused before.
pub(crate) fn begin() {
    drop(REFUSAL.take());
}

/// What postcard's error is about.
pub(crate) fn explained(error: &postcard::Error) -> String {
    REFUSAL.take().unwrap_or_else(|| error.to_string())
}

/// An object leaves: sees to it that it lives until its handle has arrived. `again` makes a reference.
pub(crate) fn departs(again: impl FnOnce() -> Result<Hold>) -> Result<()> {
    let hold = again()?;
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

/// Held across a fork, so that the child finds it free.
pub(crate) fn hold_still() -> impl Sized {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds an object until this process ends. Once is enough, however often it is written down.
fn pin(hold: Hold) {
    let key = (hold.family.id(), hold.offset, hold.generation);
    if PINNED.lock().is_ok_and(|mut pinned| pinned.insert(key)) {
        // The entry in the held table stays; the reaper finds it there.
        std::mem::forget(hold);
    }
}

/// A handle as serde sees it: bytes.
pub(crate) struct Named(pub(crate) Handle);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a handle")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Named, E> {
                Handle::from_bytes(bytes).map(Named).map_err(E::custom)
            }

            // Formats for people write bytes as a list of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Named, A::Error> {
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

/// `Serialize`, `Deserialize`, `Clone` and the construction from the core's object, for a type that is
/// `struct Name { inner: Arc<core> }`.
macro_rules! travels {
    ($name:ident, $core:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                let reference = self.inner.reference();
                crate::transit::departs(|| reference.again()).map_err(crate::transit::refused)?;
                serde::Serialize::serialize(&crate::transit::Named(reference.handle()), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let crate::transit::Named(handle) = serde::Deserialize::deserialize(deserializer)?;
                <$core>::open(&handle)
                    .map(Self::of)
                    .map_err(crate::transit::unread)
            }
        }

        impl $name {
            pub(crate) fn of(inner: $core) -> Self {
                $name {
                    inner: std::sync::Arc::new(inner),
                }
            }
        }

        impl PartialEq for $name {
            /// Whether both are the same shared object.
            fn eq(&self, other: &Self) -> bool {
                let (one, two) = (self.inner.reference(), other.inner.reference());
                one.key() == two.key() && std::ptr::eq(one.family(), two.family())
            }
        }

        impl Eq for $name {}
    };
}
pub(crate) use travels;
