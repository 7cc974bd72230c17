//! A program with a `main` of its own, as most programs have: tests of what happens before it and in place of it.
#![allow(unsafe_code, clippy::print_stdout)]

use procession::{Process, ProcessError, StartMethod};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let is_child = words[0].starts_with("procession:");
    if is_child && words.iter().any(|word| word == "late") {
        // This main does something else before it calls init.
        return;
    }
    procession::init();
    // cargo-nextest asks for the tests, and once more for those that are ignored
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            println!("a_program_with_its_own_main: test");
        }
        return;
    }
    match words.get(1).map(String::as_str) {
        Some("late") => an_init_that_comes_too_late_is_an_error_of_the_child(),
        Some("closed") => without_standard_streams(),
        _ => {
            run("late", |_| ());
            run("closed", |command| {
                // SAFETY: between fork and exec, the closure only closes descriptors.
                unsafe { command.pre_exec(|| (0..3).try_for_each(close)) };
            });
            arguments_are_the_parents();
            println!("all well");
        }
    }
}

fn close(fd: i32) -> std::io::Result<()> {
    // SAFETY: the call touches no memory.
    unsafe { libc::close(fd) };
    Ok(())
}

/// Runs this program again, and checks that it succeeds.
fn run(mode: &str, prepare: impl FnOnce(&mut Command)) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode);
    prepare(&mut command);
    let status = command.status().unwrap();
    assert!(status.success(), "{mode}: {status}");
}

fn an_init_that_comes_too_late_is_an_error_of_the_child() {
    let error = Process::spawn(|n: u32| n, 1).unwrap().join().unwrap_err();
    assert!(matches!(error, ProcessError::NotRun { code: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("procession::init()"), "{error}");
}

fn without_standard_streams() {
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let child = Process::builder().method(method).spawn(|n: u32| n + 1, 1);
        if child.unwrap().join().ok() != Some(2) {
            std::process::exit(1);
        }
    }
    // SAFETY: this process has one thread.
    let child = unsafe { Process::builder().fork(|| 3u8) };
    if child.unwrap().join().ok() != Some(3) {
        std::process::exit(2);
    }
}

fn arguments_are_the_parents() {
    let mine: Vec<String> = std::env::args().skip(1).collect();
    let child = Process::spawn(|()| std::env::args().skip(1).collect::<Vec<_>>(), ());
    assert_eq!(child.unwrap().join().unwrap(), mine);
}
