//! Pickles of a few bytes that stand for much: they are refused before they take memory or time.

mod common;

use common::raw::Raw;
use procession::{GetError, Queue, Value};
use std::time::{Duration, Instant};

procession::init_before_main!();

/// How long a test may take to refuse a message, also without optimisation on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A pickle of a list that has what `object` writes `times` times, after what `before` writes, which stays in the memo.
fn list(before: &[u8], object: &[u8], times: usize) -> Vec<u8> {
    let mut pickle = vec![0x80, 5];
    pickle.extend_from_slice(before);
    pickle.extend_from_slice(b"](");
    pickle.extend(object.repeat(times));
    pickle.extend_from_slice(b"e.");
    pickle
}

/// A text or bytes of a length, with the instruction for a length of 64 bits.
fn run(instruction: u8, len: usize) -> Vec<u8> {
    let mut run = vec![instruction];
    run.extend_from_slice(&(len as u64).to_le_bytes());
    run.extend(vec![b'x'; len]);
    run
}

/// Puts an object into place `place` of the memo and off the stack.
fn kept(object: &[u8], place: u8) -> Vec<u8> {
    [object, &[b'q', place, b'0']].concat()
}

const TEXT: u8 = 0x8d;
const BYTES: u8 = 0x8e;
const MUCH: usize = 64 << 10;

/// A pickle of many objects that each copy a large thing in place 0 of the memo: what the large thing is, what the class is (in
/// place 1), and what makes an object of them.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let many = 30_000;
    let with = |large: Vec<u8>, class: &[u8], object: &[u8]| {
        list(&[kept(&large, 0), kept(class, 1)].concat(), object, many)
    };
    let numbers = [&b"("[..], &b"K\x00".repeat(MUCH), b"t"].concat();
    let attributes = [&b"}("[..], &b"h\x02K\x00".repeat(MUCH), b"u"].concat();
    let mut called = vec![("arguments", with(numbers.clone(), b"cm\nC\n", b"h\x01h\x00R"))];
    called.push((
        "arguments of __new__",
        with(numbers.clone(), b"cm\nC\n", b"h\x01h\x00\x81"),
    ));
    called.push((
        "set",
        with(numbers.clone(), b"cbuiltins\nset\n", b"h\x01h\x00\x85R"),
    ));
    called.push((
        "bytearray",
        with(run(BYTES, MUCH), b"cbuiltins\nbytearray\n", b"h\x01h\x00\x85R"),
    ));
    called.push((
        "Decimal",
        with(run(TEXT, MUCH), b"cdecimal\nDecimal\n", b"h\x01h\x00\x85R"),
    ));
    called.push((
        "Path",
        with(run(TEXT, MUCH), b"cpathlib\nPath\n", b"h\x01h\x00\x85R"),
    ));
    let name = [&b"cm\n"[..], &vec![b'x'; MUCH], b"\n"].concat();
    called.push(("name", with(name, b"N", b"h\x00)R")));
    let name = [&b"cm\n"[..], &vec![b'x'; 4000], b"\n"].concat();
    called.push(("short name", with(name, b"N", b"h\x00)R")));
    called.push((
        "zone",
        list(
            &[
                kept(&run(TEXT, MUCH), 0),
                kept(b"czoneinfo\nZoneInfo\n", 1),
                kept(b"cdatetime\ntime\n", 2),
                kept(b"C\x06\0\0\0\0\0\0", 3),
                kept(b"h\x01h\x00\x85R", 4),
            ]
            .concat(),
            b"h\x02h\x03h\x04\x86R",
            many,
        ),
    ));
    called.push((
        "numpy scalar",
        list(
            &[
                kept(&run(BYTES, MUCH), 0),
                kept(b"cnumpy._core.multiarray\nscalar\n", 1),
                kept(b"cnumpy\ndtype\n\x8c\x06S65536\x85R", 2),
            ]
            .concat(),
            b"h\x01h\x02h\x00\x86R",
            many,
        ),
    ));
    called.push((
        "attributes of a UUID",
        list(
            &[
                kept(b"\x8c\x01x", 2),
                kept(&attributes, 0),
                kept(b"cuuid\nUUID\n", 1),
            ]
            .concat(),
            b"h\x01)\x81h\x00b",
            many,
        ),
    ));
    let inner = [&b"\x80\x05"[..], &b")0".repeat(MUCH / 2), b"N."].concat();
    let mut pickled = vec![BYTES];
    pickled.extend_from_slice(&(inner.len() as u64).to_le_bytes());
    pickled.extend_from_slice(&inner);
    called.push((
        "pickle within",
        with(
            pickled,
            b"cprocession._serialize.move\n_assemble\n",
            b"h\x01h\x00\x85R",
        ),
    ));
    called
}

#[test]
fn what_objects_share_is_not_copied_for_each_without_limit() {
    let raw = Raw::new();
    for (what, pickle) in bombs() {
        let start = Instant::now();
        let error = raw.refused(&pickle);
        assert!(
            error.contains("more than once") || error.contains("name"),
            "{what}: {error}"
        );
        assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    }
}

#[test]
fn many_small_objects_are_no_bomb() {
    let raw = Raw::new();
    for (object, times) in [(&b")"[..], 1_500_000), (b"h\x00)\x81\x94", 400_000)] {
        // More than the bytes that any pickle may become.
        let pickle = list(&kept(b"cm\nC\n", 0), object, times);
        assert_eq!(raw.read(&pickle).unwrap().as_slice().unwrap().len(), times);
    }
}

#[test]
fn objects_inside_of_objects_do_not_overflow_the_stack() {
    let raw = Raw::new();
    for (open, close) in [
        (&b"cm\nC\n"[..], &b"\x85R"[..]),
        (b"cm\nC\n)\x81", b"b"),
        (b"ccollections\nCounter\n", b"\x85R"),
        (b"cbuiltins\nset\n]", b"a\x85R"),
        (b"]", b"a"),
    ] {
        for depth in [150, 10_000] {
            let pickle = [
                b"\x80\x05",
                &open.repeat(depth)[..],
                b"K\x01",
                &close.repeat(depth),
                b".",
            ]
            .concat();
            match raw.read(&pickle) {
                Ok(value) => drop(format!("{value:?}")),
                Err(e) => assert!(depth > 200 && e.to_string().contains("deeply"), "{e}"),
            }
            // The same inside of a pickle inside of a pickle.
            let mut inner = vec![BYTES];
            inner.extend_from_slice(&(pickle.len() as u64).to_le_bytes());
            inner.extend_from_slice(&pickle);
            let whole = [
                b"\x80\x05",
                &open.repeat(150)[..],
                b"cprocession._serialize.move\n_assemble\n",
                &inner,
                b"\x85R",
                &close.repeat(150),
                b".",
            ]
            .concat();
            drop(raw.read(&whole));
        }
    }
}

#[test]
fn a_refusal_is_short_however_long_the_names_are() {
    let raw = Raw::new();
    let name = [&b"cm\n"[..], &vec![b'x'; MUCH], b"\nq\x000"].concat();
    let pickle = [
        b"\x80\x05",
        &name[..],
        &b"h\x00".repeat(150),
        b"cm\nf\n",
        &b"\x85R".repeat(150),
        b".",
    ]
    .concat();
    let start = Instant::now();
    let error = raw.refused(&pickle);
    assert!(error.len() < 10_000, "{}", error.len());
    // Also as `unwrap` prints it: with the number of bytes, not the bytes.
    let printed = format!("{:?}", raw.read(&pickle).unwrap_err());
    assert!(printed.len() < 10_000, "{}", printed.len());
    assert!(start.elapsed() < SOON);
}

#[test]
fn ranges_and_empty_rows_do_not_become_endless_lists() {
    let raw = Raw::new();
    let lists = Queue::<Vec<Vec<i64>>>::try_from(&Value::from(&raw.queue)).unwrap();
    let ranges = b"\x80\x05](cbuiltins\nrange\nK\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x01\x87Re.";
    raw.put(ranges, procession_core::message::PICKLE, &[]);
    match lists.try_get() {
        Err(GetError::Decode(error)) => assert!(error.reason().contains("too many"), "{error}"),
        other => panic!("{:?}", other.map(|v| v.len())),
    }
    let rows = b"\x80\x05cprocession.rust\n_sent_array\n(C\x00\x8c\x03<i8(\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x00t\x8c\x01CtR.";
    raw.put(rows, procession_core::message::PICKLE, &[]);
    match lists.try_get() {
        Err(GetError::Decode(error)) => assert!(error.reason().contains("too many"), "{error}"),
        other => panic!("{:?}", other.map(|v| v.len())),
    }
}

#[test]
fn a_long_int_is_no_long_work() {
    let raw = Raw::new();
    let mut pickle = vec![0x80, 5, 0x8b];
    pickle.extend_from_slice(&(4u32 << 20).to_le_bytes());
    pickle.extend(vec![0x5a; 4 << 20]);
    pickle.push(b'.');
    let start = Instant::now();
    assert_eq!(raw.read(&pickle).unwrap().as_f64(), Some(f64::INFINITY));
    let texts = Queue::<String>::try_from(&Value::from(&raw.queue)).unwrap();
    raw.put(&pickle, procession_core::message::PICKLE, &[]);
    assert!(matches!(texts.try_get(), Err(GetError::Decode(_))));
    assert!(start.elapsed() < SOON);
}

#[test]
fn values_that_are_nested_deeply_are_refused_in_messages_of_rust_types() {
    let queue = Queue::<(u8, Value)>::new().unwrap();
    let nested = |depth| (0..depth).fold(Value::None, |value, _| Value::List(vec![value]));
    queue.put(&(1, nested(200))).unwrap();
    assert_eq!(queue.get().unwrap().1, nested(200));
    assert!(
        queue
            .put(&(1, nested(201)))
            .unwrap_err()
            .to_string()
            .contains("deeply")
    );
    // As a program would write it that does not use this crate: the variant `List` with one element, and so on.
    let bytes = [&[1][..], &[7, 1].repeat(1_000_000)].concat();
    let raw = Raw::new();
    let typed = Queue::<(u8, Value)>::try_from(&Value::from(&raw.queue)).unwrap();
    raw.put(&bytes, procession_core::message::POSTCARD, &[]);
    let Err(GetError::Decode(error)) = typed.try_get() else {
        panic!("no error")
    };
    assert!(error.reason().contains("deeply"), "{error}");
    assert_eq!(error.bytes(), bytes);
}

#[test]
fn an_array_that_occurs_often_is_a_list_as_often_as_the_message_has_room_for() {
    let raw = Raw::new();
    let lists = Queue::<Vec<Vec<f64>>>::try_from(&Value::from(&raw.queue)).unwrap();
    let array = procession::Array::from(procession::Block::from_slice(&vec![0.5; 1 << 20]).unwrap());
    // Each time the same memory, of which the message has a handle.
    raw.queue
        .put(&Value::List(vec![array.clone().into(); 3]))
        .unwrap();
    assert_eq!(lists.try_get().unwrap()[2].len(), 1 << 20);
    raw.queue.put(&Value::List(vec![array.into(); 100])).unwrap();
    assert!(matches!(lists.try_get(), Err(GetError::Decode(_))));
    // Different memory counts as what it is.
    let other = || procession::Array::from(procession::Block::from_slice(&vec![0.5; 1 << 20]).unwrap());
    let many: Vec<Value> = (0..20).map(|_| other().into()).collect();
    raw.queue.put(&Value::List(many)).unwrap();
    assert_eq!(lists.try_get().unwrap().len(), 20);
}
