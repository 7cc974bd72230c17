//! Labels: the name that the program gave to an object, and the place in the program where it was made. Only
//! observers read them.
//!
//! A label is a block of its own, which all objects with the same name and place share. Its text begins behind the
//! header: the name, a zero byte, and the place (`file:line function`); both are UTF-8, and each may be empty.
//! `Header::operations` is the length of the text in bytes.

use super::object::HEADER;

/// Maximum number of bytes of a label's text; a longer place is cut at its beginning, a longer name at its end.
pub const LONGEST: usize = 448;
/// Offset in a label's block at which the text begins.
pub const TEXT: u64 = HEADER;
