//! Connections: `multiprocessing.connection` as far as bytes and waiting are concerned.

mod aside;
mod handshake;
mod many;
mod transfer;
mod wire;

pub use aside::{_fetch, Aside, make_aside};
pub use handshake::{Handshake, respond, verify};
pub use many::{poll, wait_for_many};
pub use wire::{Wire, make_pipe, make_socket_pair};
