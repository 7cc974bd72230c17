//! Family memory, as an observer reads it: a source of bytes, the header, and the field table.
//!
//! Everything here reads by `pread`. A mapping would not do: reading a hole of a shared mapping allocates the page.

mod fields;
mod places;
mod source;

pub(crate) use fields::{Fields, Place, text};
pub(crate) use places::*;
pub use source::{Opened, Source};

use crate::error::{Error, Result};

/// `PROCESSN` as a little-endian number: the first word of every family's memory.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROCESSN");
/// The version of the layout that this observer reads.
pub const VERSION: u32 = 3;
/// The page size, at which big blocks begin.
pub(crate) const PAGE: u64 = 4096;
/// Longest memory that a family can have.
const LONGEST_FAMILY: u64 = 1 << 40;
/// Longest piece that is read at once: a damaged length cannot make the observer allocate more.
const LONGEST_READ: u64 = 16 << 20;

/// The facts of the first 64 bytes, whose layout never changes.
#[derive(Clone, Debug)]
pub struct Head {
    /// Pid of the process that founded the family, in the family's PID namespace.
    pub root: u32,
    /// The id of the family.
    pub id: u128,
    /// Length of the memory in bytes.
    pub length: u64,
    /// Time at which the family was founded, in nanoseconds of the monotonic clock.
    pub created: u64,
}

/// The memory of a family.
#[derive(Debug)]
pub struct Memory {
    source: Box<dyn Source>,
    /// The header.
    pub head: Head,
    pub(crate) places: Places,
}

impl Memory {
    /// Reads the header and the field table.
    ///
    /// # Errors
    /// The memory is no family's, has another layout version, or is damaged.
    pub fn open(source: Box<dyn Source>) -> Result<Memory> {
        let mut page = vec![0; PAGE as usize];
        read_fully(&*source, 0, &mut page)?;
        let head = head(&page)?;
        let fields = Fields::read(&page)?;
        Ok(Memory {
            source,
            head,
            places: Places::find(&fields)?,
        })
    }

    /// Reads `len` bytes at `at`. What lies behind the end of the file reads as zeros.
    pub(crate) fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(len).filter(|end| *end <= self.head.length);
        if end.is_none() || len > LONGEST_READ {
            return Err(Error::damaged(format!("{len} bytes at offset {at:#x}")));
        }
        let mut bytes = vec![0; len as usize];
        read_fully(&*self.source, at, &mut bytes)?;
        Ok(bytes)
    }

    /// Number of changes that the ledger has carried out.
    pub(crate) fn sequence(&self) -> Result<u64> {
        self.word(self.places.at.ledger + self.places.ledger.sequence.offset as u64)
    }

    /// Reads one word at `at`.
    pub(crate) fn word(&self, at: u64) -> Result<u64> {
        let bytes = self.bytes(at, 8)?;
        Ok(u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// The source of the bytes.
    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }
}

/// Checks magic and version of the first page, and returns the facts of the header.
fn head(page: &[u8]) -> Result<Head> {
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap_or_default());
    if word(0) != MAGIC {
        return Err(Error::damaged("it does not begin as family memory does"));
    }
    // Above: the C library, whose mutexes the field table describes.
    let version = word(8) as u32 & 0xffff;
    if version != VERSION {
        return Err(Error::OtherVersion {
            found: version,
            known: VERSION,
        });
    }
    if word(32) > LONGEST_FAMILY {
        return Err(Error::damaged(format!("a length of {} bytes", word(32))));
    }
    Ok(Head {
        root: (word(8) >> 32) as u32,
        id: u128::from(word(16)) | u128::from(word(24)) << 64,
        length: word(32),
        created: word(40),
    })
}

/// Fills `into`; zeros stand for what lies behind the end of the source.
fn read_fully(source: &dyn Source, at: u64, into: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < into.len() {
        match source.read(at + done as u64, &mut into[done..]) {
            Ok(0) => break,
            Ok(n) => done += n.min(into.len() - done),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Memory(e)),
        }
    }
    into[done..].fill(0);
    Ok(())
}
