//! Connections: `multiprocessing.connection` as far as bytes and waiting are concerned.

mod handshake;
mod many;
mod side_channel;
mod transfer;
mod wire;

pub use handshake::{Handshake, respond, verify};
pub use many::{poll, wait_for_many};
pub use side_channel::{_fetch, SideChannel, make_side_channel};
pub use wire::{Wire, make_pipe, make_socket_pair};
