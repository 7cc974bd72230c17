//! The frames of the functions that this thread runs.
//!
//! Of the functions of the interpreter that tell of frames, two are public but not in its stable ABI, for which this module
//! is built: they are looked up by name. An interpreter without them is asked in Python, which takes longer.
#![allow(unsafe_code)]

use crate::once::intern;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

/// A frame.
pub struct Frame<'py>(pub Bound<'py, PyAny>);

/// `PyFrame_GetBack` returns a new reference, or null at the bottom of the stack; `PyFrame_GetLasti` the offset of the
/// instruction that the frame executes.
struct Functions {
    back: unsafe extern "C" fn(*mut PyObject) -> *mut PyObject,
    instruction: unsafe extern "C" fn(*mut PyObject) -> c_int,
}

fn functions() -> Option<&'static Functions> {
    static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
    let find = |name: &CStr| {
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    FOUND
        .get_or_init(|| {
            let back = find(c"PyFrame_GetBack")?;
            let instruction = find(c"PyFrame_GetLasti")?;
            // SAFETY: these are the interpreter's functions of these names, which have these types.
            Some(unsafe {
                Functions {
                    back: std::mem::transmute::<
                        *mut libc::c_void,
                        unsafe extern "C" fn(*mut PyObject) -> *mut PyObject,
                    >(back),
                    instruction: std::mem::transmute::<
                        *mut libc::c_void,
                        unsafe extern "C" fn(*mut PyObject) -> c_int,
                    >(instruction),
                }
            })
        })
        .as_ref()
}

impl<'py> Frame<'py> {
    /// The frame that this thread executes; None if it runs no Python code.
    #[inline]
    pub fn innermost(py: Python<'py>) -> Option<Frame<'py>> {
        // SAFETY: this thread is attached. The call returns a borrowed reference, or null.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()).map(Frame) }
    }

    /// The frame that has called this one.
    #[inline]
    pub fn caller(&self) -> Option<Frame<'py>> {
        let py = self.0.py();
        match functions() {
            // SAFETY: this is a frame (`innermost` and this function make no other objects), and this thread is attached.
            // The call returns a new reference, or null.
            Some(functions) => unsafe {
                Bound::from_owned_ptr_or_opt(py, (functions.back)(self.0.as_ptr())).map(Frame)
            },
            None => {
                let back = self.0.getattr(intern!(py, "f_back")).ok()?;
                (!back.is_none()).then_some(Frame(back))
            }
        }
    }

    /// Its code object. The reference is the frame's: it is good as long as the frame.
    #[inline]
    pub fn code(&self) -> Bound<'py, PyAny> {
        // SAFETY: this is a frame, and this thread is attached. The call returns a new reference and cannot fail.
        unsafe { Bound::from_owned_ptr(self.0.py(), ffi::PyFrame_GetCode(self.0.as_ptr().cast()).cast()) }
    }

    /// The offset of the instruction that it executes, in bytes from the beginning of its code.
    #[inline]
    pub fn instruction(&self) -> i32 {
        match functions() {
            // SAFETY: this is a frame, and this thread is attached.
            Some(functions) => unsafe { (functions.instruction)(self.0.as_ptr()) },
            None => {
                let found = self.0.getattr(intern!(self.0.py(), "f_lasti"));
                found.and_then(|found| found.extract()).unwrap_or(-1)
            }
        }
    }
}
