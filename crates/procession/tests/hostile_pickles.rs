//! Pickles of any origin: no panic, no endless work, memory in proportion to their length.

mod common;

use common::raw::Raw;
use procession::{Array, Block, GetError, Queue, Value};
use procession_core::message;
use procession_core::message::buffers::Head;

procession::init_before_main!();

/// What Python's pickler (protocol 5) has written of a dict of arrays, numbers, dates and other everyday objects.
const EVERYDAY: &[u8] = include_bytes!("data/everyday.pickle");

/// The greatest number of KiB that this process has used.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_python_has_pickled_is_read() {
    let value = Raw::new().read(EVERYDAY).unwrap();
    let array = value.get("a").and_then(Value::as_array).unwrap();
    assert_eq!(array.as_slice::<f64>().unwrap(), [0.0, 1.0, 2.0, 3.0]);
    assert!(value.get("F").and_then(Value::as_array).unwrap().is_fortran());
    assert_eq!(value.get("b").and_then(Value::as_i128), Some(1 << 80));
    assert_eq!(
        value.get("e").and_then(Value::as_instance).unwrap().class(),
        "builtins.ValueError"
    );
    // What Rust makes of it is read again as the same.
    let queue = Queue::<Value>::new().unwrap();
    queue.put(&value).unwrap();
    assert_eq!(queue.try_get().unwrap(), value);
    // And as a part of a message of a Rust type.
    let queue = Queue::<(u8, Value)>::new().unwrap();
    queue.put(&(1, value.clone())).unwrap();
    assert_eq!(queue.try_get().unwrap(), (1, value));
}

#[test]
fn a_pickle_that_ends_early_is_malformed() {
    let raw = Raw::new();
    for len in 0..EVERYDAY.len() {
        raw.refused(&EVERYDAY[..len]);
    }
}

#[test]
fn changed_pickles_are_other_values_or_errors() {
    let raw = Raw::new();
    let before = peak();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..30_000 {
        let mut bytes = EVERYDAY.to_vec();
        for _ in 0..=random(4) {
            let place = random(bytes.len());
            match random(4) {
                0 => drop(bytes.remove(place)),
                1 => bytes.insert(place, random(256) as u8),
                2 => bytes[place] = EVERYDAY[random(EVERYDAY.len())],
                _ => bytes[place] = random(256) as u8,
            }
        }
        match raw.read(&bytes) {
            Ok(value) => drop(format!("{value:?}")),
            Err(GetError::Decode(error)) => drop(error.decode::<Vec<f64>>()),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(peak() - before < 300 << 10, "{} KiB", peak() - before);
}

#[test]
fn repeated_rows_are_read_and_bombs_are_not() {
    let raw = Raw::new();
    let before = peak();
    // [[0] * 1000] * 1000
    let mut rows = vec![0x80, 5, b']', 0x94, b'(', b']', 0x94, b'('];
    rows.extend([b'K', 0].repeat(1000));
    rows.push(b'e');
    rows.extend([b'h', 1].repeat(999));
    rows.extend([b'e', b'.']);
    let value = raw.read(&rows).unwrap();
    assert_eq!(value.as_slice().unwrap()[999].as_slice().unwrap().len(), 1000);
    drop(value);
    // A tuple of two tuples of two tuples ...
    let mut bomb = vec![0x80, 5, b')', b'q', 0, b'0'];
    for place in 0..40u8 {
        bomb.push(b'(');
        bomb.extend([b'h', place].repeat(100));
        bomb.extend([b't', b'q', place + 1, b'0']);
    }
    bomb.extend([b'h', 40, b'.']);
    let error = raw.refused(&bomb);
    assert!(error.contains("more than once"), "{error}");
    assert!(peak() - before < 500 << 10, "{} KiB", peak() - before);
}

#[test]
fn deep_and_circular_objects_are_refused() {
    let raw = Raw::new();
    let mut deep = vec![0x80, 5];
    deep.extend([b']'; 1_000_000]);
    deep.extend([b'a'; 999_999]);
    deep.push(b'.');
    assert!(raw.refused(&deep).contains("deeply"));
    assert!(raw.refused(b"\x80\x05]\x94h\x00a.").contains("itself"));
    assert!(raw.refused(b"\x80\x05}\x94K\x01h\x00s.").contains("itself"));
    assert!(
        raw.refused(b"\x80\x05cbuiltins\ngetattr\n\x94h\x00h\x00\x86R\x94h\x01h\x01\x86R.")
            .len()
            > 1
    );
    // A call whose function is the call itself.
    let mut circle = b"\x80\x05cm\nf\n)R\x94(h\x00t\x94h\x01)R.".to_vec();
    assert!(!raw.refused(&circle).is_empty());
    circle.insert(2, b'0');
    assert!(raw.refused(&circle).contains("malformed"));
}

#[test]
fn instructions_with_too_little_on_the_stack_are_malformed() {
    let raw = Raw::new();
    for instruction in 0..=255u8 {
        for stack in [
            &b""[..],
            b"N",
            b"(",
            b"N(",
            b"(N",
            b"]",
            b"]N",
            b"NNN",
            b"cm\nn\n",
        ] {
            let pickle = [&[0x80, 5], stack, &[instruction], b"."].concat();
            drop(raw.read(&pickle));
        }
    }
    for long in [
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."[..],
        b"\x8b\xff\xff\xff\xff.",
        b"X\xff\xff\xff\xff.",
        b"j\xff\xff\xff\xff.",
    ] {
        assert!(raw.refused(long).contains("malformed"));
    }
}

#[test]
fn arrays_that_lie_about_their_size_are_refused() {
    let raw = Raw::new();
    let array = |typestr: &str, shape: &[u8], data: &[u8]| {
        let mut pickle = b"\x80\x05cprocession.rust\n_sent_array\n(".to_vec();
        pickle.extend([b'C', data.len() as u8]);
        pickle.extend_from_slice(data);
        pickle.extend([0x8c, typestr.len() as u8]);
        pickle.extend_from_slice(typestr.as_bytes());
        pickle.push(b'(');
        pickle.extend_from_slice(shape);
        pickle.extend_from_slice(b"t\x8c\x01CtR.");
        pickle
    };
    assert!(raw.read(&array("<f8", b"K\x02", &[0; 16])).is_ok());
    assert!(
        raw.read(&array("<f8", b"K\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7f", &[]))
            .is_ok()
    );
    for (typestr, shape) in [
        ("<f8", &b"K\x03"[..]),
        ("<f8", b"J\xff\xff\xff\xff"),
        ("<f8", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f"),
        ("<f99999999999999999999", b"K\x01"),
        ("|V0", b"J\xff\xff\xff\x7f"),
        ("<", b"K\x01"),
        ("", b"K\x01"),
        ("\u{e4}\u{e4}8", b"K\x01"),
        (">f8", b"K\x01"),
        ("|O8", b"K\x01"),
    ] {
        raw.refused(&array(typestr, shape, &[0; 16]));
    }
    // An odd number of bytes is no array of i16, whatever its type says.
    let odd = raw.read(&array("|V3", b"K\x05", &[0; 15])).unwrap();
    assert!(odd.as_array().unwrap().block::<i16>().is_err());
    assert_eq!(odd.as_array().unwrap().block::<[u8; 3]>().unwrap().len(), 5);
}

#[test]
fn heads_of_buffers_that_are_not_there_are_refused() {
    let raw = Raw::new();
    let pickle = b"\x80\x05\x97.";
    let head = |lengths: &[u64], places: Option<Vec<(u64, u32)>>| {
        let head = Head {
            lengths: lengths.to_vec(),
            places,
        };
        [&head.written()[..], pickle].concat()
    };
    raw.put(&head(&[5], None), message::BUFFERS, &[b"12345"]);
    let Value::Array(array) = raw.queue.try_get().unwrap() else {
        panic!("no array")
    };
    assert_eq!((array.as_bytes(), array.is_shared()), (&b"12345"[..], true));
    for (lengths, places) in [
        (&[1 << 40][..], None),
        (&[5, 5], None),
        (&[], None),
        (&[5], Some(vec![(64, 1)])),
        (&[5], Some(vec![(u64::MAX, u32::MAX)])),
    ] {
        raw.put(&head(lengths, places), message::BUFFERS, &[b"12345"]);
        assert!(matches!(raw.queue.try_get(), Err(GetError::Decode(_))));
    }
    for bytes in [&b""[..], b"1234567", &[0xff; 8], &[0xff; 80]] {
        raw.put(bytes, message::BUFFERS, &[]);
        assert!(matches!(raw.queue.try_get(), Err(GetError::Decode(_))));
        raw.put(bytes, message::ARRAY, &[]);
        drop(raw.queue.try_get());
    }
    assert!(raw.queue.is_empty());
}

#[test]
fn a_message_of_another_type_stays_in_the_error_with_its_array() {
    let raw = Raw::new();
    let numbers = Queue::<Vec<String>>::try_from(&Value::from(&raw.queue)).unwrap();
    let sent = Array::from(Block::from_slice(&vec![1.5f64; 2000]).unwrap());
    raw.queue.put(&Value::List(vec![sent.clone().into()])).unwrap();
    let Err(GetError::Decode(error)) = numbers.try_get() else {
        panic!("no error")
    };
    for _ in 0..2 {
        let Value::List(values) = error.decode::<Value>().unwrap() else {
            panic!("no list")
        };
        assert_eq!(values[0].as_array(), Some(&sent));
        assert_eq!(error.decode::<Vec<Vec<f32>>>().unwrap(), [[1.5; 2000]]);
    }
    let blocks = Queue::<Block<f64>>::try_from(&Value::from(&raw.queue)).unwrap();
    blocks.put(&Block::from_slice(&[1.0, 2.0]).unwrap()).unwrap();
    let Err(GetError::Decode(error)) = numbers.try_get() else {
        panic!("no error")
    };
    assert_eq!(&*error.decode::<Block<f64>>().unwrap(), [1.0, 2.0]);
    assert_eq!(error.decode::<Vec<f64>>().unwrap(), [1.0, 2.0]);
    assert!(error.decode::<Block<f32>>().is_err());
}
