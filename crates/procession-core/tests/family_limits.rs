//! Processes with limits on address space and on the size of files. A test binary of its own: most of its children
//! limit themselves before they found a family.
#![allow(unsafe_code)]

mod common;

use common::{address_space, ended_well, in_child, limit, limit_address_space, linger, pipe, send_byte};
use procession_core::Error;
use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Handle};
use procession_core::sys::area::{self, Area};
use procession_core::sys::memory;
use std::io::{Read, Write};

const MIB: u64 = 1 << 20;

#[test]
fn a_limited_address_space_holds_a_family() {
    let child = in_child(|| {
        limit_address_space(128 * MIB);
        let family = Family::found().unwrap();
        drop(family.buffer(&[1; 100_000]).unwrap());
    });
    assert!(ended_well(child));
}

#[test]
fn a_family_takes_as_many_addresses_as_it_has_memory_in_use() {
    let child = in_child(|| {
        let before = address_space();
        let family = Family::found().unwrap();
        drop(family.buffer(&[1; 100_000]).unwrap());
        assert!(address_space() - before < 256 * MIB);
        // Independent of the machine's memory: a sparse array needs address space of its own.
        let array = family.zeroed(512 * MIB).unwrap();
        // SAFETY: the block is this test's alone, and nothing refers to its bytes.
        unsafe { family.copy_in(array.offset + 400 * MIB, b"far") };
        assert!(address_space() - before < 1280 * MIB);
    });
    assert!(ended_well(child));
}

#[test]
fn a_process_that_limits_its_address_space_later_goes_on() {
    let child = in_child(|| {
        let family = Family::found().unwrap();
        drop(family.buffer(b"small").unwrap());
        limit_address_space(512 * MIB);
        let held = family.buffer(&vec![7; 100 << 20]).unwrap();
        assert!(matches!(
            family.empty_buffer(2048 * MIB),
            Err(Error::NoMemory { .. })
        ));
        drop(held);
        // With no address space left, memory that is mapped already can still be used.
        drop(family.buffer(b"small").unwrap());
        assert_eq!(family.blocks(), 1, "only the held table");
    });
    assert!(ended_well(child));
}

#[test]
fn a_full_address_space_leaves_room_for_the_program() {
    for more in [200, 203, 264, 270] {
        let child = in_child(move || {
            let family = Family::found().unwrap();
            limit_address_space(more * MIB);
            let mut held = Vec::new();
            let error = loop {
                match family.buffer(&[7; 3 << 20]) {
                    Ok(hold) => held.push(hold),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, Error::NoMemory { .. }), "{error}");
            assert!(held.len() > 10, "{}", held.len());
            use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
            let (access, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
            // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
            let program = unsafe { mmap_anonymous(std::ptr::null_mut(), 12 << 20, access, flags) };
            assert!(program.is_ok());
        });
        assert!(ended_well(child), "{more}");
    }
}

#[test]
fn an_object_behind_more_memory_than_the_limit_allows_is_reached() {
    let ((mut names, mut to_child), (done, from_child)) = (pipe(), pipe());
    let family = Family::home().unwrap();
    let child = in_child(|| {
        // Less than the C library reserves at once for the memory of another thread.
        limit_address_space(48 * MIB);
        for _ in 0..3 {
            let mut bytes = [0; 36];
            names.read_exact(&mut bytes).unwrap();
            let hold = Handle::from_bytes(&bytes).unwrap().open(Kind::Buffer).unwrap();
            let mut found = Vec::new();
            family.copy_out(hold.offset + HEADER, 3 << 20, &mut found);
            assert!(found.iter().all(|b| *b == 5));
            // SAFETY: the block is this test's alone, and nothing refers to its bytes.
            unsafe { family.copy_in(hold.offset + HEADER, b"seen") };
            send_byte(&from_child);
        }
    });
    drop(from_child);
    // Address space without memory, before the part that is sent.
    let far = family.zeroed(1024 * MIB).unwrap();
    for _ in 0..3 {
        let hold = family.buffer(&vec![5; 3 << 20]).unwrap();
        assert!(hold.offset > far.offset);
        to_child.write_all(&hold.handle().to_bytes()).unwrap();
        linger(&done);
        // SAFETY: no process writes to it any more.
        assert!(unsafe { family.equals(hold.offset + HEADER, b"seen") });
        std::mem::forget(hold);
    }
    assert!(ended_well(child));
}

#[test]
fn a_limit_on_the_size_of_files_limits_no_message() {
    for before in [true, false] {
        let child = in_child(|| {
            if before {
                // The soft limit: the hard limit cannot be raised.
                limit(libc::RLIMIT_FSIZE, MIB, libc::RLIM_INFINITY);
            }
            let family = Family::found().unwrap();
            let now = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
            assert_eq!(now, before.then_some(MIB), "the program's limit stays as it was");
            limit(libc::RLIMIT_FSIZE, MIB, MIB);
            drop(family.buffer(&vec![1; 3 << 20]).unwrap());
            drop(family.zeroed(200 * MIB).unwrap());
        });
        assert!(ended_well(child), "set before: {before}");
    }
}

#[test]
fn threads_that_reach_for_the_same_addresses_all_get_them() {
    let fd = memory::nameless_file(c"area").unwrap();
    let len = memory::lengthen(&fd, 1 << 40).unwrap() as usize;
    let area = Area::new(&fd, len, 1 << 20).unwrap();
    std::thread::scope(|s| {
        for thread in 0..4 {
            let (area, fd) = (&area, &fd);
            s.spawn(move || {
                for step in 0..200 {
                    let at = (step * 4 + thread) << 22;
                    area.reach(fd, at..at + 100, 0).unwrap();
                    // SAFETY: the page was just mapped, and each thread writes to addresses of its own.
                    unsafe { area.base().add(at).write_volatile(9) };
                }
            });
        }
    });
    assert!(area.mapped() >= 799 << 22);
    assert!(area.reach(&fd, len..len + 1, 0).is_err());
}

#[test]
fn more_is_mapped_without_a_descriptor() {
    let fd = memory::nameless_file(c"area").unwrap();
    let len = memory::lengthen(&fd, 1 << 40).unwrap() as usize;
    let area = Area::new(&fd, len, 1 << 20).unwrap();
    area.reach(&fd, (100 << 20)..(200 << 20), 0).unwrap();
    let at = 300 << 20;
    rustix::io::pwrite(&fd, b"x", at).unwrap();
    drop(fd);
    area.stretch((400 << 20) + 1).unwrap();
    // SAFETY: the page was just mapped, and no thread writes to it.
    assert_eq!(unsafe { area.base().add(at as usize).read() }, b'x');
}

#[test]
fn what_lies_in_the_way_of_the_memory_stays() {
    let fd = memory::nameless_file(c"area").unwrap();
    let len = memory::lengthen(&fd, 1 << 40).unwrap() as usize;
    let area = Area::new(&fd, len, 1 << 20).unwrap();
    let end = area.mapped();
    // SAFETY: MAP_FIXED_NOREPLACE guarantees that no existing mapping is replaced.
    let foreign = unsafe {
        rustix::mm::mmap_anonymous(
            area.base().wrapping_add(end).cast(),
            4096,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED_NOREPLACE,
        )
    };
    foreign.unwrap();
    let error = area.reach(&fd, end..end + 1, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(area.mapped(), end);
}

#[test]
fn a_word_is_stored_without_a_mapping_that_stays() {
    let fd = memory::nameless_file(c"area").unwrap();
    memory::lengthen(&fd, 1 << 40).unwrap();
    let at = (1 << 39) + 8 * 5;
    area::store_word(&fd, at, 77).unwrap();
    let mut found = [0; 8];
    rustix::io::pread(&fd, &mut found, at).unwrap();
    assert_eq!(u64::from_le_bytes(found), 77);
}
