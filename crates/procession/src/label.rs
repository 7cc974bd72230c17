//! Labels: the name of an object, and the line that made it, for observers of the running program.

use procession_core::family::Family;
use procession_core::family::label::{Label, is_due};
use std::panic::Location;

/// What a label can be given to.
pub(crate) trait Labelled {
    fn family(&self) -> &'static Family;
    fn set_label(&self, label: &Label) -> procession_core::Result<()>;
}

/// Gives a new object the place of the caller, if it is to have one. That there is no memory for it does not matter: only
/// observers read it.
#[inline]
#[track_caller]
pub(crate) fn placed<T: Labelled>(made: T) -> T {
    if is_due() {
        label(&made, "");
    }
    made
}

/// Gives an object this name, and the place of the caller.
#[cold]
#[track_caller]
pub(crate) fn label<T: Labelled>(object: &T, name: &str) {
    let place = Location::caller();
    let place = format!("{}:{} ", place.file(), place.line());
    let _ = Label::new(object.family(), name, &place).and_then(|label| object.set_label(&label));
}

/// Gives a type the method `named`. `$inner`: the part of `$object` that has the label.
macro_rules! named {
    ($name:ident $(<$of:ident: $bound:path>)?, $object:ident, $inner:expr) => {
        impl $(<$of: $bound>)? crate::label::Labelled for $name $(<$of>)? {
            fn family(&self) -> &'static procession_core::family::Family {
                let $object = self;
                crate::label::Inner::family($inner)
            }

            fn set_label(&self, label: &procession_core::family::label::Label) -> procession_core::Result<()> {
                let $object = self;
                crate::label::Inner::set_label($inner, label)
            }
        }

        impl $(<$of: $bound>)? $name $(<$of>)? {
            /// Gives the object a name, which observers of the running program show, with the line that calls this.
            #[must_use]
            #[track_caller]
            pub fn named(self, name: &str) -> Self {
                crate::label::label(&self, name);
                self
            }
        }
    };
}
pub(crate) use named;

/// What objects consist of.
pub(crate) trait Inner {
    fn family(&self) -> &'static Family;
    fn set_label(&self, label: &Label) -> procession_core::Result<()>;
}

impl<T: procession_core::sys::shared::Shared> Inner for procession_core::sync::object::Reference<T> {
    fn family(&self) -> &'static Family {
        procession_core::sync::object::Reference::family(self)
    }

    fn set_label(&self, label: &Label) -> procession_core::Result<()> {
        procession_core::sync::object::Reference::set_label(self, label)
    }
}

impl Inner for procession_core::family::Hold {
    fn family(&self) -> &'static Family {
        self.family
    }

    fn set_label(&self, label: &Label) -> procession_core::Result<()> {
        procession_core::family::Hold::set_label(self, label)
    }
}

impl Labelled for procession_core::pool::Pool {
    fn family(&self) -> &'static Family {
        procession_core::pool::Pool::family(self)
    }

    fn set_label(&self, label: &Label) -> procession_core::Result<()> {
        procession_core::pool::Pool::set_label(self, label)
    }
}
