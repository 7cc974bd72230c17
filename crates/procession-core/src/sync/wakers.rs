//! Wakers: notifies event loops, which cannot sleep in a futex.
//!
//! An asyncio program must not block in a futex, and a thread that blocks in its place would cost more than the wait.
//! So an event loop has a *mailbox*, a datagram socket that it watches like its other sockets, and registers the
//! mailbox's address with the object for which it waits. A process that rings the object's bell and finds no sleeper
//! sends an empty datagram to each address. The loop then tries its operation again.
//!
//! An address is a pid and a number, 32 bits in all, so a registration is one compare-and-swap of one word. An object
//! has few places; a loop that finds all of them taken polls instead. The reaper removes the registrations of a dead
//! process; until then, the kernel refuses a datagram to its mailbox at once.
//!
//! The socket's name in the abstract namespace (no file; it disappears with the process) is a digest of the address
//! and of the id of the loop's home family, which only members know. So another user cannot take the names that loops
//! would use. Such a user may read the names in use in `/proc/net/unix` and send datagrams to them, but a datagram is
//! only a hint to try again.
//!
//! # References
//!  - [unix(7), abstract sockets](https://man7.org/linux/man-pages/man7/unix.7.html)

use crate::family::{Family, join};
use crate::sys::descriptor::{GuardedFd, clear_of_streams};
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};
use std::io;

/// Maximum number of event loops that can be registered with an object at the same time.
pub const PLACES: usize = 4;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Number of bits of an address below the pid.
const NUMBER_BITS: u32 = 10;

/// The addresses registered with an object. Zeros are none.
#[repr(C)]
#[derive(Debug)]
pub struct Wakers {
    places: [AtomicU32; PLACES],
}

shared!(Wakers, 4 * PLACES, { places });

impl Wakers {
    /// Creates it without addresses.
    #[must_use]
    pub const fn new() -> Self {
        Wakers {
            places: [const { AtomicU32::new(0) }; PLACES],
        }
    }

    /// Registers an address. False if all places are taken.
    #[must_use]
    pub fn register(&self, address: Address) -> bool {
        let free = |place: &AtomicU32| {
            place
                .compare_exchange(0, address.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        self.places.iter().any(|p| p.load(Ordering::Relaxed) == address.0) || self.places.iter().any(free)
    }

    /// Removes an address.
    pub fn unregister(&self, address: Address) {
        for place in &self.places {
            let _ = place.compare_exchange(address.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Removes all addresses of a process.
    pub fn forget(&self, pid: u32) {
        for place in &self.places {
            let address = place.load(Ordering::Relaxed);
            if address >> NUMBER_BITS == pid {
                let _ = place.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Returns whether no address is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(|p| p.load(Ordering::Acquire) == 0)
    }

    /// Sends a datagram to every address. Removes an address whose process is gone.
    pub fn notify(&self) {
        for place in &self.places {
            let address = place.load(Ordering::Acquire);
            if address != 0 && Address(address).notify() == Err(rustix::io::Errno::CONNREFUSED) {
                let _ = place.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

impl Default for Wakers {
    fn default() -> Self {
        Self::new()
    }
}

/// The address of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u32);

impl Address {
    /// The address with this number.
    #[must_use]
    pub fn from_raw(number: u32) -> Address {
        Address(number)
    }

    /// The number of the address.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The name of the socket, if `home` is the id of its process's home family.
    fn name(self, home: [u8; 16]) -> rustix::io::Result<SocketAddrUnix> {
        let mut digest = Sha256::new();
        digest.update(home);
        digest.update(self.0.to_le_bytes());
        let digest = digest.finalize();
        let mut name = *b"procession/................................";
        let (_, digits) = name.split_at_mut(11);
        for (two, byte) in digits.chunks_exact_mut(2).zip(digest.iter()) {
            two[0] = HEX[usize::from(byte >> 4)];
            two[1] = HEX[usize::from(byte & 15)];
        }
        SocketAddrUnix::new_abstract_name(&name)
    }

    fn notify(self) -> rustix::io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // Nearly always there is one family, and it is also the other process's home.
        let mut sent = Err(rustix::io::Errno::CONNREFUSED);
        for family in join::joined() {
            sent = rustix::net::sendto(&socket, &[], flags, &self.name(family.id())?).map(drop);
            if sent != Err(rustix::io::Errno::CONNREFUSED) {
                break;
            }
        }
        match sent {
            // A full mailbox has been notified already.
            Err(rustix::io::Errno::AGAIN) => Ok(()),
            sent => sent,
        }
    }
}

/// A mailbox: becomes readable when another process notifies it.
#[derive(Debug)]
pub struct Mailbox {
    socket: GuardedFd,
    address: Address,
}

impl Mailbox {
    /// Creates a mailbox with an address of its own.
    ///
    /// # Errors
    /// No descriptor is free; [`io::ErrorKind::AddrInUse`]: this process has a thousand mailboxes; or there is no
    /// family and none can be founded.
    pub fn new() -> io::Result<Mailbox> {
        let home = Family::home().map_err(io::Error::other)?.id();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let socket = clear_of_streams(socket)?;
        let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
        for number in 1..1 << NUMBER_BITS {
            let address = Address(pid << NUMBER_BITS | number);
            match rustix::net::bind(&socket, &address.name(home)?) {
                Ok(()) => {
                    let socket = GuardedFd::new(socket);
                    return Ok(Mailbox { socket, address });
                }
                Err(rustix::io::Errno::ADDRINUSE) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// The mailbox's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The mailbox's socket, to watch for reading; None if the program has closed it.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.get()
    }

    /// The number of the socket's descriptor, even if it names another file by now.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.socket.number()
    }

    /// Notifies the mailbox, as other processes do.
    pub fn notify(&self) {
        let _ = self.address.notify();
    }

    /// Removes all datagrams.
    pub fn empty(&self) {
        let Some(socket) = self.socket.get() else { return };
        let mut nothing = [0u8; 1];
        while rustix::net::recv(socket, &mut nothing, rustix::net::RecvFlags::DONTWAIT).is_ok() {}
    }
}
