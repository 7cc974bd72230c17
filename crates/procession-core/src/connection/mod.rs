//! Connections: the wire format and the handshake of `multiprocessing.connection`, as operations on bytes.
//!
//! Nothing here reads or writes: the caller feeds in the received bytes and sends the bytes that result. So the same
//! code serves pipes, sockets and TLS, blocking or not, and can be tested with whatever bytes, in whatever pieces, a
//! hostile peer may send. The system calls are in [`crate::sys::stream`].

pub mod adaptive_poll;
pub mod auth;
pub mod frame;
pub mod handshake;
