//! The encodings of messages, on which the faces have agreed. They are part of the layout of family memory.
//!
//! | encoding | bytes | references | written by | read by |
//! |---|---|---|---|---|
//! | [`PICKLE`] | a pickle | the shared objects that it names | both | both; Rust, if it knows how its classes are pickled |
//! | [`BYTES`], [`BYTEARRAY`] | those of a `bytes`, `bytearray`, `Vec<u8>` | | both | both |
//! | [`TREE`] | a small tree of built-ins, see [`tag`] | | both | both |
//! | [`BUFFERS`] | a [`buffers::Head`]: the out-of-band buffers ([PEP 574](https://peps.python.org/pep-0574/)); then a pickle | the buffers, then the shared objects | Python | both |
//! | [`POSTCARD`] | serde with postcard | the shared objects and blocks that it names | Rust | Rust |
//! | [`ARRAY`] | the type code and the items of an `array.array` | | Python | both |
//! | [`NUMBERS`] | a long list or tuple of numbers, see [`numbers`] | | Python | both |
//! | [`BLOCK`] | description of the elements, see [`block`] | one buffer with the elements | Rust | both |

/// A pickle. See the module documentation.
pub const PICKLE: u32 = 0;
/// The bytes of a `bytes` or `Vec<u8>`.
pub const BYTES: u32 = 1;
/// A small tree of built-ins. See [`tag`].
pub const TREE: u32 = 2;
/// A pickle with out-of-band buffers. See the module documentation.
pub const BUFFERS: u32 = 3;
/// The bytes of a `bytearray`.
pub const BYTEARRAY: u32 = 4;
/// A value serialised by serde with postcard. See the module documentation.
pub const POSTCARD: u32 = 5;
/// A block of elements. See [`mod@block`].
pub const BLOCK: u32 = 6;
/// An `array.array`. See the module documentation.
pub const ARRAY: u32 = 7;

/// A long list or tuple of numbers. See [`numbers`].
pub const NUMBERS: u32 = 8;

/// Lists and tuples of numbers that are all of one kind: one byte says whether it is a list or a tuple, one the kind, and the
/// numbers follow, little-endian.
pub mod numbers {
    /// A list.
    pub const LIST: u8 = 0;
    /// A tuple.
    pub const TUPLE: u8 = 1;

    /// Signed integers of 8 bits.
    pub const INT8: u8 = 0;
    /// Signed integers of 16 bits.
    pub const INT16: u8 = 1;
    /// Signed integers of 32 bits.
    pub const INT32: u8 = 2;
    /// Signed integers of 64 bits.
    pub const INT64: u8 = 3;
    /// Floats of 64 bits.
    pub const FLOAT: u8 = 4;
}

/// The tags of small trees.
///
/// A tag (one byte) is followed by:
/// - nothing (None, True, False);
/// - 8 bytes (int, float);
/// - a length of 4 bytes and that many bytes (str as UTF-8, bytes);
/// - a count of 1 byte and that many objects (tuple, list; dict: that many pairs of key and value);
/// - the name of a class (2 bytes of length) and a dict (instances of plain Python classes);
/// - the number of an earlier object (the same object again). Objects that can occur twice (from str on, except this
///   last kind) are counted in the order in which they *end*;
/// - a shared object: its kind in one byte (the number of [`crate::family::object::Kind`]), a length of 4 bytes and
///   that many bytes: its handle and, for an array, its description (see [`mod@block`]).
///
/// All numbers are little-endian.
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
    /// A shared object. Rust programs write it; Python pickles shared objects.
    pub const SHARED: u8 = 12;

    /// Maximum depth of nesting that is read.
    pub const DEEPEST: usize = 8;
    /// Maximum number of objects in a tree.
    pub const MOST_NODES: usize = 64;
    /// Maximum number of bytes of a tree.
    pub const MOST_BYTES: usize = 4096;
}

/// The head of a message with out-of-band buffers.
pub mod buffers {
    /// The bit in a buffer's length that says that the sender's buffer was read-only.
    pub const WAS_READ_ONLY: u64 = 1 << 63;

    /// Says which buffers a message has. It is written as words of 8 bytes, little-endian: twice the number of buffers, plus 1
    /// if all references of the message are in a bundle; then for each buffer its length, and its offset and generation if they
    /// are in a bundle.
    #[derive(Debug)]
    pub struct Head {
        /// The length of each buffer in bytes, with the bit [`WAS_READ_ONLY`].
        pub lengths: Vec<u64>,
        /// Offset and generation of each buffer, if all references are in a bundle; else None.
        pub places: Option<Vec<(u64, u32)>>,
    }

    impl Head {
        /// Encodes the head.
        #[must_use]
        pub fn written(&self) -> Vec<u8> {
            let words = self.lengths.iter().enumerate().flat_map(|(i, len)| {
                let place = self.places.as_ref().map(|places| places[i]);
                let rest = place.map(|(offset, generation)| [offset, generation.into()]);
                [*len].into_iter().chain(rest.into_iter().flatten())
            });
            let count = self.lengths.len() as u64;
            let first = count << 1 | u64::from(self.places.is_some());
            core::iter::once(first)
                .chain(words)
                .flat_map(u64::to_le_bytes)
                .collect()
        }

        /// Reads the head that `bytes` begin with. Returns it and its length in bytes.
        #[must_use]
        pub fn read(bytes: &[u8]) -> Option<(Head, usize)> {
            let word = |n: usize| Some(u64::from_le_bytes(*bytes.get(8 * n..)?.first_chunk()?));
            let first = word(0)?;
            let (count, bundled) = ((first >> 1) as usize, first & 1 == 1);
            let width = if bundled { 3 } else { 1 };
            if count > bytes.len() / 8 {
                return None;
            }
            let lengths = (0..count).map(|i| word(1 + width * i)).collect::<Option<_>>()?;
            let place = |i: usize| Some((word(2 + width * i)?, word(3 + width * i)? as u32));
            let places = if bundled {
                Some((0..count).map(place).collect::<Option<_>>()?)
            } else {
                None
            };
            Some((Head { lengths, places }, 8 * (1 + width * count)))
        }
    }
}

/// The description of a block: one byte with the length of the type, the type as numpy's array protocol writes it
/// (`<f4`, `|u1`, `|V12`), one byte with the number of dimensions, and eight bytes (little-endian) for each
/// dimension.
pub mod block {
    /// Encodes a description.
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

    /// Decodes a description. None if the bytes are not one.
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
