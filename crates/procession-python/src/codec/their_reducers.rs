//! Reducers that libraries have registered with the standard library's `ForkingPickler`. They are used here too.
//!
//! There is no event for a registration or its removal, and most programs never import that module. So each send compares
//! the number of entries of one dictionary: of `sys.modules` until the standard library's module is loaded, of its table of
//! reducers from then on.

use super::pickle;
use crate::once::Once;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicIsize, Ordering};

/// `multiprocessing.reduction.ForkingPickler._extra_reducers`, once the program has imported that.
static TABLE: Once<Py<PyDict>> = Once::new();

/// The number of entries at the last look.
static ENTRIES: AtomicIsize = AtomicIsize::new(-1);

/// Finds out whether reducers were registered or removed since the last look, and tells [`super::pickle`].
#[inline]
pub fn notice(py: Python<'_>) {
    if may_have_changed(py) {
        look(py);
    }
}

/// Whether [`notice`] would look, which may run Python code.
#[inline]
pub fn may_have_changed(py: Python<'_>) -> bool {
    entries(py) != ENTRIES.load(Ordering::Relaxed)
}

#[inline]
fn entries(py: Python<'_>) -> isize {
    // SAFETY: both are dictionaries: the interpreter keeps `sys.modules` alive, and `TABLE` holds a reference to the other.
    unsafe {
        match TABLE.get(py) {
            None => ffi::PyDict_Size(ffi::PyImport_GetModuleDict()),
            Some(table) => ffi::PyDict_Size(table.as_ptr()),
        }
    }
}

#[cold]
fn look(py: Python<'_>) {
    if TABLE.get(py).is_none() {
        let seen = entries(py);
        match table(py) {
            // Half imported, by another thread: it is looked at again.
            Err(_) => return,
            Ok(None) => return ENTRIES.store(seen, Ordering::Relaxed),
            Ok(Some(table)) => TABLE.set(py, table.unbind()),
        }
    }
    let Some(table) = TABLE.get(py) else {
        return;
    };
    ENTRIES.store(entries(py), Ordering::Relaxed);
    // The standard library's own are for its own objects: `names_theirs` sees to them.
    let table = table.bind(py).values();
    pickle::use_their_reducers(table.iter().any(|reducer| !is_its_own(&reducer)));
}

fn table(py: Python<'_>) -> PyResult<Option<Bound<'_, PyDict>>> {
    const MODULE: &str = "multiprocessing.reduction";
    let modules = py.import("sys")?.getattr("modules")?;
    let Some(module) = modules
        .cast::<PyDict>()
        .ok()
        .and_then(|modules| modules.get_item(MODULE).ok().flatten())
    else {
        return Ok(None);
    };
    if module.getattr("__name__")?.extract::<&str>()? != MODULE {
        return Ok(None); // it means ours
    }
    let table = module.getattr("ForkingPickler")?.getattr("_extra_reducers")?;
    Ok(Some(table.cast_into()?))
}

fn is_its_own(reducer: &Bound<'_, PyAny>) -> bool {
    reducer
        .getattr("__module__")
        .and_then(|module| Ok(module.extract::<&str>()?.starts_with("multiprocessing.")))
        .unwrap_or(false)
}

/// Whether a pickle names an object of the standard library that it would not pickle so itself: the number of an open
/// connection's descriptor would be all that arrives.
pub fn names_theirs(py: Python<'_>, bytes: &[u8]) -> bool {
    TABLE.get(py).is_some() && pickle::contains(bytes, b"multiprocessing.connection")
}
