//! The classes of Python whose instances have a twin in Rust: what their pickles say.

use crate::array::{Array, item_size, scalar};
use crate::big_int::BigInt;
use crate::block::{Block, BlockMut};
use crate::calendar::{Date, DateTime, Time, TimeDelta, TimeZone};
use crate::graph::{Item, Made, Node};
use crate::shared_value::Shared;
use crate::unpickled::{Maker, Refusal};
use crate::value::{Range, Value};
use procession_core::family::object::Kind;
use procession_core::message::block;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The modules of numpy's functions, which were renamed with numpy 2.
const MULTIARRAY: [&str; 2] = ["numpy._core.multiarray", "numpy.core.multiarray"];
const NUMERIC: [&str; 2] = ["numpy._core.numeric", "numpy.core.numeric"];

const UNUSUAL: &str = "the pickle is unusual";

impl Maker<'_, '_> {
    /// Returns the value of a container of a known class. None if it is none. (A function apart from [`known`](Maker::known),
    /// because containers contain each other: without optimisation, that one needs much of the stack.)
    pub(crate) fn container(
        &mut self,
        module: &str,
        name: &str,
        made: &Made,
        depth: usize,
    ) -> Result<Option<Value>, Refusal> {
        if made.state.is_some() || made.keywords.is_some() {
            return Ok(None);
        }
        let (graph, no_items, no_pairs) = (self.graph, made.items.is_empty(), made.pairs.is_empty());
        let args = graph.sequence(made.args).ok_or(crate::unpickle::MALFORMED)?;
        let value = match (module, name, args) {
            ("collections", "OrderedDict" | "defaultdict", _) if no_items => {
                Value::Dict(self.pairs(&made.pairs, depth)?)
            }
            ("collections", "deque", _) if no_pairs => Value::List(self.values(&made.items, depth)?),
            ("collections", "Counter", [pairs]) if no_items && no_pairs => self.value(*pairs, depth)?,
            ("builtins", "set" | "frozenset", [elements]) if no_items && no_pairs => {
                let elements = graph.sequence(*elements).ok_or(UNUSUAL)?;
                let elements = self.values(elements, depth)?;
                if name == "set" {
                    Value::Set(elements)
                } else {
                    Value::FrozenSet(elements)
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Returns the value of an object of a known class. None if the class is not known.
    pub(crate) fn known(
        &mut self,
        module: &str,
        name: &str,
        made: &Made,
        depth: usize,
    ) -> Result<Option<Value>, Refusal> {
        let graph = self.graph;
        let args = graph.sequence(made.args).ok_or(crate::unpickle::MALFORMED)?;
        let is_bare = made.items.is_empty() && made.pairs.is_empty() && made.keywords.is_none();
        let value = match (module, name, args) {
            _ if !is_bare => return Ok(None),
            ("builtins", "complex", [re, im]) => match (re, im) {
                (Item::Float(re), Item::Float(im)) => Value::Complex { re: *re, im: *im },
                _ => return Ok(None),
            },
            ("builtins", "range", [start, stop, step]) => {
                let three = [start, stop, step].map(|item| graph.int(*item));
                let [Some(start), Some(stop), Some(step)] = three else {
                    return Ok(None);
                };
                Value::Range(Range { start, stop, step })
            }
            ("builtins", "bytes", [data]) => {
                let bytes = self.data(*data)?;
                self.spend(bytes.len())?;
                Value::Bytes(bytes.to_vec())
            }
            ("procession._serialize.move", "_assemble", [pickled, buffers @ ..]) if !self.is_inner => {
                let pickled = graph.bytes(*pickled).ok_or(UNUSUAL)?;
                // For the objects that are read and not used: an instruction makes one of this size.
                self.spend(pickled.len().saturating_mul(size_of::<Node<'_>>()))?;
                let buffers: Vec<_> = buffers
                    .iter()
                    .map(|item| self.moved(*item))
                    .collect::<Result<_, _>>()?;
                crate::unpickled::read_within(pickled, &buffers, &mut self.budget, Some(depth))?
            }
            ("builtins", "bytearray", []) => Value::Bytes(Vec::new()),
            ("builtins", "bytearray", [bytes]) => Value::Bytes(graph.bytes(*bytes).ok_or(UNUSUAL)?.to_vec()),
            ("datetime", "date" | "time" | "datetime" | "timedelta", _) => {
                return self.datetime(name, args).map(Some);
            }
            ("pathlib" | "pathlib._local", "Path" | "PosixPath" | "PurePosixPath", parts) => {
                Value::Path(self.path(parts)?)
            }
            ("decimal" | "_decimal" | "_pydecimal", "Decimal", [text]) => {
                Value::Decimal(graph.text(*text).ok_or(UNUSUAL)?.to_owned())
            }
            ("uuid", "UUID", [hex]) => {
                let hex = graph.text(*hex).filter(|hex| hex.len() == 32).ok_or(UNUSUAL)?;
                Value::Uuid(u128::from_str_radix(hex, 16).map_err(|_| UNUSUAL)?.to_be_bytes())
            }
            ("uuid", "UUID", []) => {
                let Some(number) = self.attribute(made, "int") else {
                    return Ok(None);
                };
                Value::Uuid(match number {
                    Item::Int(value) => u128::try_from(value).map_err(|_| UNUSUAL)?.to_be_bytes(),
                    item => match graph.node(item) {
                        Some(Node::Long(bytes)) => {
                            let number = BigInt::from_le_bytes(bytes);
                            u128::try_from(&number).map_err(|_| UNUSUAL)?.to_be_bytes()
                        }
                        _ => return Ok(None),
                    },
                })
            }
            (_, "scalar", [dtype, rest @ ..]) if MULTIARRAY.contains(&module) => self.scalar(*dtype, rest)?,
            (_, "_frombuffer", [data, dtype, shape, order]) if NUMERIC.contains(&module) => {
                let bytes = self.data(*data)?;
                let order = graph.text(*order).ok_or(UNUSUAL)?;
                self.array(*dtype, *shape, order == "F", bytes)?
            }
            (_, "_reconstruct", _) if MULTIARRAY.contains(&module) => {
                let state = made
                    .state
                    .and_then(|state| graph.sequence(state))
                    .ok_or(UNUSUAL)?;
                let [_, shape, dtype, fortran, data] = *state else {
                    return Err(UNUSUAL.into());
                };
                if matches!(graph.node(data), Some(Node::List(_))) {
                    return Err("the elements are Python objects (dtype object)".into());
                }
                let bytes = self.data(data)?;
                self.array(dtype, shape, matches!(fortran, Item::Bool(true)), bytes)?
            }
            ("array", "_array_reconstructor", [_, code, format, data]) => {
                let code = graph
                    .text(*code)
                    .and_then(|code| code.bytes().next())
                    .ok_or(UNUSUAL)?;
                let bytes = self.data(*data)?;
                if !is_native(graph.int(*format).ok_or(UNUSUAL)?) {
                    return Err("the numbers are not those of this machine".into());
                }
                Value::Array(array_of_code(code, bytes)?)
            }
            ("procession.rust", "_sent_array", [data, typestr, shape, order]) => {
                let typestr = graph.text(*typestr).ok_or(UNUSUAL)?;
                let shape = graph.lengths(*shape).ok_or(UNUSUAL)?;
                let order = graph.text(*order).ok_or(UNUSUAL)?;
                let bytes = self.data(*data)?;
                Value::Array(Array::arrived(typestr, shape, order == "F", bytes)?)
            }
            ("procession.rust" | "procession.queues" | "procession.synchronize", ..)
            | ("procession._memory.shared_array", "_view", _) => {
                return self.shared(module, name, args, made);
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Returns an attribute of an object whose state is a dict.
    fn attribute(&self, made: &Made, name: &str) -> Option<Item> {
        let Some(Node::Dict(pairs)) = self.graph.node(made.state?) else {
            return None;
        };
        let found = pairs.iter().find(|(key, _)| self.graph.text(*key) == Some(name));
        found.map(|(_, value)| *value)
    }

    fn datetime(&mut self, name: &str, args: &[Item]) -> Result<Value, Refusal> {
        let graph = self.graph;
        if name == "timedelta" {
            return Ok(Value::TimeDelta(self.delta(args)?));
        }
        let (bytes, zone) = match args {
            [bytes] => (graph.bytes(*bytes).ok_or(UNUSUAL)?, None),
            [bytes, zone] => (
                graph.bytes(*bytes).ok_or(UNUSUAL)?,
                Some(Box::new(self.zone(*zone)?)),
            ),
            _ => return Err(UNUSUAL.into()),
        };
        // The highest bit of the month, or of the hour of a time, is `fold`.
        let mut bytes = bytes.to_vec();
        let place = if name == "time" { 0 } else { 2 };
        let byte = bytes.get_mut(place).ok_or(UNUSUAL)?;
        let fold = *byte & 0x80 != 0;
        *byte &= 0x7f;
        let value = match name {
            "date" => Date::unpacked(&bytes).map(Value::Date),
            "time" => Time::unpacked(&bytes, fold).map(|time| Value::Time(Time { zone, ..time })),
            _ => {
                let (date, time) = bytes.split_at_checked(4).ok_or(UNUSUAL)?;
                let both = Date::unpacked(date).zip(Time::unpacked(time, fold));
                both.map(|(date, time)| {
                    Value::DateTime(DateTime {
                        date,
                        time: Time { zone, ..time },
                    })
                })
            }
        };
        value.ok_or_else(|| UNUSUAL.into())
    }

    fn delta(&self, args: &[Item]) -> Result<TimeDelta, Refusal> {
        let [days, seconds, microseconds] = *args else {
            return Err(UNUSUAL.into());
        };
        let int = |item| self.graph.int(item).ok_or(UNUSUAL);
        let delta = TimeDelta {
            days: i32::try_from(int(days)?).map_err(|_| UNUSUAL)?,
            seconds: u32::try_from(int(seconds)?).map_err(|_| UNUSUAL)?,
            microseconds: u32::try_from(int(microseconds)?).map_err(|_| UNUSUAL)?,
        };
        Ok(delta)
    }

    fn zone(&mut self, item: Item) -> Result<TimeZone, Refusal> {
        let graph = self.graph;
        let made = graph.made(item).ok_or(UNUSUAL)?;
        self.spend(self.referred(made))?;
        let args = graph.sequence(made.args).ok_or(UNUSUAL)?;
        let (module, class) = graph.name(made.callable).ok_or(UNUSUAL)?;
        match (module, &class[..], args) {
            ("datetime", "timezone", [offset, name @ ..]) => {
                let offset = graph
                    .made(*offset)
                    .and_then(|made| graph.sequence(made.args))
                    .ok_or(UNUSUAL)?;
                let name = name
                    .first()
                    .map(|name| graph.text(*name).ok_or(UNUSUAL))
                    .transpose()?;
                Ok(TimeZone::Fixed {
                    offset: self.delta(offset)?,
                    name: name.map(str::to_owned),
                })
            }
            ("zoneinfo" | "zoneinfo._zoneinfo", "ZoneInfo._unpickle", [name, ..]) => {
                Ok(TimeZone::Named(graph.text(*name).ok_or(UNUSUAL)?.to_owned()))
            }
            ("zoneinfo", "ZoneInfo", [name]) => {
                Ok(TimeZone::Named(graph.text(*name).ok_or(UNUSUAL)?.to_owned()))
            }
            _ => Err(Refusal {
                why: format!("the time zone is a {module}.{class}"),
                class: Some(format!("{module}.{class}")),
            }),
        }
    }

    fn path(&self, parts: &[Item]) -> Result<PathBuf, Refusal> {
        let mut path = PathBuf::new();
        for part in parts {
            let Some(Node::Str(bytes)) = self.graph.node(*part) else {
                return Err(UNUSUAL.into());
            };
            path.push(OsString::from_vec(without_escapes(bytes)));
        }
        Ok(if parts.is_empty() {
            PathBuf::from(".")
        } else {
            path
        })
    }

    /// Returns the bytes of an array: a buffer beside the pickle, or bytes within it.
    fn data(&mut self, item: Item) -> Result<Block<u8>, Refusal> {
        match self.graph.node(item) {
            Some(Node::Buffer(place)) => self.buffer(*place),
            Some(Node::Bytes(bytes)) => {
                self.spend(bytes.len())?;
                Ok(Block::inline(bytes))
            }
            // In memory of the family, which a Rust program has named.
            Some(Node::Tuple(pair)) => {
                let [handle, len] = pair[..] else {
                    return Err(UNUSUAL.into());
                };
                let handle = self.graph.bytes(handle).ok_or(UNUSUAL)?;
                let len = self
                    .graph
                    .int(len)
                    .and_then(|len| usize::try_from(len).ok())
                    .ok_or(UNUSUAL)?;
                let handle =
                    procession_core::family::Handle::from_bytes(handle).map_err(|e| e.to_string())?;
                let hold = handle.open(Kind::Buffer).map_err(|e| e.to_string())?;
                Ok(Block::from_buffer(hold, len)?)
            }
            _ => Err(UNUSUAL.into()),
        }
    }

    /// Returns a copy of a buffer that Python has moved: the array in the sender is another view of that memory, and may be
    /// written to.
    fn moved(&mut self, item: Item) -> Result<Block<u8>, Refusal> {
        let made = self.graph.made(item).ok_or(UNUSUAL)?;
        let [handle, len, _] = *self.graph.sequence(made.args).ok_or(UNUSUAL)? else {
            return Err(UNUSUAL.into());
        };
        let (handle, len) = (
            self.graph.bytes(handle).ok_or(UNUSUAL)?,
            self.graph.int(len).ok_or(UNUSUAL)?,
        );
        let len = usize::try_from(len).map_err(|_| UNUSUAL)?;
        let source = crate::memory::Array::moved(handle, len)?;
        self.spend(len)?;
        let mut copy = BlockMut::<u8>::zeroed(len).map_err(|e| e.to_string())?;
        source.load(0, &mut copy);
        Ok(copy.freeze())
    }

    fn array(&self, dtype: Item, shape: Item, fortran: bool, bytes: Block<u8>) -> Result<Value, Refusal> {
        let typestr = self.typestr(dtype)?;
        let shape = self.graph.lengths(shape).ok_or(UNUSUAL)?;
        Ok(Value::Array(Array::arrived(&typestr, shape, fortran, bytes)?))
    }

    fn scalar(&mut self, dtype: Item, rest: &[Item]) -> Result<Value, Refusal> {
        let typestr = self.typestr(dtype)?;
        let bytes = match rest {
            [bytes] => self.graph.bytes(*bytes).ok_or(UNUSUAL)?,
            // An empty str or bytes.
            [] => &[],
            _ => return Err(UNUSUAL.into()),
        };
        let is_time = matches!(typestr.as_bytes(), [_, b'M' | b'm', ..]);
        if bytes.is_empty() && matches!(typestr.as_bytes(), [_, b'U', ..]) {
            return Ok(Value::Str(String::new()));
        }
        match scalar(&typestr, bytes).filter(|_| !is_time) {
            Some(value) => Ok(value),
            // An array without dimensions has one element, and the same type.
            None => Ok(Value::Array(Array::arrived(
                &typestr,
                Vec::new(),
                false,
                Block::inline(bytes),
            )?)),
        }
    }

    /// Returns a dtype as numpy's array protocol writes it.
    fn typestr(&self, dtype: Item) -> Result<String, Refusal> {
        let graph = self.graph;
        let made = graph.made(dtype).ok_or(UNUSUAL)?;
        if graph.name(made.callable) != Some(("numpy", "dtype".to_owned())) {
            let class = graph
                .name(made.callable)
                .map(|(module, name)| format!("{module}.{name}"));
            let class = class.ok_or(UNUSUAL)?;
            return Err(Refusal {
                why: format!("its dtype is a {class}"),
                class: Some(class),
            });
        }
        let args = graph.sequence(made.args).ok_or(UNUSUAL)?;
        let kind = args.first().and_then(|kind| graph.text(*kind)).ok_or(UNUSUAL)?;
        let state = made.state.and_then(|state| graph.sequence(state));
        let order = state.and_then(|state| graph.text(*state.get(1)?)).unwrap_or("|");
        let order = if order == "=" { "<" } else { order };
        let unit = state
            .and_then(|state| self.unit(*state.get(8)?))
            .unwrap_or_default();
        let typestr = format!("{order}{kind}{unit}");
        if item_size(&typestr).is_none() {
            return Err(UNUSUAL.into());
        }
        Ok(typestr)
    }

    /// Returns the unit of a date or duration of numpy, in brackets.
    fn unit(&self, item: Item) -> Option<String> {
        let [_, unit] = *self.graph.sequence(item)? else {
            return None;
        };
        let [name, count, ..] = *self.graph.sequence(unit)? else {
            return None;
        };
        let name = std::str::from_utf8(self.graph.bytes(name)?).ok()?;
        Some(match self.graph.int(count)? {
            1 => format!("[{name}]"),
            count => format!("[{count}{name}]"),
        })
    }

    /// Returns a shared object of Procession. None if it is of a kind that values do not have.
    fn shared(
        &mut self,
        module: &str,
        name: &str,
        args: &[Item],
        made: &Made,
    ) -> Result<Option<Value>, Refusal> {
        let graph = self.graph;
        let (kind, handle, described) = match (module, name, args) {
            ("procession.rust", "_opened", [kind, handle, described]) => {
                let kind = graph
                    .int(*kind)
                    .and_then(|kind| u8::try_from(kind).ok())
                    .ok_or(UNUSUAL)?;
                let described = match graph.sequence(*described) {
                    Some([typestr, shape]) => {
                        let shape = graph.lengths(*shape).ok_or(UNUSUAL)?;
                        let shape: Vec<u64> = shape.into_iter().map(|n| n as u64).collect();
                        block::describe(graph.text(*typestr).ok_or(UNUSUAL)?, &shape)
                    }
                    _ => Vec::new(),
                };
                (kind, *handle, described)
            }
            ("procession.queues", "_bare", [_]) => (Kind::Queue as u8, self.state_handle(made)?, Vec::new()),
            ("procession.synchronize", _, []) => {
                let kind = match name {
                    "Lock" => Kind::Lock,
                    "RLock" => Kind::RLock,
                    "Semaphore" | "BoundedSemaphore" => Kind::Semaphore,
                    "Event" => Kind::Event,
                    "Barrier" => Kind::Barrier,
                    _ => return Ok(None),
                };
                (kind as u8, self.state_handle(made)?, Vec::new())
            }
            ("procession._memory.shared_array", "_view", [block, shape, dtype, offset, strides, _]) => {
                let typestr = self.typestr(*dtype)?;
                let shape = graph.lengths(*shape).ok_or(UNUSUAL)?;
                let in_order = c_strides(&shape, item_size(&typestr).unwrap_or_default());
                if graph.int(*offset) != Some(0) || graph.lengths(*strides) != Some(in_order) {
                    return Err("only a part is sent, or it is not in C order".into());
                }
                let found = graph.made(*block).and_then(|made| graph.sequence(made.args));
                let handle = found.and_then(|args| args.get(1)).ok_or(UNUSUAL)?;
                let shape: Vec<u64> = shape.into_iter().map(|n| n as u64).collect();
                (Kind::Array as u8, *handle, block::describe(&typestr, &shape))
            }
            _ => return Ok(None),
        };
        let handle = graph.bytes(handle).ok_or(UNUSUAL)?;
        self.spend(handle.len())?;
        let bytes = [handle, &described].concat();
        Ok(Some(Value::Shared(Shared::arrived(kind, &bytes, true)?)))
    }

    /// Returns the handle in the state of a shared object.
    fn state_handle(&self, made: &Made) -> Result<Item, Refusal> {
        let state = made
            .state
            .and_then(|state| self.graph.sequence(state))
            .ok_or(UNUSUAL)?;
        Ok(*state.first().ok_or(UNUSUAL)?)
    }
}

fn c_strides(shape: &[usize], item: usize) -> Vec<usize> {
    let mut step = item;
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .map(|len| {
            let next = step.saturating_mul((*len).max(1));
            std::mem::replace(&mut step, next)
        })
        .collect();
    strides.reverse();
    strides
}

/// Makes an array of the items of an `array.array`.
pub(crate) fn array_of_code(code: u8, bytes: Block<u8>) -> Result<Array, String> {
    let typestr = match code {
        b'b' => "|i1",
        b'B' => "|u1",
        b'h' => "<i2",
        b'H' => "<u2",
        b'i' => "<i4",
        b'I' => "<u4",
        b'l' | b'q' => "<i8",
        b'L' | b'Q' => "<u8",
        b'f' => "<f4",
        b'd' => "<f8",
        _ => return Err("it is an array.array of characters".into()),
    };
    let len = bytes.len() / item_size(typestr).unwrap_or(1);
    Array::arrived(typestr, vec![len], false, bytes)
}

/// Returns whether a machine format code of the module `array` is little-endian.
fn is_native(format: i64) -> bool {
    // Each kind of number has its code for little-endian, followed by the one for big-endian. Bytes have one code each.
    matches!(format, 0 | 1 | 2 | 4 | 6 | 8 | 10 | 12 | 14 | 16)
}

/// Returns the bytes of a file name, of which Python makes lone surrogates where they are no UTF-8 (PEP 383).
fn without_escapes(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        match rest {
            // U+DC80 to U+DCFF, as UTF-8 would write them.
            [0xed, high @ 0xb2..=0xb3, low @ 0x80..=0xbf, after @ ..] => {
                bytes.push((high & 1) << 6 | low & 0x3f | 0x80);
                rest = after;
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    bytes
}
