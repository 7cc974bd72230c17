//! Labels of new objects: the name that the program gives, and the place in the program that makes the object.
//!
//! The place is the innermost line of the program that is executed. Lines of this package do not count. Finding it takes as
//! long as making two locks, so it is done once for each *call site*: a code object and the offset of an instruction in it.
//! A table remembers the label of each call site that has made an object lately. From then on a place costs a look at two or
//! three frames, a tenth of a microsecond.

use crate::errors::raised;
use crate::frame::Frame;
use crate::interpreter::FREE_THREADED;
use crate::once::intern;
use procession_core::Error;
use procession_core::family::Family;
use procession_core::family::label::{self, Label};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyType};
use std::sync::{Arc, Mutex, MutexGuard};

/// Number of call sites that are remembered, and of code objects of this package. Both are powers of 2.
const SITES: usize = 1024;
const OURS: usize = 128;

/// A call site of the program.
struct Site {
    /// The code object. It is kept alive, so that no other object has its address.
    code: Py<PyAny>,
    instruction: i32,
    /// `file:line function`.
    place: String,
    /// The label with this place and no name.
    label: Arc<Label>,
}

/// What is known of code objects.
struct Known {
    /// The call sites, each at [`position`] of its code object and instruction.
    sites: Box<[Option<Arc<Site>>; SITES]>,
    /// The code objects of this package that have called for a label, each at or behind the [`position`] of its address.
    ours: Box<[Option<Py<PyAny>>; OURS]>,
}

/// Locked only while attached, for a few instructions. No thread waits for it: if the collector runs a finalizer of the program
/// meanwhile, or a fork has copied it locked, new objects have no place.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Locks what is known. None: another thread of a free-threaded interpreter has it for longer than it takes to look, or see
/// [`KNOWN`].
#[inline]
fn known() -> Option<MutexGuard<'static, Option<Known>>> {
    match KNOWN.try_lock() {
        Ok(known) => Some(known),
        Err(_) if FREE_THREADED => (0..PATIENCE).find_map(|_| {
            std::hint::spin_loop();
            KNOWN.try_lock().ok()
        }),
        Err(_) => None,
    }
}

/// How often a thread of a free-threaded interpreter tries to lock [`KNOWN`] again: some microseconds.
const PATIENCE: usize = 200;

/// Where a code object and an instruction in it are found in a table of this size.
#[inline]
fn position(code: usize, instruction: i32, size: usize) -> usize {
    ((code >> 4) ^ (code >> 14) ^ (instruction as usize).wrapping_mul(0x9e37)) & (size - 1)
}

impl Known {
    fn new() -> Known {
        Known {
            sites: Box::new([const { None }; SITES]),
            ours: Box::new([const { None }; OURS]),
        }
    }

    /// Returns whether this code object is known to belong to this package.
    #[inline]
    fn is_ours(&self, code: usize) -> bool {
        let start = position(code, 0, OURS);
        (0..OURS)
            .map_while(|step| self.ours[(start + step) & (OURS - 1)].as_ref())
            .any(|known| known.as_ptr() as usize == code)
    }

    /// Remembers that this code object belongs to this package. One place of the table stays empty.
    fn add_ours(&mut self, code: &Bound<'_, PyAny>) {
        let used = self.ours.iter().flatten().count();
        let start = position(code.as_ptr() as usize, 0, OURS);
        let free = (0..OURS)
            .map(|step| (start + step) & (OURS - 1))
            .find(|at| self.ours[*at].is_none());
        if let Some(at) = free.filter(|_| used + 1 < OURS) {
            self.ours[at] = Some(code.clone().unbind());
        }
    }
}

/// The call site of the program that is executed. None if there is none (a thread of this package), or if there is no memory
/// for its label.
///
/// # Errors
/// [`Error::Interrupted`]: a signal handler ends the wait for the ledger, in which a new label is made. The caller must raise
/// what the handler has raised, and make no object.
#[inline]
fn site(py: Python<'_>) -> Result<Option<Arc<Site>>, Error> {
    let Some(mut frame) = Frame::innermost(py) else {
        return Ok(None);
    };
    let Some(known) = known() else {
        return Ok(None);
    };
    if let Some(known) = known.as_ref() {
        loop {
            let code = frame.code().as_ptr() as usize;
            if known.is_ours(code) {
                match frame.caller() {
                    Some(caller) => frame = caller,
                    None => return Ok(None),
                }
                continue;
            }
            let instruction = frame.instruction();
            let found = known.sites[position(code, instruction, SITES)].as_ref();
            let found = found.filter(|site| {
                site.code.as_ptr() as usize == code
                    && site.instruction == instruction
                    && Family::home_if_any().is_some_and(|home| core::ptr::eq(home, site.label.family()))
            });
            match found {
                Some(site) => return Ok(Some(site.clone())),
                None => break,
            }
        }
    }
    drop(known);
    new_site(py, frame)
}

/// The call site in this frame, or in the first of its callers that is no function of this package.
#[cold]
#[inline(never)]
fn new_site(py: Python<'_>, mut frame: Frame<'_>) -> Result<Option<Arc<Site>>, Error> {
    while is_ours(py, &frame) {
        if let Some(mut known) = known() {
            known.get_or_insert_with(Known::new).add_ours(&frame.code());
        }
        match frame.caller() {
            Some(caller) => frame = caller,
            None => return Ok(None),
        }
    }
    let Ok(place) = place(py, &frame) else {
        return Ok(None);
    };
    let Some(label) = if_memory(Family::home().and_then(|home| Label::new(home, "", &place)))? else {
        return Ok(None);
    };
    let site = Arc::new(Site {
        instruction: frame.instruction(),
        label,
        code: frame.code().unbind(),
        place,
    });
    let at = position(site.code.as_ptr() as usize, site.instruction, SITES);
    let old =
        known().and_then(|mut known| known.get_or_insert_with(Known::new).sites[at].replace(site.clone()));
    // Not before the table is unlocked: it may be the last reference to a code object of the program.
    drop(old);
    Ok(Some(site))
}

/// A label, or None if there is no memory for it: only observers read labels.
///
/// # Errors
/// [`Error::Interrupted`], which must not be swallowed: it stands for the exception of a signal handler.
fn if_memory(label: Result<Arc<Label>, Error>) -> Result<Option<Arc<Label>>, Error> {
    match label {
        Ok(label) => Ok(Some(label)),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => Ok(None),
    }
}

/// Returns whether a frame runs a function of this package.
fn is_ours(py: Python<'_>, frame: &Frame<'_>) -> bool {
    let globals = frame.0.getattr(intern!(py, "f_globals"));
    let module = globals.and_then(|globals| globals.get_item(intern!(py, "__name__")));
    module.is_ok_and(|name| {
        name.cast::<PyString>()
            .is_ok_and(|name| name.to_string_lossy().split('.').next() == Some("procession"))
    })
}

/// The line that a frame executes, and its function: `file:line function`.
fn place(py: Python<'_>, frame: &Frame<'_>) -> PyResult<String> {
    let code = frame.code();
    let file = code.getattr(intern!(py, "co_filename"))?;
    let function = code.getattr(intern!(py, "co_qualname"))?;
    let line = frame.0.getattr(intern!(py, "f_lineno"))?;
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

/// Calls `make`, which makes an object. The object gets a label with the present place in the program. (It gets none if there is
/// no memory for it: only observers read labels.)
///
/// # Errors
/// Those of `make`; [`Error::Interrupted`].
#[inline]
pub fn placed<T>(py: Python<'_>, make: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let site = site(py)?;
    label::given(site.as_ref().map(|site| &*site.label), make)
}

/// Makes a label with this name and the present place in the program, and gives it to `set`. Does nothing if there is no
/// memory for it: only observers read labels.
///
/// # Errors
/// The exception of a signal handler.
pub fn label(
    py: Python<'_>,
    family: &'static Family,
    name: &str,
    set: impl FnOnce(&Label) -> procession_core::Result<()>,
) -> PyResult<()> {
    label_with(py, family, name, None, set)
}

/// As [`label`], but with `place`, if it is given, in place of the present place in the program.
///
/// # Errors
/// The exception of a signal handler.
#[cold]
#[inline(never)]
pub fn label_with(
    py: Python<'_>,
    family: &'static Family,
    name: &str,
    place: Option<&str>,
    set: impl FnOnce(&Label) -> procession_core::Result<()>,
) -> PyResult<()> {
    let here = if place.is_none() {
        site(py).map_err(raised)?
    } else {
        None
    };
    let place = place.or(here.as_ref().map(|site| site.place.as_str()));
    let place = place.unwrap_or_default();
    if name.is_empty() && place.is_empty() {
        return Ok(());
    }
    match Label::new(family, name, place).and_then(|label| set(&label)) {
        Err(e @ Error::Interrupted) => Err(raised(e)),
        _ => Ok(()),
    }
}

/// The present place in the program, `file:line function`, for objects that are made later; empty if there is none.
///
/// # Errors
/// The exception of a signal handler.
#[pyfunction]
pub fn _place(py: Python<'_>) -> PyResult<String> {
    let site = site(py).map_err(raised)?;
    Ok(site.map(|site| site.place.clone()).unwrap_or_default())
}

/// The label of a function, for the definition of tasks: `module.qualname`.
///
/// # Errors
/// The exception of a signal handler.
pub fn of_function(family: &'static Family, function: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Label>>> {
    let Some(name) = name_of(&unwrapped(function)) else {
        return Ok(None);
    };
    if_memory(Label::new(family, &name, "")).map_err(raised)
}

/// Returns the function of the program, which the wrappers of `procession._pool` call: for retries, limits and the like.
fn unwrapped<'py>(function: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    let py = function.py();
    let mut function = function.clone();
    // The attributes of these classes run no code of the program.
    while is_wrapper(&function.get_type()) {
        let Ok(inner) = function.getattr(intern!(py, "func")) else {
            break;
        };
        function = inner;
    }
    function
}

fn is_wrapper(class: &Bound<'_, PyType>) -> bool {
    class.module().is_ok_and(|module| {
        module
            .to_str()
            .is_ok_and(|name| name.starts_with("procession._pool."))
    })
}

fn name_of(function: &Bound<'_, PyAny>) -> Option<String> {
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
    Some(match text(intern!(py, "__module__")) {
        Some(module) => format!("{module}.{name}"),
        None => name,
    })
}
