//! Definitions: what many tasks have in common (a function, its constant arguments). A definition is written once
//! into family memory, and each worker reads it once, when it takes the first task that names it.

use crate::error::{Error, Result};
use crate::family::label::Label;
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Hold};
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use std::sync::Arc;

/// A definition, held by the process that made it. While it exists, tasks may name it.
#[derive(Debug)]
pub struct Definition {
    block: Hold,
    /// The references that the definition's bytes need.
    _refs: Vec<Hold>,
    /// The label that the block names.
    label: Option<Arc<Label>>,
}

/// A definition as a worker reads it.
#[derive(Debug)]
pub struct ReceivedDefinition {
    /// How the face encodes the bytes.
    pub encoding: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The references that the bytes name by index.
    pub refs: Vec<Hold>,
    /// The reference to the block.
    pub block: Hold,
}

/// The words of a definition's block, behind the header. Two words for each reference follow (offset, generation),
/// and then the bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct DefinitionHead {
    /// How the face encodes the bytes.
    encoding: AtomicU64,
    /// Number of bytes.
    len: AtomicU64,
    /// Number of references.
    refs: AtomicU64,
    /// The label with the name of the function ([`crate::family::object::named`]), or 0.
    label: AtomicU64,
}

shared!(DefinitionHead, 32, { encoding, len, refs, label });

/// Number of words before the references.
const WORDS: u64 = 4;

impl Definition {
    /// Writes a definition into family memory.
    ///
    /// # Errors
    /// No memory is left.
    pub fn new(
        family: &'static Family,
        encoding: u32,
        parts: [&[u8]; 2],
        refs: Vec<Hold>,
    ) -> Result<Definition> {
        let len = (parts[0].len() + parts[1].len()) as u64;
        let start = 8 * (WORDS + 2 * refs.len() as u64);
        let block = family.buffer_behind(start, parts)?;
        let at = |n: u64| family.at::<AtomicU64>(block.offset + HEADER + 8 * n);
        let first = [u64::from(encoding), len, refs.len() as u64, 0];
        let places = refs
            .iter()
            .flat_map(|hold| [hold.offset, u64::from(hold.generation)]);
        for (n, word) in (0..).zip(first.into_iter().chain(places)) {
            // Relaxed: the commit of a task that names the block orders these stores.
            at(n).store(word, Ordering::Relaxed);
        }
        Ok(Definition {
            block,
            _refs: refs,
            label: None,
        })
    }

    /// Gives the definition a label: the name of its function. Called before a task names the definition.
    #[must_use]
    pub fn labelled(mut self, label: Arc<Label>) -> Definition {
        let head = self.block.family.at::<DefinitionHead>(self.block.offset + HEADER);
        // The label lives as long as this object, and so as long as the definition.
        head.label.store(label.named(), Ordering::Relaxed);
        self.label = Some(label);
        self
    }

    /// Offset and generation, by which tasks name the definition.
    #[must_use]
    pub fn key(&self) -> (u64, u32) {
        (self.block.offset, self.block.generation)
    }
}

impl ReceivedDefinition {
    /// Opens the definition with this key.
    ///
    /// # Errors
    /// Its maker has dropped it, so the task that names it is settled already. No memory is left for the held table.
    pub fn open(family: &'static Family, key: (u64, u32)) -> Result<ReceivedDefinition> {
        let block = family.open(key.0, key.1, Kind::Buffer)?;
        let word = |n: u64| {
            family
                .at::<AtomicU64>(block.offset + HEADER + 8 * n)
                .load(Ordering::Relaxed)
        };
        let (encoding, len, count) = (word(0) as u32, word(1), word(2));
        let mut refs = Vec::new();
        for n in 0..count {
            let (offset, generation) = (word(WORDS + 2 * n), word(WORDS + 2 * n + 1) as u32);
            let header = family.at::<crate::family::object::Header>(offset);
            let kind = header.tag().kind().ok_or(Error::Stale { kind: "buffer" })?;
            refs.push(family.open(offset, generation, kind)?);
        }
        let mut bytes = Vec::new();
        family.copy_out(
            block.offset + HEADER + 8 * (WORDS + 2 * count),
            len as usize,
            &mut bytes,
        );
        Ok(ReceivedDefinition {
            encoding,
            bytes,
            refs,
            block,
        })
    }

    /// Returns whether the maker of a definition has dropped it, so that no later task names it.
    #[must_use]
    pub fn is_over(family: &'static Family, key: (u64, u32)) -> bool {
        let tag = family.at::<crate::family::object::Header>(key.0).tag();
        tag.generation() != key.1 || !tag.live()
    }
}
