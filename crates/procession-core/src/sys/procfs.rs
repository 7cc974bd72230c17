//! Reads `/proc`: whether a process lives, when it started, and how it ended.
//!
//! A pid is reused; a pid with its *start time* (clock ticks since boot) is not, so the two together name a process
//! for as long as the machine runs. This module handles three traps, so that its callers need not know them:
//!
//! - The second field is the program's name in parentheses, which may itself contain spaces and parentheses: fields
//!   are counted from the *last* parenthesis.
//! - A process whose first thread has ended while others run shows the state of that thread, `Z`. It is dead only
//!   when no other thread is left.
//! - `/proc` shows the exit status of a zombie as 0 to a process that may not see it. So the status counts only if
//!   the same line shows another field that only a permitted process may see.
//!
//! If `/proc` is not mounted, hides the process, or belongs to another PID namespace (so that its numbers are not the
//! pids that this process knows), the start time is 0, which means "unknown, matches anything", and a pidfd tells
//! whether the process lives; if the system refuses pidfds too, `kill(pid, 0)` tells it. Except for [`resident`] and
//! [`open_mapping`], nothing here allocates memory or takes a lock, because it runs in at-fork and signal handlers.
//!
//! # References
//!  - [proc_pid_stat(5)](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)

use super::descriptor::{Identity, clear_of_streams};
use super::pidfd;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::CStr;
use std::io;

/// Pid of the process that has found `/proc` to belong to another PID namespace; 0: none.
static FOREIGN: AtomicU32 = AtomicU32::new(0);

/// The fields of `/proc/PID/stat` that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// Letter of the state; `Z` for a process (or only its first thread, see `threads`) that has ended.
    pub state: u8,
    /// Number of threads. Threads that have ended do not count, except the first one.
    pub threads: u64,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// Address where the stack begins: every `exec` changes it, a fork does not. 0 if this process may not see it.
    pub stack: u64,
    /// Wait status of a zombie; None for other processes, or if this process may not see it.
    pub exit_status: Option<i32>,
}

impl ProcStat {
    /// Returns whether the whole process has ended and only its status is left to be waited for.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The process lives.
    Alive,
    /// The process has ended, and its parent has not waited for it yet.
    Zombie {
        /// Its wait status, if this process may see it.
        status: Option<i32>,
    },
    /// There is no such process, or another process has its pid now.
    Gone,
}

/// `/proc/PID/stat`: reads a process's state, start time and (for a zombie) wait status. `None`: there is no such
/// process.
///
/// # Errors
/// The state is unknown: `/proc` is not mounted or hides an existing process, or no descriptor is free.
pub fn stat(pid: u32) -> io::Result<Option<ProcStat>> {
    if FOREIGN.load(Ordering::Relaxed) == own_pid() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut text = [0; LONGEST];
    let mut path = [0; 24];
    let path = path_of(pid, &mut path).ok_or(Errno::INVAL)?;
    let len = match read(path, &mut text) {
        Ok(len) => len,
        Err(Errno::NOENT | Errno::SRCH) if exists(pid) => return Err(io::ErrorKind::Unsupported.into()),
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    parse(&text[..len])
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What a process can read about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// Start time in clock ticks since boot; 0 if unknown.
    pub start_time: u64,
    /// See [`ProcStat::stack`].
    pub stack: u64,
}

/// Reads the start time and stack of this process. Every process must call this before it looks at others: it finds
/// out whether `/proc` shows the pids that this process knows.
#[must_use]
pub fn own() -> Own {
    let mut text = [0; LONGEST];
    let line = read(c"/proc/self/stat", &mut text).map(|len| &text[..len]);
    let is_own =
        |line: &&[u8]| line.split(|b| *b == b' ').next().and_then(number) == Some(u64::from(own_pid()));
    match line.ok().filter(is_own) {
        Some(line) => {
            FOREIGN.store(0, Ordering::Relaxed);
            parse(line).map_or(Own::default(), |stat| Own {
                start_time: stat.start_time,
                stack: stat.stack,
            })
        }
        None => {
            FOREIGN.store(own_pid(), Ordering::Relaxed);
            Own::default()
        }
    }
}

/// Returns the PID namespace of this process, as the inode of `/proc/self/ns/pid`; 0 if unknown.
#[must_use]
pub fn pid_namespace() -> u32 {
    rustix::fs::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino as u32)
}

/// Opens a file that this process has mapped again, for reading and writing. None if it is not mapped, or if this
/// process may not open it (the kernel permits it to root only).
#[must_use]
pub fn open_mapping(identity: Identity) -> Option<OwnedFd> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, _mode, _offset) = (fields.next()?, fields.next()?, fields.next()?);
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = rustix::fs::makedev(
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        );
        if !identity.is(device, fields.next()?.parse().ok()?) {
            return None;
        }
        let path = format!("/proc/self/map_files/{range}");
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
        (Identity::from_fd(&fd).ok()? == identity).then(|| clear_of_streams(fd).ok())?
    })
}

/// Start time of a process in clock ticks since boot; 0 if there is no such process or it is unknown.
#[must_use]
pub fn start_time(pid: u32) -> u64 {
    stat(pid).ok().flatten().map_or(0, |stat| stat.start_time)
}

/// Number of bytes that a process has resident, shared memory included; None if it has ended or `/proc` is missing.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    statm(&pid.to_string(), 1)
}

/// Number of bytes of address space that this process uses; None if `/proc` is missing.
#[must_use]
pub fn address_space() -> Option<u64> {
    statm("self", 0)
}

fn statm(process: &str, column: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(column)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// State of the process with this pid and start time; a start time of 0 matches any.
#[must_use]
pub fn liveness(pid: u32, start_time: u64) -> Liveness {
    match stat(pid) {
        Ok(Some(stat)) if start_time != 0 && stat.start_time != start_time => Liveness::Gone,
        Ok(Some(stat)) if stat.ended() => Liveness::Zombie {
            status: stat.exit_status,
        },
        Ok(Some(_)) => Liveness::Alive,
        Ok(None) => Liveness::Gone,
        Err(_) => by_pidfd(pid),
    }
}

/// [`liveness`] without `/proc`.
fn by_pidfd(pid: u32) -> Liveness {
    match pidfd::open(pid).and_then(pidfd::ended) {
        Ok(true) => Liveness::Zombie { status: None },
        Ok(false) => Liveness::Alive,
        Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Liveness::Gone,
        // No descriptor is free, for example.
        Err(_) if is_ended_child(pid) => Liveness::Zombie { status: None },
        Err(_) if exists(pid) => Liveness::Alive,
        Err(_) => Liveness::Gone,
    }
}

/// `waitid(P_PID, pid, WEXITED | WNOHANG | WNOWAIT)`: returns whether this process is a child of the caller that has ended
/// and was not reaped. Needs no descriptor, and reaps nothing.
///
/// # References
///  - [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)
fn is_ended_child(pid: u32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
}

/// Returns whether the process with this pid and start time lives; a zombie does not.
#[must_use]
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    liveness(pid, start_time) == Liveness::Alive
}

/// `WEXITSTATUS(raw)` or `-WTERMSIG(raw)`: converts a wait status to an exit code, -N for a process killed by signal
/// N.
///
/// # References
///  - [wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html)
#[must_use]
pub fn exit_code_of_status(raw: i32) -> i32 {
    match raw & 0x7f {
        0 => (raw >> 8) & 0xff,
        signal => -signal,
    }
}

/// `kill(pid, 0)`: returns whether there is a process (or a zombie) with this pid, or a thread with this id.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

fn read(path: &CStr, text: &mut [u8]) -> Result<usize, Errno> {
    let file = loop {
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::INTR) => {}
            opened => break opened?,
        }
    };
    let mut len = 0;
    while len < text.len() {
        match rustix::io::read(&file, &mut text[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// Writes the path into `buffer`, because this code must not allocate.
fn path_of(pid: u32, buffer: &mut [u8; 24]) -> Option<&CStr> {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut left = pid;
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let parts = [b"/proc/".as_slice(), &digits[first..], b"/stat\0"];
    let mut len = 0;
    for part in parts {
        buffer.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    CStr::from_bytes_with_nul(&buffer[..len]).ok()
}

fn parse(line: &[u8]) -> Option<ProcStat> {
    let name_end = line.iter().rposition(|b| *b == b')')?;
    // The name is followed by a space, then by field 3 and the others.
    let rest = line.get(name_end + 2..)?;
    let field = |number: usize| rest.split(|b| b.is_ascii_whitespace()).nth(number - 3);
    let state = *field(3)?.first()?;
    let ended = matches!(state, b'Z' | b'X' | b'x');
    // Field 35 ("waits in the kernel") is, like the exit code, shown as 0 to a process that may not see it; for a
    // zombie it is 1.
    let may_see = field(35).and_then(number).is_some_and(|n| n != 0);
    let exit_status = field(52).and_then(number).and_then(|n| i32::try_from(n).ok());
    Some(ProcStat {
        state,
        threads: field(20).and_then(number)?,
        start_time: field(22).and_then(number)?,
        stack: field(28).and_then(number)?,
        exit_status: exit_status.filter(|status| ended && (*status != 0 || may_see)),
    })
}

/// Upper limit of the line's length: 52 numbers of up to 20 digits, and a name of up to 64 bytes.
const LONGEST: usize = 1280;

fn number(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, state: char, threads: u32, wchan: u32, status: i32) -> String {
        let mut fields = vec!["0".to_owned(); 50];
        fields[0] = state.to_string();
        fields[17] = threads.to_string();
        fields[19] = "4711".to_owned();
        fields[32] = wchan.to_string();
        fields[49] = status.to_string();
        format!("12 ({name}) {}\n", fields.join(" "))
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let stat = parse(line("a) Z 1 (b) ", 'S', 3, 1, 0).as_bytes()).unwrap();
        assert_eq!(
            stat,
            ProcStat {
                state: b'S',
                threads: 3,
                start_time: 4711,
                stack: 0,
                exit_status: None
            }
        );
    }

    #[test]
    fn a_zombie_shows_its_status_to_those_who_may_see_it() {
        let status = |wchan, status| {
            parse(line("x", 'Z', 1, wchan, status).as_bytes())
                .unwrap()
                .exit_status
        };
        assert_eq!(status(1, 0), Some(0));
        assert_eq!(status(1, 9), Some(9));
        assert_eq!(status(0, 0), None);
    }

    #[test]
    fn a_process_is_dead_only_when_its_last_thread_is() {
        assert!(!parse(line("x", 'Z', 2, 1, 0).as_bytes()).unwrap().ended());
        assert!(parse(line("x", 'Z', 1, 1, 0).as_bytes()).unwrap().ended());
        assert!(!parse(line("x", 'R', 1, 0, 0).as_bytes()).unwrap().ended());
    }

    #[test]
    fn a_torn_line_is_no_answer() {
        for text in ["", "12", "12 (x", "12 (x)", "12 (x) ", "12 (x) S 1 2 3"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn paths_hold_every_pid() {
        for (pid, path) in [
            (0, c"/proc/0/stat"),
            (7, c"/proc/7/stat"),
            (u32::MAX, c"/proc/4294967295/stat"),
        ] {
            assert_eq!(path_of(pid, &mut [0; 24]), Some(path));
        }
    }

    #[test]
    fn exit_codes_name_the_signal_that_killed() {
        assert_eq!(exit_code_of_status(0), 0);
        assert_eq!(exit_code_of_status(3 << 8), 3);
        assert_eq!(exit_code_of_status(9), -9);
        assert_eq!(exit_code_of_status(0x80 | 11), -11, "with a core dump");
    }
}
