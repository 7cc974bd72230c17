//! The heap: walks all blocks in the order of their addresses.
//!
//! Big blocks begin at a page. Small blocks are cut from runs, and runs from chunks. A block never changes its size, and
//! its header is always a header, so the walk finds the next block whatever happens meanwhile.

use crate::error::Result;
use crate::memory::{Memory, PAGE};
use std::collections::HashMap;

/// Number of blocks at which the walk ends.
const MOST_BLOCKS: usize = 4 << 20;
/// Number of blocks for which memory is reserved before the walk, at most.
const MOST_RESERVED_BLOCKS: u64 = 64 << 10;
/// Number of bytes of contents for which memory is reserved before the walk, at most.
const MOST_RESERVED_BYTES: u64 = 32 << 20;
/// Size of a header.
pub(crate) const HEADER: usize = 64;
/// Classes from here on do not exist: `64 << 34` is a terabyte.
const CLASSES: u8 = 35;

/// A live block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) generation: u32,
    /// Size of the block in bytes.
    pub(crate) size: u64,
    /// Whether the block is big: its header tells how many bytes are resident.
    pub(crate) big: bool,
    header: [u8; HEADER],
    body: (usize, usize),
}

impl Block {
    /// The header.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }
}

/// All live blocks, in the order of their addresses.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(crate) blocks: Vec<Block>,
    /// False: the walk ended at the limit.
    pub(crate) complete: bool,
    bodies: Vec<u8>,
    index: HashMap<u64, usize>,
}

impl Heap {
    /// The bytes of a block from its header on, if the observer needs blocks of its kind; otherwise the header.
    pub(crate) fn bytes<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        match block.body {
            (_, 0) => &block.header,
            (from, to) => &self.bodies[from..to],
        }
    }

    /// The live block at an offset.
    pub(crate) fn at(&self, offset: u64) -> Option<&Block> {
        self.index.get(&offset).map(|position| &self.blocks[*position])
    }

    /// The live block that a word names: its offset in the lower 40 bits, the lower bits of its generation above.
    pub(crate) fn named(&self, word: u64) -> Option<&Block> {
        let block = self.at(word & 0xff_ffff_ffff)?;
        (block.generation & 0xff_ffff == (word >> 40) as u32).then_some(block)
    }
}

/// Kinds of which the body is kept.
pub(crate) fn is_read(kind: &str) -> bool {
    !matches!(
        kind,
        "Segment" | "Buffer" | "Bundle" | "DictTable" | "DictEntry" | "Guarded" | "Array" | "Waits"
    )
}

/// Walks the heap.
pub(crate) fn read(memory: &Memory) -> Result<Heap> {
    let at = &memory.places.at;
    let top = memory.word(at.ledger + memory.places.ledger.top.offset as u64)?;
    let top = top.min(memory.head.length);
    // Vectors that grow are copied. A damaged number may not allocate more than this.
    let blocks = memory.word(at.ledger + memory.places.ledger.blocks.offset as u64)?;
    let blocks = blocks.min(MOST_RESERVED_BLOCKS) as usize;
    let bytes = memory.source().resident().unwrap_or(0).min(MOST_RESERVED_BYTES) as usize;
    let mut walk = Walk {
        memory,
        heap: Heap {
            complete: true,
            blocks: Vec::with_capacity(blocks),
            bodies: Vec::with_capacity(bytes),
            index: HashMap::with_capacity(blocks),
        },
    };
    let mut offset = at.heap;
    while offset < top {
        if walk.heap.blocks.len() >= MOST_BLOCKS {
            walk.heap.complete = false;
            break;
        }
        let header = memory.bytes(offset, HEADER as u64)?;
        let tag = memory.places.header.tag.of(&header);
        // The last extension: its first block is about to be given out.
        if tag == 0 {
            break;
        }
        let class = (tag >> 8) as u8;
        if class < at.small {
            let chunk = memory.bytes(offset, at.chunk)?;
            walk.chunk(offset, &chunk);
            offset += at.chunk;
        } else if class < CLASSES {
            walk.found(offset, &header, true);
            offset = offset.saturating_add(64 << class).next_multiple_of(PAGE);
        } else {
            return Err(crate::Error::damaged(format!(
                "a block of class {class} at {offset:#x}"
            )));
        }
    }
    Ok(walk.heap)
}

/// The offsets of the blocks of a chunk, in use or free, with their sizes.
pub(crate) fn blocks_of_chunk(memory: &Memory, chunk: &[u8]) -> Vec<(usize, usize)> {
    let tag_at = |offset: usize| memory.places.header.tag.of(&chunk[offset..]);
    let small = memory.places.at.small;
    let mut found = Vec::new();
    let mut run = 0;
    while run + HEADER <= chunk.len() {
        let class = (tag_at(run) >> 8) as u8;
        if tag_at(run) == 0 || class >= small {
            break;
        }
        let size = 64usize << class;
        let end = chunk.len().min(run + (PAGE as usize).max(4 * size));
        let blocks = (run..end)
            .step_by(size)
            .filter(|block| block + size <= chunk.len());
        found.extend(blocks.map(|block| (block, size)));
        run = end;
    }
    found
}

struct Walk<'a> {
    memory: &'a Memory,
    heap: Heap,
}

impl Walk<'_> {
    /// Walks the runs of a chunk.
    fn chunk(&mut self, at: u64, chunk: &[u8]) {
        for (block, size) in blocks_of_chunk(self.memory, chunk) {
            self.found(at + block as u64, &chunk[block..block + size], false);
        }
    }

    fn found(&mut self, at: u64, bytes: &[u8], big: bool) {
        let places = &self.memory.places;
        let tag = places.header.tag.of(bytes);
        let Some(kind) = places.kinds.name((tag >> 16) as u32 & 0xffff) else {
            return;
        };
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes[..HEADER]);
        if tag & 1 == 0 {
            return;
        }
        let from = self.heap.bodies.len();
        let body = if is_read(kind) && bytes.len() > HEADER {
            self.heap.bodies.extend_from_slice(bytes);
            (from, self.heap.bodies.len())
        } else {
            (0, 0)
        };
        self.heap.index.insert(at, self.heap.blocks.len());
        self.heap.blocks.push(Block {
            at,
            kind,
            generation: (tag >> 32) as u32,
            size: 64 << ((tag >> 8) as u8).min(CLASSES),
            big,
            header,
            body,
        });
    }
}
