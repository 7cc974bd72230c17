//! Handles: the few bytes that name a shared object, the same in every member and in every message.

use super::held::Hold;
use super::object::Kind;
use super::{Family, join};
use crate::error::{Error, Result};

/// A handle's length in bytes.
pub const HANDLE_BYTES: usize = 36;

/// Names an object of a family's memory.
///
/// Its bytes: family id (16), offset (8), generation (4), and where the memory can be had by a process that does not
/// have it yet: a live member's pid (4) and the number of its descriptor (4). All little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The family's id.
    pub family: [u8; 16],
    /// The object's offset.
    pub offset: u64,
    /// The object's generation.
    pub generation: u32,
    /// A member that has the memory open.
    pub pid: u32,
    /// As which descriptor.
    pub fd: u32,
}

impl Handle {
    /// The handle's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        bytes[..16].copy_from_slice(&self.family);
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.generation.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.pid.to_le_bytes());
        bytes[32..].copy_from_slice(&self.fd.to_le_bytes());
        bytes
    }

    /// The handle that these bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Handle> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().map_err(|_| Error::NotAHandle {
            why: "it has not the length of one",
        })?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut family = [0; 16];
        family.copy_from_slice(&bytes[..16]);
        Ok(Handle {
            family,
            offset: u64::from(word(16)) | u64::from(word(20)) << 32,
            generation: word(24),
            pid: word(28),
            fd: word(32),
        })
    }

    /// Whether the object is in a family that this process is in: opening it joins none.
    #[must_use]
    pub fn is_within_reach(&self) -> bool {
        join::joined().any(|family| family.id() == self.family)
    }

    /// A reference to the object, in whichever family it is: this process's own, one that it has joined, or one that
    /// it joins now through the descriptor of the member that made the handle.
    pub fn open(&self, kind: Kind) -> Result<Hold> {
        let visit = Family::find(&self.family, self.pid, self.fd)?;
        visit.family().open(self.offset, self.generation, kind)
    }
}

impl Hold {
    /// A handle of the object, as of this process.
    pub fn handle(&self) -> Handle {
        Handle {
            family: self.family.id(),
            offset: self.offset,
            generation: self.generation,
            pid: rustix::process::getpid().as_raw_nonzero().get() as u32,
            fd: self.family.fd_number() as u32,
        }
    }
}
