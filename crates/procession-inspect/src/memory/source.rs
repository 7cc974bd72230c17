//! Where the bytes of family memory come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A source of the bytes of family memory. It only reads, and allocates nothing in what it reads.
pub trait Source: std::fmt::Debug + Send {
    /// Reads bytes from `at` on; returns how many. 0: `at` is behind the end.
    ///
    /// # Errors
    /// The system's error.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Number of bytes of real memory that the family uses, if the source knows.
    fn resident(&self) -> Option<u64> {
        None
    }

    /// The ranges of `0..end` that have real memory. A source that cannot tell returns the whole range.
    ///
    /// # Errors
    /// The system's error.
    fn extents(&self, end: u64) -> io::Result<Vec<(u64, u64)>> {
        Ok(vec![(0, end)])
    }
}

/// The memory's file itself, opened read-only through `/proc`.
#[derive(Debug)]
pub struct Opened(pub File);

impl Source for Opened {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn resident(&self) -> Option<u64> {
        self.0.metadata().ok().map(|facts| facts.blocks() * 512)
    }

    fn extents(&self, end: u64) -> io::Result<Vec<(u64, u64)>> {
        use rustix::fs::SeekFrom;
        let mut extents = Vec::new();
        let mut at = 0;
        while at < end {
            let data = match rustix::fs::seek(&self.0, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            if data >= end {
                break;
            }
            let hole = rustix::fs::seek(&self.0, SeekFrom::Hole(data))?;
            extents.push((data, hole.min(end)));
            at = hole;
        }
        Ok(extents)
    }
}
