//! Answers the requests of Prometheus, one after the other.

use crate::error::{Error, Result};
use crate::live::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longest head of a request.
const LONGEST: usize = 8192;
/// Longest time for reading a request, and for writing an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks at what a signal has asked for.
const BEAT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` at an address, until a signal ends it. Returns the exit status.
pub(crate) fn listen(pid: Option<u32>, address: &str) -> Result<i32> {
    let address = parsed(address)?;
    let name = address.to_string();
    let stop = Stop::new()?;
    let listener = TcpListener::bind(address).map_err(|e| Error::file(&name, e))?;
    let address = listener.local_addr().map_err(|e| Error::file(&name, e))?;
    let mut out = std::io::stdout();
    // Its reader may have seen enough.
    let _ = writeln!(out, "http://{address}/metrics").and_then(|()| out.flush());
    while stop.signal().is_none() {
        let mut ready = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut ready, Some(&BEAT)) {
            Ok(0) | Err(_) => continue,
            Ok(_) => {}
        }
        if let Ok((stream, _)) = listener.accept() {
            // A client that has gone needs no answer.
            let _ = answer(stream, pid, address.ip().is_loopback());
        }
    }
    Ok(stop.status())
}

/// An address with a port. A port alone is one of this machine, which others cannot reach.
fn parsed(address: &str) -> Result<SocketAddr> {
    let port = address.strip_prefix(':').unwrap_or(address);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((IpAddr::from(Ipv4Addr::LOCALHOST), port).into());
    }
    let local = address.replace("localhost:", "127.0.0.1:");
    local.parse().map_err(|_| {
        Error::Usage(format!(
            "--listen needs an address with a port, as 127.0.0.1:9464, and not {address}"
        ))
    })
}

fn answer(mut stream: TcpStream, pid: Option<u32>, only_local: bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = stream.read(&mut piece)?;
        if n == 0 || head.len() + n > LONGEST {
            return Ok(());
        }
        head.extend_from_slice(&piece[..n]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (status, kind, body) = match request(&head, only_local) {
        Err(status) => (status, "text/plain; charset=utf-8", format!("{status}\n")),
        Ok(()) => match super::text(pid) {
            Ok(text) => ("200 OK", CONTENT, text),
            Err(error) => (
                "503 Service Unavailable",
                "text/plain; charset=utf-8",
                format!("{}\n", crate::visible::visible(&error.to_string())),
            ),
        },
    };
    let body = if head.starts_with("HEAD ") {
        String::new()
    } else {
        body
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes())
}

/// Checks a request. A page of another site, whose name a browser has been told to be this machine, gets nothing.
fn request(head: &str, only_local: bool) -> std::result::Result<(), &'static str> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(method, "GET" | "HEAD") {
        return Err("405 Method Not Allowed");
    }
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    let is_local = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    if only_local && !host.is_none_or(is_local) {
        return Err("403 Forbidden");
    }
    match path.split('?').next() {
        Some("/metrics" | "/") => Ok(()),
        _ => Err("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        for address in ["9464", ":9464", "127.0.0.1:9464", "localhost:9464"] {
            assert_eq!(parsed(address).expect(address).to_string(), "127.0.0.1:9464");
        }
        assert_eq!(parsed("[::1]:1").expect("an address").to_string(), "[::1]:1");
        for address in ["", "nonsense", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(matches!(parsed(address), Err(Error::Usage(_))), "{address}");
        }
    }

    #[test]
    fn only_a_request_for_metrics_of_this_machine_is_answered() {
        let ask = |line: &str, host: &str| request(&format!("{line} HTTP/1.1\r\nhost: {host}\r\n\r\n"), true);
        assert_eq!(ask("GET /metrics", "127.0.0.1:9464"), Ok(()));
        assert_eq!(ask("GET /metrics?x=1", "[::1]:9464"), Ok(()));
        assert_eq!(ask("GET /", "localhost:9464"), Ok(()));
        assert_eq!(ask("GET /metrics", "example.org:9464"), Err("403 Forbidden"));
        assert_eq!(ask("GET /other", "localhost"), Err("404 Not Found"));
        assert_eq!(ask("POST /metrics", "localhost"), Err("405 Method Not Allowed"));
        assert_eq!(
            request("GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n", false),
            Ok(())
        );
    }
}
