//! Nameless memory: the file that a family shares, mappings of it, and how much memory the machine has left.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ffi::CStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// The page size that layouts assume. Kernels with larger pages only reserve more.
pub const PAGE: u64 = 4096;

/// Creates an empty file without a name, for sharing.
///
/// Uses a memfd. If the system refuses that (an old kernel, a seccomp profile), uses an unlinked file in the
/// temporary folder; if that fails too, returns the error of the second attempt.
///
/// # References
///  - [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)
pub fn nameless_file(name: &CStr) -> io::Result<OwnedFd> {
    match rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL) => unlinked_file(),
        Err(e) => Err(e.into()),
    }
}

/// The fallback of [`nameless_file`]: creates a file in the temporary folder and unlinks it at once.
pub fn unlinked_file() -> io::Result<OwnedFd> {
    let folder = std::env::temp_dir();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    match rustix::fs::open(&folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(fd),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let mut random = [0u8; 8];
    random_bytes(&mut random)?;
    let path = folder.join(format!("procession-{:016x}", u64::from_ne_bytes(random)));
    let fd = rustix::fs::open(
        &path,
        OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC,
        mode,
    )?;
    rustix::fs::unlink(path.as_os_str().as_bytes())?;
    Ok(fd)
}

/// A shared, sparse mapping. It stays until the process ends: any thread may be using shared objects in it.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    base: *mut u8,
    len: usize,
}

// SAFETY: a published mapping is never unmapped, so every thread may use its address; all access goes through atomics
// or through copies that the objects' protocols order.
unsafe impl Send for Map {}
// SAFETY: `Map` is a copyable address and length, which its methods never change.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of a file.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Map> {
        Self::at(fd, 0, len)
    }

    /// `mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, offset)`: maps a range that begins at
    /// a page boundary, and excludes it from core dumps.
    ///
    /// # References
    ///  - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
    pub fn at(fd: impl AsFd, offset: u64, len: usize) -> io::Result<Map> {
        // SAFETY: a new mapping at an address that the kernel chooses replaces nothing that exists.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                fd,
                offset,
            )
        }?;
        // SAFETY: the range was just mapped, and the advice does not change memory. If the kernel refuses it, the
        // range is only part of core dumps.
        let _ = unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontDump) };
        Ok(Map {
            base: base.cast(),
            len,
        })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte in this process.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Unmaps the range.
    ///
    /// # Safety
    /// The mapping was never published: no reference into it exists.
    pub unsafe fn unmap(self) {
        // SAFETY: the caller guarantees that no reference is left, and the range is exactly the one that was mapped.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.len) };
    }
}

/// From this number of bytes on, an allocation is nearly always a mapping of its own, which the kernel has to fill: the usual C
/// libraries never set that limit higher. Where an allocator uses it again, later objects there may get huge pages too.
const ALWAYS_FRESH: usize = 32 << 20;

/// `madvise(MADV_HUGEPAGE)`: asks the kernel for huge pages below a big allocation that is about to be filled. A page
/// fault for each 2 MiB in place of each 4 KiB makes a first copy into it several times as fast. Does nothing with less
/// than 32 MiB, which the C library may have reused.
///
/// # References
///  - [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html)
pub fn advise_huge_pages(room: &mut [MaybeUninit<u8>]) {
    if room.len() < ALWAYS_FRESH {
        return;
    }
    // All pages that the room touches. A boundary within the allocation would split its mapping, and `realloc` could not
    // move it any more.
    let page = rustix::param::page_size();
    let start = room.as_mut_ptr().cast::<u8>();
    let before = start.addr() % page;
    let len = (before + room.len()).next_multiple_of(page);
    // SAFETY: the room's bytes make all these pages part of a mapping, and the advice does not change memory. A kernel
    // without huge pages refuses.
    let _ = unsafe { rustix::mm::madvise(start.wrapping_sub(before).cast(), len, Advice::LinuxHugepage) };
}

/// A range of a file, mapped privately: writes to it stay in this process. Dropping it unmaps the range.
#[derive(Debug)]
pub struct PrivateMap {
    base: *mut u8,
    len: usize,
    /// Distance of the range's first byte from the base: a mapping begins at a page boundary.
    start: usize,
}

// SAFETY: private memory of this process, like any allocation, which may be dropped by any thread.
unsafe impl Send for PrivateMap {}
// SAFETY: no method changes the memory through a shared reference; a user of the address orders its own accesses.
unsafe impl Sync for PrivateMap {}

impl PrivateMap {
    /// `mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, offset)`: maps `len` bytes of the file from `offset`
    /// on, which need not be a page boundary.
    ///
    /// # References
    ///  - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
    pub fn new(fd: impl AsFd, offset: u64, len: usize) -> io::Result<PrivateMap> {
        let start = (offset % rustix::param::page_size() as u64) as usize;
        let whole = start + len.max(1);
        // SAFETY: a new mapping at an address that the kernel chooses replaces nothing that exists.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                whole,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
                fd,
                offset - start as u64,
            )
        }?;
        Ok(PrivateMap {
            base: base.cast(),
            len: whole,
            start,
        })
    }

    /// Address of the range's first byte in this process.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.base.wrapping_add(self.start)
    }
}

impl Drop for PrivateMap {
    fn drop(&mut self) {
        // SAFETY: exactly the range that was mapped; users of the address keep this object alive as long as they use
        // it.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.len) };
    }
}

/// `fallocate(fd, 0, offset, len)`: reserves real memory for a range, so that later writes to it cannot fail. The
/// caller owns the range: parts that have no memory yet may be overwritten with zeros.
///
/// # References
///  - [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html)
pub fn reserve(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(fd.as_fd(), FallocateFlags::empty(), offset, len) {
            Err(Errno::INTR) => {}
            // The file system does not support it (an unlinked file in an unusual temporary folder), or a sandbox
            // refuses it: writing zeros reserves memory as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                return write_zeros(fd.as_fd(), offset, len);
            }
            answer => return Ok(answer?),
        }
    }
}

/// Reserves memory for a range that other processes may be using: existing contents stay. Returns whether it
/// succeeded.
pub fn reserve_shared(fd: impl AsFd, offset: u64, len: u64) -> bool {
    rustix::fs::fallocate(fd.as_fd(), FallocateFlags::empty(), offset, len).is_ok()
}

fn write_zeros(fd: rustix::fd::BorrowedFd<'_>, mut offset: u64, len: u64) -> io::Result<()> {
    let end = offset + len;
    let zeros = [0u8; PAGE as usize];
    while offset < end {
        let n = (end - offset).min(PAGE);
        offset += rustix::io::pwrite(fd, &zeros[..n as usize], offset)? as u64;
    }
    Ok(())
}

/// `fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len)`: returns the memory of a range to the
/// machine.
pub fn punch(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(fd.as_fd(), how, offset, len) {
            Err(Errno::INTR) => {}
            answer => return Ok(answer?),
        }
    }
}

/// Returns whether a descriptor is a memfd. A memfd cannot be full: a write to any page of it succeeds as long as the
/// machine has memory. False if `/proc` cannot tell.
pub fn is_memfd(fd: impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    std::fs::read_link(path).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"/memfd:"))
}

/// Makes an empty file `len` bytes long, or as long as its file system and the limit on file size (`RLIMIT_FSIZE`)
/// allow; returns the length. The file gets no memory by this.
///
/// The limit applies only when a file becomes longer, not to later writes within its length. So if the soft limit can
/// be raised, it is raised for the time of this call.
pub fn lengthen(fd: impl AsFd, mut len: u64) -> io::Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Fsize);
    let mut raised = limit;
    if limit.current.is_some_and(|most| most < len) {
        raised.current = limit.maximum;
        if setrlimit(Resource::Fsize, raised).is_err() {
            raised.current = limit.current;
        }
        // Never beyond the limit: the kernel would send SIGXFSZ.
        len = raised.current.map_or(len, |most| len.min(most / PAGE * PAGE));
    }
    let lengthened = loop {
        match rustix::fs::ftruncate(fd.as_fd(), len) {
            Err(Errno::FBIG | Errno::INVAL) if len > PAGE => len = len / 2 / PAGE * PAGE,
            answer => break answer.map(|()| len),
        }
    };
    if raised.current != limit.current {
        let _ = setrlimit(Resource::Fsize, limit);
    }
    Ok(lengthened?)
}

/// Number of bytes that can still be reserved: the memory that the machine has available, or the rest of the control
/// group's limit if that is less. None if neither can be read.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
        line.split_ascii_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    });
    match (machine, control_group_left()) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What cgroup v2 leaves for this process: the minimum of `memory.max - memory.current` over its group and the
/// enclosing groups.
fn control_group_left() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let mut folder = std::path::PathBuf::from("/sys/fs/cgroup").join(path);
    let mut least = None::<u64>;
    let number = |p: std::path::PathBuf| std::fs::read_to_string(p).ok()?.trim().parse::<u64>().ok();
    while folder.starts_with("/sys/fs/cgroup") {
        if let (Some(max), Some(now)) = (
            number(folder.join("memory.max")),
            number(folder.join("memory.current")),
        ) {
            // The kernel drops cached files before it refuses memory, so they count as free.
            let left = max.saturating_sub(now).saturating_add(cached(&folder));
            least = Some(least.map_or(left, |l| l.min(left)));
        }
        if !folder.pop() {
            break;
        }
    }
    least
}

fn cached(folder: &std::path::Path) -> u64 {
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let names = ["inactive_file ", "active_file ", "slab_reclaimable "];
    let counted = |line: &str| {
        names
            .iter()
            .find_map(|n| line.strip_prefix(n))
            .and_then(|n| n.trim().parse::<u64>().ok())
    };
    stat.lines().filter_map(counted).sum()
}

/// Fills the buffer from the kernel's random source.
pub fn random_bytes(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Ends this process by SIGKILL. Nothing runs after the call.
pub fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Not reached: SIGKILL cannot be blocked.
    std::process::abort()
}
