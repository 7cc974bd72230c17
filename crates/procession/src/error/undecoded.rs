//! The error of a message that is no value of the expected type. It keeps the message.

use std::any::Any;
use std::fmt;

/// A message is not a value of the expected type. It is taken from the queue, but not lost: the error has it.
///
/// ```
/// use procession::{GetError, Queue, Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let values = Queue::<Value>::new()?;
/// values.put(&Value::from("seven"))?;
/// let numbers = Queue::<u32>::try_from(&Value::from(&values))?; // the same queue
/// let Err(GetError::Decode(error)) = numbers.get() else { panic!("it is no number") };
/// assert_eq!(error.decode::<String>()?, "seven");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("a message is no {}: {}", .0.kind, .0.why)]
pub struct DecodeError(Box<Undecoded>);

struct Undecoded {
    kind: &'static str,
    why: String,
    class: Option<String>,
    bytes: Vec<u8>,
    /// What came with the bytes, for `DecodeError::decode`.
    rest: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Undecoded {
    /// Shows how many bytes there are and not the bytes: `unwrap` prints this, and there may be gigabytes of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecoded")
            .field("kind", &self.kind)
            .field("why", &self.why)
            .field("class", &self.class)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl DecodeError {
    pub(crate) fn new<T>(why: impl fmt::Display) -> Self {
        DecodeError::of_class::<T>(why.to_string(), None)
    }

    /// `class`: the Python class that cannot be decoded.
    pub(crate) fn of_class<T>(why: String, class: Option<String>) -> Self {
        DecodeError(Box::new(Undecoded {
            kind: std::any::type_name::<T>(),
            why,
            class,
            bytes: Vec::new(),
            rest: None,
        }))
    }

    /// Keeps the message in the error.
    pub(crate) fn with(mut self, bytes: Vec<u8>, rest: impl Any + Send + Sync) -> Self {
        self.0.bytes = bytes;
        self.0.rest = Some(Box::new(rest));
        self
    }

    pub(crate) fn rest(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.rest.as_deref()
    }

    /// Returns the name of the type of which a value was expected.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.0.kind
    }

    /// Returns the reason, for people to read.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.why
    }

    /// Returns the Python class or function that cannot be decoded, with its module (`pandas.DataFrame`), if that is the
    /// reason.
    #[must_use]
    pub fn python_class(&self) -> Option<&str> {
        self.0.class.as_deref()
    }

    /// Returns the bytes of the message: in most cases a pickle, or a value in postcard's format. Arrays that came beside
    /// them are not among them; [`decode`](DecodeError::decode) knows these. They are empty if the error is about bytes that
    /// the caller has.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}
