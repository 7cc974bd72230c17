//! `procession._core.Guarded`, the base of `procession.sharedctypes.SynchronizedBase`: an object and the lock that
//! guards it, and one attribute of the object, `value`, that is read and written while the lock is held.
//!
//! `counter.value` is two nanoseconds of work between two atomic instructions; property, `with` statement and frame of a
//! Python version take ten times as long as all of it. As in [`super::fast`], the case that needs nothing is
//! done here, and everything else by the ordinary methods `_procession_read` and `_procession_write`.

use super::fast::{AtOnce, receiver};
use super::lock::{Lock, RLock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::{self, PyObject};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
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
    lock: Py<PyAny>,
    kind: Kind,
}

/// Which of our own locks it is, with methods that nobody has overridden.
#[derive(Clone, Copy)]
enum Kind {
    Lock,
    RLock,
    Other,
}

impl Guarded {
    fn inner(&self) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| {
            PyRuntimeError::new_err("this object was not initialised: __init__ was not called")
        })
    }
}

fn kind_of(lock: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let py = lock.py();
    let class = lock.get_type();
    for (base, kind) in [
        (py.get_type::<RLock>(), Kind::RLock),
        (py.get_type::<Lock>(), Kind::Lock),
    ] {
        if class.is_subclass(&base)? {
            let mut own = true;
            for name in ["__enter__", "__exit__"] {
                own &= class.getattr(name)?.is(&base.getattr(name)?);
            }
            return Ok(if own { kind } else { Kind::Other });
        }
    }
    Ok(Kind::Other)
}

#[pymethods]
impl Guarded {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn _guard(&self, obj: Py<PyAny>, lock: Bound<'_, PyAny>) -> PyResult<()> {
        let kind = kind_of(&lock)?;
        let lock = lock.unbind();
        self.inner
            .set(Inner { obj, lock, kind })
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already"))
    }

    #[getter]
    fn _obj<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.inner()?.obj.bind(py).clone())
    }

    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.inner()?.lock.bind(py).clone())
    }

    /// The ctypes object itself, which knows of no lock.
    fn get_obj<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self._obj(py)
    }

    /// The lock.
    fn get_lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self._lock(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(inner) = self.inner.get() {
            visit.call(&inner.obj)?;
            visit.call(&inner.lock)?;
        }
        Ok(())
    }
}

/// Runs `work` while the lock is held, if it is one of ours and to be had at once; null without an exception if not.
///
/// # Safety
/// Attached. `inner.lock` is what `inner.kind` says.
unsafe fn at_once(inner: &Inner, work: impl FnOnce() -> *mut PyObject) -> *mut PyObject {
    fn held<T: AtOnce>(lock: &T, work: impl FnOnce() -> *mut PyObject) -> *mut PyObject {
        if !lock.acquired_at_once() {
            return ptr::null_mut();
        }
        let answer = work();
        lock.released();
        answer
    }
    // SAFETY: the contract.
    unsafe {
        match inner.kind {
            Kind::RLock => held(receiver::<RLock>(inner.lock.as_ptr()), work),
            Kind::Lock => held(receiver::<Lock>(inner.lock.as_ptr()), work),
            Kind::Other => ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn read(slf: *mut PyObject, name: *mut c_void) -> *mut PyObject {
    // SAFETY: called by the interpreter through the descriptor of this type; its closure is the name.
    unsafe {
        if let Some(inner) = receiver::<Guarded>(slf).inner.get() {
            let answer = at_once(inner, || ffi::PyObject_GetAttr(inner.obj.as_ptr(), name.cast()));
            if !answer.is_null() || !ffi::PyErr_Occurred().is_null() {
                return answer;
            }
        }
        ffi::PyObject_CallMethodObjArgs(
            slf,
            slow_names().0,
            name.cast::<PyObject>(),
            ptr::null_mut::<PyObject>(),
        )
    }
}

unsafe extern "C" fn write(slf: *mut PyObject, value: *mut PyObject, name: *mut c_void) -> i32 {
    // SAFETY: as in `read`; a null value asks to delete the attribute.
    unsafe {
        if value.is_null() {
            ffi::PyErr_SetString(
                ffi::PyExc_AttributeError,
                c"this attribute cannot be deleted".as_ptr(),
            );
            return -1;
        }
        let mut answer = ptr::null_mut();
        if let Some(inner) = receiver::<Guarded>(slf).inner.get() {
            answer = at_once(inner, || {
                if ffi::PyObject_SetAttr(inner.obj.as_ptr(), name.cast(), value) == 0 {
                    ffi::Py_NewRef(ffi::Py_None())
                } else {
                    ptr::null_mut()
                }
            });
        }
        if answer.is_null() && ffi::PyErr_Occurred().is_null() {
            answer = ffi::PyObject_CallMethodObjArgs(
                slf,
                slow_names().1,
                name.cast::<PyObject>(),
                value,
                ptr::null_mut::<PyObject>(),
            );
        }
        if answer.is_null() {
            return -1;
        }
        ffi::Py_DECREF(answer);
        0
    }
}

/// The names of the ordinary methods, as Python strings.
fn slow_names() -> (*mut PyObject, *mut PyObject) {
    static NAMES: OnceLock<(usize, usize)> = OnceLock::new();
    // SAFETY: called while attached; the strings live for ever.
    let made = NAMES.get_or_init(|| unsafe {
        (
            ffi::PyUnicode_InternFromString(c"_procession_read".as_ptr()) as usize,
            ffi::PyUnicode_InternFromString(c"_procession_write".as_ptr()) as usize,
        )
    });
    (made.0 as *mut PyObject, made.1 as *mut PyObject)
}

/// Puts the descriptor of `value` into the module; the class that has a value takes it from there.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    slow_names();
    let class = py.get_type::<Guarded>();
    // SAFETY: the definition and the name live for ever; new references or null with an exception come back.
    let descriptor = unsafe {
        let name = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_InternFromString(c"value".as_ptr()))?;
        let definition = Box::leak(Box::new(ffi::PyGetSetDef {
            name: c"value".as_ptr(),
            get: Some(read),
            set: Some(write),
            doc: c"The value, as a Python object.".as_ptr(),
            closure: name.into_ptr().cast(),
        }));
        Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewGetSet(class.as_ptr().cast(), definition))?
    };
    module.add("guarded_value", descriptor)
}
