//! Programs that are started with exactly the given descriptors.
#![allow(unsafe_code)]

mod common;

use common::{fork_child, join, pipe, read_all};
use procession_core::process::{Child, ExitOutcome};
use procession_core::sys::clock::Deadline;
use procession_core::sys::spawn::{pretend_old_libc, spawn, spawn_at};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;

fn shell(script: &str, env: &[&str], fds: &[BorrowedFd<'_>]) -> u32 {
    let string = |s: &str| CString::new(s).unwrap();
    let args = [string("sh"), string("-c"), string(script)];
    let env: Vec<_> = env.iter().map(|s| string(s)).collect();
    spawn(c"/bin/sh", &args, &env, fds).unwrap()
}

/// A shell script that lists the shell's descriptors without opening one.
const LIST: &str =
    "i=0; while [ $i -lt 120 ]; do [ -e /proc/self/fd/$i ] && printf '%s ' $i >&3; i=$((i+1)); done; :";

#[test]
fn the_program_gets_its_arguments_and_its_environment_and_no_other() {
    let (read, write) = pipe();
    let pid = shell(
        "printf '%s|%s|%s' \"$0\" \"$FIRST\" \"$HOME\" >&3; exit 9",
        &["FIRST=a b"],
        &[write.as_fd()],
    );
    drop(write);
    assert_eq!(read_all(read), "sh|a b|");
    assert_eq!(join(pid), 9);
}

#[test]
fn the_program_has_the_given_descriptors_and_no_others() {
    let (read, write) = pipe();
    let code = join(fork_child(|| {
        let (other, _) = pipe();
        for old in [false, true] {
            pretend_old_libc(old);
            // Inheritable descriptors, in the range of the targets and above.
            let loose: Vec<OwnedFd> = (0..20).map(|_| rustix::io::dup(&other).unwrap()).collect();
            let pid = shell(LIST, &[], &[write.as_fd(), other.as_fd()]);
            assert_eq!(join(pid), 0);
            drop(loose);
        }
        0
    }));
    assert_eq!(code, 0);
    drop(write);
    assert_eq!(read_all(read), "0 1 2 3 4 0 1 2 3 4 ");
}

#[test]
fn descriptors_that_lie_where_others_shall_be_are_not_lost() {
    let pipes: Vec<_> = (0..4).map(|_| pipe()).collect();
    let code = join(fork_child(|| {
        // Puts the four write ends at 3, 4, 5 and 6, wherever they and the harness's descriptors were before.
        let high: Vec<_> = pipes
            .iter()
            .map(|(_, w)| rustix::io::fcntl_dupfd_cloexec(w, 100).unwrap())
            .collect();
        for (fd, target) in high.iter().zip(3..) {
            // SAFETY: this process belongs to this test alone, and does not use the descriptor that had this number.
            assert!(unsafe { libc::dup3(fd.as_raw_fd(), target, libc::O_CLOEXEC) } >= 0);
        }
        // SAFETY: the descriptor was just created, and is not closed while it is borrowed.
        let at = |n| unsafe { BorrowedFd::borrow_raw(n) };
        // A rotation of three, one onto itself, and the same one twice.
        let script = "printf a >&3; printf b >&4; printf c >&5; printf d >&6; printf e >&7";
        let pid = shell(script, &[], &[at(4), at(5), at(3), at(6), at(6)]);
        join(pid)
    }));
    assert_eq!(code, 0);
    let texts: Vec<_> = pipes
        .into_iter()
        .map(|(read, write)| (drop(write), read_all(read)).1)
        .collect();
    assert_eq!(texts, ["c", "a", "b", "de"]);
}

#[test]
fn descriptors_keep_the_numbers_that_they_are_to_have_and_those_between_are_closed() {
    let (read, write) = pipe();
    let code = join(fork_child(|| {
        let high = rustix::io::fcntl_dupfd_cloexec(&write, 100).unwrap();
        let loose: Vec<OwnedFd> = (0..20).map(|_| rustix::io::dup(&high).unwrap()).collect();
        // SAFETY: this process belongs to this test alone, and does not use the descriptor that had this number.
        assert!(unsafe { libc::dup3(high.as_raw_fd(), 3, libc::O_CLOEXEC) } >= 0);
        // SAFETY: the descriptor was just created, and is not closed while it is borrowed.
        let third = unsafe { BorrowedFd::borrow_raw(3) };
        let number = loose[15].as_raw_fd();
        let args = ["sh", "-c", LIST].map(|word| CString::new(word).unwrap());
        // One descriptor keeps its number, and one gets the number of another.
        let pid = spawn_at(c"/bin/sh", &args, &[], &[(third, 3), (loose[9].as_fd(), number)]).unwrap();
        let code = join(pid);
        File::from(high)
            .write_all(format!("={number}").as_bytes())
            .unwrap();
        code
    }));
    assert_eq!(code, 0);
    drop(write);
    let text = read_all(read);
    let (listed, number) = text.split_once('=').unwrap();
    assert_eq!(listed, format!("0 1 2 3 {number} "));
}

#[test]
fn standard_input_can_be_passed_too() {
    let (input, mut output) = pipe();
    output.write_all(b"from stdin").unwrap();
    drop(output);
    let (read, write) = pipe();
    let code = join(fork_child(|| {
        // SAFETY: this process belongs to this test alone, and `dup2` takes numbers only.
        assert_eq!(unsafe { libc::dup2(input.as_raw_fd(), 0) }, 0);
        join(shell(
            "cat <&4 >&3",
            &["PATH=/usr/bin:/bin"],
            &[write.as_fd(), std::io::stdin().as_fd()],
        ))
    }));
    assert_eq!(code, 0);
    drop(write);
    assert_eq!(read_all(read), "from stdin");
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_names_it() {
    for (program, kind) in [
        (c"/no/such/program", std::io::ErrorKind::NotFound),
        (c"/etc/passwd", std::io::ErrorKind::PermissionDenied),
    ] {
        let error = spawn(program, &[program.to_owned()], &[], &[]).unwrap_err();
        assert_eq!(error.source.kind(), kind);
        assert!(error.to_string().contains(program.to_str().unwrap()), "{error}");
    }
}

#[test]
fn the_signal_mask_and_ignored_signals_are_inherited() {
    let (read, write) = pipe();
    let code = join(fork_child(|| {
        // SAFETY: this process belongs to this test alone, which changes its signal mask with a local set.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        }
        let script = "while read -r name value; do case $name in SigBlk:|SigIgn:) printf '%s ' $value >&3;; esac; done \
                      </proc/self/status; :";
        join(shell(script, &[], &[write.as_fd()]))
    }));
    assert_eq!(code, 0);
    drop(write);
    let masks: Vec<u64> = read_all(read)
        .split_whitespace()
        .map(|hex| u64::from_str_radix(hex, 16).unwrap())
        .collect();
    let bit = |signal| 1_u64 << (signal - 1);
    assert_ne!(masks[0] & bit(libc::SIGUSR1), 0);
    assert_ne!(masks[1] & bit(libc::SIGUSR2), 0);
}

#[test]
fn a_descriptor_that_is_none_is_an_error_before_there_is_a_child() {
    let code = join(fork_child(|| {
        let gone = File::open("/dev/null").unwrap();
        let number = gone.as_raw_fd();
        drop(gone);
        // SAFETY: the number is not open, which is what the test needs; the calls only report that.
        let fds = [unsafe { BorrowedFd::borrow_raw(number) }];
        let error = spawn(c"/bin/sh", &[c"sh".to_owned()], &[], &fds).unwrap_err();
        i32::from(error.source.raw_os_error() != Some(libc::EBADF))
    }));
    assert_eq!(code, 0);
}

#[test]
fn a_started_program_is_held_like_any_child() {
    let child = Child::new(shell("kill -TERM $$", &[], &[]), None, true);
    assert_eq!(
        child.wait(Deadline::after(common::LIMIT)),
        ExitOutcome::Exited(-libc::SIGTERM)
    );
}
