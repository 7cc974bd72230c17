//! Labels: the name of an object, and the line that made it, for observers of the running program.

use procession_core::family::Family;
use procession_core::family::label::{self, Label};
use std::panic::Location;
use std::sync::{Arc, Mutex};

/// What a label can be given to.
pub(crate) trait Labelled {
    fn family(&self) -> &'static Family;
    fn set_label(&self, label: &Label) -> procession_core::Result<()>;
}

/// A line of the program, and the label with this line and no name.
type Site = (&'static Location<'static>, Arc<Label>);

/// Number of lines of the program whose labels are remembered.
const SITES: usize = 256;

/// The lines that have made an object lately, each at a place of the table that its address decides. No thread waits for the
/// table: if a fork has copied it locked, new objects of the child have no place.
static KNOWN: Mutex<[Option<Site>; SITES]> = Mutex::new([const { None }; SITES]);

/// The label of a line without a name.
fn label_of(place: &'static Location<'static>) -> Option<Arc<Label>> {
    let home = Family::home().ok()?;
    let mut known = KNOWN.try_lock().ok()?;
    let site = &mut known[(std::ptr::from_ref(place).addr() >> 3) & (SITES - 1)];
    if let Some((line, label)) = site
        && std::ptr::eq(*line, place)
        && std::ptr::eq(label.family(), home)
    {
        return Some(label.clone());
    }
    let label = Label::new(home, "", &text(place)).ok()?;
    *site = Some((place, label.clone()));
    Some(label)
}

/// A line as labels name it: `file:line function`, of which the program does not know the function.
fn text(place: &Location<'_>) -> String {
    format!("{}:{} ", place.file(), place.line())
}

/// Calls `make`, which makes an object. The object gets a label with the line of the caller. (It gets none if there is no memory
/// for it: only observers read labels.)
#[inline]
#[track_caller]
pub(crate) fn placed<T>(make: impl FnOnce() -> T) -> T {
    let label = label_of(Location::caller());
    label::given(label.as_deref(), make)
}

/// Gives an object this name, and the place of the caller.
#[cold]
#[track_caller]
pub(crate) fn label<T: Labelled>(object: &T, name: &str) {
    let place = text(Location::caller());
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
