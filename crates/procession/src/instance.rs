//! Instances of Python classes that have no twin in Rust.

use crate::value::Value;
use serde::{Deserialize, Serialize};

/// An instance of a Python class, as pickle describes it: the name of the class, and what the instance is made of.
///
/// | in Python | is here |
/// |---|---|
/// | a dataclass, an instance of a plain class | its attributes: [`get`](Instance::get), [`attributes`](Instance::attributes) |
/// | a member of an `Enum` | its value: `args()` has one element |
/// | a namedtuple | its fields: `args()`, in their order. A pickle does not have their names |
/// | an exception | its arguments: `args()` |
/// | a subclass of `list` or `dict` | [`items`](Instance::items), [`pairs`](Instance::pairs) |
///
/// A Rust program can send it on. Python then imports the class and makes the instance of it, as from its own pickle. So a
/// program must not make up instances from input that it does not trust.
///
/// ```
/// use procession::{Value, python::Instance};
///
/// let point = Instance::with_attributes("geometry", "Point", [("x", 1.5), ("y", 2.5)]);
/// assert_eq!(point.class(), "geometry.Point");
/// assert_eq!(Value::from(point).get("y").and_then(Value::as_f64), Some(2.5));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) module: String,
    pub(crate) name: String,
    /// Whether the class is called with the arguments. Otherwise they are those of its `__new__`.
    pub(crate) called: bool,
    pub(crate) args: Vec<Value>,
    pub(crate) keywords: Vec<(Value, Value)>,
    pub(crate) state: Option<Value>,
    pub(crate) items: Vec<Value>,
    pub(crate) pairs: Vec<(Value, Value)>,
}

impl Instance {
    pub(crate) fn from_parts(parts: Parts) -> Instance {
        Instance(Box::new(parts))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    pub(crate) fn into_parts(self) -> Parts {
        *self.0
    }

    /// Makes an instance that Python makes by calling the class, for example a member of an `Enum` or an exception.
    #[must_use]
    pub fn called(module: impl Into<String>, name: impl Into<String>, args: Vec<Value>) -> Instance {
        Instance::from_parts(Parts {
            module: module.into(),
            name: name.into(),
            called: true,
            args,
            keywords: Vec::new(),
            state: None,
            items: Vec::new(),
            pairs: Vec::new(),
        })
    }

    /// Makes an instance with attributes, for example of a dataclass. Python does not call its `__init__`.
    #[must_use]
    pub fn with_attributes<K: Into<String>, V: Into<Value>>(
        module: impl Into<String>,
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Instance {
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| (Value::Str(key.into()), value.into()));
        Instance::from_parts(Parts {
            called: false,
            state: Some(Value::Dict(attributes.collect())),
            ..Instance::called(module, name, Vec::new()).into_parts()
        })
    }

    /// Returns the name of the class, behind that of its module: `geometry.Point`.
    #[must_use]
    pub fn class(&self) -> String {
        format!("{}.{}", self.0.module, self.0.name)
    }

    /// Returns the name of the module of the class.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.0.module
    }

    /// Returns the name of the class in its module.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the arguments of which Python makes the instance.
    #[must_use]
    pub fn args(&self) -> &[Value] {
        &self.0.args
    }

    /// Returns the attributes, as pairs of name and value: first those of `__dict__`, then those of `__slots__`.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        let [dict, slots] = match &self.0.state {
            Some(Value::Dict(pairs)) => [&pairs[..], &[]],
            Some(Value::Tuple(both)) => match &both[..] {
                [dict, slots] => [dict, slots].map(|part| match part {
                    Value::Dict(pairs) => &pairs[..],
                    _ => &[],
                }),
                _ => [&[][..], &[]],
            },
            _ => [&[][..], &[]],
        };
        dict.iter()
            .chain(slots)
            .filter_map(|(key, value)| Some((key.as_str()?, value)))
    }

    /// Returns an attribute.
    #[must_use]
    pub fn get(&self, attribute: &str) -> Option<&Value> {
        self.attributes()
            .find(|(name, _)| *name == attribute)
            .map(|(_, value)| value)
    }

    /// Returns what the instance was given to restore itself (the argument of its `__setstate__`), if it was given something.
    /// For most classes this is a dict of the attributes.
    #[must_use]
    pub fn state(&self) -> Option<&Value> {
        self.0.state.as_ref()
    }

    /// Returns the elements of an instance of a subclass of `list`.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        &self.0.items
    }

    /// Returns the pairs of an instance of a subclass of `dict`.
    #[must_use]
    pub fn pairs(&self) -> &[(Value, Value)] {
        &self.0.pairs
    }

    /// Returns whether this looks like a namedtuple: made by `__new__` of its fields.
    pub(crate) fn is_tuple(&self) -> bool {
        !self.0.called && self.0.state.is_none() && !self.0.args.is_empty()
    }

    /// Returns the value of a member of an `Enum`: the only argument, if there is nothing else.
    pub(crate) fn single(&self) -> Option<&Value> {
        let parts = &*self.0;
        match &parts.args[..] {
            [one] if parts.state.is_none() && parts.items.is_empty() && parts.pairs.is_empty() => Some(one),
            _ => None,
        }
    }
}

impl From<Instance> for Value {
    fn from(instance: Instance) -> Value {
        Value::Instance(instance)
    }
}
