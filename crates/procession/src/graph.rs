//! The objects of a pickle, before they become values.
//!
//! In a pickle an object can occur in several places, and is filled after it was made. So the machine that reads the pickle
//! (`unpickle.rs`) makes a graph of objects that name each other by numbers, and `unpickled.rs` makes a tree of it. An object
//! is a description of what Python would do: no class is imported and nothing is called.

use crate::unpickle::LONGEST_NAME;

/// An object on the stack or inside of another object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// The number of a node.
    Node(u32),
}

/// An object that can occur in several places. Texts and bytes are those of the message.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    /// An integer of more than 64 bits, in two's complement, little-endian.
    Long(&'a [u8]),
    /// UTF-8, in which lone surrogates may occur.
    Str(&'a [u8]),
    Bytes(&'a [u8]),
    Tuple(Vec<Item>),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    Set(Vec<Item>),
    FrozenSet(Vec<Item>),
    /// A module, and the name of a class or function in it.
    Global(&'a str, &'a str),
    /// The number of an out-of-band buffer.
    Buffer(usize),
    Made(Box<Made>),
}

/// An object that Python makes by a call.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) callable: Item,
    /// Whether `callable` is called. Otherwise it is a class whose `__new__` is called.
    pub(crate) called: bool,
    /// A tuple.
    pub(crate) args: Item,
    /// A dict.
    pub(crate) keywords: Option<Item>,
    pub(crate) state: Option<Item>,
    pub(crate) items: Vec<Item>,
    pub(crate) pairs: Vec<(Item, Item)>,
}

/// The objects of a pickle.
pub(crate) struct Graph<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) root: Item,
}

impl<'a> Graph<'a> {
    pub(crate) fn node(&self, item: Item) -> Option<&Node<'a>> {
        match item {
            Item::Node(number) => self.nodes.get(number as usize),
            _ => None,
        }
    }

    /// Returns the elements of a tuple or a list.
    pub(crate) fn sequence(&self, item: Item) -> Option<&[Item]> {
        match self.node(item)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns a text, if it has no lone surrogates.
    pub(crate) fn text(&self, item: Item) -> Option<&'a str> {
        match self.node(item)? {
            Node::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self, item: Item) -> Option<&'a [u8]> {
        match self.node(item)? {
            Node::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn int(&self, item: Item) -> Option<i64> {
        match item {
            Item::Int(value) => Some(value),
            Item::Bool(value) => Some(value.into()),
            _ => None,
        }
    }

    /// Returns a sequence of lengths.
    pub(crate) fn lengths(&self, item: Item) -> Option<Vec<usize>> {
        let items = self.sequence(item)?;
        let length = |item: &Item| usize::try_from(self.int(*item)?).ok();
        items.iter().map(length).collect()
    }

    pub(crate) fn made(&self, item: Item) -> Option<&Made> {
        match self.node(item)? {
            Node::Made(made) => Some(made),
            _ => None,
        }
    }

    /// Returns the module and the qualified name of a class or function: also of one that pickle names by
    /// `getattr(class, name)`.
    pub(crate) fn name(&self, item: Item) -> Option<(&'a str, String)> {
        self.name_within(item, 8)
    }

    fn name_within(&self, item: Item, depth: usize) -> Option<(&'a str, String)> {
        match self.node(item)? {
            Node::Global(module, name) => Some((module, (*name).to_owned())),
            Node::Made(made) if depth > 0 => {
                let getattr = self.name_within(made.callable, 0)?;
                let [of, attribute] = *self.sequence(made.args)? else {
                    return None;
                };
                if getattr.1 != "getattr" {
                    return None;
                }
                let (module, name) = self.name_within(of, depth - 1)?;
                let attribute = self.text(attribute)?;
                let is_short = name.len() + attribute.len() < LONGEST_NAME;
                is_short.then(|| (module, format!("{name}.{attribute}")))
            }
            _ => None,
        }
    }
}
