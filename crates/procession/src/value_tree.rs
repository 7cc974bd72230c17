//! Small trees of values: the format of messages without pickle, and of the bytes of [`Value::to_bytes`].

use crate::instance::{Instance, Parts};
use crate::shared_value::Shared;
use crate::value::Value;
use procession_core::message::tag;

impl Value {
    /// Decodes a tree. `join`: whether it may name objects of a family of which this process is no member yet.
    pub(crate) fn tree(bytes: &[u8], join: bool) -> Result<Value, String> {
        let mut reader = Reader {
            bytes,
            seen: Vec::new(),
            budget: budget(bytes),
            join,
        };
        let value = reader.object(0)?;
        match reader.bytes {
            [] => Ok(value),
            _ => Err(MALFORMED.into()),
        }
    }

    /// Returns whether the value can be written as a small tree.
    pub(crate) fn is_small(&self, nodes: &mut usize, depth: usize) -> bool {
        *nodes += 1;
        if *nodes > tag::MOST_NODES || depth > tag::DEEPEST {
            return false;
        }
        match self {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Shared(_) => true,
            Value::Str(text) => text.len() <= tag::MOST_BYTES,
            Value::Bytes(bytes) => bytes.len() <= tag::MOST_BYTES,
            Value::Tuple(values) | Value::List(values) => values.iter().all(|v| v.is_small(nodes, depth + 1)),
            Value::Dict(pairs) => pairs
                .iter()
                .all(|(k, v)| k.is_small(nodes, depth + 1) && v.is_small(nodes, depth + 1)),
            _ => false,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
        if depth > tag::DEEPEST {
            return Err(format!("it is nested more than {} deep", tag::DEEPEST));
        }
        let run = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
            out.push(tag);
            let len = u32::try_from(bytes.len()).map_err(|_| "a string of more than 4 GiB")?;
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(bytes);
            Ok::<_, String>(())
        };
        let head = |out: &mut Vec<u8>, tag: u8, len: usize| {
            out.extend_from_slice(&[tag, u8::try_from(len).map_err(|_| "more than 255 elements")?]);
            Ok::<_, String>(())
        };
        match self {
            Value::None => out.push(tag::NONE),
            Value::Bool(true) => out.push(tag::TRUE),
            Value::Bool(false) => out.push(tag::FALSE),
            Value::Int(value) => {
                out.push(tag::INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Value::Float(value) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Value::Str(text) => run(out, tag::STR, text.as_bytes())?,
            Value::Bytes(bytes) => run(out, tag::BYTES, bytes)?,
            Value::Tuple(values) => {
                head(out, tag::TUPLE, values.len())?;
                values.iter().try_for_each(|v| v.write(out, depth + 1))?;
            }
            Value::List(values) => {
                head(out, tag::LIST, values.len())?;
                values.iter().try_for_each(|v| v.write(out, depth + 1))?;
            }
            Value::Dict(pairs) => {
                head(out, tag::DICT, pairs.len())?;
                for (key, value) in pairs {
                    key.write(out, depth + 1)?;
                    value.write(out, depth + 1)?;
                }
            }
            Value::Shared(shared) => {
                let (kind, bytes) = shared.encode_handle()?;
                out.push(tag::SHARED);
                run(out, kind, &bytes)?;
            }
            other => return Err(format!("a {} is no part of a small value", other.kind_name())),
        }
        Ok(())
    }
}

const MALFORMED: &str = "it is malformed: it was not written by this version of Procession";

struct Reader<'a> {
    bytes: &'a [u8],
    /// The objects that may be referred to again, in the order in which they ended.
    seen: Vec<Value>,
    /// How many bytes may still be copied for repeated references.
    budget: usize,
    join: bool,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn run(&mut self) -> Result<&[u8], String> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (run, rest) = self.bytes.split_at_checked(len).ok_or(MALFORMED)?;
        self.bytes = rest;
        Ok(run)
    }

    fn many(&mut self, depth: usize) -> Result<Vec<Value>, String> {
        let [len] = self.take()?;
        (0..len).map(|_| self.object(depth + 1)).collect()
    }

    /// Reads an instance: the name of its class, and a dict of its attributes.
    fn instance(&mut self, depth: usize) -> Result<Value, String> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (name, rest) = self.bytes.split_at_checked(len).ok_or(MALFORMED)?;
        self.bytes = rest;
        let name = std::str::from_utf8(name).map_err(|_| MALFORMED)?;
        let (module, name) = name.split_once('\0').ok_or(MALFORMED)?;
        let [tag::DICT] = self.take()? else {
            return Err(MALFORMED.into());
        };
        let state = Value::Dict(self.pairs(depth)?);
        Ok(Value::Instance(Instance::from_parts(Parts {
            called: false,
            state: Some(state).filter(|state| *state != Value::Dict(Vec::new())),
            ..Instance::called(module, name, Vec::new()).into_parts()
        })))
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Value, Value)>, String> {
        let [len] = self.take()?;
        (0..len)
            .map(|_| Ok((self.object(depth + 1)?, self.object(depth + 1)?)))
            .collect()
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        if depth > tag::DEEPEST {
            return Err(MALFORMED.into());
        }
        let [kind] = self.take()?;
        let value = match kind {
            tag::NONE => return Ok(Value::None),
            tag::TRUE => return Ok(Value::Bool(true)),
            tag::FALSE => return Ok(Value::Bool(false)),
            tag::INT => return Ok(Value::Int(i64::from_le_bytes(self.take()?))),
            tag::FLOAT => return Ok(Value::Float(f64::from_le_bytes(self.take()?))),
            tag::AGAIN => {
                let [number] = self.take()?;
                let seen = self.seen.get(usize::from(number)).ok_or(MALFORMED)?;
                spend(&mut self.budget, seen)?;
                return Ok(seen.clone());
            }
            tag::STR => Value::Str(String::from_utf8(self.run()?.to_vec()).map_err(|_| MALFORMED)?),
            tag::BYTES => Value::Bytes(self.run()?.to_vec()),
            tag::TUPLE => Value::Tuple(self.many(depth)?),
            tag::LIST => Value::List(self.many(depth)?),
            tag::DICT => Value::Dict(self.pairs(depth)?),
            tag::SHARED => {
                let [kind] = self.take()?;
                let join = self.join;
                return Shared::arrived(kind, self.run()?, join).map(Value::Shared);
            }
            // Bytes of any origin name no classes: a program may send the value on to Python, which would import them.
            tag::INSTANCE if !self.join => return Err(MALFORMED.into()),
            tag::INSTANCE => self.instance(depth)?,
            _ => return Err(MALFORMED.into()),
        };
        self.seen.push(value.clone());
        Ok(value)
    }
}

/// Returns how many bytes may be copied for repeated references in a message of these bytes. Without a limit, a few
/// bytes could stand for gigabytes of nested tuples.
fn budget(bytes: &[u8]) -> usize {
    bytes.len().saturating_mul(64).saturating_add(4 << 20)
}

/// Subtracts the size of a copy of `value` from the budget.
fn spend(budget: &mut usize, value: &Value) -> Result<(), String> {
    *budget = budget
        .checked_sub(weight(value))
        .ok_or("it contains too many objects more than once")?;
    Ok(())
}

fn weight(value: &Value) -> usize {
    let both = |pairs: &[(Value, Value)]| pairs.iter().map(|(k, v)| weight(k) + weight(v)).sum();
    size_of::<Value>()
        + match value {
            Value::Str(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Tuple(values) | Value::List(values) => values.iter().map(weight).sum(),
            Value::Dict(pairs) => both(pairs),
            Value::Instance(instance) => size_of::<Parts>() + instance.state().map_or(0, weight),
            _ => 0,
        }
}
