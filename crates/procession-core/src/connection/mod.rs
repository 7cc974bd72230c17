//! Connections: the wire format and the handshake of `multiprocessing.connection`, as what bytes mean.
//!
//! Nothing here reads or writes: whoever has the bytes feeds them in, and sends what comes out. So the same code serves
//! pipes, sockets and TLS, waiting and not, and takes whatever a hostile peer may send, in whatever pieces, from a test
//! as well as from a network. The system calls are in [`crate::sys::stream`].

pub mod adaptive_poll;
pub mod auth;
pub mod frame;
pub mod handshake;
