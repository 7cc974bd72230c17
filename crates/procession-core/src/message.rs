//! How the bytes of a message are to be read: what the faces have agreed on. Part of the layout of family memory.
//!
//! | encoding | bytes | carried | written by | read by |
//! |---|---|---|---|---|
//! | [`PICKLE`] | a pickle | the shared objects that it names | Python, Rust | Python; Rust, if it consists of built-ins |
//! | [`BYTES`], [`BYTEARRAY`] | those of a `bytes`, `bytearray`, `Vec<u8>` | | both | both |
//! | [`TREE`] | a small tree of built-ins, see [`tag`] | | both | both |
//! | [`BUFFERS`] | how many buffers there are, the length of each; then a pickle | the buffers, then the shared objects | Python | Python |
//! | [`POSTCARD`] | serde by way of postcard | the shared objects and blocks that it names | Rust | Rust |
//! | [`ARRAY`] | the type code and the items of an `array.array` | | Python | Python |
//! | [`BLOCK`] | what the elements are, see [`block`] | one buffer with them | Rust | both |

/// See the module.
pub const PICKLE: u32 = 0;
/// See the module.
pub const BYTES: u32 = 1;
/// See the module.
pub const TREE: u32 = 2;
/// See the module.
pub const BUFFERS: u32 = 3;
/// See the module.
pub const BYTEARRAY: u32 = 4;
/// See the module.
pub const POSTCARD: u32 = 5;
/// See the module.
pub const BLOCK: u32 = 6;
/// See the module.
pub const ARRAY: u32 = 7;

/// The tags of small trees.
///
/// A tag, then: nothing (None, True, False), 8 bytes (int, float), a length of 4 bytes and so many bytes (str as UTF-8,
/// bytes), a count of 1 byte and so many objects (tuple, list; dict: keys and values by turns), the name of a class (2
/// bytes of length) and a dict (instances of plain Python classes), or the number of an earlier object (the same one
/// again), counted over those that can be met twice (from str on, but for this last) in the order in which they *end*.
/// Or a shared object: its kind in one byte (as [`crate::family::object::Kind`] numbers them), a length of 4 bytes, and so
/// many bytes: its handle and, if it is an array, what [`mod@block`] says of one. Little-endian.
pub mod tag {
    /// `None`.
    pub const NONE: u8 = 0;
    /// `True`.
    pub const TRUE: u8 = 1;
    /// `False`.
    pub const FALSE: u8 = 2;
    /// A signed integer of 64 bits.
    pub const INT: u8 = 3;
    /// A float of 64 bits.
    pub const FLOAT: u8 = 4;
    /// A string.
    pub const STR: u8 = 5;
    /// Bytes.
    pub const BYTES: u8 = 6;
    /// A tuple.
    pub const TUPLE: u8 = 7;
    /// A list.
    pub const LIST: u8 = 8;
    /// A dictionary.
    pub const DICT: u8 = 9;
    /// An earlier object again.
    pub const AGAIN: u8 = 10;
    /// An instance of a plain Python class.
    pub const INSTANCE: u8 = 11;
    /// A shared object. Written by Rust programs; Python pickles them.
    pub const SHARED: u8 = 12;

    /// The deepest nesting that is read.
    pub const DEEPEST: usize = 8;
    /// The most objects in a tree.
    pub const MOST_NODES: usize = 64;
    /// The most bytes that a tree takes.
    pub const MOST_BYTES: usize = 4096;
}

/// What is said of a block: a type as numpy's array protocol writes it (`<f4`, `|u1`, `|V12`), with its length in one
/// byte before it; the number of dimensions in one byte; each dimension in eight, little-endian.
pub mod block {
    /// The bytes that say so.
    #[must_use]
    pub fn describe(typestr: &str, shape: &[u64]) -> Vec<u8> {
        let name = &typestr.as_bytes()[..typestr.len().min(255)];
        let shape = &shape[..shape.len().min(32)];
        let mut bytes = vec![name.len() as u8];
        bytes.extend_from_slice(name);
        bytes.push(shape.len() as u8);
        bytes.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        bytes
    }

    /// What such bytes say; None if they are others.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(&str, Vec<u64>)> {
        let (len, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let (dimensions, rest) = rest.split_first()?;
        let eights = rest.chunks_exact(8);
        if !eights.remainder().is_empty() || eights.len() != usize::from(*dimensions) {
            return None;
        }
        let shape = eights.map(|eight| u64::from_le_bytes(eight.try_into().unwrap_or_default()));
        Some((core::str::from_utf8(name).ok()?, shape.collect()))
    }
}
