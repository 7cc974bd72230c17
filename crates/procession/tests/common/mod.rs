//! Helpers of the tests: the three ways to start a process, and waits that cannot hang a test.
#![allow(dead_code, unsafe_code, unreachable_pub, missing_docs)]

#[cfg(feature = "crash-points")]
pub mod points;
pub mod raw;

use procession::{Builder, Message, Process, StartMethod};
use procession_core::family::label::TEXT;
use procession_core::family::object::{Header, Kind, Tag};
use procession_core::family::waits::{IN_LOOP, WaitsBlock, What};
use procession_core::family::{Family, Seat};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The longest time that a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Fork,
    Spawn,
    ForkServer,
}

impl Way {
    pub fn start<A: Message, R: Message>(self, function: fn(A) -> R, arguments: A) -> Process<R> {
        self.start_with(Process::builder(), function, arguments)
    }

    /// Starts a daemonic process, so that a failed test leaves none behind.
    pub fn start_with<A: Message, R: Message>(
        self,
        builder: Builder,
        function: fn(A) -> R,
        arguments: A,
    ) -> Process<R> {
        let builder = builder.daemon(true);
        match self {
            // SAFETY: the children of these tests only use their arguments and this crate.
            Way::Fork => unsafe { builder.fork(move || function(arguments)) },
            Way::Spawn => builder.method(StartMethod::Spawn).spawn(function, arguments),
            Way::ForkServer => builder.method(StartMethod::ForkServer).spawn(function, arguments),
        }
        .unwrap()
    }
}

/// Joins a process, and fails if that takes longer than the limit.
pub fn joined<R: Message>(process: Process<R>) -> Result<R, procession::ProcessError> {
    process.join_timeout(LIMIT).unwrap_or_else(|process| {
        let _ = process.kill();
        panic!("{} hangs", process.name())
    })
}

/// Calls a function until it returns true. Returns whether it did so within [`LIMIT`].
pub fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    is_so()
}

/// What the async tasks of this process wait for, by their records: the details of those that wait for `what`.
pub fn waits_in_loops(what: What) -> Vec<u64> {
    let family = Family::home().unwrap();
    let own = |seat: &Seat| seat.slot().pid() == std::process::id();
    let mut block = family
        .seats()
        .find(own)
        .unwrap()
        .slot()
        .waits
        .load(Ordering::Acquire);
    let mut details = Vec::new();
    while block != 0 {
        let here = family.at::<WaitsBlock>(block);
        for record in &here.records {
            if record.thread.load(Ordering::Acquire) as u32 == what as u32 | IN_LOOP as u32 {
                details.push(record.detail.load(Ordering::Relaxed));
            }
        }
        block = here.next.load(Ordering::Acquire);
    }
    details
}

/// The texts of all labels in the family's memory: name, a zero byte, place.
pub fn labels() -> Vec<String> {
    let family = Family::home().unwrap();
    let top = family.ledger().top.load(Ordering::Acquire);
    let mut found = Vec::new();
    for at in (procession_core::family::layout::HEAP..top).step_by(64) {
        let header = family.at::<Header>(at);
        let tag = Tag(header.tag.load(Ordering::Acquire));
        let len = header.operations.load(Ordering::Relaxed);
        if tag.kind() == Some(Kind::Label) && tag.live() && (1..500).contains(&len) {
            let mut text = Vec::new();
            family.copy_out(at + TEXT, len as usize, &mut text);
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    found
}

/// Defines the test once for each way to start a process, under the same name.
#[macro_export]
macro_rules! every_way {
    ($($name:ident)*) => {
        mod fork {
            $(#[test]
            fn $name() {
                super::$name($crate::common::Way::Fork);
            })*
        }
        mod spawn {
            $(#[test]
            fn $name() {
                super::$name($crate::common::Way::Spawn);
            })*
        }
        mod forkserver {
            $(#[test]
            fn $name() {
                super::$name($crate::common::Way::ForkServer);
            })*
        }
    };
}
