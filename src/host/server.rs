//! The simulated host over HTTP/1.1, misbehaving on the wire as the model says.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Host;
use super::answer::{Answer, Conduct, End, FileAnswer, FileBody, Framing};
use crate::export::Time;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves a host until the future is dropped, which closes every connection.
///
/// Besides the API and the files there is `GET /_control/stats`: the host's
/// [`Stats`](super::Stats) as JSON.
pub async fn serve(
    listener: TcpListener,
    host: Arc<Mutex<Host>>,
    clock: impl Fn() -> Time + Clone + Send + Sync + 'static,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((connection, _)) = listener.accept().await else {
            // out of file descriptors, most likely: some connection will end
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (host, clock) = (Arc::clone(&host), clock.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (host, clock) = (Arc::clone(&host), clock.clone());
                async move { answer(&host, &clock, request).await }
            });
            // an error is a connection that broke, on purpose or because the client left
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

fn lock(host: &Mutex<Host>) -> MutexGuard<'_, Host> {
    host.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    host: &Mutex<Host>,
    clock: &impl Fn() -> Time,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let auth = request
        .headers()
        .get("auth")
        .and_then(|auth| auth.to_str().ok())
        .map(str::to_owned);
    match (request.method(), &parts[..]) {
        (&Method::POST, ["api", "public", "bot", app, "search", "analytics-export"]) => {
            const LONGEST: usize = 64 * 1024;
            let Ok(body) = Limited::new(request.into_body(), LONGEST).collect().await else {
                return api(Answer::error(413, "The request is too long")).await;
            };
            let answer = lock(host).start(app, auth.as_deref(), &body.to_bytes(), clock());
            api(answer).await
        }
        (&Method::GET, ["api", "public", "bot", app, "search", "jobs", job]) => {
            let answer = lock(host).look(app, job, auth.as_deref(), clock());
            api(answer).await
        }
        (&Method::GET, ["_control", "stats"]) => {
            let stats = serde_json::to_value(lock(host).stats())?;
            api(Answer::json(200, &stats)).await
        }
        (&Method::GET, ["api", "getMediaStream", ..]) => {
            let asked = request.uri().path_and_query().map_or("", |it| it.as_str());
            let answer = lock(host).file(asked, clock());
            file(answer)
        }
        _ => api(Answer::error(404, "Not found")).await,
    }
}

fn response(status: u16, headers: &[(&'static str, String)]) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::default());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().append(*name, value);
        }
    }
    response
}

async fn api(answer: Answer) -> io::Result<Response<Body>> {
    let mut response = response(answer.status, &answer.headers);
    *response.body_mut() = match answer.conduct {
        Conduct::Sent => Full::new(answer.body)
            .map_err(|never| match never {})
            .boxed_unsync(),
        Conduct::Lost => return Err(io::ErrorKind::ConnectionAborted.into()),
        Conduct::Hanging => return std::future::pending().await,
        Conduct::Endless => {
            let blanks = stream::repeat(Bytes::from_static(&[b' '; 16 * 1024]));
            let all = stream::iter([answer.body]).chain(blanks);
            StreamBody::new(all.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
        }
    };
    Ok(response)
}

fn file(answer: FileAnswer) -> io::Result<Response<Body>> {
    let mut response = response(answer.status, &answer.headers);
    let headers = response.headers_mut();
    if let Some(length) = answer.body.announced() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if answer.body.gzip {
        headers.insert(
            CONTENT_ENCODING,
            hyper::header::HeaderValue::from_static("gzip"),
        );
    }
    if answer.body.framing == Framing::UntilClosed {
        *response.version_mut() = Version::HTTP_10;
    }
    let pieces = pieces(answer.body).map(|piece| piece.map(Frame::data));
    *response.body_mut() = StreamBody::new(pieces).boxed_unsync();
    Ok(response)
}

/// A body's pieces as they go on the wire.
fn pieces(body: FileBody) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let gzip = body
        .gzip
        .then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    stream::unfold(Some((body, gzip)), |state| async {
        let (mut body, mut gzip) = state?;
        if !body.pause.is_zero() {
            tokio::time::sleep(body.pause).await;
        }
        match body.next() {
            Some(piece) => {
                let piece = match &mut gzip {
                    Some(gzip) => compress(gzip, &piece),
                    None => Ok(piece),
                };
                Some((piece, Some((body, gzip))))
            }
            None => match (body.end, body.framing) {
                (End::Whole, _) => {
                    let rest = gzip?.finish().map(Bytes::from);
                    Some((rest, None))
                }
                (End::Cut(_), Framing::UntilClosed) => None,
                (End::Cut(_), _) => {
                    // what was written goes out first
                    tokio::task::yield_now().await;
                    Some((Err(io::ErrorKind::ConnectionAborted.into()), None))
                }
                (End::Stalled(_), _) => std::future::pending().await,
            },
        }
    })
}

/// What the encoder gives out after a piece; it may be nothing.
fn compress(gzip: &mut GzEncoder<Vec<u8>>, piece: &[u8]) -> io::Result<Bytes> {
    gzip.write_all(piece)?;
    Ok(Bytes::from(std::mem::take(gzip.get_mut())))
}
