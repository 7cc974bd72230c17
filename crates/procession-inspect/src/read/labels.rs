//! Labels: the name of an object, and the place in the program where it was made.

use super::heap::{Block, Heap};
use crate::memory::{Memory, text};

/// Longest label that is read without its block.
const LONGEST: u64 = 4096;

/// The labels of a family.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    memory: &'a Memory,
    heap: &'a Heap,
}

/// The text of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    pub(crate) name: Option<String>,
    pub(crate) made_at: Option<String>,
}

impl<'a> Labels<'a> {
    pub(crate) fn new(memory: &'a Memory, heap: &'a Heap) -> Self {
        Labels { memory, heap }
    }

    /// The word by which a block names its label.
    pub(crate) fn word(&self, block: &Block) -> u64 {
        let places = &self.memory.places;
        match block.kind {
            "Array" | "Pool" => places.header.waits.of(block.header()),
            _ if block.big => 0,
            _ => places.header.resident.of(block.header()),
        }
    }

    /// The label of a block.
    pub(crate) fn of(&self, block: &Block) -> Label {
        self.read(self.word(block))
    }

    /// The label that a word names.
    pub(crate) fn read(&self, word: u64) -> Label {
        let Some(block) = self.heap.named(word).filter(|block| block.kind == "Label") else {
            return Label::default();
        };
        let places = &self.memory.places;
        let bytes = self.heap.bytes(block);
        let len = places.header.operations.of(bytes) as usize;
        let all = bytes.get(places.at.label..).unwrap_or_default();
        let all = &all[..len.min(all.len())];
        let split = all.iter().position(|byte| *byte == 0).unwrap_or(all.len());
        let some = |bytes: &[u8]| Some(text(bytes)).filter(|text| !text.is_empty());
        Label {
            name: some(&all[..split]),
            made_at: some(all.get(split + 1..).unwrap_or_default()),
        }
    }

    /// The name of the function of a definition that a word names.
    pub(crate) fn function(&self, definition: u64) -> Option<String> {
        let block = self.heap.named(definition)?;
        let at = block.at + super::heap::HEADER as u64 + self.memory.places.definition.label.offset as u64;
        let label = self.read(self.memory.word(at).ok()?);
        label.name.or(label.made_at)
    }
}

/// The name of the function of the definition at an offset, from memory alone: for those who have not walked the heap. A
/// definition that was just freed still has it.
pub(crate) fn function_of_block(memory: &Memory, definition: u64) -> Option<String> {
    let places = &memory.places;
    let label = places.definition.label.offset as u64;
    let word = memory
        .word(definition + super::heap::HEADER as u64 + label)
        .ok()?;
    let at = word & 0xff_ffff_ffff;
    let header = memory.bytes(at, super::heap::HEADER as u64).ok()?;
    let tag = places.header.tag.of(&header);
    let is_label = places.kinds.name((tag >> 16) as u32 & 0xffff) == Some("Label")
        && tag & 1 == 1
        && tag >> 32 & 0xff_ffff == word >> 40;
    if word == 0 || !is_label {
        return None;
    }
    let len = places.header.operations.of(&header).min(LONGEST);
    let all = memory.bytes(at + places.at.label as u64, len).ok()?;
    let split = all.iter().position(|byte| *byte == 0).unwrap_or(all.len());
    let some = |bytes: &[u8]| Some(text(bytes)).filter(|text| !text.is_empty());
    some(&all[..split]).or_else(|| some(all.get(split + 1..).unwrap_or_default()))
}
