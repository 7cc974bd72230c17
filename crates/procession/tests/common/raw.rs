//! A queue into which any bytes can be put, as if Python had put them.

use procession::{GetError, Queue, Value};
use procession_core::family::{Family, Handle};
use procession_core::message;
use procession_core::queue::{self as core, LockPolicy, Parcel, Put};
use serde::{Deserialize, Deserializer};

/// Bytes in the format of a handle.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Bytes)
    }
}

/// A queue, and the core's view of it, through which any bytes can be put.
pub struct Raw {
    pub queue: Queue<Value>,
    core: core::Queue,
}

impl Raw {
    pub fn new() -> Raw {
        let queue = Queue::<Value>::new().unwrap();
        let Bytes(handle) = postcard::from_bytes(&postcard::to_allocvec(&queue).unwrap()).unwrap();
        let core = core::Queue::open(&Handle::from_bytes(&handle).unwrap()).unwrap();
        Raw { queue, core }
    }

    pub fn put(&self, bytes: &[u8], encoding: u32, buffers: &[&[u8]]) {
        let family = Family::home().unwrap();
        let refs = buffers
            .iter()
            .map(|buffer| family.buffer(buffer).unwrap())
            .collect();
        let mut parcel = Parcel::pack(family, [bytes, &[]], encoding, refs, 0).unwrap();
        let put = self.core.try_put(&mut parcel, LockPolicy::Bounded);
        assert!(matches!(put, Ok(Put::Done)));
    }

    pub fn read(&self, pickle: &[u8]) -> Result<Value, GetError> {
        self.put(pickle, message::PICKLE, &[]);
        self.queue.try_get()
    }

    pub fn refused(&self, pickle: &[u8]) -> String {
        match self.read(pickle) {
            Err(GetError::Decode(error)) => {
                assert_eq!(error.bytes(), pickle);
                error.reason().to_owned()
            }
            other => panic!("{other:?}"),
        }
    }
}
