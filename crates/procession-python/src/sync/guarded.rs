//! `procession._core.Guarded`, the base of `procession.sharedctypes.SynchronizedBase`: an object and the lock that
//! guards it. It reads and writes one attribute of the object, `value`, or one of its items, while it holds the lock.
//!
//! `counter.value` is two nanoseconds of work between two atomic instructions; the property, the `with` statement and the
//! frame of a version in Python take ten times as long. As in [`super::fast`], a lock that is free is acquired here, and
//! the ordinary methods `_procession_read`, `_procession_write`, `_procession_get` and `_procession_set` handle every other
//! case.

use super::fast::{AtOnce, definition, receiver};
use super::lock::{Lock, RLock};
use crate::once::intern;
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::{self, PyObject};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::os::raw::c_void;
use std::ptr;
use std::sync::OnceLock;

/// An object together with a lock.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Guarded {
    inner: OnceLock<Inner>,
}

struct Inner {
    obj: Py<PyAny>,
    lock: Guard,
}

/// The lock, by its type. `Lock` and `RLock` may be of a subclass that does not override `__enter__` and `__exit__`.
enum Guard {
    Lock(Py<Lock>),
    RLock(Py<RLock>),
    Other(Py<PyAny>),
}

impl Guard {
    fn object(&self) -> &Py<PyAny> {
        match self {
            Guard::Lock(lock) => lock.as_any(),
            Guard::RLock(lock) => lock.as_any(),
            Guard::Other(lock) => lock,
        }
    }

    /// Runs `work` while the lock is held, if the lock can be acquired at once. Returns null without an exception if not.
    fn hold_at_once(&self, work: impl FnOnce() -> *mut PyObject) -> *mut PyObject {
        fn held<T: AtOnce>(lock: &T, work: impl FnOnce() -> *mut PyObject) -> *mut PyObject {
            if !lock.acquired_at_once() {
                return ptr::null_mut();
            }
            let answer = work();
            lock.released();
            answer
        }
        match self {
            Guard::RLock(lock) => held(lock.get(), work),
            Guard::Lock(lock) => held(lock.get(), work),
            Guard::Other(_) => ptr::null_mut(),
        }
    }
}

impl Guarded {
    fn inner(&self) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| {
            PyRuntimeError::new_err("this object was not initialised: __init__ was not called")
        })
    }
}

fn guard_of(lock: Bound<'_, PyAny>) -> PyResult<Guard> {
    Ok(
        if let Ok(ours) = lock.cast::<RLock>()
            && inherits_entering(ours)?
        {
            Guard::RLock(ours.clone().unbind())
        } else if let Ok(ours) = lock.cast::<Lock>()
            && inherits_entering(ours)?
        {
            Guard::Lock(ours.clone().unbind())
        } else {
            Guard::Other(lock.unbind())
        },
    )
}

/// Whether the lock's class has the `__enter__` and `__exit__` of `T`.
fn inherits_entering<T: PyTypeInfo>(lock: &Bound<'_, T>) -> PyResult<bool> {
    let (class, base) = (lock.as_any().get_type(), lock.py().get_type::<T>());
    let mut inherits = true;
    for name in ["__enter__", "__exit__"] {
        inherits &= class.getattr(name)?.is(&base.getattr(name)?);
    }
    Ok(inherits)
}

#[pymethods]
impl Guarded {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn _guard(&self, obj: Py<PyAny>, lock: Bound<'_, PyAny>) -> PyResult<()> {
        let lock = guard_of(lock)?;
        self.inner
            .set(Inner { obj, lock })
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already"))
    }

    #[getter]
    fn _obj<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.inner()?.obj.bind(py).clone())
    }

    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.inner()?.lock.object().bind(py).clone())
    }

    /// Returns the ctypes object itself. Reading and writing it does not acquire the lock.
    fn get_obj<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self._obj(py)
    }

    /// Returns the lock that guards the object.
    fn get_lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self._lock(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(inner) = self.inner.get() {
            visit.call(&inner.obj)?;
            visit.call(inner.lock.object())?;
        }
        Ok(())
    }
}

/// Calls `work` with the object while the lock is held, if the lock can be acquired at once. Returns what `work` returned:
/// null if it raised an exception. None: nothing was done, and the ordinary method has to do it.
///
/// # Safety
/// Called by a descriptor of `Guarded` while attached: the interpreter has checked `slf`. `work` returns a new reference, or
/// null with an exception.
#[inline]
unsafe fn at_once(
    slf: *mut PyObject,
    work: impl FnOnce(*mut PyObject) -> *mut PyObject,
) -> Option<*mut PyObject> {
    // SAFETY: the contract of this function.
    let inner = unsafe { receiver::<Guarded>(slf) }.inner.get()?;
    let answer = inner.lock.hold_at_once(|| work(inner.obj.as_ptr()));
    // SAFETY: this thread is attached (contract).
    let is_done = !answer.is_null() || !unsafe { ffi::PyErr_Occurred() }.is_null();
    is_done.then_some(answer)
}

/// A new reference to None if a change was made; null if it raised an exception.
///
/// # Safety
/// This thread is attached.
#[inline]
unsafe fn none_if(changed: bool) -> *mut PyObject {
    if changed {
        // SAFETY: the contract of this function.
        unsafe { ffi::Py_NewRef(ffi::Py_None()) }
    } else {
        ptr::null_mut()
    }
}

unsafe extern "C" fn read(slf: *mut PyObject, name: *mut c_void) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in this type, which has checked `slf`, while attached. The
    // closure of the descriptor is `name`, a string that is never freed.
    unsafe {
        if let Some(answer) = at_once(slf, |obj| ffi::PyObject_GetAttr(obj, name.cast())) {
            return answer;
        }
        ffi::PyObject_CallMethodObjArgs(
            slf,
            slow_names(Python::assume_attached()).0.as_ptr(),
            name.cast::<PyObject>(),
            ptr::null_mut::<PyObject>(),
        )
    }
}

unsafe extern "C" fn write(slf: *mut PyObject, value: *mut PyObject, name: *mut c_void) -> i32 {
    // SAFETY: the interpreter calls this through the descriptor in this type, which has checked `slf`, while attached. The
    // closure of the descriptor is `name`, a string that is never freed; `value` is a live object, or null to delete the
    // attribute. The one new reference, `answer`, is released.
    unsafe {
        if value.is_null() {
            ffi::PyErr_SetString(
                ffi::PyExc_AttributeError,
                c"this attribute cannot be deleted".as_ptr(),
            );
            return -1;
        }
        let write = |obj| none_if(ffi::PyObject_SetAttr(obj, name.cast(), value) == 0);
        let answer = match at_once(slf, write) {
            Some(answer) => answer,
            None => ffi::PyObject_CallMethodObjArgs(
                slf,
                slow_names(Python::assume_attached()).1.as_ptr(),
                name.cast::<PyObject>(),
                value,
                ptr::null_mut::<PyObject>(),
            ),
        };
        if answer.is_null() {
            return -1;
        }
        ffi::Py_DECREF(answer);
        0
    }
}

unsafe extern "C" fn get_item(slf: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in this type, which has checked `slf`, while attached, with
    // one argument (METH_O), which is a live object.
    unsafe {
        // An index that is an int runs no code of the program while the lock is held.
        if ffi::PyLong_CheckExact(key) != 0
            && let Some(answer) = at_once(slf, |obj| ffi::PyObject_GetItem(obj, key))
        {
            return answer;
        }
        let (get, _) = slow_item_names(Python::assume_attached());
        ffi::PyObject_CallMethodObjArgs(slf, get.as_ptr(), key, ptr::null_mut::<PyObject>())
    }
}

unsafe extern "C" fn set_item(slf: *mut PyObject, args: *mut *mut PyObject, count: isize) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in this type, which has checked `slf`, while attached;
    // `args` are `count` live objects (METH_FASTCALL).
    unsafe {
        if count != 2 {
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"__setitem__ takes an index and a value".as_ptr(),
            );
            return ptr::null_mut();
        }
        let (key, value) = (*args, *args.offset(1));
        if ffi::PyLong_CheckExact(key) != 0
            && let Some(answer) = at_once(slf, |obj| none_if(ffi::PyObject_SetItem(obj, key, value) == 0))
        {
            return answer;
        }
        let (_, set) = slow_item_names(Python::assume_attached());
        ffi::PyObject_CallMethodObjArgs(slf, set.as_ptr(), key, value, ptr::null_mut::<PyObject>())
    }
}

/// The names of the ordinary methods that read and write items.
fn slow_item_names<'py>(py: Python<'py>) -> (&'py Bound<'py, PyString>, &'py Bound<'py, PyString>) {
    (intern!(py, "_procession_get"), intern!(py, "_procession_set"))
}

/// The names of the ordinary methods that read and write the value.
fn slow_names<'py>(py: Python<'py>) -> (&'py Bound<'py, PyString>, &'py Bound<'py, PyString>) {
    (intern!(py, "_procession_read"), intern!(py, "_procession_write"))
}

/// Puts the descriptors of `value`, `__getitem__` and `__setitem__` into the module, from where the facade's classes take
/// them.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    slow_names(py);
    let class = py.get_type::<Guarded>();
    let name = PyString::intern(py, "value");
    // SAFETY: `class` is a type, and neither the definition nor the name is ever freed. The call returns a new reference, or
    // null with an exception.
    let descriptor = unsafe {
        let definition = Box::leak(Box::new(ffi::PyGetSetDef {
            name: c"value".as_ptr(),
            get: Some(read),
            set: Some(write),
            doc: c"The value, as a Python object.".as_ptr(),
            closure: name.into_ptr().cast(),
        }));
        Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewGetSet(class.as_ptr().cast(), definition))?
    };
    module.add("guarded_value", descriptor)?;
    slow_item_names(py);
    let get = ffi::PyMethodDefPointer {
        PyCFunction: get_item,
    };
    let set = ffi::PyMethodDefPointer {
        PyCFunctionFast: set_item,
    };
    for (name, method) in [
        (
            "guarded_get_item",
            definition(c"__getitem__", get, ffi::METH_O, c"Returns an item or a slice."),
        ),
        (
            "guarded_set_item",
            definition(
                c"__setitem__",
                set,
                ffi::METH_FASTCALL,
                c"Sets an item or a slice.",
            ),
        ),
    ] {
        // SAFETY: `class` is a type, and the definition is never freed. The call returns a new reference, or null with an
        // exception.
        let descriptor = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_ptr().cast(), method))?
        };
        module.add(name, descriptor)?;
    }
    Ok(())
}
