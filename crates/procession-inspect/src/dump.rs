//! Dumps: a copy of family memory with the facts of the kernel, in a file. All commands take it in place of a pid, also on
//! another machine and after the family has ended.
//!
//! | offset | width | contents |
//! |---|---|---|
//! | 0 | 8 | `PROCDMP1` |
//! | 8 | 8 | length of the facts, which are JSON |
//! | 16 | 8 | number of pieces of memory |
//! | 24 | 24 each | the pieces, in the order of their offsets: offset in family memory, length, offset in the file |
//! | | | the facts, and the pieces |
//!
//! Without payloads the dump has no bytes of messages, arrays, dictionaries and of memory that is not in use: it copies the
//! headers of all blocks, and the contents only of those that a look reads.

use crate::error::{Error, Result};
use crate::memory::{Memory, PAGE, Source};
use crate::read::heap::{HEADER, blocks_of_chunk, is_read};
use crate::read::{Extras, Observer, Recorded};
use crate::{output, stacks};
use rustix::fs::OFlags;
use std::fs::{File, FileType, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

const MAGIC: &[u8; 8] = b"PROCDMP1";
const HEAD: u64 = 24;
const ENTRY: u64 = 24;
/// Longest facts that are read.
const LONGEST_FACTS: u64 = 256 << 20;
/// Largest number of pieces that are read.
const MOST_PIECES: u64 = 16 << 20;
/// Longest piece that is copied at once.
const STEP: u64 = 1 << 20;
/// Longest time for the stacks of all members.
const LONGEST_FOR_STACKS: Duration = Duration::from_secs(10);

/// Writes a dump of the family to a new file, which only this user may read. Returns its length in bytes.
///
/// # Errors
/// The memory cannot be read, or the file cannot be written or exists.
pub fn write(observer: &Observer, path: &Path, payloads: bool) -> Result<u64> {
    let dump = Dumped::of(observer, payloads)?;
    output::create(path, "dump", |file| dump.put(file))
}

/// Writes a dump of the family to `out`, which may be a pipe. Returns its length in bytes. `name`: how errors call `out`.
///
/// # Errors
/// The memory cannot be read, or `out` cannot be written.
pub fn write_to(observer: &Observer, out: impl Write, name: &str, payloads: bool) -> Result<u64> {
    Dumped::of(observer, payloads)?
        .put(out)
        .map_err(|e| Error::file(name, e))
}

/// A piece of memory: offset and contents.
type Piece = (u64, Vec<u8>);

/// What a dump contains.
struct Dumped {
    /// The facts as JSON.
    facts: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Dumped {
    fn of(observer: &Observer, payloads: bool) -> Result<Dumped> {
        let mut pieces = Vec::new();
        let mut facts = observer.record(|memory| {
            pieces = if payloads {
                everything(memory)?
            } else {
                structure(memory)?
            };
            Ok(())
        })?;
        let family = observer.look(Extras::default())?;
        facts.stacks = stacks::stacks(observer, &family, &[], LONGEST_FOR_STACKS);
        let facts = serde_json::to_vec(&facts).map_err(|e| Error::damaged(e.to_string()))?;
        Ok(Dumped { facts, pieces })
    }

    fn put(&self, out: impl Write) -> io::Result<u64> {
        let mut out = io::BufWriter::new(out);
        out.write_all(MAGIC)?;
        out.write_all(&(self.facts.len() as u64).to_le_bytes())?;
        out.write_all(&(self.pieces.len() as u64).to_le_bytes())?;
        let mut at = HEAD + ENTRY * self.pieces.len() as u64 + self.facts.len() as u64;
        for (offset, bytes) in &self.pieces {
            for word in [*offset, bytes.len() as u64, at] {
                out.write_all(&word.to_le_bytes())?;
            }
            at += bytes.len() as u64;
        }
        out.write_all(&self.facts)?;
        for (_, bytes) in &self.pieces {
            out.write_all(bytes)?;
        }
        out.flush()?;
        Ok(at)
    }
}

/// All memory that the family has used.
fn everything(memory: &Memory) -> Result<Vec<Piece>> {
    let top = top(memory)?;
    let mut pieces = Vec::new();
    for (from, to) in memory.source().extents(top).map_err(Error::Memory)? {
        let mut at = from;
        while at < to {
            let len = STEP.min(to - at);
            pieces.push((at, memory.bytes(at, len)?));
            at += len;
        }
    }
    Ok(pieces)
}

fn top(memory: &Memory) -> Result<u64> {
    let places = &memory.places;
    let top = memory.word(places.at.ledger + places.ledger.top.offset as u64)?;
    Ok(top.min(memory.head.length))
}

/// What a look reads: page 0, the ledger, the registry, all headers, and the contents of blocks that are read.
fn structure(memory: &Memory) -> Result<Vec<Piece>> {
    let places = &memory.places;
    let at = &places.at;
    let slots = memory.word(at.ledger + places.ledger.slots.offset as u64)?;
    let mut pieces = vec![
        (0, memory.bytes(0, PAGE)?),
        (at.ledger, memory.bytes(at.ledger, places.ledger.size)?),
        (
            at.registry,
            memory.bytes(at.registry, slots.min(65_535) * places.slot.size)?,
        ),
    ];
    // The journal of the ledger contains words of any block.
    if let Some(ledger) = pieces.get_mut(1) {
        let notes = places.ledger.notes.offset..places.ledger.notes.offset + places.ledger.notes.width;
        if let Some(notes) = ledger.1.get_mut(notes) {
            notes.fill(0);
        }
    }
    let top = top(memory)?;
    let mut offset = at.heap;
    while offset < top {
        let header = memory.bytes(offset, HEADER as u64)?;
        let tag = places.header.tag.of(&header);
        let class = (tag >> 8) as u8;
        if tag == 0 || class >= 35 {
            break;
        }
        if class < at.small {
            let mut chunk = memory.bytes(offset, at.chunk)?;
            blank(memory, &mut chunk);
            pieces.push((offset, chunk));
            offset += at.chunk;
            continue;
        }
        let resident = places.header.resident.of(&header);
        let kind = places.kinds.name((tag >> 16) as u32 & 0xffff);
        let whole = matches!(kind, Some("Pool" | "WorkerSlots")) && tag & 1 == 1;
        let bytes = if whole {
            memory.bytes(offset, resident.min(64 << class))?
        } else {
            header
        };
        pieces.push((offset, bytes));
        offset = offset.saturating_add(64 << class).next_multiple_of(PAGE);
    }
    Ok(pieces)
}

/// Overwrites what a dump without payloads does not contain with zeros.
fn blank(memory: &Memory, chunk: &mut [u8]) {
    let places = &memory.places;
    let mut behind = 0;
    for (at, size) in blocks_of_chunk(memory, chunk) {
        let tag = places.header.tag.of(&chunk[at..]);
        let kind = places.kinds.name((tag >> 16) as u32 & 0xffff);
        let keeps = tag & 1 == 1 && kind.is_some_and(|kind| is_read(kind) || kind == "Waits");
        // The label of a definition stands in front of its bytes.
        let label = at + HEADER + places.definition.label.offset;
        let word: Vec<u8> = chunk[label.min(at + size)..(label + 8).min(at + size)].to_vec();
        if !keeps {
            chunk[at + HEADER..at + size].fill(0);
        }
        if kind == Some("Buffer") && names_label(memory, &word) {
            chunk[label..label + 8].copy_from_slice(&word);
        }
        behind = at + size;
    }
    chunk[behind..].fill(0);
}

/// Whether a word names a live label: then it is part of a definition, and no payload.
fn names_label(memory: &Memory, word: &[u8]) -> bool {
    let Ok(word) = word.try_into().map(u64::from_le_bytes) else {
        return false;
    };
    let places = &memory.places;
    let offset = word & 0xff_ffff_ffff;
    let in_heap = offset >= places.at.heap && top(memory).is_ok_and(|top| offset < top) && offset % 64 == 0;
    if word == 0 || !in_heap {
        return false;
    }
    let tag = memory.word(offset + places.header.tag.offset as u64).unwrap_or(0);
    tag & 1 == 1
        && places.kinds.name((tag >> 16) as u32 & 0xffff) == Some("Label")
        && (tag >> 32) & 0xff_ffff == word >> 40
}

/// Opens a dump.
///
/// # Errors
/// The file cannot be read, is no regular file, is no dump, or is damaged.
pub fn open(path: &Path) -> Result<Observer> {
    // Opening a pipe would wait for a process that writes into it, and opening a device may change something.
    regular(path, std::fs::metadata(path))?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path);
    let file = file.map_err(|e| Error::file(path, e))?;
    let length = regular(path, file.metadata())?;
    of_file(file, length, &path.display().to_string())
}

/// Opens a dump that arrives through a pipe. It is copied into memory of the kernel first.
///
/// # Errors
/// The stream cannot be read, is no dump, or the dump is damaged.
pub fn open_stream(mut from: impl io::Read, name: &str) -> Result<Observer> {
    let error = |e: io::Error| Error::file(name, e);
    let mut copy = File::from(
        rustix::fs::memfd_create("dump", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| error(e.into()))?,
    );
    let length = io::copy(&mut from, &mut copy).map_err(error)?;
    of_file(copy, length, name)
}

fn of_file(file: File, length: u64, name: &str) -> Result<Observer> {
    let read = move |at: u64, into: &mut [u8]| file.read_exact_at(into, at);
    of(Box::new(read), length, name)
}

/// The length of a regular file.
fn regular(path: &Path, facts: io::Result<Metadata>) -> Result<u64> {
    let facts = facts.map_err(|e| Error::file(path, e))?;
    if facts.is_file() {
        return Ok(facts.len());
    }
    let kind = match facts.file_type() {
        kind if kind.is_dir() => "a directory",
        kind if FileType::is_fifo(&kind) => "a pipe (FIFO)",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    };
    Err(Error::NoRegularFile {
        path: path.display().to_string(),
        kind,
    })
}

/// Opens a dump that lies in memory.
///
/// # Errors
/// It is no dump, or is damaged.
pub fn open_bytes(bytes: Vec<u8>) -> Result<Observer> {
    let length = bytes.len() as u64;
    let read = move |at: u64, into: &mut [u8]| {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let part = bytes.get(from..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    of(Box::new(read), length, "it")
}

/// Fills a buffer from an offset of the dump.
type Read = Box<dyn Fn(u64, &mut [u8]) -> io::Result<()> + Send>;

fn of(read: Read, length: u64, name: &str) -> Result<Observer> {
    let bytes = |at: u64, len: u64| {
        let mut bytes = vec![0; len as usize];
        read(at, &mut bytes).map_err(|_| Error::damaged("the dump ends too early"))?;
        Ok::<_, Error>(bytes)
    };
    let head = bytes(0, HEAD.min(length))?;
    let word = |bytes: &[u8], at: usize| {
        let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
        eight.map_or(0, u64::from_le_bytes)
    };
    if head.get(..8) != Some(MAGIC) {
        return Err(Error::NoDump {
            name: name.to_owned(),
        });
    }
    let (facts, count) = (word(&head, 8), word(&head, 16));
    if facts > LONGEST_FACTS.min(length) || count > MOST_PIECES.min(length / ENTRY) {
        return Err(Error::damaged("the dump ends too early"));
    }
    let table = bytes(HEAD, ENTRY * count)?;
    let facts = bytes(HEAD + ENTRY * count, facts)?;
    let recorded: Recorded =
        serde_json::from_slice(&facts).map_err(|e| Error::damaged(format!("the facts of the dump: {e}")))?;
    let mut pieces = Vec::new();
    let mut behind = 0;
    for entry in table.chunks_exact(ENTRY as usize) {
        let (offset, len, at) = (word(entry, 0), word(entry, 8), word(entry, 16));
        let fits = at.checked_add(len).is_some_and(|end| end <= length);
        let end = offset.checked_add(len);
        if !fits || offset < behind || end.is_none() {
            return Err(Error::damaged("the pieces of the dump overlap"));
        }
        behind = offset + len;
        pieces.push((offset, len, at));
    }
    let memory = Memory::open(Box::new(Dump { read, pieces }))?;
    Ok(Observer::of_dump(memory, recorded))
}

/// The memory in a dump. What it does not contain is zero.
struct Dump {
    read: Read,
    pieces: Vec<(u64, u64, u64)>,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dump({} pieces)", self.pieces.len())
    }
}

impl Source for Dump {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let next = self.pieces.partition_point(|(offset, len, _)| offset + len <= at);
        let Some((offset, len, from)) = self.pieces.get(next) else {
            return Ok(0);
        };
        if at < *offset {
            let gap = into.len().min((offset - at) as usize);
            into[..gap].fill(0);
            return Ok(gap);
        }
        let within = at - offset;
        let most = into.len().min((len - within) as usize);
        (self.read)(from + within, &mut into[..most])?;
        Ok(most)
    }
}
