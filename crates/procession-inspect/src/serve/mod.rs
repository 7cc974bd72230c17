//! The page of `procession report`, live, for all families of this user: a small HTTP server on this machine.
//!
//! | path | answer |
//! |---|---|
//! | `/TOKEN/` | the page, with a script that shows each new state |
//! | `/TOKEN/events` | server-sent events: each a state as JSON |
//! | `/TOKEN/state.json` | one state |
//!
//! Who may read it:
//!
//! - The server listens on 127.0.0.1 alone.
//! - The token is 128 random bits, so other users of this machine and other pages of the browser do not find the page.
//! - The `Host` header must name this address: a page of another name that resolves to it is refused (DNS rebinding).
//! - The state has names, numbers and places as the screens have, and no payloads.
//!
//! A client that reads slowly skips states, and one that reads nothing for a while is cut off. The server itself, with its
//! limits of connections and times, is the module `http`. While no client reads, nothing is looked at.
//!
//! # References
//!  - [Server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html)

mod looks;
mod site;

use crate::error::{Error, Result};
use crate::http::{self, Hosts};
use crate::page;
use serde::Serialize;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SCRIPT: &str = include_str!("live.js");

/// What the clients are shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct State {
    /// The families that were looked at.
    families: Vec<Summary>,
    /// The contents of the page.
    html: String,
}

/// A family in short.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    id: String,
    title: String,
    problems: usize,
    warnings: usize,
    findings: Vec<crate::findings::Finding>,
    pools: Vec<PoolSummary>,
}

#[derive(Clone, Debug, Serialize)]
struct PoolSummary {
    name: String,
    submitted: u64,
    ended: u64,
    waiting: u64,
}

/// A server that has its address, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    port: u16,
    token: String,
}

impl Server {
    /// Takes the port on 127.0.0.1; 0: any free one.
    ///
    /// # Errors
    /// The port is in use, or no random bytes can be had.
    pub fn bind(port: u16) -> Result<Server> {
        let failed = |e: std::io::Error| Error::file(format!("port {port} of 127.0.0.1"), e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Server {
            listener,
            port,
            token: random()?,
        })
    }

    /// The address of the page, with the token.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.port, self.token)
    }

    /// Answers until `stop` returns true.
    ///
    /// # Errors
    /// The server cannot start.
    pub fn run(self, stop: &dyn Fn() -> bool) -> Result<()> {
        let failed = |e: std::io::Error| Error::file("the server", e);
        let (sender, receiver) = tokio::sync::watch::channel(Arc::new(State::default()));
        drop(receiver);
        let sender = Arc::new(sender);
        let ended = Arc::new(AtomicBool::new(false));
        let looks = std::thread::Builder::new().name("looks".to_owned()).spawn({
            let (sender, ended) = (sender.clone(), ended.clone());
            move || looks::look_again_and_again(&sender, &ended)
        });
        let looks = looks.map_err(failed)?;
        let site = site::Site {
            hosts: Hosts::Exactly(vec![
                format!("127.0.0.1:{}", self.port),
                format!("localhost:{}", self.port),
            ]),
            token: self.token,
            states: sender,
        };
        let answered = http::run(self.listener, site, stop);
        ended.store(true, Ordering::Relaxed);
        let _ = looks.join();
        answered.map_err(failed)
    }
}

/// 128 random bits in hexadecimal digits.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let more = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += more.map_err(|e| Error::file("random bytes", e.into()))?;
    }
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The page with this state. `nonce`: what allows its script.
fn live_page(state: &State, nonce: &str) -> String {
    let head = "<link rel=icon href=\"data:,\">\n";
    let body = format!(
        "<div id=banner role=alert hidden></div>\n<p class=when id=connection>live; without scripts, load the page again.\n\
         <div id=families>\n{}</div>\n<script nonce={nonce}>\n{SCRIPT}</script>\n",
        state.html
    );
    page::document("live", head, &body)
}
