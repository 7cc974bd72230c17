//! `procession._core.Dict`, the base of `procession.SharedDict`.

pub mod key;

use self::key::Written;
use crate::codec::{message, pickle, tree};
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use crate::label;
use crate::memory::transit::{self, Frame};
use crate::shared::Attached;
use procession_core::Error;
use procession_core::dict::layout::MOST_REFS;
use procession_core::dict::{self as core, Key, New, Put, Tried, Value, When};
use procession_core::family::object::HEADER;
use procession_core::family::{Handle, Hold};
use procession_core::queue::LockPolicy;
use procession_core::sync::caller::{Caller, Step};
use procession_core::sync::wait::WaitOutcome;
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use std::sync::OnceLock;

/// A dictionary that processes share. Each operation is one step: it happens as a whole or not at all, also if the process is
/// killed in it.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Dict {
    inner: OnceLock<core::Dict>,
}

/// Tries an operation while attached and without waiting. If the lock is not to be had, tries again while detached and with
/// a bounded wait, and runs signal handlers in between.
pub fn done<T: Send>(
    py: Python<'_>,
    mut attempt: impl FnMut(LockPolicy) -> Result<Tried<T>, Error> + Send,
) -> PyResult<T> {
    match attempt(LockPolicy::Try).map_err(raised)? {
        Tried::Done(answer) => Ok(answer),
        Tried::Busy => done_later(py, attempt),
    }
}

/// Like [`done`] after a first attempt that was in vain, or for an operation too long to be attempted attached.
#[cold]
#[inline(never)]
fn done_later<T: Send>(
    py: Python<'_>,
    mut attempt: impl FnMut(LockPolicy) -> Result<Tried<T>, Error> + Send,
) -> PyResult<T> {
    let attempt = |policy| {
        Ok(match attempt(policy)? {
            Tried::Done(answer) => Step::Done(answer),
            Tried::Busy => Step::Busy,
        })
    };
    // The wait has no deadline, so the answer is never None.
    let answer =
        Attached(py).retry_after(Step::Busy, Deadline::NEVER, attempt, |()| WaitOutcome::Ready(()))?;
    answer.ok_or_else(|| PyRuntimeError::new_err("a dictionary timed out that has no deadline"))
}

/// The bytes of a value before they are packed into an entry.
struct Packed {
    bytes: Vec<u8>,
    encoding: u32,
    refs: Vec<Hold>,
}

impl Dict {
    fn core(&self) -> PyResult<&core::Dict> {
        self.inner.get().ok_or_else(|| {
            PyRuntimeError::new_err("this SharedDict was not initialised: __init__ was not called")
        })
    }

    fn set_core(&self, made: Result<core::Dict, Error>) -> PyResult<()> {
        self.inner
            .set(made.map_err(raised)?)
            .map_err(|_| PyRuntimeError::new_err("this SharedDict was initialised already"))
    }

    fn set_label(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let reference = self.core()?.reference();
        label::label(py, reference.family(), name, |label| reference.set_label(label))
    }

    fn found<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, u64)>> {
        let py = key.py();
        let dict = self.core()?;
        let written = key::write(key)?;
        let mut bytes = Vec::new();
        let value = done(py, |policy| dict.try_get(&written.bytes, &mut bytes, policy))?;
        value
            .map(|value| {
                let stamp = value.stamp;
                Ok((unpacked(py, &bytes, value)?, stamp))
            })
            .transpose()
    }

    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, when: When) -> PyResult<bool> {
        let py = key.py();
        let dict = self.core()?;
        let Written { bytes, shown } = key::write(key)?;
        let key = Key {
            bytes: &bytes,
            shown: &shown,
        };
        let packed = packed(dict, value)?;
        let pack = || New::pack(dict.family(), &packed.bytes, packed.encoding, packed.refs);
        let mut new = if packed.bytes.len() > DETACH_ABOVE {
            py.detach(pack)
        } else {
            pack()
        }
        .map_err(raised)?;
        Ok(done(py, |policy| dict.try_put(key, &mut new, when, policy))? == Put::Done)
    }

    fn remove(&self, key: &Bound<'_, PyAny>, when: When) -> PyResult<bool> {
        let dict = self.core()?;
        let written = key::write(key)?;
        Ok(done(key.py(), |policy| dict.try_remove(&written.bytes, when, policy))? == Put::Done)
    }
}

fn packed(dict: &core::Dict, value: &Bound<'_, PyAny>) -> PyResult<Packed> {
    let mut bytes = Vec::new();
    if !pickle::has_custom_reducers(value.py()) && tree::encode(value, &mut bytes) {
        return Ok(Packed {
            bytes,
            encoding: message::TREE,
            refs: Vec::new(),
        });
    }
    if let Ok(value) = value.cast_exact::<PyBytes>() {
        return Ok(Packed {
            bytes: value.as_bytes().to_vec(),
            encoding: message::BYTES,
            refs: Vec::new(),
        });
    }
    let frame = Frame::open(None);
    let bytes = pickle::dumps(value.py(), value)?.as_bytes().to_vec();
    let mut refs = Vec::new();
    for hold in frame.take().holds {
        // An entry cannot own objects of another family, so this process holds them from now on.
        if std::ptr::eq(hold.family, dict.family()) {
            refs.push(hold);
        } else {
            transit::pin(hold);
        }
    }
    if refs.len() >= MOST_REFS {
        refs = vec![dict.family().bundle(refs).map_err(raised)?];
    }
    Ok(Packed {
        bytes,
        encoding: message::PICKLE,
        refs,
    })
}

/// Makes the object from a value's bytes. The references that came with the bytes are dropped afterwards, when unpickled
/// handles have references of their own.
fn unpacked<'py>(py: Python<'py>, inline: &[u8], value: Value) -> PyResult<Bound<'py, PyAny>> {
    match (value.encoding, value.big) {
        (message::TREE, Some((hold, len))) => {
            let mut bytes = Vec::new();
            hold.family.copy_out(hold.offset + HEADER, len, &mut bytes);
            tree::decode(py, &bytes)
        }
        (encoding, big) => message::incoming(py, inline, encoding, big, Vec::new()),
    }
}

#[pymethods]
impl Dict {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn _create(&self, py: Python<'_>) -> PyResult<()> {
        self.set_core(label::placed(py, core::Dict::new))
    }

    /// The name that the program has given to the dictionary, the same in all processes; None if it has given none.
    #[getter]
    fn name(&self) -> PyResult<Option<String>> {
        Ok(self.core()?.reference().name())
    }

    /// Gives the dictionary a label that observers read: this name, and the place in the program that calls this.
    fn _label(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        self.set_label(py, &name.to_string_lossy())
    }

    /// Attaches this object to the dictionary that the handle names.
    fn _attach(&self, handle: &[u8]) -> PyResult<()> {
        let handle = Handle::from_bytes(handle).map_err(raised)?;
        self.set_core(core::Dict::open(&handle))
    }

    /// The bytes that name this object in every process. Asking for them keeps the object alive for the receiver: a message
    /// under way holds it, or this process does until it ends.
    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let reference = self.core()?.reference();
        transit::register_in_transit(|| reference.try_clone())?;
        Ok(PyBytes::new(py, &reference.handle().to_bytes()))
    }

    /// The offset and generation that identify this object in its family.
    #[getter]
    fn _key(&self) -> PyResult<(u64, u32)> {
        Ok(self.core()?.reference().key())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.core()?.len())?)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let dict = self.core()?;
        let written = key::write(key)?;
        done(key.py(), |policy| dict.try_contains(&written.bytes, policy))
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.found(key)? {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    /// Returns the value of a key.
    ///
    /// Args:
    ///     key: Any hashable object that can be pickled.
    ///     default: Returned if the dictionary does not have the key.
    ///
    /// Returns:
    ///     A copy of the value, unpickled.
    ///
    /// Raises:
    ///     TypeError: The key is not hashable.
    #[pyo3(signature = (key, default = None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.found(key)?.map(|(value, _)| value).or(default))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value, When::Always).map(drop)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove(key, When::Always)? {
            Ok(())
        } else {
            Err(PyKeyError::new_err((key.clone().unbind(),)))
        }
    }

    /// Returns the value of a key and its stamp; None if the dictionary does not have the key.
    fn _find<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, u64)>> {
        self.found(key)
    }

    /// Replaces the value of a key if that has this stamp; stamp None: adds the key if the dictionary does not have it. Returns
    /// whether it did.
    #[pyo3(signature = (key, value, stamp))]
    fn _replace(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        stamp: Option<u64>,
    ) -> PyResult<bool> {
        self.put(key, value, stamp.map_or(When::Absent, When::Stamp))
    }

    /// Removes the key if its value has this stamp. Returns whether it did.
    fn _remove(&self, key: &Bound<'_, PyAny>, stamp: u64) -> PyResult<bool> {
        self.remove(key, When::Stamp(stamp))
    }

    /// Removes all keys in one step.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let dict = self.core()?;
        done_later(py, |policy| dict.try_clear(policy))
    }

    /// Returns what the dictionary holds at one moment: a list of keys; values True: of keys and values by turns.
    fn _snapshot<'py>(&self, py: Python<'py>, values: bool) -> PyResult<Bound<'py, PyList>> {
        let dict = self.core()?;
        let items = done_later(py, |policy| dict.try_snapshot(values, policy))?;
        let list = PyList::empty(py);
        for item in items {
            list.append(key::read(py, &item.key)?)?;
            if let Some((bytes, value)) = item.value {
                list.append(unpacked(py, &bytes, value)?)?;
            }
        }
        Ok(list)
    }

    /// Attaches an RLock that is still an empty shell to the lock of a key.
    fn _lock_into(&self, key: &Bound<'_, PyAny>, shell: &Bound<'_, PyAny>) -> PyResult<()> {
        let dict = self.core()?;
        let written = key::write(key)?;
        let hold = done(key.py(), |policy| dict.try_lock_of(&written.bytes, policy))?;
        let handle = PyBytes::new(key.py(), &hold.handle().to_bytes());
        shell.call_method1("_attach", (handle,)).map(drop)
    }

    /// Returns how many keys have a lock.
    fn _locks(&self) -> PyResult<u64> {
        Ok(self.core()?.locks())
    }
}
