//! Reads pickles: a pickle is a program for a small stack machine (PEP 307, PEP 3154, PEP 574; the instructions are documented
//! in CPython's `pickletools`).
//!
//! The machine imports and calls nothing. It notes what Python would import and call, and `unpickled.rs` knows what the common
//! classes mean by it. It reads the instructions that Python's own pickler writes in the protocols 2 to 5. Whatever the bytes
//! are, it takes memory in proportion to their number.

use crate::graph::{Graph, Item, Made, Node};
use std::collections::HashMap;

pub(crate) const MALFORMED: &str = "it is a malformed pickle";
const NOT_WRITTEN: &str = "it is a pickle with instructions that Python's pickler does not write by itself";
const TOO_OLD: &str = "it is a pickle of the protocol 0 or 1: write it with the protocol 2 or a later one";
const LONG_NAME: &str = "it names a class or a function by more than 4096 bytes";

/// The longest name of a module, a class or a function, in bytes. Every object of a class names it, so it is copied often.
pub(crate) const LONGEST_NAME: usize = 4096;

/// Reads a pickle as a graph.
pub(crate) fn read(bytes: &[u8]) -> Result<Graph<'_>, &'static str> {
    let machine = Machine {
        bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        far_memo: HashMap::new(),
        buffers: 0,
    };
    machine.run()
}

struct Machine<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node<'a>>,
    stack: Vec<Item>,
    /// The positions of the marks on the stack.
    marks: Vec<usize>,
    memo: Vec<Item>,
    /// Memo entries whose numbers do not follow each other.
    far_memo: HashMap<u64, Item>,
    /// The number of buffers so far.
    buffers: usize,
}

type Step = Result<(), &'static str>;

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Graph<'a>, &'static str> {
        loop {
            let [instruction] = self.take()?;
            match instruction {
                0x80 => drop(self.take::<1>()?), // PROTO
                0x95 => drop(self.take::<8>()?), // FRAME
                b'.' => {
                    return match (self.stack.pop(), self.stack.is_empty(), self.bytes.is_empty()) {
                        (Some(root), true, true) => Ok(Graph {
                            nodes: self.nodes,
                            root,
                        }),
                        _ => Err(MALFORMED),
                    };
                }
                b'N' => self.stack.push(Item::None),
                0x88 => self.stack.push(Item::Bool(true)),
                0x89 => self.stack.push(Item::Bool(false)),
                b'K' => {
                    let [value] = self.take()?;
                    self.stack.push(Item::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?);
                    self.stack.push(Item::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?);
                    self.stack.push(Item::Int(value.into()));
                }
                0x8a => self.long(1)?,
                0x8b => self.long(4)?,
                b'G' => {
                    let value = f64::from_be_bytes(self.take()?);
                    self.stack.push(Item::Float(value));
                }
                0x8c => self.run_of(1, Node::Str)?,
                b'X' => self.run_of(4, Node::Str)?,
                0x8d => self.run_of(8, Node::Str)?,
                b'C' => self.run_of(1, Node::Bytes)?,
                b'B' => self.run_of(4, Node::Bytes)?,
                0x8e | 0x96 => self.run_of(8, Node::Bytes)?,
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.above_mark()?),
                b')' => self.push(Node::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let count = usize::from(instruction - 0x84);
                    let items = self.top(count)?;
                    self.push(Node::Tuple(items))?;
                }
                b't' => {
                    let items = self.above_mark()?;
                    self.push(Node::Tuple(items))?;
                }
                b']' => self.push(Node::List(Vec::new()))?,
                b'}' => self.push(Node::Dict(Vec::new()))?,
                0x8f => self.push(Node::Set(Vec::new()))?,
                0x91 => {
                    let items = self.above_mark()?;
                    self.push(Node::FrozenSet(items))?;
                }
                b'a' => {
                    let items = self.top(1)?;
                    self.append(items)?;
                }
                b'e' => {
                    let items = self.above_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.top(2)?;
                    self.set(items)?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.set(items)?;
                }
                0x90 => {
                    let items = self.above_mark()?;
                    match self.last()? {
                        Node::Set(set) => set.extend(items),
                        _ => return Err(MALFORMED),
                    }
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.named(module, name)?;
                }
                0x93 => self.global()?,
                b'R' => self.make(true, false)?,
                0x81 => self.make(false, false)?,
                0x92 => self.make(false, true)?,
                b'b' => {
                    let state = self.pop()?;
                    match self.last()? {
                        Node::Made(made) if made.state.is_none() => made.state = Some(state),
                        _ => return Err(MALFORMED),
                    }
                }
                0x97 => {
                    self.push(Node::Buffer(self.buffers))?;
                    self.buffers += 1;
                }
                0x98 => {} // READONLY_BUFFER: the one on the stack
                0x94 => self.remember(self.memo.len() as u64)?,
                b'q' => {
                    let [place] = self.take()?;
                    self.remember(place.into())?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.take()?);
                    self.remember(place.into())?;
                }
                b'h' => {
                    let [place] = self.take()?;
                    self.recall(place.into())?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.take()?);
                    self.recall(place.into())?;
                }
                b'F' | b'I' | b'L' | b'S' | b'T' | b'U' | b'V' | b'd' | b'g' | b'i' | b'l' | b'o' | b'p' => {
                    return Err(TOO_OLD);
                }
                _ => return Err(NOT_WRITTEN),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// Takes a length of `width` bytes, and that many bytes.
    fn take_run(&mut self, width: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.bytes.split_at_checked(width).ok_or(MALFORMED)?;
        let mut eight = [0; 8];
        eight[..width].copy_from_slice(head);
        let len = usize::try_from(u64::from_le_bytes(eight)).map_err(|_| MALFORMED)?;
        let (run, rest) = rest.split_at_checked(len).ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(run)
    }

    fn line(&mut self) -> Result<&'a str, &'static str> {
        let end = self
            .bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(MALFORMED)?;
        let (line, rest) = self.bytes.split_at(end);
        self.bytes = &rest[1..];
        std::str::from_utf8(line).map_err(|_| MALFORMED)
    }

    fn push(&mut self, node: Node<'a>) -> Step {
        let number = u32::try_from(self.nodes.len()).map_err(|_| "it has too many objects")?;
        self.nodes.push(node);
        self.stack.push(Item::Node(number));
        Ok(())
    }

    fn run_of(&mut self, width: usize, node: fn(&'a [u8]) -> Node<'a>) -> Step {
        let run = self.take_run(width)?;
        self.push(node(run))
    }

    fn long(&mut self, width: usize) -> Step {
        let bytes = self.take_run(width)?;
        if bytes.len() > 8 {
            return self.push(Node::Long(bytes));
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut eight = [if negative { 0xff } else { 0 }; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(Item::Int(i64::from_le_bytes(eight)));
        Ok(())
    }

    fn pop(&mut self) -> Result<Item, &'static str> {
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err(MALFORMED);
        }
        self.stack.pop().ok_or(MALFORMED)
    }

    /// Takes the topmost items, which lie above the last mark.
    fn top(&mut self, count: usize) -> Result<Vec<Item>, &'static str> {
        let from = self.stack.len().checked_sub(count).ok_or(MALFORMED)?;
        if self.marks.last().is_some_and(|mark| *mark > from) {
            return Err(MALFORMED);
        }
        Ok(self.stack.split_off(from))
    }

    fn above_mark(&mut self) -> Result<Vec<Item>, &'static str> {
        let from = self.marks.pop().ok_or(MALFORMED)?;
        if from > self.stack.len() || self.marks.last().is_some_and(|mark| *mark > from) {
            return Err(MALFORMED);
        }
        Ok(self.stack.split_off(from))
    }

    /// Returns the object on the top of the stack.
    fn last(&mut self) -> Result<&mut Node<'a>, &'static str> {
        match self.stack.last() {
            Some(Item::Node(number)) => self.nodes.get_mut(*number as usize).ok_or(MALFORMED),
            _ => Err(MALFORMED),
        }
    }

    fn append(&mut self, items: Vec<Item>) -> Step {
        match self.last()? {
            Node::List(list) => list.extend(items),
            Node::Made(made) => made.items.extend(items),
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Item>) -> Step {
        let pairs = match self.last()? {
            Node::Dict(pairs) => pairs,
            Node::Made(made) => &mut made.pairs,
            _ => return Err(MALFORMED),
        };
        let twos = items.chunks_exact(2);
        if !twos.remainder().is_empty() {
            return Err(MALFORMED);
        }
        pairs.extend(twos.map(|two| (two[0], two[1])));
        Ok(())
    }

    fn global(&mut self) -> Step {
        let two = self.top(2)?;
        let name = |item: Item| match item {
            Item::Node(number) => match self.nodes.get(number as usize) {
                Some(Node::Str(bytes)) => std::str::from_utf8(bytes).ok(),
                _ => None,
            },
            _ => None,
        };
        let (module, name) = (name(two[0]).ok_or(MALFORMED)?, name(two[1]).ok_or(MALFORMED)?);
        self.named(module, name)
    }

    fn named(&mut self, module: &'a str, name: &'a str) -> Step {
        if module.len().max(name.len()) > LONGEST_NAME {
            return Err(LONG_NAME);
        }
        self.push(Node::Global(module, name))
    }

    fn make(&mut self, called: bool, with_keywords: bool) -> Step {
        let keywords = if with_keywords { Some(self.pop()?) } else { None };
        let args = self.pop()?;
        let callable = self.pop()?;
        self.push(Node::Made(Box::new(Made {
            callable,
            called,
            args,
            keywords,
            state: None,
            items: Vec::new(),
            pairs: Vec::new(),
        })))
    }

    fn remember(&mut self, place: u64) -> Step {
        let item = *self.stack.last().ok_or(MALFORMED)?;
        if place == self.memo.len() as u64 {
            self.memo.push(item);
        } else if let Some(entry) = self.memo.get_mut(place as usize) {
            *entry = item;
        } else {
            self.far_memo.insert(place, item);
        }
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Step {
        let near = self.memo.get(place as usize);
        let item = near.or_else(|| self.far_memo.get(&place)).ok_or(MALFORMED)?;
        self.stack.push(*item);
        Ok(())
    }
}
