//! Safe code must not be able to break memory that others use, even if it copies handles and forks.
#![allow(unsafe_code)]

mod common;

use common::LIMIT;
use procession::{Block, Lock, Process, Queue, SharedSlice, Value};
use procession_core::family::{Family, Handle};
use procession_core::message;
use procession_core::queue::{self as core, LockPolicy, Parcel, Put};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Mutex;
use std::time::Duration;

procession::init_before_main!();

#[test]
fn a_handle_that_somebody_wrote_down_is_stale_once_the_block_is_mutable() {
    fn child((): ()) -> (Block<u8>, Vec<u8>) {
        let block = Block::from_slice(&[1u8; 5000]).unwrap();
        let handle = postcard::to_allocvec(&block).unwrap();
        (block, handle)
    }
    let (block, handle) = Process::spawn(child, ()).unwrap().join().unwrap();
    let mut own = block.try_into_mut().expect("its maker has ended");
    assert!(postcard::from_bytes::<Block<u8>>(&handle).is_err());
    own[0] = 9;
    assert_eq!(own.freeze()[0], 9);
}

/// Notes the bytes of the handle while it is sent.
struct Noted(Block<u8>);

static HANDLE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl Serialize for Noted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        *HANDLE.lock().unwrap() = postcard::to_allocvec(&self.0).unwrap();
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Noted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Noted(postcard::from_bytes(&HANDLE.lock().unwrap()).unwrap()))
    }
}

#[test]
fn so_is_one_that_was_written_down_on_the_way_through_a_queue() {
    let queue = Queue::<Noted>::new().unwrap();
    let block = Block::from_slice(&[1u8; 5000]).unwrap();
    queue.put(&Noted(block.clone())).unwrap();
    drop(queue.get().unwrap());
    let own = block.try_into_mut().map_err(|_| "in use").unwrap();
    assert!(postcard::from_bytes::<Block<u8>>(&HANDLE.lock().unwrap()).is_err());
    drop(own);
}

/// Bytes in the format of a handle.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Bytes)
    }
}

#[test]
fn what_a_lock_guards_is_not_to_be_had_as_a_slice() {
    let lock = Lock::new(7u64).unwrap();
    let written = postcard::to_allocvec(&lock).unwrap();
    let (size, _, value): (u32, Bytes, Option<Bytes>) = postcard::from_bytes(&written).unwrap();
    let slice = postcard::to_allocvec(&(1u64, size, value.unwrap())).unwrap();
    assert!(postcard::from_bytes::<SharedSlice<u64>>(&slice).is_err());
}

#[test]
fn a_message_whose_block_is_an_array_is_a_decoding_error() {
    let queue = Queue::<Block<u8>>::new().unwrap();
    let written = postcard::to_allocvec(&queue).unwrap();
    let Bytes(handle) = postcard::from_bytes(&written).unwrap();
    let raw = core::Queue::open(&Handle::from_bytes(&handle).unwrap()).unwrap();
    let family = Family::home().unwrap();
    let description = message::block::describe("|u1", &[8]);
    let refs = vec![family.zeroed(64).unwrap()];
    let mut parcel = Parcel::pack(family, [&description, &[]], message::BLOCK, refs, 8).unwrap();
    assert!(matches!(
        raw.try_put(&mut parcel, LockPolicy::Bounded),
        Ok(Put::Done)
    ));
    let error = queue.get_timeout(LIMIT).unwrap_err().to_string();
    assert!(error.contains("no buffer"), "{error}");
}

#[test]
fn a_lock_and_the_value_of_another_one_are_no_lock() {
    type Parts = (u32, Bytes, Option<Bytes>);
    let (one, other) = (Lock::new(7u64).unwrap(), Lock::new(8u64).unwrap());
    let parts =
        |lock: &Lock<u64>| postcard::from_bytes::<Parts>(&postcard::to_allocvec(lock).unwrap()).unwrap();
    let ((size, lock, own), (_, _, foreign)) = (parts(&one), parts(&other));
    let same = postcard::to_allocvec(&(size, &lock, own)).unwrap();
    let spliced = postcard::to_allocvec(&(size, &lock, foreign)).unwrap();
    let again = postcard::from_bytes::<Lock<u64>>(&same).unwrap();
    assert_eq!(*again.lock().unwrap().into_guard(), 7);
    assert!(postcard::from_bytes::<Lock<u64>>(&spliced).is_err());
}

#[test]
fn bytes_for_a_value_take_memory_in_proportion_to_their_length() {
    let small = Value::Tuple(vec![Value::from("a"), Value::from("b")])
        .to_bytes()
        .unwrap();
    let (tuple, text, again) = (small[0], &small[2..8], 10);
    let mut bomb = vec![tuple, 7];
    bomb.extend_from_slice(text);
    for place in 0..6 {
        bomb.extend_from_slice(&[tuple, 255]);
        bomb.extend([again, place].repeat(255));
    }
    let error = Value::from_bytes(&bomb).unwrap_err().to_string();
    assert!(error.contains("more than once"), "{error}");
}

#[test]
fn a_lock_whose_owner_ends_with_status_0_is_free_for_the_next() {
    fn child(lock: Lock<u64>) {
        let (taken, is_taken) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _guard = lock.lock().unwrap().into_guard();
            taken.send(()).unwrap();
            std::thread::park();
        });
        is_taken.recv().unwrap();
    }
    let lock = Lock::new(0u64).unwrap();
    Process::spawn(child, lock.clone()).unwrap().join().unwrap();
    assert!(lock.lock_timeout(LIMIT).unwrap().is_some());
}

#[test]
fn a_forked_copy_of_a_guard_does_not_unlock() {
    let lock = Lock::new(0u64).unwrap();
    let guard = lock.lock().unwrap().into_guard();
    let drop_a_copy = || {
        // SAFETY: the value is not touched, and the child ends without dropping the original.
        drop(unsafe { std::ptr::read(&raw const guard) });
    };
    // SAFETY: the child drops a copy of the guard, and does not use the value in the lock.
    let child = unsafe { Process::builder().fork(drop_a_copy) };
    child.unwrap().join().unwrap();
    assert!(lock.is_locked());
    drop(guard);
    assert!(!lock.is_locked());
}

#[test]
fn a_child_that_is_forked_while_a_thread_forgets_processes_can_forget_some_too() {
    std::thread::spawn(|| {
        fn quick((): ()) {}
        loop {
            drop(Process::builder().spawn(quick, ()));
        }
    });
    let grandchild = || std::thread::sleep(Duration::from_millis(100));
    for number in 0..100 {
        let forget_one = || {
            // SAFETY: the grandchild only sleeps.
            drop(unsafe { Process::builder().daemon(true).fork(grandchild) });
        };
        // SAFETY: the child only uses this crate.
        let child = unsafe { Process::builder().daemon(true).fork(forget_one) };
        match child.unwrap().join_timeout(LIMIT) {
            Ok(ended) => ended.unwrap(),
            Err(child) => {
                let _ = child.kill();
                panic!("child {number} hangs");
            }
        }
    }
}
