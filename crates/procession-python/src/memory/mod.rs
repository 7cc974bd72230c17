//! Family memory as Python objects with the buffer protocol, and references on their way.
//!
//! | file | one idea |
//! |---|---|
//! | [`view`] | the bytes of any object with the buffer protocol |
//! | [`fresh`] | new `bytes` objects that are filled before the program sees them |
//! | [`received`] | which buffers this process has received whole |
//! | [`transit`] | what keeps an object alive while a pickle names it |
//! | [`buffer`] | a buffer of a message, as the receiver's bytes |
//! | [`array`] | zero-filled memory that processes share |
//! | [`argument`] | big arguments of processes |

pub mod argument;
pub mod array;
pub mod buffer;
pub mod fresh;
pub mod received;
pub mod transit;
pub mod view;
