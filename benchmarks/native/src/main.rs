//! What one process, one memcpy, one system call costs on this machine: the limits of the benchmarks' rows.
//!
//!     procession-limits NAME COUNT [ARGUMENT]
//!
//! runs one of them `COUNT` times and prints how many seconds that took. None of it uses Procession.
#![allow(clippy::print_stdout)]

mod copies;
mod hands;
mod processes;
mod rings;
mod streams;

use std::process::ExitCode;

/// A limit: runs `count` times, and returns the seconds.
type Limit = fn(count: u64, argument: Option<&str>) -> f64;

const LIMITS: &[(&str, Limit)] = &[
    ("spawn", processes::spawn),
    ("fork", processes::fork),
    ("served-fork", processes::served_fork),
    ("segment", processes::segment),
    ("ring", rings::flow),
    ("copy", copies::in_and_out),
    ("copy-two-cpus", copies::on_two_cpus),
    ("stream", streams::flow),
    ("hand-off-two-cpus", hands::on_two_cpus),
    ("hand-off-one-cpu", hands::on_one_cpu),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let limit = words
        .first()
        .and_then(|name| LIMITS.iter().find(|(known, _)| known == name));
    let count = words.get(1).and_then(|count| count.parse().ok());
    let (Some((_, run)), Some(count)) = (limit, count) else {
        let names: Vec<_> = LIMITS.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "procession-limits NAME COUNT [ARGUMENT], with a NAME of {}",
            names.join(", ")
        );
        return ExitCode::FAILURE;
    };
    println!("{}", run(count, words.get(2).map(String::as_str)));
    ExitCode::SUCCESS
}

/// Runs `work`, and returns how many seconds it took.
fn timed(work: impl FnOnce()) -> f64 {
    let began = std::time::Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// Returns what a system call answered. A benchmark that cannot go on ends with the reason.
fn checked(answer: libc::c_int, what: &str) -> libc::c_int {
    assert!(answer >= 0, "{what}: {}", std::io::Error::last_os_error());
    answer
}

/// Binds the calling thread to the CPU with this place among those that the process may use.
fn bind(place: usize) {
    // SAFETY: the set is plain data, and zero is an empty set. The calls read and write this set alone.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        checked(
            libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed),
            "sched_getaffinity",
        );
        let cpus: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &allowed))
            .collect();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[place % cpus.len()], &mut one);
        checked(
            libc::sched_setaffinity(0, size_of_val(&one), &one),
            "sched_setaffinity",
        );
    }
}
