//! Kills the sender and the receiver of a descriptor at every step. No copy of the descriptor stays open, and nothing leaks.
#![cfg(feature = "crash-points")]
#![allow(missing_docs)]

mod common;

use common::points::{armed, at_every_point, ways};
use common::{LIMIT, eventually};
use procession::{Fd, Queue};
use std::cell::RefCell;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};

procession::init_before_main!();

/// Starts a keeper, so that the crash points are those of a sender that finds one.
fn with_a_keeper() {
    let queue = Queue::<Fd<PipeReader>>::new().unwrap();
    queue.put(&Fd(pipe().unwrap().0)).unwrap();
}

fn has_ended(reader: &PipeReader) -> bool {
    let mut fds = [rustix::event::PollFd::new(reader, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
        && fds[0].revents().contains(rustix::event::PollFlags::HUP)
}

thread_local! {
    /// The readers of the pipes whose writing ends are in the queue.
    static READERS: RefCell<Vec<PipeReader>> = const { RefCell::new(Vec::new()) };
    static LISTENER: RefCell<Option<TcpListener>> = const { RefCell::new(None) };
}

#[test]
fn killed_at_any_point_a_receiver_leaves_no_copy_open() {
    ways(|way| {
        with_a_keeper();
        let points = at_every_point(
            way,
            || {
                let queue = Queue::<(u8, Fd<PipeWriter>)>::new().unwrap();
                for n in 0..2 {
                    let (reader, writer) = pipe().unwrap();
                    queue.put(&(n, Fd(writer))).unwrap();
                    READERS.with_borrow_mut(|readers| readers.push(reader));
                }
                queue
            },
            |(point, queue)| armed(point, || drop(queue.get().unwrap())),
            |queue, killed| {
                let (n, mut writer) = queue.get_timeout(LIMIT).unwrap();
                assert!(n == 1 || (n == 0 && killed));
                writer.write_all(b"x").unwrap();
                drop(writer);
                assert_eq!(queue.try_get().is_ok(), n == 0);
                let mut readers = READERS.take();
                assert!(eventually(|| readers.iter().all(has_ended)));
                let mut text = Vec::new();
                readers[usize::from(n)].read_to_end(&mut text).unwrap();
                assert_eq!(text, b"x");
            },
        );
        assert!(points > 8, "{points}");
    });
}

#[test]
fn killed_at_any_point_a_sender_has_sent_the_descriptor_or_leaves_no_copy_open() {
    ways(|way| {
        with_a_keeper();
        let points = at_every_point(
            way,
            || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap().to_string();
                LISTENER.set(Some(listener));
                (Queue::<Fd<TcpStream>>::new().unwrap(), address)
            },
            |(point, (queue, address)): (u32, (Queue<Fd<TcpStream>>, String))| {
                let socket = Fd(TcpStream::connect(address).unwrap());
                armed(point, || queue.put(&socket).unwrap());
            },
            |(queue, _), killed| {
                let listener = LISTENER.take().unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                let mut sent = Vec::new();
                match queue.try_get() {
                    Ok(mut socket) => {
                        socket.write_all(b"x").unwrap();
                        sent.push(b'x');
                    }
                    Err(_) => assert!(killed),
                }
                let mut text = Vec::new();
                peer.set_read_timeout(Some(LIMIT)).unwrap();
                peer.read_to_end(&mut text).unwrap(); // ends when no copy is open any more
                assert_eq!(text, sent);
            },
        );
        assert!(points > 8, "{points}");
    });
}
