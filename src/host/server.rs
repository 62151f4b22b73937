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
            Ok(file(answer))
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

fn file(answer: FileAnswer) -> Response<Body> {
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
    response
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Event, Export};
    use crate::host::faults::{Fault, Faults, Occasion, When};
    use crate::host::plan::Plan;
    use crate::kore::job::Job;
    use serde_json::{Value, json};
    use std::io::Read as _;

    const JOB_SECONDS: u64 = 10;

    /// A host on a free port; a clock that moves only when told to; a client.
    struct World {
        base: String,
        host: Arc<Mutex<Host>>,
        now: Arc<Mutex<Time>>,
        client: reqwest::Client,
        _server: JoinSet<Infallible>,
    }

    impl World {
        async fn new(faults: Faults) -> Self {
            let plan = Plan {
                records_per_week: 200..=200,
                drip_time: Duration::from_millis(30),
                faults,
                ..Plan::default()
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base = format!("http://{}", listener.local_addr().unwrap());
            let host = Arc::new(Mutex::new(Host::new(plan, &base)));
            let now = Arc::new(Mutex::new("2025-01-27T06:00:00Z".parse().unwrap()));
            let mut server = JoinSet::new();
            let clock = {
                let now = Arc::clone(&now);
                move || *now.lock().unwrap()
            };
            server.spawn(serve(listener, Arc::clone(&host), clock));
            Self {
                base,
                host,
                now,
                client: reqwest::Client::builder().no_proxy().build().unwrap(),
                _server: server,
            }
        }

        fn export() -> Export {
            Export {
                app: "st-1".parse().unwrap(),
                event: Event::All,
                week: "2025-01-20".parse().unwrap(),
            }
        }

        async fn ask(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Vec<u8>> {
            let token = lock(&self.host).mint(*self.now.lock().unwrap());
            let answer = request.header("auth", token).send().await?;
            Ok(answer.error_for_status()?.bytes().await?.to_vec())
        }

        async fn start(&self) -> reqwest::Result<Vec<u8>> {
            let body = json!({"filters": Self::export().week.window()}).to_string();
            let url = format!("{}/api/public/bot/st-1/search/analytics-export", self.base);
            self.ask(self.client.post(url).body(body)).await
        }

        fn wait(&self, seconds: u64) {
            let mut now = self.now.lock().unwrap();
            *now = now.after(Duration::from_secs(seconds));
        }

        async fn look(&self, job: &Job) -> Vec<u8> {
            let url = format!("{}/api/public/bot/st-1/search/jobs/{}", self.base, job.id);
            self.ask(self.client.get(url)).await.unwrap()
        }

        /// A job that has ended.
        async fn done(&self) -> Job {
            let started = Job::decode(&self.start().await.unwrap()).unwrap();
            self.wait(JOB_SECONDS);
            Job::decode_look(&self.look(&started).await, &started.id).unwrap()
        }

        fn truth(&self, file: u64) -> Vec<u8> {
            let content = lock(&self.host).content(&Self::export());
            content.fragment(file).pieces().flatten().collect()
        }
    }

    #[tokio::test]
    async fn an_export_is_started_watched_and_downloaded() {
        let world = World::new(Faults::none()).await;
        let job = world.done().await;
        assert_eq!((job.files.len(), job.totals.records), (2, Some(200)));
        for (file, number) in job.files.iter().zip(0..) {
            let answer = world.client.get(file.url.expose()).send().await.unwrap();
            let length = answer.content_length();
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes == world.truth(number));
            assert_eq!(length, Some(bytes.len() as u64));
        }
        let stats = world.client.get(format!("{}/_control/stats", world.base));
        let stats = stats.send().await.unwrap().bytes().await.unwrap();
        let stats: Value = serde_json::from_slice(&stats).unwrap();
        assert_eq!(stats["requests"], json!({"start": 1, "look": 1, "open": 2}));
        assert_eq!(stats["jobs"], json!({World::export().to_string(): 1}));
    }

    fn plain(bytes: &[u8], packed: bool) -> Vec<u8> {
        let mut plain = Vec::new();
        if packed {
            let mut unpacked = flate2::read::GzDecoder::new(bytes);
            unpacked.read_to_end(&mut plain).unwrap();
        } else {
            plain.extend_from_slice(bytes);
        }
        plain
    }

    #[tokio::test]
    async fn files_misbehave_on_the_wire_as_ordered() {
        #[derive(Debug, PartialEq)]
        enum Got {
            Right,
            Other,
            Broken,
            Refused(u16),
        }
        for (fault, expected) in [
            (Fault::Gzip, Got::Right),
            (Fault::NoLength, Got::Right),
            (Fault::Redirect, Got::Right),
            (Fault::Drip, Got::Right),
            (Fault::CutFile, Got::Broken),
            (Fault::RedirectLoop, Got::Broken),
            (Fault::StalledFile, Got::Broken),
            (Fault::TornFile, Got::Other),
            (Fault::ShortFile, Got::Other),
            (Fault::DamagedFile, Got::Other),
            (Fault::HtmlFile, Got::Other),
        ] {
            let mut world = World::new(Faults::none().chance(fault, 100.0)).await;
            if fault == Fault::StalledFile {
                let client = reqwest::Client::builder().no_proxy();
                let patience = Duration::from_millis(300);
                world.client = client.read_timeout(patience).build().unwrap();
            }
            let job = world.done().await;
            let got = match world.client.get(job.files[0].url.expose()).send().await {
                Err(_) => Got::Broken,
                Ok(answer) if answer.status() != 200 => Got::Refused(answer.status().as_u16()),
                Ok(answer) => {
                    let packed = answer.headers().contains_key(CONTENT_ENCODING);
                    assert_eq!(packed, fault == Fault::Gzip);
                    match answer.bytes().await.map(|bytes| plain(&bytes, packed)) {
                        Err(_) => Got::Broken,
                        Ok(bytes) if bytes == world.truth(0) => Got::Right,
                        Ok(_) => Got::Other,
                    }
                }
            };
            assert_eq!(got, expected, "{fault}");
            assert!(
                lock(&world.host).stats().faults[fault.as_str()] >= 1,
                "{fault}"
            );
        }
    }

    #[tokio::test]
    async fn an_altered_link_is_refused() {
        let world = World::new(Faults::none()).await;
        let job = world.done().await;
        let altered = job.files[0].url.expose().replace("&e=", "&e=9");
        let answer = world.client.get(altered).send().await.unwrap();
        assert_eq!(answer.status(), 403);
    }

    #[tokio::test]
    async fn a_connection_that_closes_without_an_answer_has_still_started_the_job() {
        let faults = Faults::none().plan(Fault::LostAnswer, When::Nth(Occasion::Start, 1));
        let world = World::new(faults).await;
        assert!(world.start().await.unwrap_err().is_request());
        assert_eq!(lock(&world.host).stats().jobs.values().sum::<u64>(), 1);
        assert!(world.start().await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_can_be_endless() {
        let world = World::new(Faults::none().chance(Fault::EndlessAnswer, 100.0)).await;
        let token = lock(&world.host).mint(*world.now.lock().unwrap());
        let url = format!("{}/api/public/bot/st-1/search/jobs/fj-1", world.base);
        let request = world.client.get(url).header("auth", token);
        let mut answer = request.send().await.unwrap();
        let mut bytes = 0;
        while bytes < 10_000_000 {
            bytes += answer.chunk().await.unwrap().expect("it has no end").len();
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let world = World::new(Faults::none()).await;
        for path in [
            "/",
            "/api/public/bot/st-1/search/jobs",
            "/api/getMediaStream/x/y",
        ] {
            let answer = world.client.get(format!("{}{path}", world.base)).send();
            let status = answer.await.unwrap().status().as_u16();
            assert!([403, 404].contains(&status), "{path}: {status}");
        }
    }
}
