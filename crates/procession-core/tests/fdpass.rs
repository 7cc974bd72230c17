//! Packets with descriptors.
#![allow(unsafe_code)]

mod common;

use common::{fork_child, interrupt_often, join, limit_descriptors, linger, pipe, send_byte};
use procession_core::sys::fdpass::{MOST, PassError, pair, recv, recv_now, send, send_now};
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::{Errno, FdFlags};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicI32, Ordering};

fn errno(error: &PassError) -> Option<Errno> {
    match error {
        PassError::Os(e) => Errno::from_io_error(e),
        _ => None,
    }
}

#[test]
fn a_packet_arrives_with_its_descriptors_in_order() {
    let (ours, theirs) = pair().unwrap();
    let (mut a, to_a) = pipe();
    let (mut b, to_b) = pipe();
    send(&ours, b"two pipes", &[to_a.as_fd(), to_b.as_fd()]).unwrap();
    drop((to_a, to_b));
    let mut buffer = [0; 32];
    let packet = recv(&theirs, &mut buffer).unwrap();
    assert_eq!(&buffer[..packet.len], b"two pipes");
    for (fd, letter) in packet.fds.into_iter().zip([b"a", b"b"]) {
        assert!(
            rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC),
            "exec does not inherit it"
        );
        rustix::io::write(fd, letter).unwrap();
    }
    let mut text = String::new();
    a.read_to_string(&mut text).unwrap();
    b.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ab");
}

#[test]
fn packets_are_kept_apart() {
    let (ours, theirs) = pair().unwrap();
    send(&ours, b"one", &[]).unwrap();
    send(&ours, b"another", &[]).unwrap();
    let mut buffer = [0; 32];
    assert_eq!(recv(&theirs, &mut buffer).unwrap().len, 3);
    assert_eq!(recv(&theirs, &mut buffer).unwrap().len, 7);
    assert_eq!(
        errno(&recv_now(&theirs, &mut buffer).unwrap_err()),
        Some(Errno::AGAIN)
    );
}

#[test]
fn as_many_descriptors_as_the_kernel_allows_fit_into_a_packet() {
    let (ours, theirs) = pair().unwrap();
    let fd = ours.as_fd();
    send(&ours, b"!", &[fd; MOST]).unwrap();
    assert_eq!(recv(&theirs, &mut [0]).unwrap().fds.len(), MOST);
    assert!(matches!(send(&ours, b"!", &[fd; MOST + 1]), Err(PassError::TooMany(n)) if n == MOST + 1));
}

#[test]
fn the_end_is_an_empty_packet_and_sending_then_is_an_error_not_a_signal() {
    let (ours, theirs) = pair().unwrap();
    send(&ours, b"last words", &[]).unwrap();
    drop(ours);
    let mut buffer = [0; 32];
    assert_eq!(recv(&theirs, &mut buffer).unwrap().len, 10);
    let end = recv(&theirs, &mut buffer).unwrap();
    assert_eq!((end.len, end.fds.len()), (0, 0));
    assert_eq!(
        errno(&send(&theirs, b"too late", &[]).unwrap_err()),
        Some(Errno::PIPE)
    );
}

#[test]
fn an_empty_packet_cannot_be_sent() {
    let (ours, _theirs) = pair().unwrap();
    assert_eq!(errno(&send(&ours, b"", &[]).unwrap_err()), Some(Errno::INVAL));
}

#[test]
fn a_packet_that_is_too_long_is_an_error_and_its_descriptors_are_closed() {
    let (ours, theirs) = pair().unwrap();
    let (read, write) = pipe();
    send(&ours, b"longer than that", &[write.as_fd()]).unwrap();
    drop(write);
    assert!(matches!(recv(&theirs, &mut [0; 4]), Err(PassError::TooLong)));
    assert_eq!(
        common::read_all(read),
        "",
        "no process has the other end open any more"
    );
}

#[test]
fn a_full_socket_says_so_to_whoever_does_not_wait() {
    let (ours, _theirs) = pair().unwrap();
    let error = loop {
        if let Err(error) = send_now(&ours, &[0; 4096], &[]) {
            break error;
        }
    };
    assert_eq!(errno(&error), Some(Errno::AGAIN));
}

#[test]
fn a_receiver_without_free_descriptors_gets_an_error_that_names_the_cause() {
    let (ours, theirs) = pair().unwrap();
    let (read, write) = pipe();
    send(&ours, b"three", &[write.as_fd(), write.as_fd(), write.as_fd()]).unwrap();
    drop(write);
    let code = join(fork_child(|| {
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        limit_descriptors(next as u64 + 1);
        let mut buffer = [0; 32];
        match recv(&theirs, &mut buffer) {
            Err(PassError::OutOfDescriptors { len: 5, arrived }) if arrived.len() <= 2 => {}
            other => panic!("{other:?}"),
        }
        // Dropping the error closed the descriptors that arrived, so there is room again.
        i32::from(File::open("/dev/null").is_err())
    }));
    assert_eq!(code, 0);
    assert_eq!(common::read_all(read), "");
    let error = PassError::OutOfDescriptors {
        len: 0,
        arrived: Vec::new(),
    };
    assert!(error.to_string().contains("file descriptors"));
    assert_eq!(Errno::from_io_error(&error.into()), Some(Errno::MFILE));
}

static SIGNALLED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn tell(_: libc::c_int) {
    // SAFETY: write is async-signal-safe, and the descriptor belongs to the test.
    unsafe { libc::write(SIGNALLED.load(Ordering::Relaxed), c"!".as_ptr().cast(), 1) };
}

#[test]
fn signals_do_not_end_the_wait_for_a_packet() {
    let (ours, theirs) = pair().unwrap();
    let (told, teller) = pipe();
    let child = fork_child(|| {
        SIGNALLED.store(teller.as_raw_fd(), Ordering::Relaxed);
        interrupt_often(tell);
        let mut buffer = [0; 8];
        i32::from(recv(&theirs, &mut buffer).unwrap().len != 2)
    });
    for _ in 0..3 {
        linger(&told);
    }
    send(&ours, b"ok", &[]).unwrap();
    assert_eq!(join(child), 0);
    send_byte(&teller);
}
