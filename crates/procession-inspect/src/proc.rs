//! What the kernel tells of processes: `/proc`.
//!
//! # References
//!  - [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};

/// Nanoseconds of the monotonic clock, by which family memory counts.
pub(crate) fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(t.tv_nsec as u64)
}

/// The ids of this process and of the calling thread, in the PID namespace of the `/proc` that is mounted.
pub(crate) fn this_thread() -> Option<(u32, u32)> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    let mut parts = link.to_str()?.split('/');
    let process = parts.next()?.parse().ok()?;
    Some((process, parts.nth(1)?.parse().ok()?))
}

/// The facts of a `stat` file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: u32,
    /// Clock ticks of processor time.
    pub(crate) ticks: u64,
    /// Clock ticks since boot at which it was started.
    pub(crate) start_time: u64,
    /// How the process has ended, as `wait` tells it; 0 also if the observer may not know.
    pub(crate) ended: u32,
}

/// Reads the facts of a process.
pub(crate) fn stat(pid: u32) -> io::Result<Stat> {
    read_stat(&format!("/proc/{pid}/stat"))
}

/// Reads a file of `/proc` in few calls. The kernel tells no lengths of these files, and `why` reads hundreds of them.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn read_stat(path: &str) -> io::Result<Stat> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    parse_stat(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may contain any characters.
    let (front, behind) = text.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        parent: number(1)? as u32,
        ticks: number(11)? + number(12)?,
        start_time: number(19)?,
        ended: number(49).unwrap_or(0) as u32,
    })
}

/// Exit code of a process that has ended and for which its parent has not waited yet; -N: killed by signal N. None: it is
/// not known.
pub(crate) fn exit_of_zombie(pid: u32, stat: &Stat) -> Option<i32> {
    if !matches!(stat.state, 'Z' | 'X') {
        return None;
    }
    let signal = (stat.ended & 0x7f) as i32;
    if stat.ended == 0 {
        // The kernel shows 0 to observers that may not trace the process.
        let me = rustix::process::geteuid().as_raw();
        return (me == 0 || user(pid) == Some(me)).then_some(0);
    }
    Some(if signal != 0 {
        -signal
    } else {
        (stat.ended >> 8 & 0xff) as i32
    })
}

/// How a thread sleeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sleep {
    call: String,
    /// How often the thread has gone to sleep.
    switches: String,
}

/// How a thread sleeps in the kernel. None: it runs, or the observer may not know.
pub(crate) fn sleep(pid: u32, thread: u32) -> Option<Sleep> {
    let path = format!("/proc/{pid}/task/{thread}");
    let switches = status_line(&path, "voluntary_ctxt_switches:")?;
    let call = fs::read_to_string(format!("{path}/syscall")).ok()?;
    Some(Sleep { call, switches })
}

impl Sleep {
    /// Whether only another thread of the same process can end the sleep: the thread sleeps on a futex that is private to
    /// the process, without a time limit. (The standard library of Python and `std` of Rust wait in this way for their
    /// locks, conditions and threads.)
    ///
    /// # References
    ///  - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
    pub(crate) fn is_for_own_threads(&self) -> bool {
        const FUTEX: Option<u64> = match () {
            () if cfg!(target_arch = "x86_64") => Some(202),
            () if cfg!(target_arch = "aarch64") => Some(98),
            () => None,
        };
        const WAIT: u64 = 0;
        const WAIT_BITSET: u64 = 9;
        const PRIVATE: u64 = 128;
        const COMMAND: u64 = 0x7f;
        let mut words = self.call.split_whitespace();
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let arguments: Vec<u64> = words
            .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect();
        let [_, operation, _, timeout, ..] = arguments[..] else {
            return false;
        };
        FUTEX.is_some()
            && number == FUTEX
            && operation & PRIVATE != 0
            && matches!(operation & COMMAND, WAIT | WAIT_BITSET)
            && timeout == 0
    }
}

/// Ids and facts of the threads of a process. An error means that the observer may not list them.
pub(crate) fn threads(pid: u32) -> io::Result<Vec<(u32, Stat)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            let stat = read_stat(&format!("/proc/{pid}/task/{id}/stat")).unwrap_or_default();
            threads.push((id, stat));
        }
    }
    threads.sort_by_key(|(id, _)| *id);
    Ok(threads)
}

/// The state of a thread.
pub(crate) fn thread_state(pid: u32, thread: u32) -> Option<char> {
    let stat = read_stat(&format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    Some(stat.state)
}

/// The rest of the line of `status` that begins with `name`. `path`: a process or a thread in `/proc`.
fn status_line(path: &str, name: &str) -> Option<String> {
    let status = read(&format!("{path}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.to_owned())
}

/// The pids of a process, or the ids of a thread, from the observer's PID namespace inwards to its own.
pub(crate) fn ids(path: &str) -> Vec<u32> {
    status_line(path, "NSpid:")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// Whether a process has a signal handler that may be the program's: not those of every Python program (SIGINT), of
/// Procession's workers (the last real-time signal), of the C library's threads (32, 33), and of debugging aids (faults).
pub(crate) fn handles_signals(pid: u32) -> bool {
    const OF_NO_PROGRAM: [u32; 11] = [2, 4, 5, 6, 7, 8, 11, 31, 32, 33, 64];
    let line = status_line(&format!("/proc/{pid}"), "SigCgt:");
    let caught = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    let others = OF_NO_PROGRAM
        .iter()
        .map(|signal| 1_u64 << (signal - 1))
        .fold(0, |all, bit| all | bit);
    caught.unwrap_or(0) & !others != 0
}

/// Number of bytes that this process may still map, if its address space is limited.
pub(crate) fn room() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').next()?.parse().ok()?;
    Some(limit.saturating_sub(pages * rustix::param::page_size() as u64))
}

/// The user to whom a process belongs.
pub(crate) fn user(pid: u32) -> Option<u32> {
    let line = status_line(&format!("/proc/{pid}"), "Uid:")?;
    line.split_whitespace().next()?.parse().ok()
}

/// The PID namespace of a process, as family memory stores it: the lower half of its inode number. 0: unknown.
pub(crate) fn pid_namespace(pid: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(0, |facts| facts.ino() as u32)
}

/// All pids that the observer sees.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Bytes of memory of a process, where shared pages count in parts.
pub(crate) fn memory(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.unwrap_or(0) * 1024)
}

/// Seconds since boot.
pub(crate) fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}

/// Number of clock ticks of a second.
pub(crate) fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Name of the program that a process runs: of its script if it is a Python interpreter.
pub(crate) fn program(pid: u32) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> = command
        .split(|byte| *byte == 0)
        .map(crate::memory::text)
        .collect();
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let first = base(words.first().filter(|word| !word.is_empty())?);
    if !first.starts_with("python") && !first.starts_with("pypy") {
        return Some(first);
    }
    let mut rest = words[1..].iter().filter(|word| !word.is_empty());
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-c" => return Some(format!("{first} -c")),
            "-m" => match rest.next() {
                // `python -m procession script.py` runs the script
                Some(module) if module == "procession" => {}
                module => return Some(format!("{first} -m {}", module.map_or("", |m| m))),
            },
            "-W" | "-X" => {
                rest.next();
            }
            word if word.starts_with('-') => {}
            script => return Some(base(script)),
        }
    }
    Some(first)
}

/// Which permission is missing to look at a process.
pub(crate) fn permission(pid: u32) -> String {
    let me = rustix::process::geteuid().as_raw();
    match user(pid) {
        Some(user) if user != me => format!("its user (uid {user}) or CAP_SYS_PTRACE"),
        _ => "CAP_SYS_PTRACE: the process is not dumpable (prctl PR_SET_DUMPABLE), or in another user namespace"
            .to_owned(),
    }
}

/// Which permission is missing to trace a process.
pub(crate) fn tracing(pid: u32) -> String {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "" | "0" => permission(pid),
        scope => format!("CAP_SYS_PTRACE (kernel.yama.ptrace_scope is {scope})"),
    }
}

/// Finds processes by the pids of their own PID namespaces.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    here: u32,
    /// For each pid inside of another namespace: the pids that the observer sees.
    inner: OnceCell<HashMap<u32, Vec<u32>>>,
}

impl Finder {
    pub(crate) fn new() -> Finder {
        Finder {
            here: pid_namespace("self"),
            inner: OnceCell::new(),
        }
    }

    /// Whether pids of this namespace are those that the observer sees.
    pub(crate) fn is_here(&self, namespace: u32) -> bool {
        namespace == 0 || self.here == 0 || namespace == self.here
    }

    /// The process that has this pid in that namespace and was started at that time (0: unknown), with its facts.
    pub(crate) fn find(&self, own_pid: u32, namespace: u32, start_time: u64) -> Option<(u32, Stat)> {
        if own_pid == 0 {
            return None;
        }
        let fits = |pid: u32| {
            let stat = stat(pid).ok()?;
            (start_time == 0 || stat.start_time == start_time).then_some((pid, stat))
        };
        if self.is_here(namespace) {
            return fits(own_pid);
        }
        let inner = self.inner.get_or_init(|| {
            let mut inner: HashMap<u32, Vec<u32>> = HashMap::new();
            for pid in pids() {
                let ids = ids(&format!("/proc/{pid}"));
                if let (Some(last), true) = (ids.last(), ids.len() > 1) {
                    inner.entry(*last).or_default().push(pid);
                }
            }
            inner
        });
        inner.get(&own_pid)?.iter().find_map(|pid| fits(*pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_facts_of_a_process() {
        let text = "12 (a) b (c)) S 3 12 12 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 4242 0 0";
        let stat = parse_stat(text).expect("valid");
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.parent),
            ("a) b (c)", 'S', 3)
        );
        assert_eq!((stat.ticks, stat.start_time), (12, 4242));
    }

    #[test]
    fn the_exit_code_of_a_zombie_is_read() {
        let fields = "3 12 12 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 4242";
        let rest = "0 ".repeat(29);
        let exit = |state: char, word: u32| {
            let stat = parse_stat(&format!("12 (a) {state} {fields} {rest}{word}")).expect("valid");
            exit_of_zombie(std::process::id(), &stat)
        };
        assert_eq!(exit('Z', 0), Some(0));
        assert_eq!(exit('Z', 3 << 8), Some(3));
        assert_eq!(exit('Z', 9), Some(-9));
        assert_eq!(exit('S', 3 << 8), None);
    }

    #[test]
    fn only_a_private_futex_without_time_limit_is_for_own_threads() {
        let number = if cfg!(target_arch = "aarch64") { 98 } else { 202 };
        let sleep = |call: String| Sleep {
            call,
            switches: String::new(),
        };
        let futex = |operation: u32, timeout: u64| {
            sleep(format!(
                "{number} 0x7f00 {operation:#x} 0x0 {timeout:#x} 0x0 0xff 0x7ff 0x7fe\n"
            ))
        };
        assert!(futex(128 | 256 | 9, 0).is_for_own_threads());
        assert!(!futex(256 | 9, 0).is_for_own_threads());
        assert!(!futex(128 | 9, 0x7fff).is_for_own_threads());
        assert!(!sleep("running\n".to_owned()).is_for_own_threads());
        assert!(!sleep("-1 0x7ff 0x7fe\n".to_owned()).is_for_own_threads());
    }

    #[test]
    fn a_cut_file_is_no_process() {
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat("12 (a) S 3"), None);
    }

    #[test]
    fn this_process_is_found_by_its_pid_and_start_time() {
        let pid = std::process::id();
        let facts = stat(pid).expect("this process");
        let finder = Finder::new();
        let namespace = pid_namespace("self");
        assert_eq!(
            finder.find(pid, namespace, facts.start_time).map(|f| f.0),
            Some(pid)
        );
        assert_eq!(finder.find(pid, namespace, facts.start_time + 1), None);
    }
}
