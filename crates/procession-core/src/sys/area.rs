//! Family memory as it is mapped: what is in use, and more as it is needed.
//!
//! The file is as long as it will ever be from the beginning, a terabyte as a rule. A mapping of that length would count as
//! a terabyte of address space, and a program that limits its own (`RLIMIT_AS`, as programs do that run code of others)
//! could not allocate anything any more. So only the file's beginning is mapped, in steps, one behind the other and always
//! at the same distance from the base: an offset becomes an address by one addition, and one comparison tells whether it
//! is mapped yet.
//!
//! Nothing is reserved for what is mapped later: a reservation would count as well. The base is where neither the kernel
//! nor the program put anything by themselves, and a mapping is never put in place of another one.
//!
//! Where the limit leaves no room for all that lies before an offset, the *piece* that it is in is mapped by itself.
//! Which pieces are is written in a table of bits.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::sync::OnceLock;

/// By how much the mapping grows.
const STEP: usize = 64 << 20;
/// What is mapped by itself where there is no room for a step.
const PIECE: usize = 4 << 20;
/// How far the bases of two areas are from each other, as long as there are few of them.
const APART: usize = 1 << 40;
/// Where bases are looked for: above what programs and the sanitizers' tables take, below a third of the smallest
/// address space that has 47 bits, where the kernel begins if it gives out addresses upwards.
const PLACES: core::ops::Range<usize> = 0x2000_0000_0000..0x2a00_0000_0000;

/// A file of which a growing part is mapped. See the module.
#[derive(Debug)]
pub struct Area {
    base: *mut u8,
    /// How long the file is.
    len: usize,
    /// How many bytes from the beginning are mapped without a gap.
    mapped: AtomicUsize,
    /// A bit for each piece that is mapped by itself.
    pieces: OnceLock<Box<[AtomicU64]>>,
}

// SAFETY: what is mapped stays so until `unmap`, whose caller has made sure that nobody uses it; all access goes through
// atomics or through copies that the protocols of the objects order.
unsafe impl Send for Area {}
// SAFETY: as above.
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
        // Many areas come closer to each other: most will never be so long that they meet.
        let places = [1, 2, 4, 8, 16].map(|closer| PLACES.step_by(APART / closer));
        for place in places.into_iter().flatten() {
            match place_at(fd, place, first, 0) {
                Ok(()) => return Ok((core::ptr::with_exposed_provenance_mut(place), first)),
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                // No such addresses (some machines have 39 bits of them), or a limit: what follows tells.
                Err(_) => break,
            }
        }
        // At the lower end of the largest gap that there is: what the kernel gives out comes from the upper end.
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

    /// The file's length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no length.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes from the beginning are mapped.
    #[must_use]
    #[inline]
    pub fn mapped(&self) -> usize {
        // The kernel orders the mapping before any access to it.
        self.mapped.load(Ordering::Relaxed)
    }

    /// Where it begins in this process.
    #[must_use]
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Whether all of a range is mapped.
    #[must_use]
    pub fn covers(&self, range: core::ops::Range<usize>) -> bool {
        range.end <= self.mapped() || range.end <= self.len && self.pieces_of(&range).all(|n| self.has(n))
    }

    /// Sees to it that a range is mapped.
    ///
    /// # Errors
    /// EINVAL beyond the end; ENOMEM: the limit on address space or on the number of mappings; EEXIST: something else
    /// lies there.
    pub fn reach(&self, fd: impl AsFd, range: core::ops::Range<usize>) -> io::Result<()> {
        if range.end > self.len || range.start > range.end {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if self.covers(range.clone()) {
            return Ok(());
        }
        match self.grow(fd.as_fd(), range.end) {
            Err(e) if is_limit(&e) => self.map_pieces(fd.as_fd(), &range),
            answer => answer,
        }
    }

    /// `mremap(base, mapped, …)` — maps the bytes up to `end` without a descriptor: what is mapped grows where it is.
    ///
    /// # Errors
    /// As [`Area::reach`], all of them ENOMEM.
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
            // SAFETY: the mapping is ours, is not moved (the flag for that is not given), and takes the place of nothing.
            match unsafe { rustix::mm::mremap(self.base.cast(), from, to, rustix::mm::MremapFlags::empty()) }
            {
                Ok(_) => {
                    self.mapped.fetch_max(to, Ordering::Relaxed);
                }
                Err(e) if self.mapped() == from => return Err(e.into()),
                // Another thread was quicker.
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
                // The limit was too low for all of it before.
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            let to = match place_at(fd, self.base.expose_provenance() + from, to - from, from) {
                Ok(()) => to,
                Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
                // Another thread was quicker; or it was, and then this process was forked before it could say so.
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

    /// Whether what lies at this offset is the file's, from the list of mappings.
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

    /// Unmaps all of it.
    ///
    /// # Safety
    /// Nobody has a reference into it, nor will have one.
    pub unsafe fn unmap(&self) {
        let whole = self.mapped.swap(0, Ordering::Relaxed);
        // SAFETY: the contract; this range was mapped by `new` and `grow`.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), whole) };
        for (number, word) in self.pieces.get().into_iter().flatten().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let from = (number * 64 + bits.trailing_zeros() as usize) * PIECE;
                bits &= bits - 1;
                let len = PIECE.min(self.len - from);
                if from >= whole {
                    // SAFETY: as above, for what `map_pieces` has mapped.
                    let _ = unsafe { rustix::mm::munmap(self.base.wrapping_add(from).cast(), len) };
                }
            }
        }
    }
}

fn is_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// `mmap(address, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, fd, offset)`, kept out of
/// core dumps. EEXIST if anything lies there.
///
/// # References
///  - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
fn place_at(fd: BorrowedFd<'_>, address: usize, len: usize, offset: usize) -> io::Result<()> {
    let wanted = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: the flag makes sure that the mapping takes the place of nothing that exists.
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
        // SAFETY: just mapped, and nobody knows of it. (A kernel that does not know the flag takes the address as a wish.)
        let _ = unsafe { rustix::mm::munmap(at, len) };
        return Err(Errno::EXIST.into());
    }
    at.expose_provenance();
    // SAFETY: the range was just mapped; the advice changes nothing in memory. A refusal is harmless.
    let _ = unsafe { rustix::mm::madvise(at, len, Advice::LinuxDontDump) };
    Ok(())
}

/// Where so many addresses are free, one behind the other.
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
    // SAFETY: just mapped, and nobody knows of it.
    unsafe { rustix::mm::munmap(at, len) }?;
    Ok(at.expose_provenance())
}

/// Stores a word of a file that is not mapped here, in a page that is mapped for a moment.
///
/// # Errors
/// No room for one page.
pub fn store_word(fd: impl AsFd, offset: u64, value: u64) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    let map = super::memory::Map::at(fd, offset / page * page, page as usize)?;
    let at = map.base().wrapping_add((offset % page) as usize);
    if offset.is_multiple_of(8) {
        // SAFETY: inside the page that was just mapped, aligned, and an atomic is valid for all bytes. Release: pairs with
        // the loads of those who read the word through their own mappings.
        unsafe { &*at.cast::<AtomicU64>() }.store(value, Ordering::Release);
    }
    // SAFETY: nobody else knows of the mapping.
    unsafe { map.unmap() };
    Ok(())
}
