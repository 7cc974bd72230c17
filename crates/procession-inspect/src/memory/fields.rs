//! The field table in the first page: where each field of each shared struct lies.
//!
//! | offset | contents |
//! |---|---|
//! | 64 | build id |
//! | 72 | version of Procession |
//! | 80 | number of entries |
//! | 88 | the entries: FNV-1a hash of the name in the lower half, size, place or number in the upper half |

use super::PAGE;
use crate::error::{Error, Result};
use std::collections::HashMap;

const COUNT: usize = 80;
const ENTRIES: usize = 88;

/// The names of the table, by their hashes.
#[derive(Debug)]
pub(crate) struct Fields(HashMap<u32, u32>);

/// Place of a field in its struct.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) width: usize,
}

impl Place {
    /// Reads the number in this field of a struct that begins where `bytes` do. 0 if it lies outside.
    #[inline]
    pub(crate) fn of(self, bytes: &[u8]) -> u64 {
        let Some(field) = bytes.get(self.offset..) else {
            return 0;
        };
        match (self.width, field) {
            (4, [a, b, c, d, ..]) => u32::from_le_bytes([*a, *b, *c, *d]).into(),
            (8, field) => field.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight)),
            _ => 0,
        }
    }

    /// Reads word `index` of a field that is an array of words.
    #[inline]
    pub(crate) fn at(self, bytes: &[u8], index: usize) -> u64 {
        if 8 * (index + 1) > self.width {
            return 0;
        }
        Place {
            offset: self.offset + 8 * index,
            width: 8,
        }
        .of(bytes)
    }

    /// The bytes of this field; fewer if the struct ends before.
    #[inline]
    pub(crate) fn slice(self, bytes: &[u8]) -> &[u8] {
        let end = bytes.len().min(self.offset + self.width);
        bytes.get(self.offset..end).unwrap_or_default()
    }

    /// The text in this field, which zeros end.
    pub(crate) fn text(self, bytes: &[u8]) -> String {
        text(self.slice(bytes))
    }

    /// Place of a field of the struct that this field is.
    pub(crate) fn inside(self, field: Place) -> Place {
        Place {
            offset: self.offset + field.offset,
            width: field.width,
        }
    }
}

/// The text up to the first zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Fields {
    /// Reads the table from the first page.
    pub(super) fn read(page: &[u8]) -> Result<Fields> {
        let count = Place {
            offset: COUNT,
            width: 8,
        }
        .of(page);
        if count > (PAGE - ENTRIES as u64) / 8 {
            return Err(Error::damaged(format!("a field table of {count} entries")));
        }
        let entries = page[ENTRIES..].chunks_exact(8).take(count as usize);
        Ok(Fields(
            entries
                .map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default()))
                .map(|entry| (entry as u32, (entry >> 32) as u32))
                .collect(),
        ))
    }

    /// The number that a name has: the size of a struct, the number of a kind, an offset in the file.
    pub(crate) fn number(&self, name: &str) -> Result<u32> {
        self.0
            .get(&hash(name))
            .copied()
            .ok_or_else(|| Error::damaged(format!("the field table does not name {name}")))
    }

    /// Place of a field, under the name `Struct.field`.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let place = self.number(name)?;
        Ok(Place {
            offset: (place & 0xffff) as usize,
            width: (place >> 16) as usize,
        })
    }
}

/// FNV-1a with 32 bits.
pub(crate) fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
