//! Founds a family, joins one, and finds the family that a handle names.
//!
//! A process has one *home*: the family in which it makes objects. The root founds its home when it makes its first
//! shared object; a child's home is its parent's. A process can also use objects of other families on the same
//! machine and of the same user: it opens their memory through `/proc/PID/fd/N` of the member that sent the handle,
//! and takes a seat there too.
#![allow(unsafe_code)]

use super::layout::{FamilyHeader, HEAP, LEDGER, MAGIC, VERSION};
use super::leave::{Users, Visit};
use super::registry::Start;
use super::walk::Cursor;
use super::{Family, NO_SEAT, Seat, fork, kind};
use crate::error::{Error, Result};
use crate::sys::area::Area;
use crate::sys::descriptor::{GuardedFd, Identity, clear_of_streams};
use crate::sys::memory::{self, Map};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// Maximum number of families that a process can be in at a time.
pub const FAMILIES: usize = 64;

/// All families of this process. A family that was left stays in its place until another one replaces it.
static JOINED: [AtomicPtr<Family>; FAMILIES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; FAMILIES];
static HOME: AtomicPtr<Family> = AtomicPtr::new(core::ptr::null_mut());

/// Length of the file: a terabyte, more than any machine has memory. Only written parts of the file use memory, and
/// only used parts are mapped.
const LENGTH: u64 = 1 << 40;
/// The shortest length with which a family is founded.
const LEAST: u64 = HEAP + (8 << 20);

fn seen(pointer: &AtomicPtr<Family>) -> Option<&'static Family> {
    // SAFETY: only pointers to leaked boxes are ever stored there, so the reference is valid for ever.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

/// The families of this process.
pub(crate) fn joined() -> impl Iterator<Item = &'static Family> {
    JOINED.iter().map_while(seen).filter(|family| !family.is_gone())
}

/// The families of this process, each as a visit and with the number of its place.
pub(crate) fn visited() -> impl Iterator<Item = (usize, Visit)> {
    JOINED
        .iter()
        .map_while(seen)
        .enumerate()
        .filter_map(|(place, family)| Some((place, family.visit()?)))
}

impl Family {
    /// The family in which this process makes its objects, if it has one.
    #[must_use]
    #[inline]
    pub fn home_if_any() -> Option<&'static Family> {
        seen(&HOME)
    }

    /// The family in which this process makes its objects. Founds one if there is none, or if the descriptor of the
    /// present one is lost: see [`super::descriptor`].
    pub fn home() -> Result<&'static Family> {
        match Self::home_if_any() {
            Some(home) if home.is_open() => Ok(home),
            lost => Self::found_home(lost),
        }
    }

    /// Like [`Family::home`], but verifies the descriptor now: for callers that pass it to another process.
    pub fn open_home() -> Result<&'static Family> {
        match Self::home_if_any() {
            Some(home) if home.is_open_now(crate::sys::clock::now()) => Ok(home),
            lost => Self::found_home(lost),
        }
    }

    fn found_home(lost: Option<&'static Family>) -> Result<&'static Family> {
        let founded = Self::found()?;
        if let Some(seat) = lost.and_then(Self::current_seat) {
            founded.seat()?.slot().set_name(&seat.slot().name());
        }
        match HOME.compare_exchange(
            lost.map_or(core::ptr::null_mut(), |lost| core::ptr::from_ref(lost).cast_mut()),
            core::ptr::from_ref(founded).cast_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Ok(founded),
            // Another thread was faster. This family stays joined and empty, which costs a few pages.
            Err(_) => Self::home_if_any().ok_or(Error::NoSeat),
        }
    }

    /// Founds a family, with this process as its root.
    pub fn found() -> Result<&'static Family> {
        kind::must_be_known()?;
        let fd = memory::nameless_file(c"procession").map_err(|e| Error::os("making family memory", e))?;
        let length = memory::lengthen(&fd, LENGTH).map_err(|e| Error::os("sizing family memory", e))?;
        if length < LEAST {
            return Err(Error::NoMemory {
                wanted: LEAST,
                why: "the limit on the size of files (ulimit -f), which cannot be raised",
            });
        }
        memory::reserve(&fd, 0, LEDGER + 16384).map_err(|e| Error::os("reserving family memory", e))?;
        let area = map(&fd, length)?;
        let mut id = [0u8; 16];
        memory::random_bytes(&mut id).map_err(|e| Error::os("drawing a family id", e))?;
        let family = Self::leak(fd, area, id, false)?;
        let header = family.at::<FamilyHeader>(0);
        let (low, high) = id.split_at(8);
        header.id[0].store(
            u64::from_le_bytes(low.try_into().unwrap_or_default()),
            Ordering::Relaxed,
        );
        header.id[1].store(
            u64::from_le_bytes(high.try_into().unwrap_or_default()),
            Ordering::Relaxed,
        );
        header.root.store(family.pid(), Ordering::Relaxed);
        header.length.store(length, Ordering::Relaxed);
        header.created.store(crate::sys::clock::now(), Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        super::fields::write(family);
        family.found_ledger();
        header.magic.store(MAGIC, Ordering::Release);
        let seat = family.take_new_seat(Start::Founded)?;
        seat.slot().set_name("MainProcess");
        family.join()?;
        Ok(family)
    }

    /// Maps the family memory behind this descriptor, or returns the family if this process is in it already. This
    /// process does not leave the family again.
    pub fn attach(fd: OwnedFd) -> Result<&'static Family> {
        Self::come(fd, false).map(Visit::stay)
    }

    fn come(fd: OwnedFd, may_be_left: bool) -> Result<Visit> {
        kind::must_be_known()?;
        let size = rustix::fs::fstat(&fd)
            .map_err(|e| Error::os("reading the size of family memory", e))?
            .st_size;
        if (size as u64) < HEAP {
            return Err(Error::NotAHandle {
                why: "the descriptor is not a descriptor of family memory",
            });
        }
        let first =
            Map::new(&fd, size_of::<FamilyHeader>()).map_err(|e| Error::os("mapping family memory", e))?;
        // SAFETY: the file is at least as long as the header, as checked above, and a header is valid for all bytes.
        let header = unsafe { &*first.base().cast::<FamilyHeader>() };
        let magic = header.magic.load(Ordering::Acquire);
        let version = header.version.load(Ordering::Relaxed);
        let length = header.length.load(Ordering::Relaxed);
        let id = [
            header.id[0].load(Ordering::Relaxed),
            header.id[1].load(Ordering::Relaxed),
        ];
        // SAFETY: the only reference into the mapping, `header`, is not used after this.
        unsafe { first.unmap() };
        if magic != MAGIC {
            return Err(Error::NotAHandle {
                why: "the descriptor is not a descriptor of family memory",
            });
        }
        if version != VERSION {
            return Err(Error::Version {
                found: version,
                known: VERSION,
            });
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id[0].to_le_bytes());
        bytes[8..].copy_from_slice(&id[1].to_le_bytes());
        if let Some(known) = Self::known(&bytes) {
            return Ok(known);
        }
        let area = map(&fd, length.clamp(HEAP, LENGTH))?;
        let family = Self::leak(fd, area, bytes, may_be_left)?;
        let visit = family.visit().ok_or(Error::NoSeat)?;
        family.join()?;
        Ok(visit)
    }

    /// Takes the seat that this process's parent reserved in the family behind `fd` (None: the process is a member
    /// already, through its parent's fork), and makes that family this process's home. Returns the seat, and the
    /// indices of the references that the parent put there.
    pub fn adopt(fd: Option<OwnedFd>, slot: u32, generation: u32) -> Result<(Seat, Vec<u32>)> {
        let (family, start) = match fd {
            Some(fd) => (Self::attach(fd)?, Start::Spawn),
            None => (Self::home_if_any().ok_or(Error::NoSeat)?, Start::ForkServer),
        };
        HOME.store(core::ptr::from_ref(family).cast_mut(), Ordering::Release);
        if slot >= family.slots() {
            return Err(Error::NoSeat);
        }
        let seat = Seat {
            family,
            slot,
            generation,
        };
        let inherited = family.current_seat();
        if !seat.claim(family.pid(), start) {
            return Err(Error::Unreachable {
                pid: 0,
                why: "the parent has given up starting this process".into(),
            });
        }
        let refs = match inherited {
            Some(old) => seat.move_in_from(old)?,
            None => seat.held_now(),
        };
        family.sit(Some(seat));
        family.hint.store(0, Ordering::Relaxed);
        if let Some(old) = inherited {
            // This thread had occupied the old seat's life word and is alive: release the word for the next occupant.
            old.slot().life.leave();
            old.record_exit(0);
        }
        Ok((seat, refs))
    }

    /// Finds the family with this id: one of this process's families, or one that it joins now through a member's
    /// descriptor.
    pub fn find(id: &[u8; 16], pid: u32, number: u32) -> Result<Visit> {
        if let Some(known) = Self::known(id) {
            return Ok(known);
        }
        Self::leave_unused();
        let unreachable = |why: String| Error::Unreachable { pid, why };
        let path = format!("/proc/{pid}/fd/{number}");
        let fd = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| unreachable(format!("{path}: {}", std::io::Error::from(e))))?;
        let visit = Self::come(fd, true).map_err(|e| unreachable(e.to_string()))?;
        if visit.family().id() != *id {
            return Err(unreachable(
                "the descriptor belongs to another program by now".into(),
            ));
        }
        visit.family().seat()?;
        Ok(visit)
    }

    fn known(id: &[u8; 16]) -> Option<Visit> {
        visited().map(|(_, visit)| visit).find(|v| v.family().id() == *id)
    }

    /// Unmaps the memory and closes the descriptor of a family that was left.
    pub(super) fn close(&'static self) {
        // SAFETY: the user count has been replaced by the mark GONE: no reference is left, and no visit can begin
        // (see `leave`).
        unsafe { self.area.unmap() };
        drop(self.fd.take());
    }

    fn leak(fd: OwnedFd, area: Area, id: [u8; 16], may_be_left: bool) -> Result<&'static Family> {
        let looking = |e| Error::os("inspecting family memory", e);
        let identity = Identity::from_fd(&fd).map_err(looking)?;
        let fd = clear_of_streams(fd).map_err(looking)?;
        Ok(Box::leak(Box::new(Family {
            area,
            id,
            users: Users::new(may_be_left),
            fd: GuardedFd::new(fd),
            identity,
            verified: AtomicU64::new(crate::sys::clock::now()),
            seat: AtomicU64::new(NO_SEAT),
            hint: AtomicU32::new(0),
            directory: super::walk::Directory::default(),
            swept: AtomicU32::new(0),
            stocked: AtomicU64::new(0),
            pid: AtomicU32::new(rustix::process::getpid().as_raw_nonzero().get() as u32),
        })))
    }

    fn join(&'static self) -> Result<()> {
        fork::prepare_for_forks();
        let own = core::ptr::from_ref(self).cast_mut();
        let free = JOINED.iter().find(|place| {
            // Release: a thread that finds the family here (Acquire, in `seen`) finds it complete.
            let before = match seen(place) {
                Some(family) if !family.is_gone() => return false,
                before => before.map_or(core::ptr::null_mut(), |f| core::ptr::from_ref(f).cast_mut()),
            };
            place
                .compare_exchange(before, own, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        free.map(drop).ok_or(Error::Unreachable {
            pid: self.pid(),
            why: format!("this process has objects of {FAMILIES} families"),
        })
    }

    pub(crate) fn has_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }
}

impl Seat {
    /// The indices of the entries that the seat holds before its occupant has made any.
    fn held_now(self) -> Vec<u32> {
        let txn = self.family.begin();
        let mut found = Vec::new();
        let (mut index, mut cursor) = (0, Cursor::default());
        while let Some((at, _, _)) = txn.next_held(&mut cursor, self, index) {
            found.push(at);
            index = at + 1;
        }
        found
    }

    /// Moves the references of this process's old seat (from its fork) into this one, each entry to the same index,
    /// because the references in the program know their index. References that the parent put at such an index move
    /// elsewhere. Returns the indices of the references that the parent put into this seat.
    fn move_in_from(self, old: Seat) -> Result<Vec<u32>> {
        let mut index = 0;
        let mut moved = Vec::new();
        // Both seats belong to this process, so their chunks stay where they are.
        let [mut out, mut into, mut beyond] = [Cursor::default(); 3];
        loop {
            let mut txn = self.family.begin();
            let Some((at, from, offset)) = txn.next_held(&mut out, old, index) else {
                break;
            };
            txn.extend_table(&mut beyond, self.slot(), super::held::ENTRIES as u32 + at)?;
            if let Some(to) = txn.entry(&mut into, self.slot(), at, true)? {
                let displaced = txn.read(to);
                if displaced != 0 {
                    // This index is beyond all that the old seat may still move here.
                    let hint = super::held::ENTRIES as u32 + at;
                    txn.enter_held_of(&mut beyond, self.slot(), hint, displaced)?;
                }
                txn.write(to, offset);
                txn.write(from, 0);
            }
            txn.commit();
            moved.push(at);
            index = at + 1;
        }
        Ok(self
            .held_now()
            .into_iter()
            .filter(|i| moved.binary_search(i).is_err())
            .collect())
    }

    /// Releases the start message, and the references that the parent put into the seat for it.
    pub fn release_message(self, refs: &[u32]) {
        let mut cursor = Cursor::default();
        for index in refs {
            let mut txn = self.family.begin();
            txn.write(&self.slot().message, 0);
            if let Some((at, entry, offset)) = txn.next_held(&mut cursor, self, *index)
                && at == *index
            {
                txn.write(entry, 0);
                txn.drop_reference(offset);
                txn.commit();
            }
            self.family.hint_free(*index);
        }
        self.family.reclaim();
    }
}

fn map(fd: &OwnedFd, length: u64) -> Result<Area> {
    // Map everything below the heap now: it is used by operations that cannot fail.
    Area::new(fd, length as usize, HEAP as usize).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOMEM) => Error::NoMemory {
            wanted: HEAP,
            why: "this process's address space (ulimit -v) or number of mappings is at its limit",
        },
        _ => Error::os("mapping family memory", e),
    })
}
