//! A small HTTP server on hyper, which holds out against its clients: the server of `serve` and of `metrics --listen`.
//!
//! | limit | what happens at it |
//! |---|---|
//! | connections at a time | a further one is told that the server is busy |
//! | time and size of the head of a request | the connection is closed |
//! | time for a request and its answer | the connection is closed; not while it sends events |
//! | time in which a client of events reads nothing | its sender reports the connection as stuck, and it is closed |
//!
//! A connection is for one request. A [`Site`] says which hosts a request may name, and answers.

use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// Number of connections at a time.
const MOST_CONNECTIONS: usize = 32;
/// Longest time for the head of a request.
const LONGEST_HEAD: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 << 10;
/// Longest time for a request and its answer, but for events.
const LONGEST: Duration = Duration::from_secs(20);
/// Time between two questions whether the server shall end.
const BEAT: Duration = Duration::from_millis(50);

/// The body of an answer: a text, or what a sender sends.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// What a server answers.
pub(crate) trait Site: Send + Sync + 'static {
    /// Which hosts the header `Host` may name.
    fn hosts(&self) -> &Hosts;

    /// The answer to a request whose host may be named.
    fn respond(
        &self,
        request: &Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Which hosts the header `Host` may name. A page of a foreign name that has been told to be this machine (DNS rebinding)
/// names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(feature = "serve", feature = "metrics")), allow(dead_code))]
pub(crate) enum Hosts {
    /// These, with their port.
    Exactly(Vec<String>),
    /// `localhost` and the loopback addresses, with any port or none. A request without the header is no browser's.
    Loopback,
    /// All: the server has an address that others reach, by names that it does not know.
    All,
}

impl Hosts {
    fn allow(&self, host: Option<&str>) -> bool {
        match self {
            Hosts::Exactly(hosts) => host.is_some_and(|host| hosts.iter().any(|own| own == host)),
            Hosts::Loopback => host.is_none_or(is_loopback),
            Hosts::All => true,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[') {
        // An IPv6 address without its second bracket is no address.
        Some(host) => host.split_once(']').unwrap_or_default(),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = rest
        .strip_prefix(':')
        .map_or(rest.is_empty(), |port| port.parse::<u16>().is_ok());
    port && (name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// What a connection does that its server must know.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// It sends events, for as long as its client reads them.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) streams: AtomicBool,
    /// Its client reads no more: close it.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) stuck: Notify,
}

/// Answers requests until `stop` returns true.
///
/// # Errors
/// The server cannot start.
pub(crate) fn run(listener: TcpListener, site: impl Site, stop: &dyn Fn() -> bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let answered = runtime.block_on(accept(listener, Arc::new(site), stop));
    // An answer that is being made is for a client that has gone.
    runtime.shutdown_background();
    answered
}

async fn accept<S: Site>(listener: TcpListener, site: Arc<S>, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
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
async fn serve<S: Site>(stream: TcpStream, site: Arc<S>) {
    let connection = Arc::new(Connection::default());
    let service = hyper::service::service_fn({
        let connection = connection.clone();
        move |request| {
            let (site, connection) = (site.clone(), connection.clone());
            async move { Ok::<_, Infallible>(respond(&*site, &request, &connection).await) }
        }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
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

async fn respond<S: Site>(
    site: &S,
    request: &Request<Incoming>,
    connection: &Arc<Connection>,
) -> Response<Body> {
    let host = request.headers().get(header::HOST);
    // A host that is no text is none that is known.
    let host = host.map(|host| host.to_str().unwrap_or("?"));
    if !site.hosts().allow(host) {
        return refusal(StatusCode::FORBIDDEN, "this host is not served here\n");
    }
    site.respond(request, connection).await
}

/// A text of a type.
pub(crate) fn text(kind: &'static str, text: String) -> Response<Body> {
    with_headers(Response::new(Either::Left(Full::new(Bytes::from(text)))), kind)
}

/// An answer that says why there is no other.
pub(crate) fn refusal(status: StatusCode, why: impl Into<String>) -> Response<Body> {
    let mut response = text("text/plain; charset=utf-8", why.into());
    *response.status_mut() = status;
    response
}

/// Adds the headers that all answers have.
pub(crate) fn with_headers(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_not_this_machine_is_foreign() {
        let loopback = |host: &str| Hosts::Loopback.allow(Some(host));
        for own in [
            "localhost",
            "localhost:9464",
            "LocalHost:1",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:9464",
            "[::1]",
        ] {
            assert!(loopback(own), "{own}");
        }
        for foreign in [
            "",
            "?",
            "example.org",
            "example.org:9464",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "localhost:x",
            "127.0.0.1:99999",
            "[::1",
            "[::2]:1",
            "10.0.0.1:9464",
            "localhost:1:2",
            "example.org:localhost",
        ] {
            assert!(!loopback(foreign), "{foreign}");
        }
        assert!(Hosts::Loopback.allow(None) && Hosts::All.allow(Some("example.org")));
        let exactly = Hosts::Exactly(vec!["127.0.0.1:80".to_owned()]);
        assert!(exactly.allow(Some("127.0.0.1:80")));
        assert!(!exactly.allow(Some("127.0.0.1")) && !exactly.allow(None));
    }
}
