//! `procession serve`: which requests are answered, and that no client holds up another one.
#![cfg(feature = "serve")]

use procession_inspect::serve::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than any answer takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs until it is dropped.
struct Running {
    address: String,
    path: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new() -> Running {
        let server = Server::bind(0).expect("a free port");
        let url = server.url();
        let rest = url.strip_prefix("http://").expect("an address");
        let (address, token) = rest.split_once('/').expect("a token");
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        Running {
            address: address.to_owned(),
            path: format!("/{token}"),
            stop,
            thread: Some(std::thread::spawn(move || {
                server.run(&|| asked.load(Ordering::Relaxed)).expect("a server");
            })),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("a request");
        stream
    }

    /// The whole answer to a request.
    fn ask(&self, method: &str, path: &str, host: &str) -> String {
        let mut answer = String::new();
        let mut stream = self.send(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, &self.address)
    }

    fn events(&self) -> TcpStream {
        self.send(&format!(
            "GET {}events HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.path, self.address
        ))
    }

    fn end(mut self) -> Duration {
        let began = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("no panic");
        began.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads until `count` events have come. None: the server has closed the connection.
fn read_events(stream: &mut TcpStream, count: usize) -> Option<String> {
    let mut text = String::new();
    let mut buffer = vec![0; 1 << 16];
    while text.matches("data: {").count() < count || !text.ends_with("\n\n\r\n") {
        let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    Some(text)
}

#[test]
fn only_an_address_with_the_token_and_this_host_is_answered() {
    let server = Running::new();
    let page = server.get(&server.path);
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'nonce-",
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
    ] {
        assert!(
            page.to_lowercase().contains(header),
            "{header} is missing: {page}"
        );
    }
    let state = server.get(&format!("{}state.json", server.path));
    assert!(state.contains("\"families\":["), "{state}");
    let port = server.address.split_once(':').expect("a port").1;
    let by_name = server.ask("GET", &server.path, &format!("localhost:{port}"));
    assert!(by_name.starts_with("HTTP/1.1 200"), "{by_name}");
    let wrong_token = server.path.replace(|c: char| c.is_ascii_digit(), "x");
    for (method, path, host, status) in [
        ("GET", "/", server.address.as_str(), 403),
        ("GET", "/events", &server.address, 403),
        ("GET", &wrong_token, &server.address, 403),
        ("GET", &server.path[..server.path.len() - 2], &server.address, 403),
        ("GET", &server.path, "example.org", 403),
        ("GET", &server.path, "127.0.0.1", 403),
        ("GET", &server.path, &format!("example.org:{port}"), 403),
        ("POST", &server.path, &server.address, 405),
        ("GET", &format!("{}../etc", server.path), &server.address, 404),
    ] {
        let answer = server.ask(method, path, host);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path} {host}: {answer}"
        );
        assert!(!answer.contains("families"));
    }
    assert!(server.end() < PATIENCE);
}

#[test]
fn clients_that_read_nothing_or_vanish_hold_nothing_up() {
    let server = Running::new();
    let _reads_nothing: Vec<TcpStream> = (0..8).map(|_| server.events()).collect();
    for _ in 0..100 {
        drop(server.events());
    }
    // The places of those that have vanished become free.
    let until = Instant::now() + PATIENCE;
    let text = loop {
        if let Some(text) = read_events(&mut server.events(), 3) {
            break text;
        }
        assert!(Instant::now() < until, "no place has become free");
    };
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let began = Instant::now();
    assert!(server.get(&server.path).starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < PATIENCE);
    assert!(server.end() < PATIENCE);
}

#[test]
fn connections_above_the_limit_are_refused_until_silent_ones_are_cut_off() {
    let server = Running::new();
    let silent: Vec<TcpStream> = (0..64).map(|_| server.connect()).collect();
    let refused = |mut stream: &TcpStream| {
        let mut answer = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 503")
    };
    assert!(silent.last().is_some_and(refused));
    let until = Instant::now() + PATIENCE;
    loop {
        let mut stream = server.connect();
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", server.path, server.address);
        let mut answer = String::new();
        let asked = stream.write_all(request.as_bytes());
        if asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < until, "{answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(silent);
    assert!(server.end() < PATIENCE);
}
