//! The model checker tries every order in which a process without the mutex may see what a batch writes: run with
//! `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use procession_core::queue_cursor::{Cursor, CursorPosition, commit, counted};

/// The position behind this many messages of ten bytes.
fn behind(messages: u64) -> CursorPosition {
    CursorPosition {
        segment: 1,
        position: 26 * messages,
        bytes: 10 * messages,
    }
}

fn cursor() -> Cursor {
    Cursor {
        segment: AtomicU64::new(0),
        position: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    }
}

#[test]
fn the_bytes_that_are_read_without_the_mutex_are_those_of_the_count() {
    check(|| {
        let side = Arc::new((AtomicU64::new(0), [cursor(), cursor()]));
        let producer = {
            let side = side.clone();
            thread::spawn(move || {
                commit(&side.0, &side.1, 2, behind(1), behind(2));
                commit(&side.0, &side.1, 1, behind(2), behind(3));
            })
        };
        let (count, bytes) = counted(&side.0, &side.1);
        assert_eq!(bytes, 10 * count);
        producer.join().unwrap();
        assert_eq!(counted(&side.0, &side.1), (3, 30));
    });
}
