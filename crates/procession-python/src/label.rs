//! Labels of new objects: the name that the program gives, and the place in the program that makes the object.

use crate::errors::raised;
use procession_core::Error;
use procession_core::family::Family;
use procession_core::family::label::Label;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyType};
use std::sync::Arc;

pub use procession_core::family::label::is_due;

/// Makes a label with this name and the present place in the program, and gives it to `set`. Does nothing if there is no
/// memory for it: only observers read labels.
///
/// # Errors
/// The exception of a signal handler.
#[cold]
#[inline(never)]
pub fn label(
    py: Python<'_>,
    family: &'static Family,
    name: &str,
    set: impl FnOnce(&Label) -> procession_core::Result<()>,
) -> PyResult<()> {
    let place = place(py).unwrap_or_default();
    if name.is_empty() && place.is_empty() {
        return Ok(());
    }
    match Label::new(family, name, &place).and_then(|label| set(&label)) {
        Err(e @ Error::Interrupted) => Err(raised(e)),
        _ => Ok(()),
    }
}

/// The innermost line of the program that is executed, and its function: `file:line function`. Lines of this package and
/// of the interpreter's import system do not count.
fn place(py: Python<'_>) -> PyResult<String> {
    let mut frame = py
        .import(intern!(py, "sys"))?
        .call_method0(intern!(py, "_getframe"))?;
    loop {
        let module = frame
            .getattr(intern!(py, "f_globals"))?
            .get_item(intern!(py, "__name__"));
        let ours = module.is_ok_and(|name| {
            name.cast::<PyString>()
                .is_ok_and(|name| name.to_string_lossy().split('.').next() == Some("procession"))
        });
        if !ours {
            break;
        }
        frame = frame.getattr(intern!(py, "f_back"))?;
    }
    let code = frame.getattr(intern!(py, "f_code"))?;
    let file = code.getattr(intern!(py, "co_filename"))?;
    let function = code.getattr(intern!(py, "co_qualname"))?;
    let line = frame.getattr(intern!(py, "f_lineno"))?;
    let line = line
        .cast::<PyInt>()
        .map(|line| line.to_string())
        .unwrap_or_default();
    let text = |obj: &Bound<'_, PyAny>| {
        obj.cast::<PyString>()
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    Ok(format!("{}:{line} {}", text(&file), text(&function)))
}

/// The label of a function, for the definition of tasks: `module.qualname`.
#[must_use]
pub fn of_function(family: &'static Family, function: &Bound<'_, PyAny>) -> Option<Arc<Label>> {
    let py = function.py();
    // Other objects may run code of the program when they are asked: the name of their class is enough.
    let class = function.get_type();
    let kind = class.name().ok()?;
    let kind = kind.to_string_lossy();
    let known =
        kind == "function" || kind == "builtin_function_or_method" || class.is(py.get_type::<PyType>());
    let class = class.into_any();
    let named = if known { function } else { &class };
    let text = |what| {
        let name = named.getattr(what).ok()?;
        Some(name.cast::<PyString>().ok()?.to_string_lossy().into_owned())
    };
    let name = text(intern!(py, "__qualname__"))?;
    let name = match text(intern!(py, "__module__")) {
        Some(module) => format!("{module}.{name}"),
        None => name,
    };
    Label::new(family, &name, "").ok()
}
