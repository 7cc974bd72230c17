//! Connections and named segments, which programs of different families share.

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{
    Address, Client, Connection, ConnectionError, Listener, Process, Select, SharedMemory, Value,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

procession::init_before_main!();

every_way! {
    a_process_connects_to_a_listener
    a_segment_is_opened_by_its_name
}

fn folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("procession-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn echo(connection: &Connection) -> Result<(), ConnectionError> {
    loop {
        let bytes = connection.recv_bytes()?;
        connection.send_bytes(&bytes)?;
    }
}

fn a_process_connects_to_a_listener(way: Way) {
    let path = folder().join(format!("{way:?}"));
    let listener = Listener::bind_unix(&path, b"key").unwrap();
    let child = way.start(
        |path: std::path::PathBuf| {
            let connection = Client::connect(&Address::Unix(path), b"key").unwrap();
            match echo(&connection) {
                Err(ConnectionError::Closed) => {}
                other => panic!("{other:?}"),
            }
        },
        path.clone(),
    );
    let connection = listener.accept().unwrap();
    for len in [0usize, 1, 100, 1 << 20] {
        let bytes = vec![7u8; len];
        std::thread::scope(|scope| {
            scope.spawn(|| connection.send(&bytes).unwrap());
            assert_eq!(connection.recv::<Vec<u8>>().unwrap(), bytes);
        });
    }
    connection.send(&(1u8, "two".to_string())).unwrap();
    assert_eq!(connection.recv::<(u8, String)>().unwrap(), (1, "two".into()));
    let value = Value::Tuple(vec![Value::from(1i64), Value::from("x"), Value::None]);
    connection.send(&value).unwrap();
    assert_eq!(connection.recv::<Value>().unwrap(), value);
    connection.send(&(1u8, "two".to_string())).unwrap();
    assert!(matches!(
        connection.recv::<f64>(),
        Err(ConnectionError::Decode(_))
    ));
    drop(connection);
    joined(child).unwrap();
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn who_does_not_know_the_key_is_refused_on_both_sides() {
    let listener = Listener::bind_tcp("127.0.0.1:0", b"right").unwrap();
    let address = listener.address().unwrap();
    let client = std::thread::spawn(move || {
        let wrong = Client::connect(&address, b"wrong").map(drop).unwrap_err();
        let none = Client::connect(&address, b"")
            .and_then(|c| c.recv::<u64>())
            .map(drop)
            .unwrap_err();
        let right = Client::connect(&address, b"right").unwrap();
        right.send(&7u64).unwrap();
        (wrong, none)
    });
    assert!(matches!(listener.accept(), Err(ConnectionError::Refused(_))));
    assert!(listener.accept().is_err());
    assert_eq!(listener.accept().unwrap().recv::<u64>().unwrap(), 7);
    let (wrong, none) = client.join().unwrap();
    assert!(matches!(wrong, ConnectionError::Refused(_)), "{wrong}");
    assert!(
        matches!(none, ConnectionError::Decode(_) | ConnectionError::Closed),
        "{none}"
    );
}

#[test]
fn nonsense_from_the_other_side_is_an_error_and_no_panic() {
    let listener = Listener::bind_tcp("127.0.0.1:0", b"key").unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else {
        panic!()
    };
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[0, 0, 0, 5, 1],
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(nonsense).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(listener.accept().is_err());
    }
    // Without a key as well: a length beyond all memory, and one beyond the limit.
    let listener = Listener::bind_tcp("127.0.0.1:0", b"").unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else {
        panic!()
    };
    for nonsense in [
        &[
            0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ][..],
        &[0, 0, 4, 1],
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(nonsense).unwrap();
        let connection = listener.accept().unwrap().with_limit(1024);
        assert!(matches!(connection.recv_bytes(), Err(ConnectionError::Malformed)));
    }
}

#[test]
fn who_hangs_up_before_a_word_is_refused_and_no_error_of_the_listener() {
    let path = folder().join("gone at once");
    let listener = Listener::bind_unix(&path, b"key").unwrap();
    drop(UnixStream::connect(&path).unwrap());
    assert!(matches!(listener.accept(), Err(ConnectionError::Refused(_))));
}

#[test]
fn silent_and_slow_clients_keep_nobody_waiting_and_are_given_up() {
    let path = folder().join("drops");
    let listener = Listener::bind_unix(&path, b"key")
        .unwrap()
        .with_handshake_limit(Duration::from_secs(10));
    let silent: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut slow = UnixStream::connect(&path).unwrap();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let first = scope.spawn(|| listener.accept().unwrap());
        // The listener has sent the challenge, so it knows this program.
        slow.read_exact(&mut [0; 1]).unwrap();
        scope.spawn(|| {
            for byte in [0, 0, 0, 60].into_iter().chain(std::iter::repeat(b'#')) {
                if slow.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(600));
            }
        });
        let client = Client::connect(&Address::Unix(path.clone()), b"key").unwrap();
        client.send_bytes(b"hello").unwrap();
        assert_eq!(first.join().unwrap().recv_bytes().unwrap(), b"hello");
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "it had to wait for those before it"
        );
        for _ in 0..6 {
            assert!(matches!(listener.accept(), Err(ConnectionError::Refused(_))));
        }
        assert!(began.elapsed() < LIMIT);
        drop(silent);
    });
}

#[test]
fn a_unix_listener_takes_its_path_along() {
    let path = folder().join("gone");
    let listener = Listener::bind_unix(&path, b"").unwrap();
    assert!(Listener::bind_unix(&path, b"").is_err());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"\0\0\0\x02hi").unwrap();
    let connection = listener.accept().unwrap();
    assert_eq!(connection.recv_bytes().unwrap(), b"hi");
    connection.send_bytes(b"ho").unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0\0\x02ho");
    drop(listener);
    assert!(UnixStream::connect(&path).is_err());
}

fn a_segment_is_opened_by_its_name(way: Way) {
    let segment = SharedMemory::create(None, 10_000).unwrap();
    segment.write(9_998, &[1, 2]);
    let child = way.start(
        |segment: SharedMemory| {
            let mut bytes = [0; 2];
            segment.read(9_998, &mut bytes);
            segment.write(0, &bytes);
            segment.len()
        },
        segment.clone(),
    );
    assert_eq!(joined(child).unwrap(), 10_000);
    let mut bytes = [0; 2];
    segment.read(0, &mut bytes);
    assert_eq!(bytes, [1, 2]);
    let name = segment.name().to_owned();
    assert!(SharedMemory::create(Some(&name), 1).is_err());
    let same = SharedMemory::open(&name).unwrap();
    drop(segment);
    assert!(SharedMemory::open(&name).is_err());
    same.read(0, &mut bytes);
    assert_eq!(bytes, [1, 2]);
}

#[test]
fn every_range_of_a_segment_is_read_as_it_was_written() {
    let segment = SharedMemory::create(None, 64).unwrap();
    for start in 0..16 {
        for len in 0..40 {
            let written: Vec<u8> = (1..).take(len).collect();
            segment.write(0, &[0; 64]);
            segment.write(start, &written);
            let mut all = [0; 64];
            segment.read(0, &mut all);
            assert_eq!(&all[start..start + len], written);
            assert_eq!(all.iter().filter(|byte| **byte != 0).count(), len);
            let mut read = vec![0; len];
            segment.read(start, &mut read);
            assert_eq!(read, written);
        }
    }
}

#[test]
fn a_segment_has_a_possible_name_and_size() {
    for name in ["", "/", "a/b", ".."] {
        assert!(SharedMemory::create(Some(name), 1).is_err(), "{name}");
    }
    assert!(SharedMemory::create(None, 0).is_err());
    assert!(SharedMemory::create(None, usize::MAX / 2).is_err());
    let segment = SharedMemory::create(None, 8).unwrap();
    assert!(std::panic::catch_unwind(|| segment.write(1, &[0; 8])).is_err());
}

#[test]
fn a_stale_handle_is_an_error_that_says_so() {
    let queue = procession::Queue::<procession::Event>::new().unwrap();
    let bytes = {
        let event = procession::Event::new().unwrap();
        let child = Process::spawn(
            |event: procession::Event| procession::Value::from(&event).to_bytes().unwrap(),
            event,
        )
        .unwrap();
        // The child held the event for a reader of these bytes. The child has ended, and the event is gone.
        joined(child).unwrap()
    };
    assert!(common::eventually(|| Value::from_bytes(&bytes).is_err()));
    let error = Value::from_bytes(&bytes).unwrap_err();
    assert!(error.to_string().contains("closed by its last owner"), "{error}");
    assert!(matches!(
        queue.get_timeout(LIMIT / 1000),
        Err(procession::GetError::Empty)
    ));
}

#[test]
fn a_select_accepts_beside_programs_that_are_silent_slow_or_wrong() {
    let listener = Listener::bind_tcp("127.0.0.1:0", b"key").unwrap();
    let address = listener.address().unwrap();
    let Address::Tcp(port) = &address else {
        panic!("no TCP")
    };
    assert!(listener.try_accept().unwrap().is_none());
    // It connects before the select exists, and says nothing.
    let silent = TcpStream::connect(port).unwrap();
    assert!(eventually(|| {
        assert!(listener.try_accept().unwrap().is_none());
        let mut first = [0; 1];
        silent.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        silent.peek(&mut first).is_ok() // its challenge has come
    }));
    let mut select = Select::new();
    let programs = select.accept(&listener).unwrap();
    assert_eq!(select.ready_timeout(Duration::from_millis(30)), None);
    let mut next = || {
        loop {
            assert_eq!(select.ready_timeout(LIMIT), Some(programs));
            match listener.try_accept() {
                Ok(None) => {}
                Ok(Some(connection)) => return Ok(connection),
                Err(e) => return Err(e),
            }
        }
    };
    for round in 0..20u32 {
        let address = address.clone();
        let client = std::thread::spawn(move || {
            let connection = Client::connect(&address, b"key").unwrap();
            connection.send(&round).unwrap();
        });
        assert_eq!(next().unwrap().recv::<u32>().unwrap(), round);
        client.join().unwrap();
    }
    let wrong = std::thread::spawn({
        let address = address.clone();
        move || Client::connect(&address, b"wrong").is_err()
    });
    assert!(matches!(next(), Err(ConnectionError::Refused(_))));
    assert!(wrong.join().unwrap());
    // The silent one goes away.
    drop(silent);
    assert!(matches!(next(), Err(ConnectionError::Refused(_))));
    assert_eq!(select.ready_timeout(Duration::from_millis(30)), None);
    drop(listener);
    assert_eq!(select.ready_timeout(Duration::from_millis(30)), None);
}
