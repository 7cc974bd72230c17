//! Starts another program with exactly the given descriptors.
//!
//! `posix_spawn` borrows the parent's memory until the program is loaded, so a parent of many gigabytes starts a
//! child as fast as a small one, and learns in the same call whether the program could be loaded. No at-fork handler
//! runs.
//!
//! The child finds `fds[i]` at 3 + i (or at the requested number) and no other descriptor besides the standard
//! streams. The given descriptors may themselves lie in that range, in any order, so those are first copied above it.
//! After that every source differs from every target: no copy overwrites a source that is still needed, and each
//! target is made by a real `dup2`, which makes it inheritable (a `dup2` onto itself would not). Then the child
//! closes everything above that range, with the function that glibc has for this since 2.34. The function is looked
//! up at run time, because extensions for older systems are linked against older libraries. Without it, the
//! descriptors that are inheritable at that moment are listed and closed one by one. That misses a descriptor that
//! another thread makes inheritable at the same instant; the descriptors of Procession and of Python never are
//! inheritable.
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
    /// Path of the program.
    pub executable: CString,
    /// The system's error.
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

/// `posix_spawn(&pid, executable, actions, NULL, args, env)`: starts a program and returns the pid of the new
/// process.
///
/// `args` are all arguments of the program, including the 0th, which is its name by convention. The child has
/// descriptors 0 to 2 of this process, `fds[i]` as 3 + i, and no other. It inherits the ignored signals and the
/// signal mask, with SIGINT added: the program unblocks SIGINT when it is ready for Ctrl-C.
///
/// # Errors
/// The error of `execve` (no such file, not executable, …), or the system has no process or descriptor left. No child
/// exists then.
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

/// Like [`spawn`], but the child has each descriptor under the number that is paired with it.
///
/// # Errors
/// See [`spawn`].
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
            // Check here that the descriptor is open: in the child the error would look like the program's.
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
    // call; the call does not write through the arrays' pointers, although their type allows it.
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

/// The posix_spawn functions return their error number.
fn check(error: c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// What the child does before it executes the program.
struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: the memory is writable. The call initialises it; if it fails, the memory is not used.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Actions(actions))
    }

    fn as_ptr(&self) -> *const libc::posix_spawn_file_actions_t {
        self.0.as_ptr()
    }

    fn dup2(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: `new` initialised the actions, and this method borrows them exclusively.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), source, target) })
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: `new` initialised the actions, and this method borrows them exclusively. Closing a number that is
        // not open is no error in the child.
        check(unsafe { libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), fd) })
    }

    /// Closes all descriptors from `first` on.
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        if let Some(add_close_from) = add_close_from() {
            // SAFETY: `new` initialised the actions, which are borrowed exclusively; the function has the documented
            // signature.
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

/// Attributes in which the child differs from this process.
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn with_sigint_blocked() -> io::Result<Attributes> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: the memory is writable. The call initialises it; if it fails, the memory is not used.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Attributes(attributes);
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: with a null set the call changes nothing and writes the current mask to `mask`, which is large
        // enough.
        check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), mask.as_mut_ptr()) })?;
        // SAFETY: the call above succeeded and has written it.
        let mut mask = unsafe { mask.assume_init() };
        // SAFETY: `mask` is a valid set, and SIGINT exists.
        unsafe { libc::sigaddset(&raw mut mask, libc::SIGINT) };
        let place = attributes.0.as_mut_ptr();
        // SAFETY: `place` was initialised above and is borrowed exclusively; the call copies the mask.
        check(unsafe { libc::posix_spawnattr_setsigmask(place, &raw const mask) })?;
        // SAFETY: `place` was initialised above and is borrowed exclusively; the flag is a constant of this call.
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
        // SAFETY: `with_sigint_blocked` initialised the attributes, and nothing uses them after this.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

static PRETEND_OLD: AtomicBool = AtomicBool::new(false);

/// Makes [`spawn`] behave as with an older C library. For tests.
#[doc(hidden)]
pub fn pretend_old_libc(old: bool) {
    PRETEND_OLD.store(old, Ordering::Relaxed);
}

fn add_close_from() -> Option<AddCloseFrom> {
    if PRETEND_OLD.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the name is a C string, and `dlsym` has no other precondition.
    let found = unsafe {
        libc::dlsym(
            libc::RTLD_DEFAULT,
            c"posix_spawn_file_actions_addclosefrom_np".as_ptr(),
        )
    };
    // SAFETY: the function of this name has this type; a null pointer becomes None.
    unsafe { core::mem::transmute::<*mut libc::c_void, Option<AddCloseFrom>>(found) }
}

/// The open descriptors from `first` on that `exec` would keep. Empty if they cannot be listed.
fn inheritable_from(first: RawFd) -> Vec<RawFd> {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.filter(|fd| *fd >= first && is_inheritable(*fd)).collect()
}

fn is_inheritable(fd: RawFd) -> bool {
    // SAFETY: borrowed for one call that reads its flags; if the number was closed meanwhile, the call fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(fd.as_fd()).is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
}
