//! Starting another program with exactly the descriptors that it is to have.
//!
//! `posix_spawn` borrows the parent's memory until the program is loaded, so a parent of many gigabytes starts a
//! child as fast as a small one, and learns in the same call whether the program could be loaded. No at-fork handler
//! runs.
//!
//! The child is to find `fds[i]` at 3 + i (or where it is told) and nothing besides. The given descriptors may themselves
//! lie in that range, in any order, so those that do are first copied above it; after that every source differs from every target, no
//! copy overwrites a source that is still needed, and each target is made by a real `dup2`, which makes it
//! inheritable (a `dup2` onto itself would not). Then the child closes everything above that range, with what glibc has
//! for that since 2.34. It is looked up at run time, since extensions for older systems are linked against older
//! libraries; without it, the descriptors that are inheritable at that moment are listed and closed one by one. That
//! leaves out one that another thread makes inheritable in the same instant; all of Procession's own, and all of
//! Python's, never are.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;

/// The first descriptor after standard input, output and error.
pub const FIRST: RawFd = 3;

/// A program could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// The program.
    pub executable: CString,
    /// The system's answer.
    pub source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "starting {}: {}",
            self.executable.to_string_lossy(),
            self.source
        )
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// `posix_spawn(&pid, executable, actions, NULL, args, env)` — runs a program and returns the pid of the new process.
///
/// `args` is all of the program's arguments, from the 0th on, which is its name by custom. The child has descriptors
/// 0 to 2 as they are here, `fds[i]` as 3 + i, and no other. It inherits the ignored signals and the signal mask, with
/// SIGINT added: a program that is not ready for Ctrl-C yet unblocks it when it is.
///
/// # Errors
/// What `execve` says (no such file, not executable, …), or that the system has no process or descriptor left. There
/// is then no child.
///
/// # References
///  - [posix_spawn(3)](https://man7.org/linux/man-pages/man3/posix_spawn.3.html)
///  - [execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)
pub fn spawn(
    executable: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[BorrowedFd<'_>],
) -> Result<u32, SpawnError> {
    let placed: Vec<_> = fds.iter().copied().zip(FIRST..).collect();
    spawn_at(executable, args, env, &placed)
}

/// The same, where the child has each descriptor under the number that stands beside it.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_at(
    executable: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> Result<u32, SpawnError> {
    start(executable, args, env, fds).map_err(|source| SpawnError {
        executable: executable.to_owned(),
        source,
    })
}

fn start(
    executable: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<u32> {
    let targets = fds.iter().map(|(_, target)| *target);
    let end = targets
        .clone()
        .fold(FIRST - 1, RawFd::max)
        .checked_add(1)
        .ok_or_else(too_many)?;
    let mut copies: Vec<OwnedFd> = Vec::new();
    let mut actions = Actions::new()?;
    for (fd, target) in fds {
        let source = if fd.as_raw_fd() < end {
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, end)?;
            let source = copy.as_raw_fd();
            copies.push(copy);
            source
        } else {
            // A descriptor that is none would only be found out in the child, and look like the program's fault.
            rustix::io::fcntl_getfd(fd)?;
            fd.as_raw_fd()
        };
        actions.dup2(source, *target)?;
    }
    let is_target = |fd: RawFd| targets.clone().any(|target| target == fd);
    if !(FIRST..end).all(is_target) {
        let between = inheritable_from(FIRST).into_iter().filter(|fd| *fd < end);
        for fd in between.filter(|fd| !is_target(*fd)) {
            actions.close(fd)?;
        }
    }
    actions.close_from(end)?;
    let attributes = Attributes::with_sigint_blocked()?;
    let argv = pointers(args);
    let envp = pointers(env);
    let mut pid = 0;
    // SAFETY: the strings, the two arrays (which end with a null pointer), the actions and the attributes outlive the
    // call; nothing is written through the array's pointers in spite of their type.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            executable.as_ptr(),
            actions.as_ptr(),
            attributes.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    drop(copies);
    check(error)?;
    u32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr().cast_mut())
        .chain([core::ptr::null_mut()])
        .collect()
}

fn too_many() -> io::Error {
    rustix::io::Errno::INVAL.into()
}

/// The functions of this family return their error number.
fn check(error: c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// What the child does before it becomes the program.
struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: the place is writable; the call initialises it, unless it fails, and then it is not used.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Actions(actions))
    }

    fn as_ptr(&self) -> *const libc::posix_spawn_file_actions_t {
        self.0.as_ptr()
    }

    fn dup2(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: initialised by `new`, exclusively borrowed.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), source, target) })
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: as above. Closing what is not open is no error in the child.
        check(unsafe { libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), fd) })
    }

    /// Closes everything from this descriptor on.
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        if let Some(add_close_from) = add_close_from() {
            // SAFETY: as above; the function is the one that the C library documents under this name.
            return check(unsafe { add_close_from(self.0.as_mut_ptr(), first) });
        }
        for fd in inheritable_from(first) {
            self.close(fd)?;
        }
        Ok(())
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// How the child differs from this process.
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn with_sigint_blocked() -> io::Result<Attributes> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: the place is writable; the call initialises it, unless it fails, and then it is not used.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Attributes(attributes);
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: with no set to change to, the call only writes the present mask to a place that is large enough.
        check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), mask.as_mut_ptr()) })?;
        // SAFETY: written by the call above.
        let mut mask = unsafe { mask.assume_init() };
        // SAFETY: a valid set and a signal that exists.
        unsafe { libc::sigaddset(&raw mut mask, libc::SIGINT) };
        let place = attributes.0.as_mut_ptr();
        // SAFETY: initialised above, exclusively borrowed; the mask is copied.
        check(unsafe { libc::posix_spawnattr_setsigmask(place, &raw const mask) })?;
        // SAFETY: as above.
        check(unsafe {
            libc::posix_spawnattr_setflags(place, libc::POSIX_SPAWN_SETSIGMASK as libc::c_short)
        })?;
        Ok(attributes)
    }

    fn as_ptr(&self) -> *const libc::posix_spawnattr_t {
        self.0.as_ptr()
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `with_sigint_blocked`, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

static PRETEND_OLD: AtomicBool = AtomicBool::new(false);

/// Makes [`spawn`] do without what an older C library does not have.
#[doc(hidden)]
pub fn pretend_old_libc(old: bool) {
    PRETEND_OLD.store(old, Ordering::Relaxed);
}

fn add_close_from() -> Option<AddCloseFrom> {
    if PRETEND_OLD.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the name is a C string.
    let found = unsafe {
        libc::dlsym(
            libc::RTLD_DEFAULT,
            c"posix_spawn_file_actions_addclosefrom_np".as_ptr(),
        )
    };
    // SAFETY: the symbol of this name has this type; a null pointer becomes None.
    unsafe { core::mem::transmute::<*mut libc::c_void, Option<AddCloseFrom>>(found) }
}

/// The open descriptors from `first` on that `exec` would keep. None where they cannot be listed.
fn inheritable_from(first: RawFd) -> Vec<RawFd> {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.filter(|fd| *fd >= first && is_inheritable(*fd)).collect()
}

fn is_inheritable(fd: RawFd) -> bool {
    // SAFETY: borrowed for one call that asks for its flags; if it was closed meanwhile, that says so.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(fd.as_fd()).is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
}
