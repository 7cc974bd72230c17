//! Handles: the bytes that name a shared object, the same in every member and in every message.

use super::held::Hold;
use super::object::Kind;
use super::{Family, join};
use crate::error::{Error, Result};

/// Length of a handle in bytes.
pub const HANDLE_BYTES: usize = 36;

/// Names an object of a family's memory.
///
/// Its bytes, all little-endian: family id (16), offset (8), generation (4), and the place where a process that does
/// not have the memory yet can open it: a live member's pid (4) and the number of its descriptor (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Id of the family.
    pub family: [u8; 16],
    /// Offset of the object.
    pub offset: u64,
    /// Generation of the object.
    pub generation: u32,
    /// Pid of a member that has the memory open.
    pub pid: u32,
    /// Number of the memory's descriptor in that member.
    pub fd: u32,
}

impl Handle {
    /// Encodes the handle.
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

    /// Decodes a handle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Handle> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().map_err(|_| Error::NotAHandle {
            why: "it has the wrong length",
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

    /// Returns whether this process is in the object's family, so that opening the handle joins no other family.
    #[must_use]
    pub fn is_within_reach(&self) -> bool {
        join::joined().any(|family| family.id() == self.family)
    }

    /// Creates a reference to the object. Its family may be this process's own, one that it has joined, or one that
    /// it joins now through the descriptor of the member that made the handle.
    pub fn open(&self, kind: Kind) -> Result<Hold> {
        let visit = Family::find(&self.family, self.pid, self.fd)?;
        visit.family().open(self.offset, self.generation, kind)
    }
}

impl Hold {
    /// Creates a handle of the object, which names this process as the member that has the memory open.
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
