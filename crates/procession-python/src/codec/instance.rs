//! Instances of plain classes, for [`super::tree`]: a class by its name, and what is in the instance's `__dict__`.
//!
//! An instance is plain if pickle would send no more than that: it is made by `object.__new__`, has no slots, and its class has
//! no method and no registration that changes how it is pickled. A class is examined once, except for its registration in
//! `copyreg` and its name, which may change at any time: these are checked for every instance, as pickle does.

use super::pickle;
use crate::once::Once;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple, PyType};
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;

/// The result of examining a class.
struct KnownClass {
    /// A reference that keeps the class alive, so that no other class gets its address.
    _class: Py<PyAny>,
    /// The name of the class's module, its own name, and both as a message has them; None if the class is not plain.
    names: Option<(Py<PyString>, Py<PyString>, Vec<u8>)>,
}

/// What a name in a message refers to.
struct ResolvedName {
    module: Py<PyString>,
    name: Py<PyString>,
    /// The class that was found under the name last, and whether it has a `__setstate__`.
    last: Option<(Py<PyAny>, bool)>,
}

thread_local! {
    // What a thread that ends leaves here is leaked: it is detached by then, and the interpreter may be gone. What is
    // taken out is dropped after the borrow, since dropping a class may run Python code.
    static CLASSES: ManuallyDrop<RefCell<HashMap<usize, KnownClass>>> = ManuallyDrop::default();
    static NAMES: ManuallyDrop<RefCell<HashMap<Vec<u8>, ResolvedName>>> = ManuallyDrop::default();
}

/// The number of classes that are remembered, so that a program that makes classes all the time does not fill the memory.
const MOST_REMEMBERED: usize = 1000;

/// The result of [`write_class`].
pub enum Seen<'py> {
    /// The name of the class was appended; this is the instance's state.
    Plain(Bound<'py, PyDict>),
    /// The instance is left to pickle.
    NotPlain,
    /// The class has not been examined yet: see [`look_at`].
    New(Bound<'py, PyType>),
}

/// Appends the name of the instance's class to `out` and returns the instance's dictionary. Runs no Python code.
pub fn write_class<'py>(obj: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> Seen<'py> {
    let py = obj.py();
    let class = obj.get_type();
    let known = CLASSES.with(|classes| {
        let classes = classes.borrow();
        let known = classes.get(&(class.as_ptr() as usize))?;
        let Some((module, name, written)) = &known.names else {
            return Some(false);
        };
        let named = is_named(py, &class, module.bind(py), name.bind(py));
        if named {
            out.extend_from_slice(&(written.len() as u16).to_le_bytes());
            out.extend_from_slice(written);
        }
        Some(named)
    });
    match known {
        None => Seen::New(class),
        Some(false) => Seen::NotPlain,
        Some(true) => match state_of(obj).map(Bound::cast_into_exact) {
            Ok(Ok(state)) => Seen::Plain(state),
            _ => Seen::NotPlain,
        },
    }
}

/// The `__dict__` of an instance, which may be made only now. Runs no Python code: a program may have set
/// `__getattribute__` after the class was examined.
fn state_of<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let state = || {
        // SAFETY: the object is alive. The call returns a new reference, or null with an exception.
        unsafe {
            let state = ffi::PyObject_GenericGetDict(obj.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(obj.py(), state)
        }
    };
    // SAFETY: the interpreter's version, which it never changes.
    if unsafe { ffi::Py_Version } >= 0x030c_0000 {
        return state();
    }
    // Before Python 3.12 a new object may start a garbage collection at once, whose finalizers could change what is being
    // written.
    // SAFETY: this thread is attached. The calls set a flag, and return what it was.
    let collects = unsafe { ffi::PyGC_Disable() } != 0;
    let state = state();
    if collects {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    state
}

/// Examines a class, which may run Python code. From then on [`write_class`] writes its instances if they are plain.
pub fn look_at(class: Bound<'_, PyType>) {
    let names = names_if_plain(&class).unwrap_or_default();
    let key = class.as_ptr() as usize;
    let known = KnownClass {
        _class: class.into_any().unbind(),
        names,
    };
    let old = CLASSES.with(|classes| {
        let classes = &mut *classes.borrow_mut();
        let full = classes.len() >= MOST_REMEMBERED;
        let forgotten = if full {
            std::mem::take(classes)
        } else {
            HashMap::new()
        };
        (forgotten, classes.insert(key, known))
    });
    drop(old);
}

/// Returns whether the name still refers to the class, and no reducer is registered for it.
fn is_named(
    py: Python<'_>,
    class: &Bound<'_, PyType>,
    module: &Bound<'_, PyString>,
    name: &Bound<'_, PyString>,
) -> bool {
    let Some(registered) = REGISTERED.get(py) else {
        return false;
    };
    // SAFETY: `registered` is a dictionary and the class a live object. A lookup by a class runs no Python code.
    if unsafe { ffi::PyDict_Contains(registered.as_ptr(), class.as_ptr()) } != 0 {
        drop(PyErr::take(py));
        return false;
    }
    let Some(loaded) = loaded(module) else {
        return false;
    };
    loaded.cast::<PyModule>().is_ok_and(|module| {
        module
            .dict()
            .get_item(name)
            .is_ok_and(|found| found.is_some_and(|found| found.is(class)))
    })
}

/// The module of this name, if it is in `sys.modules`, perhaps half imported. Runs no Python code and leaves no exception:
/// `PyImport_GetModule` would wait for a thread that imports it.
fn loaded<'py>(module: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    let py = module.py();
    // SAFETY: the interpreter lends its own table of modules, which it keeps alive.
    let modules = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyImport_GetModuleDict()) }?;
    modules.cast::<PyDict>().ok()?.get_item(module).ok().flatten()
}

/// `copyreg.dispatch_table`.
static REGISTERED: Once<Py<PyAny>> = Once::new();

type Names = Option<(Py<PyString>, Py<PyString>, Vec<u8>)>;

fn names_if_plain(class: &Bound<'_, PyType>) -> PyResult<Names> {
    let py = class.py();
    REGISTERED.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("copyreg")?.getattr("dispatch_table")?.unbind())
    })?;
    let object = py.get_type::<PyAny>();
    if !class.get_type().is(py.get_type::<PyType>()) {
        return Ok(None);
    }
    for name in [
        "__new__",
        "__reduce__",
        "__reduce_ex__",
        "__getstate__",
        "__getattribute__",
    ] {
        // Class and static methods are bound anew each time, so equality and not identity is asked for.
        if !class.getattr(name)?.eq(object.getattr(name)?)? {
            return Ok(None);
        }
    }
    for name in [
        "__setstate__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getattr__",
    ] {
        if class.hasattr(name)? {
            return Ok(None);
        }
    }
    for base in class.mro() {
        let own = base.getattr("__dict__")?;
        if own.contains("__slots__")? {
            return Ok(None);
        }
        // Every class without slots has a descriptor of this name; a property is another matter.
        if let Ok(descriptor) = own.get_item("__dict__")
            && descriptor.get_type().name()? != "getset_descriptor"
        {
            return Ok(None);
        }
    }
    let (module, name) = (class.getattr("__module__")?, class.getattr("__qualname__")?);
    let (module, name): (Bound<'_, PyString>, Bound<'_, PyString>) =
        (module.cast_into_exact()?, name.cast_into_exact()?);
    let (of, called) = (module.to_str()?, name.to_str()?);
    // The standard library's connections have a reducer, but with its own pickler only.
    let is_theirs = of.starts_with("multiprocessing.");
    if is_theirs
        || called.contains('.')
        || of.len() + called.len() > 1000
        || (of == "__main__" && !pickle::main_is_found(py)?)
    {
        return Ok(None);
    }
    let written = [of.as_bytes(), b"\0", called.as_bytes()].concat();
    Ok(Some((module.unbind(), name.unbind(), written)))
}

/// Makes an instance of the class of this name, with this state. Returns None if `written` is not a name.
pub fn make<'py>(
    py: Python<'py>,
    written: &[u8],
    state: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    static NEW: Once<Py<PyAny>> = Once::new();
    let Some((class, sets_state)) = found(py, written)? else {
        return Ok(None);
    };
    let new = NEW.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.get_type::<PyAny>().getattr("__new__")?.unbind())
    })?;
    let obj = if sets_state {
        class.call_method1("__new__", (&class,))?
    } else {
        new.bind(py).call1(PyTuple::new(py, [&class])?)?
    };
    if sets_state {
        obj.call_method1("__setstate__", (state,))?;
    } else if !state.is_empty() {
        let own = obj.getattr(crate::once::intern!(py, "__dict__"))?;
        own.cast::<PyDict>()?.update(state.as_mapping())?;
    }
    Ok(Some(obj))
}

/// Finds the class of this name, and whether it has a `__setstate__`. Returns None if `written` is not a name.
fn found<'py>(py: Python<'py>, written: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, bool)>> {
    let names = NAMES.with(|names| {
        let names = names.borrow();
        let found = names.get(written)?;
        Some((found.module.clone_ref(py), found.name.clone_ref(py)))
    });
    let (module, name) = match names {
        Some(names) => names,
        None => {
            let mut parts = written.splitn(2, |byte| *byte == 0);
            let text = |part: Option<&[u8]>| std::str::from_utf8(part?).ok().map(str::to_owned);
            let (Some(module), Some(name)) = (text(parts.next()), text(parts.next())) else {
                return Ok(None);
            };
            let (module, name) = (
                PyString::intern(py, &module).unbind(),
                PyString::intern(py, &name).unbind(),
            );
            let new = ResolvedName {
                module: module.clone_ref(py),
                name: name.clone_ref(py),
                last: None,
            };
            let old = NAMES.with(|names| {
                let names = &mut *names.borrow_mut();
                let full = names.len() >= MOST_REMEMBERED;
                let forgotten = if full {
                    std::mem::take(names)
                } else {
                    HashMap::new()
                };
                (forgotten, names.insert(written.to_vec(), new))
            });
            drop(old);
            (module, name)
        }
    };
    let loaded = match loaded(module.bind(py)) {
        Some(loaded) => loaded,
        None => py.import(module.bind(py))?.into_any(),
    };
    let class = loaded.getattr(name.bind(py))?;
    let known = NAMES.with(|names| {
        let names = names.borrow();
        let last = names.get(written)?.last.as_ref()?;
        (last.0.as_ptr() == class.as_ptr()).then_some(last.1)
    });
    if let Some(sets_state) = known {
        return Ok(Some((class, sets_state)));
    }
    let object = py.get_type::<PyAny>();
    let own_way = !class.getattr("__new__")?.eq(object.getattr("__new__")?)?;
    let sets_state = own_way || class.hasattr("__setstate__")?;
    if own_way && !class.hasattr("__setstate__")? {
        // The receiver's class is another one than the sender's: pickle would do it so.
        return Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "{class} is not the class that the sender has under this name"
        )));
    }
    let last = (class.clone().unbind(), sets_state);
    let old = NAMES.with(|names| {
        names
            .borrow_mut()
            .get_mut(written)
            .and_then(|found| found.last.replace(last))
    });
    drop(old);
    Ok(Some((class, sets_state)))
}

/// Interns a key of an instance's dictionary if it is a str, as pickle does.
pub fn interned(key: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    let py = key.py();
    let mut pointer: *mut PyObject = key.into_ptr();
    // SAFETY: `pointer` is the reference that `key` was. The call replaces it by a reference to the interned string.
    unsafe {
        if ffi::PyUnicode_CheckExact(pointer) != 0 {
            ffi::PyUnicode_InternInPlace(&mut pointer);
        }
        Bound::from_owned_ptr(py, pointer)
    }
}
