//! What many tasks have in common (a function, its constant arguments): written once into family memory, and read by a
//! worker once, when it takes the first task that names it.

use crate::error::{Error, Result};
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Hold};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

/// A definition, held by the process that made it. As long as it is, tasks may name it.
#[derive(Debug)]
pub struct Definition {
    block: Hold,
    /// What it refers to.
    _carried: Vec<Hold>,
}

/// A definition as a worker finds it.
#[derive(Debug)]
pub struct Found {
    /// What the faces make of the bytes.
    pub encoding: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The references that they name by order.
    pub carried: Vec<Hold>,
    /// The block itself.
    pub block: Hold,
}

/// Words before the references: encoding, bytes, references.
const WORDS: u64 = 3;

impl Definition {
    /// Writes a definition down.
    ///
    /// # Errors
    /// Memory.
    pub fn new(
        family: &'static Family,
        encoding: u32,
        parts: [&[u8]; 2],
        carried: Vec<Hold>,
    ) -> Result<Definition> {
        let len = (parts[0].len() + parts[1].len()) as u64;
        let start = 8 * (WORDS + 2 * carried.len() as u64);
        let block = family.empty_buffer(start + len)?;
        let at = |n: u64| family.at::<AtomicU64>(block.offset + HEADER + 8 * n);
        let first = [u64::from(encoding), len, carried.len() as u64];
        let places = carried
            .iter()
            .flat_map(|hold| [hold.offset, u64::from(hold.generation)]);
        for (n, word) in (0..).zip(first.into_iter().chain(places)) {
            // Relaxed: the queue's commit of a task that names the block orders them.
            at(n).store(word, Ordering::Relaxed);
        }
        family.copy_in(block.offset + HEADER + start, parts[0]);
        family.copy_in(block.offset + HEADER + start + parts[0].len() as u64, parts[1]);
        Ok(Definition {
            block,
            _carried: carried,
        })
    }

    /// What tasks name it by: offset and generation.
    #[must_use]
    pub fn key(&self) -> (u64, u32) {
        (self.block.offset, self.block.generation)
    }
}

impl Found {
    /// The definition with this key.
    ///
    /// # Errors
    /// Its maker has let go of it: the task that names it is settled already. Memory for the held table.
    pub fn open(family: &'static Family, key: (u64, u32)) -> Result<Found> {
        let block = family.open(key.0, key.1, Kind::Buffer)?;
        let word = |n: u64| {
            family
                .at::<AtomicU64>(block.offset + HEADER + 8 * n)
                .load(Ordering::Relaxed)
        };
        let (encoding, len, count) = (word(0) as u32, word(1), word(2));
        let mut carried = Vec::new();
        for n in 0..count {
            let (offset, generation) = (word(WORDS + 2 * n), word(WORDS + 2 * n + 1) as u32);
            let header = family.at::<crate::family::object::Header>(offset);
            let kind = header.tag().kind().ok_or(Error::Stale { kind: "buffer" })?;
            carried.push(family.open(offset, generation, kind)?);
        }
        let mut bytes = Vec::new();
        family.copy_out(
            block.offset + HEADER + 8 * (WORDS + 2 * count),
            len as usize,
            &mut bytes,
        );
        Ok(Found {
            encoding,
            bytes,
            carried,
            block,
        })
    }

    /// Whether its maker has let go of a definition, so that no task will name it any more.
    #[must_use]
    pub fn is_over(family: &'static Family, key: (u64, u32)) -> bool {
        let tag = family.at::<crate::family::object::Header>(key.0).tag();
        tag.generation() != key.1 || !tag.live()
    }
}
