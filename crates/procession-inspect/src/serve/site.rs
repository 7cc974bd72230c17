//! The paths of the page, and what each answers.

use super::{State, live_page, random};
use crate::http::{self, Body, Connection, Hosts, refusal, text, with_headers};
use crate::visible::visible_json;
use http_body_util::Either;
use http_body_util::channel::Channel;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::timeout;

/// Longest time in which a client of events reads nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Longest time for a look.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// What the server knows.
pub(super) struct Site {
    pub(super) hosts: Hosts,
    pub(super) token: String,
    pub(super) states: Arc<Sender<Arc<State>>>,
}

impl http::Site for Site {
    fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    async fn respond(&self, request: &Request<Incoming>, connection: &Arc<Connection>) -> Response<Body> {
        respond(self, request, connection).await
    }
}

async fn respond(site: &Site, request: &Request<Incoming>, connection: &Arc<Connection>) -> Response<Body> {
    if request.method() != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    let path = request.uri().path();
    let (token, rest) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .unwrap_or(("", ""));
    if !same(token, &site.token) {
        return refusal(
            StatusCode::FORBIDDEN,
            "the address has no token, or a wrong one\n",
        );
    }
    match rest {
        "" => {
            let (Some(state), Ok(nonce)) = (state(site).await, random()) else {
                return refusal(StatusCode::SERVICE_UNAVAILABLE, "the look takes too long\n");
            };
            let policy = format!(
                "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; \
                 img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            );
            let mut response = text("text/html; charset=utf-8", live_page(&state, &nonce));
            if let Ok(policy) = HeaderValue::from_str(&policy) {
                response
                    .headers_mut()
                    .insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        "state.json" => match state(site).await {
            Some(state) => text("application/json", json(&state)),
            None => refusal(StatusCode::SERVICE_UNAVAILABLE, "the look takes too long\n"),
        },
        "events" => {
            connection.streams.store(true, Ordering::Relaxed);
            let (sender, body) = Channel::new(1);
            tokio::spawn(events(site.states.subscribe(), sender, connection.clone()));
            with_headers(Response::new(Either::Right(body)), "text/event-stream")
        }
        _ => refusal(StatusCode::NOT_FOUND, "there is no such page\n"),
    }
}

/// A state that is taken after the request has come.
async fn state(site: &Site) -> Option<Arc<State>> {
    let mut states = site.states.subscribe();
    timeout(LONGEST_LOOK, states.changed()).await.ok()?.ok()?;
    let state = states.borrow_and_update().clone();
    Some(state)
}

/// Sends each new state, until the client has gone. A slow client gets the latest state when it can take one.
async fn events(
    mut states: Receiver<Arc<State>>,
    mut sender: http_body_util::channel::Sender<Bytes>,
    connection: Arc<Connection>,
) {
    loop {
        let Ok(changed) = timeout(LONGEST_PAUSE, states.changed()).await else {
            // A comment, by which a client that has gone is noticed.
            if !matches!(
                timeout(LONGEST_PAUSE, sender.send_data(Bytes::from_static(b":\n\n"))).await,
                Ok(Ok(()))
            ) {
                break;
            }
            continue;
        };
        if changed.is_err() {
            break;
        }
        let state = states.borrow_and_update().clone();
        let event = Bytes::from(format!("data: {}\n\n", json(&state)));
        if !matches!(timeout(LONGEST_PAUSE, sender.send_data(event)).await, Ok(Ok(()))) {
            break;
        }
    }
    connection.stuck.notify_one();
}

/// A state as one line of JSON.
fn json(state: &State) -> String {
    serde_json::to_string(state).map_or_else(|_| "{}".to_owned(), visible_json)
}

/// Compares in the same time wherever the texts differ.
fn same(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differs == 0
}
