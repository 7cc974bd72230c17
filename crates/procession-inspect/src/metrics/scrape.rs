//! Answers the requests of Prometheus.

use crate::error::{Error, Result};
use crate::http::{self, Body, Connection, Hosts, refusal, text};
use crate::live::Stop;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` at an address, until a signal ends it.
pub(crate) fn listen(pid: Option<u32>, address: &str) -> Result<()> {
    let address = parsed(address)?;
    let name = address.to_string();
    let stop = Stop::new()?;
    let listener = TcpListener::bind(address).map_err(|e| Error::file(&name, e))?;
    let address = listener.local_addr().map_err(|e| Error::file(&name, e))?;
    let mut out = std::io::stdout();
    // Its reader may have seen enough.
    let _ = writeln!(out, "http://{address}/metrics").and_then(|()| out.flush());
    let hosts = if address.ip().is_loopback() {
        Hosts::Loopback
    } else {
        Hosts::All
    };
    let site = Site {
        hosts,
        pid,
        looks: Arc::default(),
    };
    http::run(listener, site, &|| stop.signal().is_some()).map_err(|e| Error::file("the server", e))
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

/// What the server knows.
struct Site {
    hosts: Hosts,
    pid: Option<u32>,
    /// Held during a look, so that many clients do not look at a time.
    looks: Arc<tokio::sync::Mutex<()>>,
}

impl http::Site for Site {
    fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    async fn respond(&self, request: &Request<Incoming>, _: &Arc<Connection>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        if !matches!(request.uri().path(), "/metrics" | "/") {
            return refusal(StatusCode::NOT_FOUND, "the numbers are at /metrics\n");
        }
        let pid = self.pid;
        // The look has it, and not the client, which may go before the look has ended.
        let turn = self.looks.clone().lock_owned().await;
        let looked = tokio::task::spawn_blocking(move || {
            let looked = super::text(pid);
            drop(turn);
            looked
        });
        let unavailable = |why: &str| {
            let why = format!("{}\n", crate::visible::visible(why));
            refusal(StatusCode::SERVICE_UNAVAILABLE, why)
        };
        match looked.await {
            Ok(Ok(numbers)) => text(CONTENT, numbers),
            Ok(Err(error)) => unavailable(&error.to_string()),
            Err(error) => unavailable(&error.to_string()),
        }
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
}
