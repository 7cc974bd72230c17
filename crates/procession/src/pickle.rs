//! Writes values as pickles: the format for values that are too large for a small message, or have no place in one.
//!
//! A pickle is a program for a small stack machine (PEP 307, PEP 3154; the instructions are documented in CPython's
//! `pickletools`). This module writes simple programs in protocol 4, which Python 3.4 and later read. Python makes the
//! natural object of every value: a `datetime` of a [`DateTime`](crate::python::DateTime), a numpy array of an
//! [`Array`], which is a view of the same memory.

use crate::array::Array;
use crate::calendar::{Time, TimeDelta, TimeZone};
use crate::instance::Instance;
use crate::unpickled::DEEPEST;
use crate::value::Value;
use procession_core::message::block;
use std::os::unix::ffi::OsStrExt;

const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const REDUCE: u8 = b'R';
const NEWOBJ: u8 = 0x81;
const BUILD: u8 = b'b';

/// Arrays of fewer bytes are written into the pickle.
const WORTH_A_BLOCK: usize = 4096;

/// Where the elements of arrays go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The reader maps this family's memory: the pickle has handles of the memory.
    Shared,
    /// The reader may be any program: the pickle has the elements.
    Within,
}

/// Appends a value as a pickle.
pub(crate) fn write(value: &Value, memory: Memory, out: &mut Vec<u8>) -> Result<(), String> {
    out.extend_from_slice(&[0x80, 4]);
    Writer { out, memory }.put(value, 0)?;
    out.push(b'.');
    Ok(())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    memory: Memory,
}

type Written = Result<(), String>;

impl Writer<'_> {
    fn put(&mut self, value: &Value, depth: usize) -> Written {
        if depth > DEEPEST {
            return Err("it is nested too deeply".into());
        }
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(true) => self.out.push(0x88),
            Value::Bool(false) => self.out.push(0x89),
            Value::Int(value) => self.int(*value),
            Value::BigInt(value) => {
                let bytes = value.to_le_bytes();
                // LONG4
                self.out.push(0x8b);
                let len = i32::try_from(bytes.len()).map_err(|_| "it has an int of more than 2 GiB")?;
                self.out.extend_from_slice(&len.to_le_bytes());
                self.out.extend_from_slice(bytes);
            }
            Value::Float(value) => self.float(*value),
            Value::Complex { re, im } => {
                let both = [*re, *im];
                self.call("builtins", "complex", |w| {
                    both.iter().for_each(|part| w.float(*part));
                    Ok(())
                })?;
            }
            Value::Str(text) => self.run(0x8d, text.as_bytes()),
            Value::Bytes(bytes) => self.run(0x8e, bytes),
            Value::Tuple(values) => self.tuple(|w| w.each(values, depth))?,
            Value::List(values) => {
                self.out.push(b']');
                self.items(values, depth)?;
            }
            Value::Dict(pairs) => {
                self.out.push(b'}');
                self.pairs(pairs, depth)?;
            }
            Value::Set(values) => {
                self.out.extend_from_slice(&[0x8f, MARK]);
                self.each(values, depth)?;
                self.out.push(0x90);
            }
            Value::FrozenSet(values) => {
                self.out.push(MARK);
                self.each(values, depth)?;
                self.out.push(0x91);
            }
            Value::Array(array) => self.array(array)?,
            Value::Date(date) => self.call("datetime", "date", |w| {
                w.run(0x8e, &date.packed());
                Ok(())
            })?,
            Value::Time(time) => self.call("datetime", "time", |w| {
                let mut packed = time.packed();
                packed[0] |= if time.fold { 0x80 } else { 0 };
                w.run(0x8e, &packed);
                w.zone(time)
            })?,
            Value::DateTime(both) => self.call("datetime", "datetime", |w| {
                let mut packed = [&both.date.packed()[..], &both.time.packed()].concat();
                packed[2] |= if both.time.fold { 0x80 } else { 0 };
                w.run(0x8e, &packed);
                w.zone(&both.time)
            })?,
            Value::TimeDelta(delta) => self.delta(*delta)?,
            Value::Path(path) => {
                let text = escaped(path.as_os_str().as_bytes());
                self.call("pathlib", "Path", |w| {
                    w.run(0x8d, &text);
                    Ok(())
                })?;
            }
            Value::Decimal(text) => self.call("decimal", "Decimal", |w| {
                w.run(0x8d, text.as_bytes());
                Ok(())
            })?,
            Value::Uuid(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                self.call("uuid", "UUID", |w| {
                    w.run(0x8d, hex.as_bytes());
                    Ok(())
                })?;
            }
            Value::Range(range) => self.call("builtins", "range", |w| {
                [range.start, range.stop, range.step]
                    .into_iter()
                    .for_each(|n| w.int(n));
                Ok(())
            })?,
            Value::Instance(instance) => self.instance(instance, depth)?,
            Value::Shared(shared) => {
                let (kind, handle, described) = shared.named()?;
                self.call("procession.rust", "_opened", |w| {
                    w.int(kind.into());
                    w.run(0x8e, &handle);
                    let Some((typestr, shape)) = block::read(described) else {
                        w.out.push(b'N');
                        return Ok(());
                    };
                    w.tuple(|w| {
                        w.run(0x8d, typestr.as_bytes());
                        w.lengths(shape.into_iter());
                        Ok(())
                    })
                })?;
            }
        }
        Ok(())
    }

    fn each(&mut self, values: &[Value], depth: usize) -> Written {
        values.iter().try_for_each(|value| self.put(value, depth + 1))
    }

    fn items(&mut self, values: &[Value], depth: usize) -> Written {
        self.out.push(MARK);
        self.each(values, depth)?;
        self.out.push(b'e');
        Ok(())
    }

    fn pairs(&mut self, pairs: &[(Value, Value)], depth: usize) -> Written {
        self.out.push(MARK);
        for (key, value) in pairs {
            self.put(key, depth + 1)?;
            self.put(value, depth + 1)?;
        }
        self.out.push(b'u');
        Ok(())
    }

    fn int(&mut self, value: i64) {
        // LONG1: a number of bytes in two's complement.
        self.out.extend_from_slice(&[0x8a, 8]);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, value: f64) {
        self.out.push(b'G');
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn run(&mut self, instruction: u8, bytes: &[u8]) {
        self.out.push(instruction);
        self.out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.out.extend_from_slice(bytes);
    }

    fn tuple(&mut self, contents: impl FnOnce(&mut Self) -> Written) -> Written {
        self.out.push(MARK);
        contents(self)?;
        self.out.push(TUPLE);
        Ok(())
    }

    fn lengths(&mut self, lengths: impl Iterator<Item = u64>) {
        self.out.push(MARK);
        lengths.for_each(|length| self.int(length as i64));
        self.out.push(TUPLE);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.run(0x8d, module.as_bytes());
        self.run(0x8d, name.as_bytes());
        self.out.push(0x93);
    }

    /// Writes a call of a function or class with the arguments that `args` writes.
    fn call(&mut self, module: &str, name: &str, args: impl FnOnce(&mut Self) -> Written) -> Written {
        self.global(module, name);
        self.tuple(args)?;
        self.out.push(REDUCE);
        Ok(())
    }

    fn delta(&mut self, delta: TimeDelta) -> Written {
        self.call("datetime", "timedelta", |w| {
            w.int(delta.days.into());
            w.int(delta.seconds.into());
            w.int(delta.microseconds.into());
            Ok(())
        })
    }

    fn zone(&mut self, time: &Time) -> Written {
        match time.zone.as_deref() {
            None => Ok(()),
            Some(TimeZone::Named(name)) => self.call("zoneinfo", "ZoneInfo", |w| {
                w.run(0x8d, name.as_bytes());
                Ok(())
            }),
            Some(TimeZone::Fixed { offset, name }) => self.call("datetime", "timezone", |w| {
                w.delta(*offset)?;
                if let Some(name) = name {
                    w.run(0x8d, name.as_bytes());
                }
                Ok(())
            }),
        }
    }

    fn array(&mut self, array: &Array) -> Written {
        let bytes = array.as_bytes();
        let in_place = self.memory == Memory::Shared && (array.is_shared() || bytes.len() >= WORTH_A_BLOCK);
        let handle = in_place.then(|| array.memory().handle_in_transit()).transpose()?;
        self.call("procession.rust", "_sent_array", |w| {
            match handle {
                Some(handle) => w.tuple(|w| {
                    w.run(0x8e, &handle);
                    w.int(bytes.len() as i64);
                    Ok(())
                })?,
                None => w.run(0x8e, bytes),
            }
            w.run(0x8d, array.typestr().as_bytes());
            w.lengths(array.shape().iter().map(|n| *n as u64));
            w.run(0x8d, if array.is_fortran() { b"F" } else { b"C" });
            Ok(())
        })
    }

    fn instance(&mut self, instance: &Instance, depth: usize) -> Written {
        let parts = instance.parts();
        self.global(&parts.module, &parts.name);
        self.tuple(|w| w.each(&parts.args, depth))?;
        if !parts.keywords.is_empty() {
            self.out.push(b'}');
            self.pairs(&parts.keywords, depth)?;
            self.out.push(0x92);
        } else {
            self.out.push(if parts.called { REDUCE } else { NEWOBJ });
        }
        if !parts.items.is_empty() {
            self.items(&parts.items, depth)?;
        }
        if !parts.pairs.is_empty() {
            self.pairs(&parts.pairs, depth)?;
        }
        if let Some(state) = &parts.state {
            self.put(state, depth + 1)?;
            self.out.push(BUILD);
        }
        Ok(())
    }
}

/// Returns the text of a file name: bytes that are no UTF-8 become lone surrogates (PEP 383), which pickle writes as UTF-8
/// would have them.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            text.extend_from_slice(&[0xed, 0xb0 | byte >> 6, 0x80 | byte & 0x3f]);
        }
    }
    text
}
