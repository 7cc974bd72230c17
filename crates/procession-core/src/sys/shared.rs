//! Types that several processes may look at at once, each through a mapping of its own: [`Shared`], and the macro that
//! implements it for a struct and checks what it promises.

use super::mutex::RobustMutex;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Types that may be seen through a pointer into memory that processes share.
///
/// # Safety
/// Every content of its bytes is a valid value, and it may change at any time: the type is an atomic, a robust mutex, or
/// made of nothing else. It has the same layout in every build of this version. For structs `shared!` checks both.
pub unsafe trait Shared: Sized + 'static {}

// SAFETY: an atomic, of which every content is a number.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as every atomic.
unsafe impl Shared for AtomicU64 {}
// SAFETY: the C library makes the calls of many processes on it one after the other, and refuses a content that is no mutex.
unsafe impl Shared for RobustMutex {}
// SAFETY: its elements, one behind the other.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// The size of a field that is [`Shared`] itself.
#[doc(hidden)]
pub const fn size_of_field<T, F: Shared>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// `shared!(Type, bytes, { its fields });` implements [`Shared`] for a struct.
///
/// It compiles only if these are all fields of the struct, in the order in which they lie in memory, with no gap between
/// them; if each is `Shared` itself; and if the struct has so many bytes.
#[cfg(not(loom))]
macro_rules! shared {
    ($type:ident, $bytes:expr, { $($field:tt),* $(,)? }) => {
        const _: () = {
            // A field that is missing in the list is an error here.
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
        // SAFETY: made of nothing but fields that are `Shared`, at places that do not change: checked above.
        #[allow(unsafe_code)]
        unsafe impl $crate::sys::shared::Shared for $type {}
    };
}
#[cfg(not(loom))]
pub(crate) use shared;
