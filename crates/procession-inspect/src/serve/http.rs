//! The answers, by hyper.

use super::{State, live_page, random};
use crate::visible::visible_json;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// Number of connections at a time. A further one is told that the server is busy.
const MOST_CONNECTIONS: usize = 32;
/// Longest time for the head of a request.
const LONGEST_HEAD: Duration = Duration::from_secs(5);
/// Longest time for a request and its answer, but for events.
const LONGEST: Duration = Duration::from_secs(20);
/// Longest time in which a client of events reads nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Longest time for a look.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// Time between two questions whether the server shall end.
const BEAT: Duration = Duration::from_millis(50);

type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// What the server knows.
pub(super) struct Site {
    /// What the header `Host` may say.
    pub(super) hosts: [String; 2],
    pub(super) token: String,
    pub(super) states: Arc<Sender<Arc<State>>>,
}

/// A connection that sends events, and one that is stuck.
#[derive(Default)]
struct Connection {
    streams: AtomicBool,
    stuck: Notify,
}

pub(super) async fn answer(listener: TcpListener, site: Site, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let site = Arc::new(site);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while !stop() {
        let Ok(accepted) = timeout(BEAT, listener.accept()).await else {
            continue;
        };
        // No descriptor may be free at the moment.
        let Ok((stream, _)) = accepted else {
            sleep(BEAT).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let _ = stream.try_write(
                b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            );
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            serve(stream, site).await;
            drop(place);
        });
    }
    Ok(())
}

/// Answers one request, until the answer has been read or the client is cut off.
async fn serve(stream: TcpStream, site: Arc<Site>) {
    let connection = Arc::new(Connection::default());
    let service = hyper::service::service_fn({
        let connection = connection.clone();
        move |request| {
            let (site, connection) = (site.clone(), connection.clone());
            async move { Ok::<_, Infallible>(respond(&site, &request, &connection).await) }
        }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .keep_alive(false)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let too_long = async {
        sleep(LONGEST).await;
        if connection.streams.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = http => {}
        () = connection.stuck.notified() => {}
        () = too_long => {}
    }
}

async fn respond(site: &Site, request: &Request<Incoming>, connection: &Arc<Connection>) -> Response<Body> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| site.hosts.iter().any(|own| own == host)) {
        return refusal(StatusCode::FORBIDDEN, "this host is not served here\n");
    }
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

fn text(kind: &'static str, text: String) -> Response<Body> {
    with_headers(Response::new(Either::Left(Full::new(Bytes::from(text)))), kind)
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Body> {
    let mut response = text("text/plain; charset=utf-8", why.to_owned());
    *response.status_mut() = status;
    response
}

fn with_headers(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
    let headers = response.headers_mut();
    let values = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in values {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
