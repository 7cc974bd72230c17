//! Types that several processes may access at the same time, each through its own mapping: [`Shared`], and the macro
//! that implements it for a struct, checks its requirements, and describes its fields for observers ([`Described`]).

use super::mutex::RobustMutex;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Types that may be accessed through a pointer into memory that processes share.
///
/// # Safety
/// Every content of its bytes is a valid value, and the content may change at any time: the type is an atomic, a
/// robust mutex, or consists of such types only. It has the same layout in every build of this version. For structs
/// the macro `shared!` checks both.
pub unsafe trait Shared: Sized + 'static {}

// SAFETY: a 32-bit atomic; every content is a number.
unsafe impl Shared for AtomicU32 {}
// SAFETY: a 64-bit atomic; every content is a number.
unsafe impl Shared for AtomicU64 {}
// SAFETY: the C library serialises the calls of all processes on it, and rejects a content that is no mutex.
unsafe impl Shared for RobustMutex {}
// SAFETY: an array consists only of its elements, which are `Shared`, without gaps.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// A field of a shared struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in the source.
    pub name: &'static str,
    /// Its offset in the struct.
    pub offset: usize,
    /// Its size in bytes.
    pub width: usize,
}

/// A shared struct with its fields. The macro `shared!` implements it, so a description cannot differ from the struct.
pub trait Described: Shared {
    /// The name of the struct in the source.
    const NAME: &'static str;
    /// All its fields, in their order in memory.
    const FIELDS: &'static [Field];
}

/// Returns the size of a field, which must itself be [`Shared`].
#[doc(hidden)]
pub const fn size_of_field<T, F: Shared>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// `shared!(Type, bytes, { its fields });` implements [`Shared`] for a struct.
///
/// It compiles only if the list names all fields of the struct in the order in which they lie in memory, without gaps
/// between them; if each field is `Shared` itself; and if the size of the struct is `bytes`. It also implements
/// [`Described`].
#[cfg(not(loom))]
macro_rules! shared {
    ($type:ident, $bytes:expr, { $($field:tt),* $(,)? }) => {
        const _: () = {
            // A field that is missing in the list is a compile error here.
            #[allow(dead_code)]
            fn all_fields($type { $($field: _),* }: &$type) {}
            let mut end = 0;
            $(
                assert!(core::mem::offset_of!($type, $field) == end, "a gap, or another order than in memory");
                end += $crate::sys::shared::size_of_field(|all: &$type| &all.$field);
            )*
            assert!(end <= size_of::<$type>() && size_of::<$type>() - end < align_of::<$type>());
            assert!(size_of::<$type>() == $bytes as usize, "its size has changed");
        };
        // SAFETY: consists only of `Shared` fields at fixed offsets, as the assertions above check.
        #[allow(unsafe_code)]
        unsafe impl $crate::sys::shared::Shared for $type {}
        impl $crate::sys::shared::Described for $type {
            const NAME: &'static str = stringify!($type);
            const FIELDS: &'static [$crate::sys::shared::Field] = &[$($crate::sys::shared::Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($type, $field),
                width: $crate::sys::shared::size_of_field(|all: &$type| &all.$field),
            }),*];
        }
    };
}
#[cfg(not(loom))]
pub(crate) use shared;
