//! Values that are made once, at first use: types of other modules, and the names of attributes.
//!
//! PyO3's cell and its `intern!` lock a value while it is made, and let go of the interpreter meanwhile. If another thread
//! forks then, the value is locked in the child for ever, and its first use there never returns. Here each thread that comes
//! too early makes the value itself, and the first one stays. So a fork finds it either made or not.

use pyo3::PyTypeCheck;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// A value that is made at first use.
pub struct Once<T>(PyOnceLock<T>);

impl<T> Once<T> {
    pub const fn new() -> Once<T> {
        Once(PyOnceLock::new())
    }

    /// Returns the value if it was made.
    #[inline]
    pub fn get(&self, py: Python<'_>) -> Option<&T> {
        self.0.get(py)
    }

    /// Sets the value, unless it was set before. This thread stays attached, so no fork comes in between.
    pub fn set(&self, py: Python<'_>, value: T) {
        drop(self.0.set(py, value));
    }

    /// Returns the value, and makes it if there is none. `make` may run Python code.
    ///
    /// # Errors
    /// Those of `make`. The next use tries again.
    pub fn get_or_try_init<E>(&self, py: Python<'_>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(found) = self.0.get(py) {
            return Ok(found);
        }
        self.set(py, make()?);
        match self.0.get(py) {
            Some(found) => Ok(found),
            None => unreachable!("a value was set and is not there"),
        }
    }
}

impl<T: PyTypeCheck> Once<Py<T>> {
    /// Returns what has this name in a module, and imports it at first use.
    ///
    /// # Errors
    /// Those of the import; the module has no such name, or it is of another type.
    pub fn import<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>> {
        let found = self.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import(module)?.getattr(name)?.cast_into::<T>()?.unbind())
        })?;
        Ok(found.bind(py))
    }
}

impl Once<Py<PyString>> {
    /// Returns this name as an interned str.
    #[inline]
    pub fn interned<'py>(&self, py: Python<'py>, name: &str) -> &Bound<'py, PyString> {
        match self.get(py) {
            Some(found) => found.bind(py),
            None => self.interned_now(py, name),
        }
    }

    #[cold]
    fn interned_now<'py>(&self, py: Python<'py>, name: &str) -> &Bound<'py, PyString> {
        let Ok(made) = self.get_or_try_init(py, || {
            Ok::<_, std::convert::Infallible>(PyString::intern(py, name).unbind())
        });
        made.bind(py)
    }
}

/// The name of an attribute or method as a str, made once.
macro_rules! intern {
    ($py:expr, $name:expr) => {{
        static NAME: $crate::once::Once<pyo3::Py<pyo3::types::PyString>> = $crate::once::Once::new();
        NAME.interned($py, $name)
    }};
}
pub(crate) use intern;
