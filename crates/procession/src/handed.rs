//! Values that a deserialiser hands over as they are.
//!
//! A type such as [`Block`](crate::Block) has two sources: bytes in postcard's format, and a [`Value`] that came from Python
//! and has the memory in it already. Serde knows nothing of the second. So these types ask their deserialiser for a newtype
//! of the name [`NAME`]. Postcard (and any other format) then reads the written form. The deserialiser of values
//! (`typed.rs`) puts the value into a place of this thread, and calls the visitor as for a unit.

use crate::transit;
use crate::value::Value;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// The name of the newtype.
pub(crate) const NAME: &str = "$procession::Handed";

thread_local! {
    static HANDED: Cell<Option<Value>> = const { Cell::new(None) };
}

/// A type that can be handed over.
pub(crate) trait Written: Sized {
    /// What a format reads and writes.
    type Form: DeserializeOwned;

    /// Makes the value of its written form.
    fn from_form(form: Self::Form) -> Result<Self, String>;
}

/// Calls the visitor with the value in this thread's place.
pub(crate) fn visit<'de, V: Visitor<'de>, E: Error>(value: Value, visitor: V) -> Result<V::Value, E> {
    HANDED.set(Some(value));
    let made = visitor.visit_unit();
    HANDED.take();
    made
}

/// Makes a `T` of what a deserialiser has: its written form, or a value that is handed over and that `convert` converts.
pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(
    deserializer: D,
    convert: impl FnOnce(Value) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Either<T, F>(F, PhantomData<T>);

    impl<'de, T: Written, F: FnOnce(Value) -> Result<T, String>> Visitor<'de> for Either<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(std::any::type_name::<T>())
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            T::from_form(T::Form::deserialize(deserializer)?).map_err(transit::unread)
        }

        fn visit_unit<E: Error>(self) -> Result<T, E> {
            let value = HANDED.take().ok_or_else(|| E::custom("it is None"))?;
            (self.0)(value).map_err(transit::unread)
        }
    }

    deserializer.deserialize_newtype_struct(NAME, Either(convert, PhantomData))
}
