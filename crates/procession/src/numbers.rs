//! Long lists and tuples of numbers, which Python sends as arrays ([`procession_core::message::numbers`]).

use crate::value::Value;
use procession_core::message::numbers::{FLOAT, INT8, INT16, INT32, INT64, LIST, TUPLE};

/// Reads the bytes of a message. None: they are no such list or tuple.
pub(crate) fn read(bytes: &[u8]) -> Option<Value> {
    let ([container, kind], items) = bytes.split_first_chunk()?;
    let items = match *kind {
        INT8 => all(items, |b| Value::Int(i8::from_le_bytes(b).into())),
        INT16 => all(items, |b| Value::Int(i16::from_le_bytes(b).into())),
        INT32 => all(items, |b| Value::Int(i32::from_le_bytes(b).into())),
        INT64 => all(items, |b| Value::Int(i64::from_le_bytes(b))),
        FLOAT => all(items, |b| Value::Float(f64::from_le_bytes(b))),
        _ => None,
    }?;
    match *container {
        LIST => Some(Value::List(items)),
        TUPLE => Some(Value::Tuple(items)),
        _ => None,
    }
}

fn all<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> Value) -> Option<Vec<Value>> {
    let (numbers, rest) = bytes.as_chunks::<N>();
    rest.is_empty()
        .then(|| numbers.iter().map(|bytes| number(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_number_is_read() {
        let ints = |values: &[i64]| values.iter().map(|value| Value::Int(*value)).collect();
        assert_eq!(read(&[LIST, INT8, 1, 255]), Some(Value::List(ints(&[1, -1]))));
        assert_eq!(read(&[TUPLE, INT16, 0, 1]), Some(Value::Tuple(ints(&[256]))));
        assert_eq!(
            read(&[LIST, INT32, 0, 0, 0, 128]),
            Some(Value::List(ints(&[i32::MIN.into()])))
        );
        let long = [&[LIST, INT64][..], &i64::MIN.to_le_bytes()].concat();
        assert_eq!(read(&long), Some(Value::List(ints(&[i64::MIN]))));
        let float = [&[TUPLE, FLOAT][..], &0.5f64.to_le_bytes()].concat();
        assert_eq!(read(&float), Some(Value::Tuple(vec![Value::Float(0.5)])));
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &[][..],
            &[LIST],
            &[9, INT8, 1],
            &[LIST, 9, 1],
            &[LIST, INT16, 1],
            &[TUPLE, FLOAT, 1, 2],
        ] {
            assert_eq!(read(bytes), None);
        }
    }
}
