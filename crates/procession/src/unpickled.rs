//! Makes values of the objects of a pickle.
//!
//! An object that occurs several times becomes several values, so a few bytes could stand for gigabytes of nested tuples.
//! What is copied and looked at for repeated objects is therefore limited, and so is the depth.

use crate::array::Array;
use crate::block::Block;
use crate::graph::{Graph, Item, Made, Node};
use crate::instance::{Instance, Parts};
use crate::value::Value;

/// The deepest nesting that is read and written.
pub(crate) const DEEPEST: usize = 200;

/// A reason of so many bytes names enough of the objects around the one that is no value.
const LONG: usize = 500;

/// The reason why something is no value.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    /// The module and the name of the class that cannot be decoded.
    pub(crate) class: Option<String>,
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Refusal {
        why.to_owned().into()
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, class: None }
    }
}

/// Makes the value of a pickle. `buffers` are the buffers that came beside it.
pub(crate) fn read(bytes: &[u8], buffers: &[Block<u8>]) -> Result<Value, Refusal> {
    // Large enough for a list that has one row a thousand times, and for any list in which nothing is repeated: one byte of a
    // pickle, an empty tuple, becomes two values at most, and the five bytes of an instance some hundred bytes.
    let mut budget = bytes.len().saturating_mul(128).saturating_add(64 << 20);
    read_within(bytes, buffers, &mut budget, None)
}

/// Makes the value of a pickle. `budget`: how many bytes values may take. `within`: how deep the pickle stands in another one.
pub(crate) fn read_within(
    bytes: &[u8],
    buffers: &[Block<u8>],
    budget: &mut usize,
    within: Option<usize>,
) -> Result<Value, Refusal> {
    let graph = crate::unpickle::read(bytes)?;
    let mut maker = Maker {
        budget: *budget,
        open: vec![false; graph.nodes.len()],
        graph: &graph,
        buffers,
        is_inner: within.is_some(),
    };
    let made = maker.value(graph.root, within.unwrap_or_default());
    *budget = maker.budget;
    made
}

pub(crate) struct Maker<'g, 'a> {
    pub(crate) graph: &'g Graph<'a>,
    buffers: &'g [Block<u8>],
    /// Which nodes contain the one that is being converted.
    open: Vec<bool>,
    /// How many bytes the values may still take.
    pub(crate) budget: usize,
    /// Whether the pickle stands in another one.
    pub(crate) is_inner: bool,
}

impl<'g, 'a> Maker<'g, 'a> {
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.budget.checked_sub(bytes.max(size_of::<Value>()));
        self.budget = left.ok_or("it contains too many objects more than once")?;
        Ok(())
    }

    pub(crate) fn value(&mut self, item: Item, depth: usize) -> Result<Value, Refusal> {
        let number = match item {
            Item::None => return Ok(Value::None),
            Item::Bool(value) => return Ok(Value::Bool(value)),
            Item::Int(value) => return Ok(Value::Int(value)),
            Item::Float(value) => return Ok(Value::Float(value)),
            Item::Node(number) => number as usize,
        };
        let graph = self.graph;
        let node = graph.nodes.get(number).ok_or(crate::unpickle::MALFORMED)?;
        let each = size_of::<Value>();
        self.spend(match node {
            Node::Str(bytes) | Node::Bytes(bytes) | Node::Long(bytes) => bytes.len(),
            Node::Tuple(items) | Node::List(items) | Node::Set(items) | Node::FrozenSet(items) => {
                each * items.len()
            }
            Node::Dict(pairs) => 2 * each * pairs.len(),
            Node::Made(made) => size_of::<Parts>() + each * (made.items.len() + 2 * made.pairs.len()),
            Node::Global(..) | Node::Buffer(_) => 0,
        })?;
        Ok(match node {
            Node::Long(bytes) => Value::from_le_bytes_signed(bytes),
            Node::Str(bytes) => {
                let text = std::str::from_utf8(bytes);
                Value::Str(
                    text.map_err(|_| "it contains a str with lone surrogates, which is no UTF-8")?
                        .into(),
                )
            }
            Node::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Node::Global(module, name) => return Err(reference(module, name)),
            Node::Buffer(place) => {
                let block = self.buffer(*place)?;
                let len = block.len();
                Value::Array(Array::arrived("|u1", vec![len], false, block)?)
            }
            Node::Tuple(_)
            | Node::List(_)
            | Node::Dict(_)
            | Node::Set(_)
            | Node::FrozenSet(_)
            | Node::Made(_) => {
                if depth >= DEEPEST {
                    return Err("it is nested too deeply".into());
                }
                if std::mem::replace(&mut self.open[number], true) {
                    return Err("it contains an object that contains itself".into());
                }
                let made = match node {
                    Node::Tuple(items) => Value::Tuple(self.values(items, depth + 1)?),
                    Node::List(items) => Value::List(self.values(items, depth + 1)?),
                    Node::Set(items) => Value::Set(self.values(items, depth + 1)?),
                    Node::FrozenSet(items) => Value::FrozenSet(self.values(items, depth + 1)?),
                    Node::Dict(pairs) => Value::Dict(self.pairs(pairs, depth + 1)?),
                    Node::Made(made) => self.made(made, depth + 1)?,
                    _ => return Err(crate::unpickle::MALFORMED.into()),
                };
                self.open[number] = false;
                made
            }
        })
    }

    pub(crate) fn values(&mut self, items: &[Item], depth: usize) -> Result<Vec<Value>, Refusal> {
        items.iter().map(|item| self.value(*item, depth)).collect()
    }

    pub(crate) fn pairs(
        &mut self,
        pairs: &[(Item, Item)],
        depth: usize,
    ) -> Result<Vec<(Value, Value)>, Refusal> {
        let pair = |(key, value): &(Item, Item)| Ok((self.value(*key, depth)?, self.value(*value, depth)?));
        pairs.iter().map(pair).collect()
    }

    /// Returns a buffer that came beside the pickle.
    pub(crate) fn buffer(&self, place: usize) -> Result<Block<u8>, Refusal> {
        let buffer = self.buffers.get(place).cloned();
        buffer.ok_or_else(|| "it names a buffer that did not come with it".into())
    }

    /// Returns how many bytes an object copies or looks at of what it directly refers to: its class, its arguments, the entries
    /// of its state. All these can be parts of other objects too.
    pub(crate) fn referred(&self, made: &Made) -> usize {
        let each = size_of::<Value>();
        let size = |item: &Item| match self.graph.node(*item) {
            Some(Node::Str(bytes) | Node::Bytes(bytes) | Node::Long(bytes)) => bytes.len(),
            Some(Node::Tuple(items) | Node::List(items)) => each * items.len(),
            Some(Node::Dict(pairs)) => each * pairs.len(),
            _ => 0,
        };
        let args = self.graph.sequence(made.args).unwrap_or_default();
        let state = made.state.as_ref().map_or(0, size);
        args.iter().map(size).sum::<usize>() + each * args.len() + state
    }

    fn made(&mut self, made: &Made, depth: usize) -> Result<Value, Refusal> {
        self.spend(self.referred(made))?;
        let Some((module, name)) = self.graph.name(made.callable) else {
            return Err("it contains an object that Python makes by calling something without a name".into());
        };
        self.spend(module.len() + name.len())?;
        let class = || format!("{module}.{name}");
        let result = match self.container(module, &name, made, depth) {
            Ok(None) => match self.known(module, &name, made, depth) {
                Ok(Some(known)) => Ok(known),
                Ok(None) => self.instance(module, &name, made, depth),
                Err(refusal) => Err(refusal),
            },
            Ok(Some(container)) => Ok(container),
            Err(refusal) => Err(refusal),
        };
        result.map_err(|inner| {
            // A function that only makes the object (`_reconstruct`) says less than what it makes.
            let made_by = matches!(module, "builtins" | "copyreg") || name.starts_with('_');
            match inner.class {
                Some(_) if made_by => inner,
                _ => Refusal {
                    why: match inner.class {
                        Some(_) if inner.why.len() > LONG => inner.why,
                        Some(_) => format!("{}, in an instance of {}", inner.why, class()),
                        None => format!("it contains an instance of {} of which {}", class(), inner.why),
                    },
                    class: Some(class()),
                },
            }
        })
    }

    fn instance(&mut self, module: &str, name: &str, made: &Made, depth: usize) -> Result<Value, Refusal> {
        // An object that only names another one, such as a method of a class.
        if name == "getattr" {
            let named = self.graph.sequence(made.args).and_then(|args| {
                let (module, class) = self.graph.name(*args.first()?)?;
                Some(reference(
                    module,
                    &format!("{class}.{}", self.graph.text(*args.get(1)?)?),
                ))
            });
            return Err(named.unwrap_or_else(|| reference(module, name)));
        }
        let args = self.graph.sequence(made.args).ok_or(crate::unpickle::MALFORMED)?;
        let keywords = match made.keywords {
            Some(keywords) => match self.value(keywords, depth)? {
                Value::Dict(pairs) => pairs,
                _ => return Err(crate::unpickle::MALFORMED.into()),
            },
            None => Vec::new(),
        };
        Ok(Value::Instance(Instance::from_parts(Parts {
            module: module.to_owned(),
            name: name.to_owned(),
            called: made.called,
            args: self.values(args, depth)?,
            keywords,
            state: made.state.map(|state| self.value(state, depth)).transpose()?,
            items: self.values(&made.items, depth)?,
            pairs: self.pairs(&made.pairs, depth)?,
        })))
    }
}

/// The refusal of a class or function that is itself the object.
fn reference(module: &str, name: &str) -> Refusal {
    Refusal {
        why: format!("it contains the Python class or function {module}.{name}"),
        class: Some(format!("{module}.{name}")),
    }
}
