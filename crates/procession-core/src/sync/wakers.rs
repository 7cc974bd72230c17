//! Wakers: notifies event loops, which must not sleep in the kernel.
//!
//! An asyncio program must not block in a futex, and a thread that does it in its place would cost more than the wait. So
//! an event loop has a *mailbox*, a datagram socket that it watches as it watches all others, and registers the mailbox's
//! address with the object that it waits for. Who rings the object's bell and finds nobody asleep sends an empty
//! datagram to each address. The loop then tries again.
//!
//! An address is a pid and a number, 32 bits in all, so a registration is one compare-and-swap of one word. There are few
//! places in an object; a loop that finds them taken looks from time to time instead. A process that dies leaves its
//! registrations to the reaper; until then, a datagram to nobody is refused at once.
//!
//! The socket's name in the abstract namespace (no file, gone with the process) is a digest of the address and of the id
//! of the loop's home family, which only members know. So another user cannot take the names that loops would use. Such a
//! user may read the names in use in `/proc/net/unix`, and send datagrams to them: a datagram is a hint to look again, and
//! nothing more.

use crate::family::{Family, join};
use crate::sys::descriptor::{Kept, clear_of_streams};
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};
use std::io;

/// How many event loops may wait for an object at once and be notified.
pub const PLACES: usize = 4;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Bits of an address below the pid.
const NUMBER_BITS: u32 = 10;

/// The addresses registered with an object. Zeros are none.
#[repr(C)]
#[derive(Debug)]
pub struct Wakers {
    places: [AtomicU32; PLACES],
}

shared!(Wakers, 4 * PLACES, { places });

impl Wakers {
    /// No addresses.
    #[must_use]
    pub const fn new() -> Self {
        Wakers {
            places: [const { AtomicU32::new(0) }; PLACES],
        }
    }

    /// Registers an address; false if all places are taken.
    #[must_use]
    pub fn register(&self, address: Address) -> bool {
        let free = |place: &AtomicU32| {
            place
                .compare_exchange(0, address.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        self.places.iter().any(|p| p.load(Ordering::Relaxed) == address.0) || self.places.iter().any(free)
    }

    /// Takes an address away.
    pub fn unregister(&self, address: Address) {
        for place in &self.places {
            let _ = place.compare_exchange(address.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes all addresses of a process away.
    pub fn forget(&self, pid: u32) {
        for place in &self.places {
            let address = place.load(Ordering::Relaxed);
            if address >> NUMBER_BITS == pid {
                let _ = place.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(|p| p.load(Ordering::Acquire) == 0)
    }

    /// Sends every address a datagram. An address whose process is gone is taken away.
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

/// A mailbox's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u32);

impl Address {
    /// The address that this number is.
    #[must_use]
    pub fn of(number: u32) -> Address {
        Address(number)
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The socket's name, if this is the home family of its process.
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
        // Nearly always there is one family, and it is the other one's home too.
        let mut sent = Err(rustix::io::Errno::CONNREFUSED);
        for family in join::joined() {
            sent = rustix::net::sendto(&socket, &[], flags, &self.name(family.id())?).map(drop);
            if sent != Err(rustix::io::Errno::CONNREFUSED) {
                break;
            }
        }
        match sent {
            // A full mailbox has notifications already.
            Err(rustix::io::Errno::AGAIN) => Ok(()),
            sent => sent,
        }
    }
}

/// A mailbox: readable after a notification.
#[derive(Debug)]
pub struct Mailbox {
    socket: Kept,
    address: Address,
}

impl Mailbox {
    /// A mailbox with an address of its own.
    ///
    /// # Errors
    /// Descriptors; [`io::ErrorKind::AddrInUse`] if this process has a thousand of them; there is no family and none can be
    /// founded.
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
                    let socket = Kept::new(socket);
                    return Ok(Mailbox { socket, address });
                }
                Err(rustix::io::Errno::ADDRINUSE) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its socket, to watch for reading; None if the program has closed it.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.get()
    }

    /// The number of its socket's descriptor, whatever that names now.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.socket.number()
    }

    /// Puts a notification into it, as others do.
    pub fn notify(&self) {
        let _ = self.address.notify();
    }

    /// Empties it.
    pub fn empty(&self) {
        let Some(socket) = self.socket.get() else { return };
        let mut nothing = [0u8; 1];
        while rustix::net::recv(socket, &mut nothing, rustix::net::RecvFlags::DONTWAIT).is_ok() {}
    }
}
