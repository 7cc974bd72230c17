//! `array.array` without pickle. Pickling it copies its items four times, because its reducer makes a `bytes` of them.
//!
//! A message is the type code and the items as they lie in memory; both ends are processes of one machine.

use crate::memory::view::View;
use crate::once::Once;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Returns the type code of an object that is exactly an `array.array`, other than 'u', if the program has not
/// registered a reducer for it.
pub fn typecode(obj: &Bound<'_, PyAny>) -> PyResult<Option<u8>> {
    static KIND: Once<Py<PyType>> = Once::new();
    let py = obj.py();
    // SAFETY: the object is alive. The call only asks whether its type has the buffer protocol.
    if unsafe { ffi::PyObject_CheckBuffer(obj.as_ptr()) } == 0 {
        return Ok(None);
    }
    let kind = obj.get_type();
    let is_array = match KIND.get(py) {
        Some(known) => kind.is(known.bind(py)),
        // The module is there if this is one.
        None => kind.name()? == "array" && kind.is(KIND.import(py, "array", "array")?),
    };
    if !is_array || py.import("copyreg")?.getattr("dispatch_table")?.contains(kind)? {
        return Ok(None);
    }
    let code: String = obj.getattr("typecode")?.extract()?;
    // Making an array of type code 'u' raises a DeprecationWarning: Python will remove that type code.
    Ok(code.bytes().next().filter(|code| *code != b'u'))
}

/// Makes an array of this type with `len` bytes of items. Returns it with a view of its bytes, for the caller to fill.
pub fn room<'py>(py: Python<'py>, typecode: u8, len: usize) -> PyResult<(Bound<'py, PyAny>, View)> {
    let code = char::from(typecode).to_string();
    let kind = py.import("array")?.getattr("array")?;
    let empty = kind.call1((&code,))?;
    let size: usize = empty.getattr("itemsize")?.extract()?;
    let one = kind.call1((&code, pyo3::types::PyBytes::new(py, &vec![0; size])))?;
    let whole = one.mul(len / size.max(1))?;
    let view = View::writable(&whole)?;
    Ok((whole, view))
}
