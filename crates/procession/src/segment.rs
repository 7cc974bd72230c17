//! Named segments of shared memory, for programs of different families.

use crate::memory::Mapping;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A segment of shared memory with a name, which any program of the same user can open. The names are those of POSIX
/// (`shm_open(3)`), so Python's `SharedMemory` of the same name is the same segment.
///
/// Within a family, use a [`SharedSlice`](crate::SharedSlice): it needs no name, and the kernel frees it. A named
/// segment stays until a process removes its name. The process that called [`create`](SharedMemory::create) removes it
/// when it drops the last clone of the returned value; any process can remove it by [`unlink`](SharedMemory::unlink).
/// If the creating process is killed, the segment stays, as POSIX segments do. (In Python, a resource tracker process
/// removes it.) A process that has opened a segment keeps the memory, also after the name was removed.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let segment = procession::SharedMemory::create(None, 4096)?;
/// segment.write(100, b"hello");
/// let same = procession::SharedMemory::open(segment.name())?;
/// let mut bytes = [0; 5];
/// same.read(100, &mut bytes);
/// assert_eq!(&bytes, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedMemory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    len: usize,
    mapping: Mapping,
    /// Keeps a shared `flock(2)` as long as it is open: the Python side's resource tracker sees by it that the segment
    /// is in use.
    _file: File,
    /// The pid of the process that removes the name on drop. None if this value was opened, not created.
    owner: Option<u32>,
}

const FOLDER: &str = "/dev/shm";

impl SharedMemory {
    /// Creates a zeroed segment of `len` bytes (at least 1) with this name; None: with a name that is not in use.
    ///
    /// # Errors
    /// The name is in use (`AlreadyExists`), or contains a slash or a null byte; `len` is 0; memory is exhausted.
    pub fn create(name: Option<&str>, len: usize) -> io::Result<SharedMemory> {
        if len == 0 {
            return Err(invalid("a segment has at least one byte"));
        }
        let (name, file) = match name {
            Some(name) => (name.to_owned(), create_file(name)?),
            None => loop {
                let name = random_name()?;
                match create_file(&name) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    answer => break (name, answer?),
                }
            },
        };
        let mapped = reserve(&file, len).and_then(|()| Mapping::new(&file, len));
        match mapped {
            Ok(mapping) => Ok(SharedMemory::new(name, len, mapping, file, true)),
            Err(e) => {
                let _ = std::fs::remove_file(path_of(&name)?);
                Err(e)
            }
        }
    }

    /// Opens the segment with this name.
    ///
    /// # Errors
    /// There is no such segment, it belongs to another user, or it is empty because its creator has not finished.
    pub fn open(name: &str) -> io::Result<SharedMemory> {
        let file = open_file(name, OFlags::empty())?;
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| invalid("the segment is larger than the address space"))?;
        if len == 0 {
            return Err(invalid(
                "the segment is empty: it is still being created, or it is no segment",
            ));
        }
        let mapping = Mapping::new(&file, len)?;
        Ok(SharedMemory::new(name.to_owned(), len, mapping, file, false))
    }

    fn new(name: String, len: usize, mapping: Mapping, file: File, owned: bool) -> SharedMemory {
        // A resource tracker that looks for users takes an exclusive lock for a moment. So this call does not wait. If it
        // fails, the only loss is that the tracker may remove the name while this process uses the segment.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        let inner = Inner {
            name,
            len,
            mapping,
            _file: file,
            owner: owned.then(std::process::id),
        };
        SharedMemory {
            inner: Arc::new(inner),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // none is empty
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Copies bytes from offset `start` on into `into`, until `into` is full. Aligned words are read whole.
    ///
    /// # Panics
    /// The range ends after the end of the segment.
    pub fn read(&self, start: usize, into: &mut [u8]) {
        self.inner.mapping.load(start, into);
    }

    /// Copies `from` into the segment at offset `start`. Aligned words are written whole.
    ///
    /// # Panics
    /// The range ends after the end of the segment.
    pub fn write(&self, start: usize, from: &[u8]) {
        self.inner.mapping.store(start, from);
    }

    /// Returns the address of the first byte, for foreign code. It is valid as long as this value or a clone of it lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.mapping.base()
    }

    /// Removes the name, so that no process can open the segment any more. Processes that have opened it keep the memory.
    ///
    /// # Errors
    /// The name was removed already.
    pub fn unlink(&self) -> io::Result<()> {
        std::fs::remove_file(path_of(&self.inner.name)?)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner == Some(std::process::id())
            && let Ok(path) = path_of(&self.name)
        {
            // This fails only if the name was removed already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Serialize for SharedMemory {
    /// Writes the name. The creator must keep the segment until the receiver has opened it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        SharedMemory::open(&name)
            .map_err(|e| crate::transit::unread(format!("the segment of shared memory {name}: {e}")))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn path_of(name: &str) -> io::Result<String> {
    let plain = name.trim_start_matches('/');
    if plain.is_empty() || plain.contains(['/', '\0']) || plain == "." || plain == ".." {
        return Err(invalid(
            "a segment name must not be empty and has no slash and no null byte",
        ));
    }
    Ok(format!("{FOLDER}/{plain}"))
}

fn open_file(name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path_of(name)?, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(fd))
}

fn create_file(name: &str) -> io::Result<File> {
    open_file(name, OFlags::CREATE | OFlags::EXCL)
}

/// Reserves memory for all `len` bytes, so that no later write ends in SIGBUS.
fn reserve(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)?;
    procession_core::sys::memory::reserve(file, 0, len as u64)
}

fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    procession_core::sys::memory::random_bytes(&mut bytes)?;
    Ok(format!("psm_{:016x}", u64::from_le_bytes(bytes)))
}
