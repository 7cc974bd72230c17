//! The mapping of family memory: maps the part of the file that is in use, and maps more when it is needed.
//!
//! The file has its full length from the beginning, usually a terabyte. A mapping of that length would count as a
//! terabyte of address space, and a program that limits its own address space (`RLIMIT_AS`; services that run other
//! people's code do so) could then not allocate anything. So only the beginning of the file is mapped, in steps. Each
//! step lies directly behind the one before, and every byte has the same distance from the base as in the file: an
//! offset becomes an address by one addition, and one comparison tells whether it is mapped yet.
//!
//! No address space is reserved for later steps, because a reservation counts towards the limit too. The base lies
//! where neither the kernel nor a program places mappings by default, and a mapping never replaces an existing one.
//!
//! If the limit leaves no room for everything before an offset, only the *piece* that contains the offset is mapped.
//! A bit table records which pieces are mapped.
//!
//! The program needs address space too, for its own objects, threads and modules. So a caller that takes new memory says
//! how much must be left to the program ([`Area::reach`]); if less would be left, the caller gets the error, and the
//! program goes on.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::sync::OnceLock;

/// Granularity in bytes by which the mapping grows.
const STEP: usize = 64 << 20;
/// Size in bytes of a piece, which is mapped on its own if there is no room for a step.
const PIECE: usize = 4 << 20;
/// Distance in bytes between the bases of two areas, while a process has few areas.
const APART: usize = 1 << 40;
/// Address range that is searched for a base: above the addresses that programs and the shadow tables of sanitizers
/// use, below a third of the smallest address space with 47 bits, where the kernel begins if it assigns addresses
/// upwards.
const PLACES: core::ops::Range<usize> = 0x2000_0000_0000..0x2a00_0000_0000;

/// A file of which a growing part is mapped. See the module documentation.
#[derive(Debug)]
pub struct Area {
    base: *mut u8,
    /// Length of the file in bytes.
    len: usize,
    /// Number of bytes that are mapped from the beginning without a gap.
    mapped: AtomicUsize,
    /// One bit for each piece that is mapped on its own.
    pieces: OnceLock<Box<[AtomicU64]>>,
}

// SAFETY: a mapping stays until `unmap`, whose caller guarantees that no reference into it is left, so any thread may
// use the base address. All access goes through atomics or through copies that the objects' protocols order.
unsafe impl Send for Area {}
// SAFETY: the methods change only atomics and a `OnceLock`, and the kernel makes each new mapping visible to all
// threads at once.
unsafe impl Sync for Area {}

impl Area {
    /// Maps the first `least` bytes of a file of length `len`, or more.
    pub fn new(fd: impl AsFd, len: usize, least: usize) -> io::Result<Area> {
        let least = least.next_multiple_of(PIECE).min(len);
        let (base, mapped) = match Self::found(fd.as_fd(), STEP.max(least).min(len)) {
            Err(e) if is_limit(&e) => Self::found(fd.as_fd(), least)?,
            found => found?,
        };
        Ok(Area {
            base,
            len,
            mapped: AtomicUsize::new(mapped),
            pieces: OnceLock::new(),
        })
    }

    fn found(fd: BorrowedFd<'_>, first: usize) -> io::Result<(*mut u8, usize)> {
        // With many areas the bases lie closer together: most areas never grow so long that they meet.
        let places = [1, 2, 4, 8, 16].map(|closer| PLACES.step_by(APART / closer));
        for place in places.into_iter().flatten() {
            match place_at(fd, place, first, 0) {
                Ok(()) => return Ok((core::ptr::with_exposed_provenance_mut(place), first)),
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                // This address does not exist (some machines have 39-bit addresses), or a limit was reached: try the
                // gaps below.
                Err(_) => break,
            }
        }
        // Use the lower end of the largest gap: the kernel assigns addresses from the upper end.
        let mut gap = APART;
        while gap >= first {
            if let Ok(place) = find_gap(gap)
                && place_at(fd, place, first, 0).is_ok()
            {
                return Ok((core::ptr::with_exposed_provenance_mut(place), first));
            }
            gap /= 2;
        }
        Err(io::Error::from_raw_os_error(libc::ENOMEM))
    }

    /// Length of the file in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the file has length 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of bytes that are mapped from the beginning without a gap.
    #[must_use]
    #[inline]
    pub fn mapped(&self) -> usize {
        // The kernel orders the mapping before any access to it.
        self.mapped.load(Ordering::Relaxed)
    }

    /// Address of the first byte in this process.
    #[must_use]
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Returns whether the whole range is mapped.
    #[must_use]
    pub fn covers(&self, range: core::ops::Range<usize>) -> bool {
        range.end <= self.mapped() || range.end <= self.len && self.pieces_of(&range).all(|n| self.has(n))
    }

    /// Maps a range, unless it is mapped already. Leaves `spare` bytes of the limit on address space to the program.
    ///
    /// # Errors
    /// EINVAL: the range ends beyond the file. ENOMEM: the limit on address space or on the number of mappings is
    /// reached, or less than `spare` would be left. EEXIST: another mapping lies there.
    pub fn reach(&self, fd: impl AsFd, range: core::ops::Range<usize>, spare: usize) -> io::Result<()> {
        if range.end > self.len || range.start > range.end {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if self.covers(range.clone()) {
            return Ok(());
        }
        let room = room(spare);
        let step = range.end.next_multiple_of(STEP).saturating_sub(self.mapped());
        if step <= room {
            match self.grow(fd.as_fd(), range.end) {
                Err(e) if is_limit(&e) => {}
                answer => return answer,
            }
        }
        if self.pieces_of(&range).filter(|piece| !self.has(*piece)).count() * PIECE > room {
            return Err(Errno::NOMEM.into());
        }
        self.map_pieces(fd.as_fd(), &range)
    }

    /// `mremap(base, mapped, …)`: maps the bytes up to `end` without a descriptor, by growing the mapping in place.
    ///
    /// # Errors
    /// ENOMEM for every cause; see [`Area::reach`].
    ///
    /// # References
    ///  - [mremap(2)](https://man7.org/linux/man-pages/man2/mremap.2.html)
    pub fn stretch(&self, end: usize) -> io::Result<()> {
        loop {
            let from = self.mapped();
            if end <= from {
                return Ok(());
            }
            let to = end.next_multiple_of(STEP).min(self.len);
            // SAFETY: the range `base..base + from` was mapped by this area. The call does not move it
            // (`MREMAP_MAYMOVE` is not given) and does not replace another mapping.
            match unsafe { rustix::mm::mremap(self.base.cast(), from, to, rustix::mm::MremapFlags::empty()) }
            {
                Ok(_) => {
                    self.mapped.fetch_max(to, Ordering::Relaxed);
                }
                Err(e) if self.mapped() == from => return Err(e.into()),
                // Another thread grew the mapping first.
                Err(_) => {}
            }
        }
    }

    fn grow(&self, fd: BorrowedFd<'_>, end: usize) -> io::Result<()> {
        loop {
            let from = self.mapped();
            if end <= from {
                return Ok(());
            }
            let to = end.next_multiple_of(STEP).min(self.len);
            if (from / PIECE..to.div_ceil(PIECE)).any(|piece| self.has_by_itself(piece)) {
                // An earlier call reached the limit here and mapped pieces instead of a step.
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            let to = match place_at(fd, self.base.expose_provenance() + from, to - from, from) {
                Ok(()) => to,
                Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
                // Another thread mapped it first; or one did in the parent, and this process was forked before that
                // thread updated `mapped`.
                Err(e) => match self.wait_for_others(from) || self.is_ours(fd, from) {
                    true if self.mapped() != from => continue,
                    true => (from + PIECE).min(self.len),
                    false => return Err(e),
                },
            };
            self.mapped.fetch_max(to, Ordering::Relaxed);
        }
    }

    fn map_pieces(&self, fd: BorrowedFd<'_>, range: &core::ops::Range<usize>) -> io::Result<()> {
        let bits = self.pieces.get_or_init(|| {
            let words = self.len.div_ceil(PIECE).div_ceil(64);
            (0..words).map(|_| AtomicU64::new(0)).collect()
        });
        for piece in self.pieces_of(range) {
            let from = piece * PIECE;
            if from + PIECE <= self.mapped() || self.has(piece) {
                continue;
            }
            let len = PIECE.min(self.len - from);
            match place_at(fd, self.base.expose_provenance() + from, len, from) {
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) && self.is_ours(fd, from) => {}
                answer => answer?,
            }
            // The kernel orders the mapping before any access to it.
            bits[piece / 64].fetch_or(1 << (piece % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    fn pieces_of(&self, range: &core::ops::Range<usize>) -> core::ops::Range<usize> {
        range.start.max(self.mapped() / PIECE * PIECE) / PIECE..range.end.div_ceil(PIECE)
    }

    fn has(&self, piece: usize) -> bool {
        piece * PIECE + PIECE <= self.mapped() || self.has_by_itself(piece)
    }

    fn has_by_itself(&self, piece: usize) -> bool {
        let word = self.pieces.get().and_then(|bits| bits.get(piece / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (piece % 64) != 0)
    }

    fn wait_for_others(&self, from: usize) -> bool {
        (0..100).any(|_| {
            std::thread::yield_now();
            self.mapped() != from
        })
    }

    /// Returns whether the mapping at this offset belongs to the file. Reads `/proc/self/maps`.
    fn is_ours(&self, fd: BorrowedFd<'_>, offset: usize) -> bool {
        let (Ok(stat), Ok(maps)) = (rustix::fs::fstat(fd), std::fs::read_to_string("/proc/self/maps")) else {
            return false;
        };
        let address = self.base.addr() + offset;
        maps.lines().any(|line| {
            let mut words = line.split_ascii_whitespace();
            let hex = |text: &str| usize::from_str_radix(text, 16).ok();
            let range = words.next().and_then(|w| w.split_once('-'));
            let Some((Some(start), Some(end))) = range.map(|(a, b)| (hex(a), hex(b))) else {
                return false;
            };
            let begins = words.nth(1).and_then(hex);
            let inode = words.nth(1).and_then(|w| w.parse::<u64>().ok());
            (start..end).contains(&address)
                && begins.map(|b| b + (address - start)) == Some(offset)
                && inode == Some(stat.st_ino)
        })
    }

    /// Unmaps everything.
    ///
    /// # Safety
    /// No reference into the mapping exists, and none is created later.
    pub unsafe fn unmap(&self) {
        let whole = self.mapped.swap(0, Ordering::Relaxed);
        // SAFETY: the caller guarantees that no reference is left. `new`, `grow` and `stretch` mapped exactly this
        // range.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), whole) };
        for (number, word) in self.pieces.get().into_iter().flatten().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let from = (number * 64 + bits.trailing_zeros() as usize) * PIECE;
                bits &= bits - 1;
                let len = PIECE.min(self.len - from);
                if from >= whole {
                    // SAFETY: the caller guarantees that no reference is left. The bit shows that `map_pieces` mapped
                    // this piece on its own.
                    let _ = unsafe { rustix::mm::munmap(self.base.wrapping_add(from).cast(), len) };
                }
            }
        }
    }
}

/// Number of bytes that may be mapped so that `spare` bytes of the limit on address space are left to the program.
///
/// A `spare` of 0 asks for no check: the kernel refuses what is beyond the limit. Without `/proc` nothing is known either.
fn room(spare: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    match limit.filter(|_| spare > 0) {
        None => usize::MAX,
        Some(limit) => super::procfs::address_space().map_or(usize::MAX, |used| {
            (limit as usize).saturating_sub(used as usize + spare)
        }),
    }
}

fn is_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// `mmap(address, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, fd, offset)`.
/// Excludes the range from core dumps. EEXIST: another mapping lies there.
///
/// # References
///  - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
fn place_at(fd: BorrowedFd<'_>, address: usize, len: usize, offset: usize) -> io::Result<()> {
    let wanted = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: MAP_FIXED_NOREPLACE guarantees that no existing mapping is replaced.
    let at = unsafe {
        rustix::mm::mmap(
            wanted,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
            fd,
            offset as u64,
        )
    }?;
    if at != wanted {
        // SAFETY: this call created the mapping and did not publish it. (A kernel that does not know the flag treats
        // the address as a hint.)
        let _ = unsafe { rustix::mm::munmap(at, len) };
        return Err(Errno::EXIST.into());
    }
    at.expose_provenance();
    // SAFETY: the range was just mapped, and the advice does not change memory. If the kernel refuses it, the range
    // is only part of core dumps.
    let _ = unsafe { rustix::mm::madvise(at, len, Advice::LinuxDontDump) };
    Ok(())
}

/// Finds an address at which `len` contiguous bytes are free.
fn find_gap(len: usize) -> io::Result<usize> {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe {
        rustix::mm::mmap_anonymous(
            core::ptr::null_mut(),
            len,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    // SAFETY: this call created the mapping and did not publish it.
    unsafe { rustix::mm::munmap(at, len) }?;
    Ok(at.expose_provenance())
}

/// Stores `value` in a word of a file that this process has not mapped. Maps the word's page for the time of the
/// store.
///
/// # Errors
/// The address space has no room for one page.
pub fn store_word(fd: impl AsFd, offset: u64, value: u64) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    let map = super::memory::Map::at(fd, offset / page * page, page as usize)?;
    let at = map.base().wrapping_add((offset % page) as usize);
    if offset.is_multiple_of(8) {
        // SAFETY: the word lies in the page that was just mapped and is aligned, and an atomic is valid for all
        // bytes. Release: pairs with the loads of processes that read the word through their own mappings.
        unsafe { &*at.cast::<AtomicU64>() }.store(value, Ordering::Release);
    }
    // SAFETY: this function created the mapping and did not publish it; the reference above has ended.
    unsafe { map.unmap() };
    Ok(())
}
