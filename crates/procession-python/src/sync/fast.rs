//! Methods without PyO3's wrapper, for operations that take less time than the wrapper.
//!
//! An uncontended acquire is one atomic instruction. PyO3's wrapper around a method (arguments, panic guard, two
//! thread-local accesses, which are calls in a shared library) takes three times as long. So the methods that programs
//! call in their tightest loops are C functions of this module, put into the type as descriptors. They do the uncontended
//! case themselves, and call the ordinary method, whose name has an underscore in front, for every other case.
//!
//! The fast case of such a function runs no Python code and cannot panic.

use super::lock::{Lock, RLock};
use super::semaphore::Semaphore;
use pyo3::PyClass;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use std::ffi::CStr;
use std::ptr;

/// Returns the object that a method descriptor was called on.
///
/// # Safety
/// Called by a descriptor of type `T` while attached: the interpreter has checked that `slf` is a `T`.
pub unsafe fn receiver<'a, T: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
    slf: *mut PyObject,
) -> &'a T {
    // SAFETY: the object is a `T` and this thread is attached (contract). The reference is used during the call only, in
    // which the interpreter holds the object.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, slf);
        &*ptr::from_ref(object.cast_unchecked::<T>().get())
    }
}

/// Calls the ordinary method with the same arguments.
///
/// # Safety
/// This thread is attached. `slf` is a live object; `args` points to `count` positional arguments, followed by one argument
/// for each item of the tuple `names` (null: none), as the interpreter passes them to METH_FASTCALL | METH_KEYWORDS.
#[cold]
unsafe fn ordinary(
    slf: *mut PyObject,
    name: &CStr,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the arguments live through the call, and there are as many as `count` and `names` say (contract). Every new
    // reference is released here, or given away to the tuple that takes it over.
    unsafe {
        let method = ffi::PyObject_GetAttrString(slf, name.as_ptr());
        let positional = ffi::PyTuple_New(count);
        let keywords = if names.is_null() {
            ptr::null_mut()
        } else {
            ffi::PyDict_New()
        };
        let mut answer = ptr::null_mut();
        if !method.is_null() && !positional.is_null() && (names.is_null() || !keywords.is_null()) {
            for i in 0..count {
                ffi::PyTuple_SetItem(positional, i, ffi::Py_NewRef(*args.offset(i)));
            }
            let named = if names.is_null() {
                0
            } else {
                ffi::PyTuple_Size(names)
            };
            let set = (0..named).all(|i| {
                ffi::PyDict_SetItem(keywords, ffi::PyTuple_GetItem(names, i), *args.offset(count + i)) == 0
            });
            if set {
                answer = ffi::PyObject_Call(method, positional, keywords);
            }
        }
        ffi::Py_XDECREF(method);
        ffi::Py_XDECREF(positional);
        ffi::Py_XDECREF(keywords);
        answer
    }
}

/// Objects that can be acquired and released by a few atomic instructions, or not at once.
pub trait AtOnce: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    fn acquired_at_once(&self) -> bool;
    fn released(&self) -> bool;
}

macro_rules! at_once {
    ($($class:ty),*) => {
        $(impl AtOnce for $class {
            #[inline]
            fn acquired_at_once(&self) -> bool {
                self.acquired_at_once()
            }
            #[inline]
            fn released(&self) -> bool {
                self.released()
            }
        })*
    };
}
at_once!(Lock, RLock, Semaphore);

unsafe extern "C" fn acquire<T: AtOnce>(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in type `T`, which has checked `slf`, and passes the
    // arguments as METH_FASTCALL | METH_KEYWORDS says.
    unsafe {
        if count == 0 && names.is_null() && receiver::<T>(slf).acquired_at_once() {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        ordinary(slf, c"_acquire", args, count, names)
    }
}

unsafe extern "C" fn enter<T: AtOnce>(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in type `T`, which has checked `slf`; METH_NOARGS passes no
    // arguments, and none are passed on.
    unsafe {
        if receiver::<T>(slf).acquired_at_once() {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        ordinary(slf, c"_acquire", ptr::null(), 0, ptr::null_mut())
    }
}

unsafe extern "C" fn release<T: AtOnce>(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: `slf` is a `T`, checked by the descriptor in that type (or by that of `exit`); `args`, `count` and `names` are
    // the interpreter's, or say that there are none.
    unsafe {
        if count == 0 && names.is_null() && receiver::<T>(slf).released() {
            return ffi::Py_NewRef(ffi::Py_None());
        }
        ordinary(slf, c"_release", args, count, names)
    }
}

unsafe extern "C" fn exit<T: AtOnce>(slf: *mut PyObject, _: *mut *mut PyObject, _: isize) -> *mut PyObject {
    // SAFETY: the interpreter calls this through the descriptor in type `T`, which has checked `slf`; the three arguments
    // of `__exit__` are not passed on.
    unsafe { release::<T>(slf, ptr::null(), 0, ptr::null_mut()) }
}

/// Makes a method definition that is never freed, as a descriptor needs it.
pub fn definition(
    name: &'static CStr,
    call: ffi::PyMethodDefPointer,
    flags: i32,
    doc: &'static CStr,
) -> *mut ffi::PyMethodDef {
    Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: call,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }))
}

/// Puts the methods into their types.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    install_in::<Lock>(module, ACQUIRE_LOCK, RELEASE_LOCK)?;
    install_in::<RLock>(module, ACQUIRE_RLOCK, RELEASE_RLOCK)?;
    install_in::<Semaphore>(module, ACQUIRE_SEMAPHORE, RELEASE_SEMAPHORE)
}

fn install_in<T: AtOnce>(
    module: &Bound<'_, PyModule>,
    acquiring: &'static CStr,
    releasing: &'static CStr,
) -> PyResult<()> {
    let py = module.py();
    // The interpreter calls METH_FASTCALL functions faster than METH_NOARGS functions.
    let with_names = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    let named = |f| ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: f,
    };
    let plain = |f| ffi::PyMethodDefPointer { PyCFunctionFast: f };
    let without = |f| ffi::PyMethodDefPointer { PyCFunction: f };
    let class = py.get_type::<T>();
    for (name, method) in [
        (
            "acquire",
            definition(c"acquire", named(acquire::<T>), with_names, acquiring),
        ),
        (
            "release",
            definition(c"release", named(release::<T>), with_names, releasing),
        ),
        (
            "__enter__",
            definition(c"__enter__", without(enter::<T>), ffi::METH_NOARGS, ENTER),
        ),
        (
            "__exit__",
            definition(c"__exit__", plain(exit::<T>), ffi::METH_FASTCALL, EXIT),
        ),
    ] {
        // SAFETY: `class` is a type, and the definition is never freed. The call returns a new reference, or null with an
        // exception.
        let descriptor = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_ptr().cast(), method))?
        };
        class.setattr(name, descriptor)?;
    }
    Ok(())
}

const ACQUIRE_LOCK: &CStr = c"acquire($self, block=True, timeout=None)\n--\n\n\
Acquires the lock.\n\n\
Other threads run while this one waits, and Ctrl-C ends the wait.\n\n\
Args:\n\
    block: False: return at once if the lock is held.\n\
    timeout: The longest wait in seconds; None waits without limit.\n\n\
Returns:\n\
    Whether the lock was acquired.\n\n\
Raises:\n\
    OwnerDiedError: Once, if the process that acquired the lock last was killed or ended with an exit code other than\n\
        0. The lock is free again then. Difference from multiprocessing, which waits for ever.";
const RELEASE_LOCK: &CStr = c"release($self)\n--\n\n\
Releases the lock, whichever process or thread acquired it.\n\n\
Raises:\n\
    ValueError: The lock is not held.";
const ACQUIRE_RLOCK: &CStr = c"acquire($self, block=True, timeout=None)\n--\n\n\
Acquires the lock, or acquires it once more if this thread holds it.\n\n\
Other threads run while this one waits, and Ctrl-C ends the wait.\n\n\
Args:\n\
    block: False: return at once if another thread or process holds the lock.\n\
    timeout: The longest wait in seconds; None waits without limit.\n\n\
Returns:\n\
    Whether the lock was acquired.\n\n\
Raises:\n\
    OwnerDiedError: Once, if the process that held the lock has ended in any way. The lock is free again then.\n\
        Difference from multiprocessing, which waits for ever.";
const RELEASE_RLOCK: &CStr = c"release($self)\n--\n\n\
Releases the lock once. It is free when this thread has released it as often as it acquired it.\n\n\
Raises:\n\
    AssertionError: This thread does not hold the lock.";
const ACQUIRE_SEMAPHORE: &CStr = c"acquire($self, block=True, timeout=None)\n--\n\n\
Decrements the value by one, and waits until it is above zero.\n\n\
Other threads run while this one waits, and Ctrl-C ends the wait. What a process had acquired when it died stays\n\
acquired, as in multiprocessing.\n\n\
Args:\n\
    block: False: return at once if the value is zero.\n\
    timeout: The longest wait in seconds; None waits without limit.\n\n\
Returns:\n\
    Whether the value was decremented.";
const RELEASE_SEMAPHORE: &CStr = c"release($self, n=1)\n--\n\n\
Increments the value by n.\n\n\
Args:\n\
    n: How much to add, at least 1.\n\n\
Raises:\n\
    ValueError: The value would exceed its maximum, or n is less than 1. Nothing is added then.";
const ENTER: &CStr = c"__enter__($self)\n--\n\nCalls acquire().";
const EXIT: &CStr = c"__exit__($self, kind, value, trace)\n--\n\nCalls release().";
