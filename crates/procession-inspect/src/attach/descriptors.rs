//! The descriptors of a process that may be family memory.

use crate::memory::MAGIC;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

/// Device and inode of a file.
pub(super) type Identity = (u64, u64);

/// Opens the descriptors of a process that have the contents of family memory, each file once, read-only.
pub(super) fn open(pid: u32) -> io::Result<Vec<(Identity, File)>> {
    let mut found: Vec<(Identity, File)> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // A memfd, or a file without a name where the system has no memfd. Others are not opened: that could have effects.
        let Ok(target) = fs::read_link(&path) else {
            continue;
        };
        let target = target.to_string_lossy();
        if !target.starts_with("/memfd:procession") && !target.ends_with(" (deleted)") {
            continue;
        }
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(&path);
        let Ok(file) = opened else { continue };
        let Ok(facts) = file.metadata() else { continue };
        let identity = (facts.dev(), facts.ino());
        if !facts.is_file() || found.iter().any(|(known, _)| *known == identity) {
            continue;
        }
        let mut magic = [0; 8];
        if file.read_exact_at(&mut magic, 0).is_ok() && u64::from_le_bytes(magic) == MAGIC {
            found.push((identity, file));
        }
    }
    Ok(found)
}
