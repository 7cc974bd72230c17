//! The modes in which values of all kinds travel between Python and Rust.

use super::{LIMIT, given};
use procession::python::{BigInt, DateTime, Instance, Range, TimeDelta};
use procession::{Array, Block, Event, GetError, Queue, Value};
use serde::Deserialize;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Describes every value that arrives, as Rust shows it, until None arrives.
pub(super) fn describe() -> Result<(), Box<dyn Error>> {
    let [there, back] = given()?;
    let there = Queue::<Value>::try_from(&there)?;
    let back = Queue::<Value>::try_from(&back)?;
    loop {
        let text = match there.get_timeout(LIMIT) {
            Ok(Value::None) => return Ok(()),
            Ok(Value::Array(array)) => format!(
                "{} {:?} {} {}",
                array.typestr(),
                array.shape(),
                if array.is_fortran() { "F" } else { "C" },
                if array.is_shared() { "in place" } else { "within" },
            ),
            Ok(value) => format!("{value:?}"),
            Err(GetError::Decode(e)) => {
                assert!(!e.bytes().is_empty());
                assert!(e.decode::<Value>().is_err(), "it is the same message again");
                format!("refused {}: {}", e.python_class().unwrap_or("?"), e.reason())
            }
            Err(e) => return Err(e.into()),
        };
        back.put(&Value::from(text))?;
    }
}

/// Sends one value of each kind.
pub(super) fn produce() -> Result<(), Box<dyn Error>> {
    let [back] = given()?;
    let back = Queue::<Value>::try_from(&back)?;
    let squares: Vec<f64> = (0..2000).map(|n| f64::from(n * n)).collect();
    let event = Event::new()?;
    event.set();
    let values = [
        Value::from(BigInt::from(1i128 << 80)),
        Value::from(i128::MIN),
        Value::Complex { re: 1.0, im: -2.0 },
        Value::Set(vec![Value::Int(1), Value::from("two")]),
        Value::FrozenSet(vec![Value::Int(3)]),
        Value::from(Array::new(Block::from_slice(&squares)?, &[2, 1000])?),
        Value::from(Block::from_slice(&[1i16, -2, 3])?),
        Value::from(Block::from_slice(&[[1.0f64, 2.0]])?),
        Value::from(DateTime::from(
            SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
        )),
        Value::from(TimeDelta::try_from(Duration::from_millis(1500))?),
        Value::from(PathBuf::from("/tmp/x")),
        Value::Decimal("1.50".into()),
        Value::Uuid(*b"0123456789abcdef"),
        Value::from(Range {
            start: 1,
            stop: 9,
            step: 2,
        }),
        Value::from(Instance::called(
            "builtins",
            "ValueError",
            vec![Value::from("no")],
        )),
        Value::from(Instance::with_attributes(
            "rust_children",
            "Point",
            [("x", 1), ("y", 2)],
        )),
        Value::List(vec![
            Value::from(&event),
            Value::List((0..100).map(Value::Int).collect()),
        ]),
        Value::Tuple(
            (0..100)
                .map(|_| Value::from(Block::from_slice(&squares).unwrap_or_else(|e| panic!("{e}"))))
                .collect(),
        ),
    ];
    for value in values {
        back.put(&value)?;
    }
    Queue::<Array>::try_from(&Value::from(&back))?.put(&Array::from(Block::from_slice(&squares)?))?;
    Ok(())
}

#[derive(Debug, PartialEq, Deserialize)]
struct Point {
    x: i64,
    y: f64,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Color {
    Red,
    Green,
    Rgb(u8, u8, u8),
}

// A message is written as well.
macro_rules! only_read {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("it is only received"))
            }
        }
    )*};
}
only_read!(Point, Color, Everything);

#[derive(Debug, Deserialize)]
struct Everything {
    data: Block<f64>,
    grid: Array,
    more: Value,
    started: Event,
    jobs: Queue<Value>,
    wait: Duration,
    path: PathBuf,
    name: Option<String>,
    #[serde(default)]
    missing: u32,
}

/// Receives values of Rust types. Says what was wrong, or "all well".
pub(super) fn typed() -> Result<(), Box<dyn Error>> {
    let [there, back] = given()?;
    let report = Queue::<Value>::try_from(&back)?;
    let run = || -> Result<(), Box<dyn Error>> {
        macro_rules! expect {
            ($kind:ty, $wanted:expr) => {
                let got = Queue::<$kind>::try_from(&there)?.get_timeout(LIMIT)?;
                if got != $wanted {
                    return Err(format!("{got:?} is not {:?}", $wanted).into());
                }
            };
        }
        for _ in 0..4 {
            expect!(Point, Point { x: 1, y: 2.0 });
        }
        expect!(f64, 1.5);
        expect!(f64, 2.0);
        expect!(u8, 7);
        expect!(bool, true);
        expect!(String, "text");
        expect!(u128, 1u128 << 80);
        expect!(Vec<f64>, [1.0, 2.0]);
        expect!(Vec<f64>, [0.0, 1.0, 2.0]);
        expect!(Vec<Vec<i32>>, [[0, 1, 2], [3, 4, 5]]);
        expect!(Vec<Vec<i32>>, [[0, 2, 4], [1, 3, 5]]);
        expect!(Vec<bool>, [true, false]);
        expect!((i64, Option<String>), (1, None::<String>));
        expect!(std::collections::BTreeMap<i64, Vec<u8>>, std::collections::BTreeMap::from([(1, vec![2, 3])]));
        expect!(
            std::collections::BTreeSet<i64>,
            std::collections::BTreeSet::from([1, 2])
        );
        expect!(Color, Color::Green);
        expect!(Color, Color::Red);
        expect!(Color, Color::Rgb(1, 2, 3));
        expect!(String, "2026-01-02T03:04:05+02:00");
        expect!(String, "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let blocks = Queue::<Block<f64>>::try_from(&there)?;
        let block = blocks.get_timeout(LIMIT)?;
        if block.len() != 10_000 || block[9999] != 9999.0 {
            return Err("another block".into());
        }
        let Err(GetError::Decode(error)) = blocks.get_timeout(LIMIT) else {
            return Err("Fortran order is no list".into());
        };
        let array: Array = error.decode()?;
        if !array.is_fortran() || array.as_slice::<f64>()?[1] != 100.0 {
            return Err(format!("{array:?}").into());
        }
        let all = Queue::<Everything>::try_from(&there)?.get_timeout(LIMIT)?;
        if all.data[1] != 1.0 || all.grid.shape() != [2, 2] || all.more.get("a").is_none() || all.missing != 0
        {
            return Err(format!("{all:?}").into());
        }
        if (all.wait, all.path, all.name) != (Duration::from_millis(1500), "/tmp/x".into(), Some("n".into()))
        {
            return Err("wait, path or name".into());
        }
        all.started.set();
        all.jobs.put(&Value::from("from everything"))?;
        let numbers = Queue::<u8>::try_from(&there)?;
        match numbers.get_timeout(LIMIT) {
            Err(GetError::Decode(error)) if error.decode::<i64>()? == 256 => {}
            other => return Err(format!("{other:?}").into()),
        }
        Ok(())
    };
    let text = run().map_or_else(|e| e.to_string(), |()| "all well".into());
    report.put(&Value::from(text))?;
    Ok(())
}
