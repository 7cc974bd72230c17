//! Family memory of a process that has closed its descriptor: through its mapping.

use super::descriptors::Identity;
use crate::memory::Source;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// The mappings of family memory in a process.
#[derive(Debug)]
pub(super) struct Mapping {
    pid: u32,
    pub(super) identity: Identity,
    pieces: Vec<Piece>,
}

/// One mapping.
#[derive(Debug)]
struct Piece {
    start: u64,
    end: u64,
    offset: u64,
}

/// The mappings of family memory, if there are any.
pub(super) fn mappings(pid: u32) -> io::Result<Option<Mapping>> {
    Ok(parse(pid, &fs::read_to_string(format!("/proc/{pid}/maps"))?))
}

fn parse(pid: u32, maps: &str) -> Option<Mapping> {
    let mut found: Option<Mapping> = None;
    for line in maps.lines().filter(|line| line.contains("/memfd:procession")) {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let offset = words.nth(1)?;
        let (major, minor) = words.next()?.split_once(':')?;
        let inode = words.next()?.parse().ok()?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let device = rustix::fs::makedev(hex(major)? as u32, hex(minor)? as u32);
        let piece = Piece {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(offset)?,
        };
        let mapping = found.get_or_insert(Mapping {
            pid,
            identity: (device, inode),
            pieces: Vec::new(),
        });
        if mapping.identity.1 == inode {
            mapping.pieces.push(piece);
        }
    }
    found
}

impl Mapping {
    /// Opens the mapped file.
    pub(super) fn file(&self) -> io::Result<File> {
        let piece = self.pieces.first().ok_or(io::ErrorKind::NotFound)?;
        File::open(format!(
            "/proc/{}/map_files/{:x}-{:x}",
            self.pid, piece.start, piece.end
        ))
    }

    /// Reads the file through the memory of the process.
    pub(super) fn through_memory(self) -> io::Result<Through> {
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        Ok(Through {
            memory,
            pieces: self.pieces,
        })
    }
}

/// Family memory through the memory of a process. The rest of this crate reads only what has real memory already: here
/// reading a hole would allocate it.
#[derive(Debug)]
pub(super) struct Through {
    memory: File,
    pieces: Vec<Piece>,
}

impl Source for Through {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let inside = |piece: &&Piece| (piece.offset..piece.offset + (piece.end - piece.start)).contains(&at);
        let Some(piece) = self.pieces.iter().find(inside) else {
            return Ok(0);
        };
        let address = piece.start + (at - piece.offset);
        let most = into.len().min((piece.end - address) as usize);
        self.memory.read_at(&mut into[..most], address)
    }

    /// None: a copy would touch every page, and so allocate the holes.
    fn extents(&self, _end: u64) -> io::Result<Vec<(u64, u64)>> {
        Err(io::Error::other(
            "the memory can only be read through a process here, which would allocate its holes",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_family_memory_are_found_among_others() {
        let maps = "\
7f00-7f10 rw-s 00000000 00:01 42                    /memfd:procession (deleted)
7f10-7f20 r-xp 00000000 08:01 7                     /usr/lib/x.so
8000-8100 rw-s 00001000 00:01 42                    /memfd:procession (deleted)
";
        let mapping = parse(1, maps).expect("there");
        assert_eq!(mapping.identity.1, 42);
        let pieces: Vec<_> = mapping.pieces.iter().map(|p| (p.start, p.offset)).collect();
        assert_eq!(pieces, [(0x7f00, 0), (0x8000, 0x1000)]);
        assert!(parse(1, "7f10-7f20 r-xp 00000000 08:01 7 /usr/lib/x.so\n").is_none());
    }
}
