//! Writes and reads pickles of built-in types: the format for values that are too large for a small message.
//!
//! A pickle is a program for a small stack machine (PEP 307, PEP 3154; the instructions are documented in CPython's
//! `pickletools`). This module writes the simplest such program, in protocol 4, which Python 3.4 and later read. It reads the
//! instructions that Python's own pickler writes for `None`, `bool`, `int`, `float`, `str`, `bytes`, `bytearray`, `tuple`,
//! `list` and `dict`. It refuses every instruction that imports or calls something.

use crate::value::Value;
use std::collections::{HashMap, HashSet};

/// The deepest nesting that is written and read.
const DEEPEST: usize = 200;

const NOT_PLAIN: &str =
    "it is a pickle of something other than None, bool, int, float, str, bytes, tuple, list and dict";
const MALFORMED: &str = "it is a malformed pickle";

/// Appends a value as a pickle.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    out.extend_from_slice(&[0x80, 4]);
    put(value, out, 0)?;
    out.push(b'.');
    Ok(())
}

fn put(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err("it is nested too deeply".into());
    }
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Int(value) => {
            // LONG1: a number of bytes in two's complement.
            out.extend_from_slice(&[0x8a, 8]);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Float(value) => {
            out.push(b'G');
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::Str(text) => run(0x8d, text.as_bytes(), out),
        Value::Bytes(bytes) => run(0x8e, bytes, out),
        Value::Tuple(values) => {
            out.push(b'(');
            values.iter().try_for_each(|v| put(v, out, depth + 1))?;
            out.push(b't');
        }
        Value::List(values) => {
            out.extend_from_slice(b"](");
            values.iter().try_for_each(|v| put(v, out, depth + 1))?;
            out.push(b'e');
        }
        Value::Dict(pairs) => {
            out.extend_from_slice(b"}(");
            for (key, value) in pairs {
                put(key, out, depth + 1)?;
                put(value, out, depth + 1)?;
            }
            out.push(b'u');
        }
        Value::Shared(_) => {
            return Err(
                "shared objects travel in values of up to 64 parts and 4096 bytes, not in larger ones".into(),
            );
        }
    }
    Ok(())
}

fn run(instruction: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(instruction);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads a value from a pickle.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, String> {
    // The pickler memoises every string and tuple, and refers again to few of them. The first run finds out to which.
    let mut first = Machine::new(bytes, None);
    let value = first.run()?;
    if first.recalled.is_empty() {
        return Ok(value);
    }
    Machine::new(bytes, Some(first.recalled)).run()
}

/// A value on the stack, and how deeply it is nested.
#[derive(Clone)]
struct Item(Value, usize);

struct Machine<'a> {
    bytes: &'a [u8],
    stack: Vec<Item>,
    /// The positions of the marks on the stack.
    marks: Vec<usize>,
    /// How many objects were memoised.
    noted: u64,
    memo: HashMap<u64, Item>,
    /// The memo entries that are used later. None in the first run, which finds them out.
    wanted: Option<HashSet<u64>>,
    recalled: HashSet<u64>,
    /// How many bytes may still be copied for repeated references.
    budget: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], wanted: Option<HashSet<u64>>) -> Self {
        Machine {
            bytes,
            stack: Vec::new(),
            marks: Vec::new(),
            noted: 0,
            memo: HashMap::new(),
            wanted,
            recalled: HashSet::new(),
            budget: budget(bytes),
        }
    }

    fn run(&mut self) -> Result<Value, String> {
        loop {
            let [instruction] = self.take()?;
            match instruction {
                0x80 => drop(self.take::<1>()?), // PROTO
                0x95 => drop(self.take::<8>()?), // FRAME
                b'.' => return self.end(),
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => {
                    let [value] = self.take()?;
                    self.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    let value = f64::from_be_bytes(self.take()?);
                    self.push(Value::Float(value));
                }
                0x8c => {
                    let [len] = self.take()?;
                    self.text(len.into())?;
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.take()?);
                    self.text(len.into())?;
                }
                0x8d => {
                    let len = u64::from_le_bytes(self.take()?);
                    self.text(len)?;
                }
                b'C' => {
                    let [len] = self.take()?;
                    self.raw(len.into())?;
                }
                b'B' => {
                    let len = u32::from_le_bytes(self.take()?);
                    self.raw(len.into())?;
                }
                0x8e | 0x96 => {
                    let len = u64::from_le_bytes(self.take()?);
                    self.raw(len)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.push(Value::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let count = usize::from(instruction - 0x84);
                    let from = self.stack.len().checked_sub(count).ok_or(MALFORMED)?;
                    self.tuple(from)?;
                }
                b't' => {
                    let from = self.marks.pop().ok_or(MALFORMED)?;
                    self.tuple(from)?;
                }
                b']' => self.push(Value::List(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                b'a' => {
                    let from = self.stack.len().checked_sub(1).ok_or(MALFORMED)?;
                    self.append(from)?;
                }
                b'e' => {
                    let from = self.marks.pop().ok_or(MALFORMED)?;
                    self.append(from)?;
                }
                b's' => {
                    let from = self.stack.len().checked_sub(2).ok_or(MALFORMED)?;
                    self.set(from)?;
                }
                b'u' => {
                    let from = self.marks.pop().ok_or(MALFORMED)?;
                    self.set(from)?;
                }
                0x94 => self.remember(self.noted)?,
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
                _ => return Err(NOT_PLAIN.into()),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn take_run(&mut self, len: u64) -> Result<Vec<u8>, String> {
        let len = usize::try_from(len).map_err(|_| MALFORMED)?;
        let (run, rest) = self.bytes.split_at_checked(len).ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(run.to_vec())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Item(value, 0));
    }

    fn end(&mut self) -> Result<Value, String> {
        match (self.stack.pop(), self.stack.is_empty(), self.bytes.is_empty()) {
            (Some(Item(value, _)), true, true) => Ok(value),
            _ => Err(MALFORMED.into()),
        }
    }

    fn long(&mut self) -> Result<(), String> {
        let [len] = self.take()?;
        let bytes = self.take_run(len.into())?;
        if bytes.len() > 8 {
            return Err("it contains an integer of more than 64 bits".into());
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut eight = [if negative { 0xff } else { 0 }; 8];
        eight[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i64::from_le_bytes(eight)));
        Ok(())
    }

    fn text(&mut self, len: u64) -> Result<(), String> {
        let text = String::from_utf8(self.take_run(len)?);
        let text = text.map_err(|_| "it contains a str with lone surrogates, which is no UTF-8")?;
        self.push(Value::Str(text));
        Ok(())
    }

    fn raw(&mut self, len: u64) -> Result<(), String> {
        let bytes = self.take_run(len)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    /// Takes the items from stack position `from` on, and computes the depth of an object that contains them.
    fn above(&mut self, from: usize) -> Result<(Vec<Value>, usize), String> {
        if from > self.stack.len() || self.marks.last().is_some_and(|mark| *mark > from) {
            return Err(MALFORMED.into());
        }
        let items = self.stack.split_off(from);
        let depth = 1 + items.iter().map(|Item(_, depth)| *depth).max().unwrap_or(0);
        if depth > DEEPEST {
            return Err("it is nested too deeply".into());
        }
        Ok((items.into_iter().map(|Item(value, _)| value).collect(), depth))
    }

    fn tuple(&mut self, from: usize) -> Result<(), String> {
        let (values, depth) = self.above(from)?;
        self.stack.push(Item(Value::Tuple(values), depth));
        Ok(())
    }

    fn append(&mut self, from: usize) -> Result<(), String> {
        let (values, deep) = self.above(from)?;
        match self.stack.last_mut() {
            Some(Item(Value::List(list), depth)) => {
                list.extend(values);
                *depth = deep.max(*depth);
                Ok(())
            }
            _ => Err(NOT_PLAIN.into()),
        }
    }

    fn set(&mut self, from: usize) -> Result<(), String> {
        let (values, deep) = self.above(from)?;
        let mut values = values.into_iter();
        match self.stack.last_mut() {
            Some(Item(Value::Dict(dict), depth)) => {
                while let Some(key) = values.next() {
                    dict.push((key, values.next().ok_or(MALFORMED)?));
                }
                *depth = deep.max(*depth);
                Ok(())
            }
            _ => Err(NOT_PLAIN.into()),
        }
    }

    /// Memoises the top of the stack. A list or a dict is memoised before it is filled; a marker notes that it was one.
    fn remember(&mut self, place: u64) -> Result<(), String> {
        self.noted += 1;
        let item = self.stack.last().ok_or(MALFORMED)?;
        if self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&place)) {
            let item = match &item.0 {
                Value::List(_) | Value::Dict(_) => Item(Value::None, usize::MAX),
                _ => item.clone(),
            };
            self.memo.insert(place, item);
        }
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<(), String> {
        if self.wanted.is_none() {
            self.recalled.insert(place);
            self.push(Value::None);
            return Ok(());
        }
        let Item(value, depth) = self.memo.get(&place).ok_or(MALFORMED)?;
        if *depth == usize::MAX {
            return Err(
                "it contains a list or dict twice, which only Python can tell from two equal ones".into(),
            );
        }
        spend(&mut self.budget, value)?;
        self.stack.push(Item(value.clone(), *depth));
        Ok(())
    }
}

/// Returns how many bytes may be copied for repeated references in a message of these bytes. Without a limit, a few
/// bytes could stand for gigabytes of nested tuples.
pub(crate) fn budget(bytes: &[u8]) -> usize {
    bytes.len().saturating_mul(64).saturating_add(4 << 20)
}

/// Subtracts the size of a copy of `value` from the budget.
pub(crate) fn spend(budget: &mut usize, value: &Value) -> Result<(), String> {
    *budget = budget
        .checked_sub(weight(value))
        .ok_or("it contains too many objects more than once")?;
    Ok(())
}

fn weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Str(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Tuple(values) | Value::List(values) => values.iter().map(weight).sum(),
            Value::Dict(pairs) => pairs.iter().map(|(k, v)| weight(k) + weight(v)).sum(),
            _ => 0,
        }
}
