//! Named segments of shared memory, for programs that are no family.

use crate::memory::Mapping;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A segment of memory with a name, which any program of the same user can open. The names are POSIX's (`shm_open`), and
/// so Python's `SharedMemory` of the same name is the same segment.
///
/// Within a family [`SharedSlice`](crate::SharedSlice) is better: it needs no name, and the kernel takes it back. A named
/// segment stays until somebody removes its name. Here that is the process which made it, when the last clone of what
/// [`create`](SharedMemory::create) returned is dropped there, or whoever calls [`unlink`](SharedMemory::unlink); if that
/// process is killed, the segment stays, as with all who use such names. Those who have opened it keep the memory.
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
    /// Holds a shared lock for as long as it is open, by which those who look after segments know of its users.
    _file: File,
    /// The process that removes the name, if it is one.
    owner: Option<u32>,
}

const FOLDER: &str = "/dev/shm";

impl SharedMemory {
    /// A new segment of so many bytes (at least 1), all zero, of this name; without one, of a name that nobody has.
    ///
    /// # Errors
    /// There is one of that name (`AlreadyExists`); the name has a slash in it; there is no room.
    pub fn create(name: Option<&str>, len: usize) -> io::Result<SharedMemory> {
        if len == 0 {
            return Err(invalid("a segment has at least one byte"));
        }
        let (name, file) = match name {
            Some(name) => (name.to_owned(), made(name)?),
            None => loop {
                let name = drawn()?;
                match made(&name) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    answer => break (name, answer?),
                }
            },
        };
        let mapped = reserve(&file, len).and_then(|()| Mapping::new(&file, len));
        match mapped {
            Ok(mapping) => Ok(SharedMemory::of(name, len, mapping, file, true)),
            Err(e) => {
                let _ = std::fs::remove_file(path_of(&name)?);
                Err(e)
            }
        }
    }

    /// The segment of this name.
    ///
    /// # Errors
    /// There is none, or it is another user's.
    pub fn open(name: &str) -> io::Result<SharedMemory> {
        let file = opened(name, OFlags::empty())?;
        let len =
            usize::try_from(file.metadata()?.len()).map_err(|_| invalid("a segment larger than memory"))?;
        if len == 0 {
            return Err(invalid("the segment is empty: it is being made, or no segment"));
        }
        let mapping = Mapping::new(&file, len)?;
        Ok(SharedMemory::of(name.to_owned(), len, mapping, file, false))
    }

    fn of(name: String, len: usize, mapping: Mapping, file: File, owned: bool) -> SharedMemory {
        // Who looks after segments asks for an exclusive one, so this waits for nobody long; without it nothing is lost
        // but the segment, if its other users go.
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many bytes it has.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // none is empty
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Copies bytes out of it. Aligned words are read whole.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn read(&self, start: usize, into: &mut [u8]) {
        self.inner.mapping.load(start, into);
    }

    /// Copies bytes into it. Aligned words are written whole.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn write(&self, start: usize, from: &[u8]) {
        self.inner.mapping.store(start, from);
    }

    /// Where it is, for foreign code. Valid for as long as this, or a clone of it, lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.mapping.base()
    }

    /// Removes the name: nobody can open it any more. Those who have, keep the memory.
    ///
    /// # Errors
    /// It is removed already.
    pub fn unlink(&self) -> io::Result<()> {
        std::fs::remove_file(path_of(&self.inner.name)?)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner == Some(std::process::id())
            && let Ok(path) = path_of(&self.name)
        {
            // An error is that it is gone.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Serialize for SharedMemory {
    /// Its name. Whoever made it has to keep it until that has arrived.
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
        return Err(invalid("not a name for a segment of shared memory"));
    }
    Ok(format!("{FOLDER}/{plain}"))
}

fn opened(name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path_of(name)?, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(fd))
}

fn made(name: &str) -> io::Result<File> {
    opened(name, OFlags::CREATE | OFlags::EXCL)
}

/// Memory for all of it, so that writing to it is never a SIGBUS.
fn reserve(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)?;
    procession_core::sys::memory::reserve(file, 0, len as u64)
}

fn drawn() -> io::Result<String> {
    let mut bytes = [0; 8];
    procession_core::sys::memory::random_bytes(&mut bytes)?;
    Ok(format!("psm_{:016x}", u64::from_le_bytes(bytes)))
}
