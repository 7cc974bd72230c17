//! Family memory among live processes: joining, other families, limits, growth.
#![allow(unsafe_code)]

mod common;

use common::{ended_well, eventually, in_child, limit_address_space};
use procession_core::Error;
use procession_core::family::layout::{HEAP, MAGIC, VERSION};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Handle, PrivateView, fork};
use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;
use procession_core::sys::memory;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn pipe() -> (std::fs::File, std::fs::File) {
    let (r, w) = rustix::pipe::pipe().unwrap();
    (r.into(), w.into())
}

#[test]
fn an_object_of_another_family_is_reached_through_the_process_that_sent_its_handle() {
    let (mut from_child, mut to_parent) = pipe();
    let (mut from_parent, mut to_child) = pipe();
    let child = in_child(|| {
        // This child founds a family of its own, which the parent does not know.
        let family = Family::found().unwrap();
        let hold = family.buffer(b"far away").unwrap();
        to_parent.write_all(&hold.handle().to_bytes()).unwrap();
        let mut answer = [0];
        from_parent.read_exact(&mut answer).unwrap();
    });
    let mut bytes = [0; 36];
    from_child.read_exact(&mut bytes).unwrap();
    let handle = Handle::from_bytes(&bytes).unwrap();
    let hold = handle
        .open(procession_core::family::object::Kind::Buffer)
        .unwrap();
    let mut content = Vec::new();
    hold.family.copy_out(hold.offset + 64, 8, &mut content);
    assert_eq!(content, b"far away");
    to_child.write_all(&[1]).unwrap();
    assert!(ended_well(child));
    // The memory continues to exist in this member. A handle from a process that is gone, of an unknown family, gives
    // an error.
    drop(hold);
    let mut strange = handle;
    strange.family = [9; 16];
    let error = Lock::open(&strange).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&handle.pid.to_string()));
}

#[test]
fn a_private_view_is_like_a_copy_and_keeps_the_buffer_until_its_process_ends() {
    let family = Family::home().unwrap();
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let hold = family.buffer(&bytes).unwrap();
    let (offset, generation) = (hold.offset, hold.generation);
    let view = |hold| PrivateView::new(hold, bytes.len()).unwrap();
    let seen = |view: &PrivateView, at: usize| {
        // SAFETY: `at` lies inside the view, and only this thread has its address.
        unsafe { *view.address().add(at) }
    };
    let (first, second) = (
        view(hold),
        view(family.open(offset, generation, Kind::Buffer).unwrap()),
    );
    for at in [0, 4_096, 299_999] {
        assert_eq!((seen(&first, at), seen(&second, at)), (at as u8, at as u8));
        // SAFETY: `at` lies inside the view, and writes to a private view are allowed.
        unsafe { first.address().add(at).write(77) };
        assert_eq!((seen(&first, at), seen(&second, at)), (77, at as u8));
    }
    // SAFETY: the processes of this test have private views of the buffer, so none writes to it.
    let same = |bytes: &[u8]| unsafe { family.same_buffer(offset, generation, bytes) }.is_some();
    assert!(same(&bytes), "the buffer itself is as it was");
    assert!(!same(&bytes[1..]));
    // The death of a child that has a view of its own does not affect the buffer.
    let child = in_child(|| {
        assert_eq!((seen(&first, 0), seen(&second, 0)), (77, 0));
        // SAFETY: the child writes to the first byte of its own private view.
        unsafe { second.address().write(88) };
        memory::die();
    });
    assert!(!ended_well(child));
    assert_eq!(seen(&second, 0), 0);
    drop((first, second));
    // Children that other tests have forked meanwhile also hold it until they end.
    let gone = || {
        family.sweep();
        !same(&bytes)
    };
    assert!(eventually(gone), "it went with the last view");
}

#[test]
fn what_a_grandchild_held_goes_back_with_the_child_that_forked_it() {
    let family = Family::home().unwrap();
    let hold = family.buffer(&[1; 100]).unwrap();
    let (offset, generation) = (hold.offset, hold.generation);
    let child = fork::expecting(
        || in_child(|| assert!(!ended_well(in_child(|| memory::die())))),
        |_| false,
    );
    let seat = fork::forked(child).expect("its seat is kept");
    drop(hold);
    assert!(ended_well(child));
    // Children of other tests may also hold it until they end.
    assert!(eventually(|| {
        family.reap(seat);
        !family.is_live(offset, generation)
    }));
    seat.vacate();
}

#[test]
fn memory_of_another_version_is_refused_with_both_versions() {
    let fd = memory::nameless_file(c"old").unwrap();
    rustix::fs::ftruncate(&fd, HEAP).unwrap();
    rustix::io::pwrite(&fd, &MAGIC.to_le_bytes(), 0).unwrap();
    rustix::io::pwrite(&fd, &(VERSION + 1).to_le_bytes(), 8).unwrap();
    let error = Family::attach(fd).unwrap_err();
    assert!(matches!(error, Error::Version { found, known } if found == VERSION + 1 && known == VERSION));
}

#[test]
fn a_descriptor_that_is_no_family_memory_is_refused() {
    let fd = memory::nameless_file(c"no family").unwrap();
    assert!(matches!(
        Family::attach(fd).unwrap_err(),
        Error::NotAHandle { .. }
    ));
    let fd = memory::nameless_file(c"no family").unwrap();
    rustix::fs::ftruncate(&fd, HEAP).unwrap();
    assert!(matches!(
        Family::attach(fd).unwrap_err(),
        Error::NotAHandle { .. }
    ));
    assert!(Handle::from_bytes(b"too short").is_err());
}

#[test]
fn a_program_that_closes_all_descriptors_gets_its_memory_back_from_another_member() {
    let family = Family::home().unwrap();
    let child = in_child(|| {
        let number = family.fd_number() as i32;
        // SAFETY: this child only uses the library, which must notice that the descriptor is closed and its number
        // reused.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        let _file = std::fs::File::open("/dev/null").unwrap();
        let big = family.buffer(&vec![3; 50 << 20]).unwrap();
        assert_eq!(
            big.header().tag().kind(),
            Some(procession_core::family::object::Kind::Buffer)
        );
    });
    assert!(ended_well(child));
}

#[test]
fn exhausted_memory_is_an_error_and_the_family_goes_on() {
    let child = in_child(|| {
        let family = Family::home().unwrap();
        let lock = Lock::new(true).unwrap();
        let blocks = family.blocks();
        let bytes = vec![0; 200 << 20];
        limit_address_space(64 << 20);
        let error = family.buffer(&bytes).unwrap_err();
        assert!(matches!(error, Error::NoMemory { .. }), "{error}");
        let error = family
            .create(procession_core::family::object::Kind::Buffer, 1 << 50, |_, _| {
                Ok(())
            })
            .unwrap_err();
        assert!(matches!(error, Error::NoMemory { .. }), "{error}");
        assert_eq!(family.blocks(), blocks, "nothing was taken");
        assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
    });
    assert!(ended_well(child));
}

#[test]
fn the_second_rung_of_the_memory_ladder_serves_as_well() {
    let fd = memory::unlinked_file().unwrap();
    memory::reserve(&fd, 0, 1 << 20).unwrap();
    assert_eq!(
        rustix::fs::fstat(fd.as_fd()).unwrap().st_nlink,
        0,
        "it has no name"
    );
    assert!(rustix::fs::fstat(&fd).unwrap().st_size >= 1 << 20);
}

#[test]
fn a_message_is_delivered_though_its_producer_has_let_go_of_everything_and_ended() {
    let queue = Queue::new(0, 0).unwrap();
    let child = in_child(|| {
        let lock = Lock::new(true).unwrap();
        assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
        assert!(lock.release());
        let handle = lock.handle().to_bytes();
        let mut parcel = Parcel::pack(
            queue.family(),
            [&handle, &[]],
            0,
            vec![lock.try_clone().unwrap()],
            0,
        )
        .unwrap();
        drop(lock);
        assert_eq!(
            queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap(),
            Put::Done
        );
    });
    assert!(ended_well(child));
    queue.family().sweep();
    let mut bytes = Vec::new();
    let Got::Message { refs, .. } = queue.try_get(&mut bytes, LockPolicy::Bounded).unwrap() else {
        panic!("no message")
    };
    let lock = Lock::open(&Handle::from_bytes(&bytes).unwrap()).unwrap();
    drop(refs);
    assert_eq!(
        lock.acquire(Deadline::after(Duration::from_secs(5))).unwrap(),
        Acquired::Yes
    );
}

#[test]
fn what_a_quick_child_leaves_is_there_however_late_its_parent_asks() {
    let family = Family::home().unwrap();
    family.seat().unwrap();
    let leave_word = || {
        in_child(|| {
            let seat = Family::home_if_any().and_then(Family::current_seat).unwrap();
            seat.leave_report(b"done").unwrap();
        })
    };
    let pid = procession_core::family::fork::expecting(leave_word, |_| false);
    // The child ends, and another process sweeps, before the parent has looked at it.
    assert!(eventually(|| {
        family.sweep();
        procession_core::sys::procfs::liveness(pid, 0) != procession_core::sys::procfs::Liveness::Alive
    }));
    family.sweep();
    let seat = procession_core::family::fork::forked(pid).expect("its seat is kept");
    assert_eq!(seat.report().as_deref(), Some(&b"done"[..]));
    assert!(ended_well(pid));
    seat.vacate();
}
