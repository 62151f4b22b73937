//! The client against a server on this machine that says exactly what a test wants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kore::job::Status;
use crate::kore::token::{CredentialSet, Fixed};

/// What the server does with a request.
enum Reply {
    /// Sends these bytes, then closes the connection.
    Bytes(Vec<u8>),
    /// Sends the first bytes, and then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Sends these bytes, and then keeps silent.
    Silence(Vec<u8>),
}

/// A server on a free port of this machine; each connection brings one request.
struct Server {
    port: u16,
    /// Each request, head and body, as it came.
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicUsize>,
}

impl Server {
    async fn new(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let sent = Arc::<AtomicUsize>::default();
        let (reply, log, count) = (Arc::new(reply), Arc::clone(&requests), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (reply, log, count) =
                    (Arc::clone(&reply), Arc::clone(&log), Arc::clone(&count));
                tokio::spawn(async move {
                    let Some(request) = receive(&mut stream).await else {
                        return;
                    };
                    log.lock().unwrap().push(request.clone());
                    // The client may hang up at any time, as it should.
                    let _ = answer(&mut stream, reply(&request), &count).await;
                });
            }
        });
        Self {
            port,
            requests,
            sent,
        }
    }

    /// A server that sends what it is told to, and where to tell it: setting up a client takes longer
    /// than asking it, so a table is asked of one.
    async fn told() -> (Self, impl Fn(Vec<u8>)) {
        let reply = Arc::<Mutex<Vec<u8>>>::default();
        let said = Arc::clone(&reply);
        let server = Self::new(move |_| Reply::Bytes(said.lock().unwrap().clone())).await;
        (server, move |bytes| *reply.lock().unwrap() = bytes)
    }

    /// A server that always sends the same.
    async fn always(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::new(move |_| Reply::Bytes(reply.clone())).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn link(&self, path: &str) -> FileUrl {
        FileUrl::new(format!("http://127.0.0.1:{}{path}", self.port))
    }
}

async fn receive(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text.into_owned());
        }
    }
}

async fn answer(stream: &mut TcpStream, reply: Reply, sent: &AtomicUsize) -> std::io::Result<()> {
    match reply {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await,
        Reply::Endless(head, more) => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&more).await?;
                sent.fetch_add(more.len(), Ordering::Relaxed);
            }
        }
        Reply::Silence(bytes) => {
            stream.write_all(&bytes).await?;
            std::future::pending().await
        }
    }
}

/// A whole answer with a body.
fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn secret(id: &str) -> CredentialSet {
    let text = format!(r#"{{"clientId":"{id}","clientSecret":"s3cr3t"}}"#);
    CredentialSet::parse(&text, Time::now()).unwrap_or_else(|error| panic!("{error}"))
}

/// A client that may reach this machine and waits a short while.
fn client<S: CredentialSource>(port: u16, credentials: S) -> Client<S> {
    let host = HostUrl::parse(&format!("http://127.0.0.1:{port}"), true).unwrap();
    let files = FileHosts::parse(["127.0.0.1", "localhost"]).unwrap();
    let patience = Patience {
        idle: Duration::from_millis(500),
        ..Patience::USUAL
    };
    Client::build(host, files, true, credentials, &system_lookup(), patience).unwrap()
}

fn usual(server: &Server) -> Client<Fixed> {
    client(server.port, Fixed::new(secret("cs-1")))
}

fn app() -> AppId {
    "st-1".parse().unwrap()
}

fn job() -> JobId {
    "fj-1".parse().unwrap()
}

fn export(event: Event) -> Export {
    Export {
        app: app(),
        event,
        week: "2025-01-20".parse().unwrap(),
    }
}

const RUNNING: &str = r#"{"_id":"fj-1","status":"INPROGRESS","percentageDone":40}"#;

async fn whole(download: &mut HttpDownload) -> Result<Vec<u8>, FileError> {
    let mut file = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        file.extend_from_slice(&chunk);
    }
    Ok(file)
}

#[tokio::test]
async fn a_start_and_a_look_are_the_documented_requests() {
    let server = Server::always(http("200 OK", "", RUNNING)).await;
    let client = usual(&server);
    assert_eq!(client.start(&export(Event::All)).await.unwrap().id, job());
    assert_eq!(
        client.start(&export(Event::ThumbsDown)).await.unwrap().id,
        job()
    );
    let seen = client.look(&app(), &job()).await.unwrap();
    assert_eq!((seen.status, seen.percent), (Status::Running, Some(40.0)));

    let requests = server.requests();
    let window = r#""filters":{"from":"2025-01-20T00:00:00.000Z","to":"2025-01-26T23:59:59.999Z"}"#;
    for (request, line, body) in [
        (
            &requests[0],
            "POST /api/public/bot/st-1/search/analytics-export",
            format!("{{{window}}}"),
        ),
        (
            &requests[1],
            "POST /api/public/bot/st-1/search/analytics-export",
            format!(r#"{{{window},"event":"thumbsDown"}}"#),
        ),
        (
            &requests[2],
            "GET /api/public/bot/st-1/search/jobs/fj-1",
            String::new(),
        ),
    ] {
        assert!(
            request.starts_with(&format!("{line} HTTP/1.1\r\n")),
            "{request}"
        );
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        assert!(
            request.contains("\r\ncontent-type: application/json\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nauth: eyJ"), "{request}");
    }
    let token = |request: &str| {
        request
            .split("\r\nauth: ")
            .nth(1)
            .unwrap()
            .split("\r\n")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_ne!(
        token(&requests[0]),
        token(&requests[2]),
        "each request has a token of its own"
    );
}

/// What an error is to the one who gets it.
fn kind(error: &ApiError) -> &'static str {
    match error {
        ApiError::Limited { .. } => "limited",
        ApiError::Unreachable { .. } => "unreachable",
        ApiError::Unclear { .. } => "unclear",
        ApiError::Unauthorized { .. } => "unauthorized",
        ApiError::Gone { .. } => "gone",
        ApiError::Rejected { .. } => "rejected",
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_answer_that_is_no_job_is_an_error_with_its_cause() {
    let (server, say) = Server::told().await;
    let client = usual(&server);
    for (status, headers, body, start, look, words) in [
        (
            "200 OK",
            "content-type: text/html\r\n",
            "<html>sign in",
            "unclear",
            "unclear",
            "HTML page",
        ),
        ("200 OK", "", "", "unclear", "unclear", "got nothing"),
        (
            "204 No Content",
            "",
            "",
            "unclear",
            "unclear",
            "got nothing",
        ),
        (
            "200 OK",
            "",
            "{}",
            "unclear",
            "unclear",
            "_id must be a job id",
        ),
        (
            "200 OK",
            "",
            r#"{"_id":"fj-1""#,
            "unclear",
            "unclear",
            "EOF",
        ),
        (
            "200 OK",
            "content-encoding: gzip\r\n",
            RUNNING,
            "unclear",
            "unclear",
            "gzip",
        ),
        ("429 Slow", "", "", "limited", "limited", "limits the rate"),
        (
            "500 Oh",
            "",
            r#"{"errors":[{"msg":"broken inside","code":1}]}"#,
            "unclear",
            "unclear",
            "status 500: broken inside",
        ),
        (
            "503 Oh",
            "",
            "<html>down",
            "unclear",
            "unclear",
            "status 503 with a page of HTML",
        ),
        ("408 Late", "", "", "unclear", "unclear", "status 408"),
        (
            "401 No",
            "",
            r#"{"errors":[{"msg":"Invalid SDK credentials","code":4002}]}"#,
            "unauthorized",
            "unauthorized",
            "status 401: Invalid SDK credentials; check the client id and secret",
        ),
        (
            "403 No",
            "",
            "",
            "unauthorized",
            "unauthorized",
            "both API scopes, Answer Insights and Answer Generation",
        ),
        ("404 No", "", "", "rejected", "gone", "no"),
        (
            "400 No",
            "",
            "dates too far apart",
            "rejected",
            "rejected",
            "status 400: dates too far apart",
        ),
        (
            "302 There",
            "location: https://evil.example/?s=1\r\n",
            "",
            "rejected",
            "rejected",
            "redirects (302) to https://evil.example/?…; the token is sent to no other place",
        ),
    ] {
        say(http(status, headers, body));
        let start_error = client.start(&export(Event::All)).await.unwrap_err();
        let look_error = client.look(&app(), &job()).await.unwrap_err();
        assert_eq!(
            (kind(&start_error), kind(&look_error)),
            (start, look),
            "{status} {body}"
        );
        if start == look {
            assert!(start_error.to_string().contains(words), "{start_error}");
        }
        let look_error = look_error.to_string();
        assert!(
            look_error.starts_with("GET /api/public/bot/st-1/search/jobs/fj-1: "),
            "{look_error}"
        );
        assert!(look_error.contains(words), "{look_error}");
        let requests = std::mem::take(&mut *server.requests.lock().unwrap());
        assert_eq!(
            requests.len(),
            2,
            "none of these is tried twice by the client"
        );
    }
}

#[tokio::test]
async fn a_wait_that_the_server_asks_for_is_passed_on() {
    let server = Server::new(|request| {
        let status = if request.starts_with("GET") {
            "429 Slow"
        } else {
            "503 Oh"
        };
        Reply::Bytes(http(status, "retry-after: 7\r\n", ""))
    })
    .await;
    let wait = Some(Duration::from_secs(7));
    let client = usual(&server);
    let look = client.look(&app(), &job()).await.unwrap_err();
    assert!(matches!(look, ApiError::Limited { retry_after, .. } if retry_after == wait));
    let start = client.start(&export(Event::All)).await.unwrap_err();
    assert!(matches!(start, ApiError::Unclear { retry_after, .. } if retry_after == wait));
    let file = client.open(&server.link("/f")).await.map(|_| ());
    assert!(
        matches!(file.unwrap_err(), FileError::Broken { retry_after, .. } if retry_after == wait)
    );
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Time = "2025-01-27T06:00:00Z".parse().unwrap();
    for (text, seconds) in [
        ("0", Some(0)),
        ("120", Some(120)),
        ("86400", Some(86_400)),
        ("18446744073709551615", Some(u64::MAX)),
        ("Mon, 27 Jan 2025 06:00:30 GMT", Some(30)),
        ("Mon, 27 Jan 2025 05:00:00 GMT", Some(0)),
        ("Tue, 27 Jan 2026 06:00:00 GMT", Some(365 * 86_400)),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        assert_eq!(
            retry_after(&headers, now),
            seconds.map(Duration::from_secs),
            "{text}"
        );
    }
    let beyond = HeaderValue::from_static("99999999999999999999999");
    let beyond = HeaderMap::from_iter([(RETRY_AFTER, beyond)]);
    assert_eq!(retry_after(&beyond, now), Some(Duration::MAX));
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

/// A secret that was rotated: what is cached is the old one.
struct Rotated {
    old: Arc<CredentialSet>,
    new: Result<Arc<CredentialSet>, CredentialError>,
    fresh: AtomicUsize,
}

impl Rotated {
    fn to(new: Result<CredentialSet, CredentialError>) -> Self {
        Self {
            old: Arc::new(secret("old")),
            new: new.map(Arc::new),
            fresh: AtomicUsize::new(0),
        }
    }
}

impl CredentialSource for Rotated {
    async fn get(&self, fresh: bool) -> Result<Arc<CredentialSet>, CredentialError> {
        if fresh {
            self.fresh.fetch_add(1, Ordering::Relaxed);
            self.new.clone()
        } else {
            Ok(Arc::clone(&self.old))
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_made_once_more_from_the_secret_read_afresh() {
    let wrong = |why: &str| Err(CredentialError::Wrong(why.to_owned()));
    let away = Err(CredentialError::Unavailable("no answer".to_owned()));
    for (new, outcome, calls) in [
        (Ok(secret("new")), "fine", 2),
        (Ok(secret("newer")), "unauthorized", 2),
        (wrong("the secret is empty"), "unauthorized", 1),
        (away, "unreachable", 1),
    ] {
        let server = Server::new(|request| {
            // `appId` is the first claim, so that these letters are in the token of "new" alone.
            let payload = request
                .split("auth: ")
                .nth(1)
                .unwrap()
                .split('.')
                .nth(1)
                .unwrap();
            let good = payload.starts_with("eyJhcHBJZCI6Im5ldyIs");
            Reply::Bytes(if good {
                http("200 OK", "", RUNNING)
            } else {
                http("401 No", "", "")
            })
        })
        .await;
        let client = client(server.port, Rotated::to(new));
        let looked = client.look(&app(), &job()).await;
        let looked = looked.as_ref().map_or_else(kind, |_| "fine");
        assert_eq!(looked, outcome);
        assert_eq!(client.credentials.fresh.load(Ordering::Relaxed), 1);
        assert_eq!(server.requests().len(), calls, "{outcome}");
    }
}

#[tokio::test]
async fn credentials_that_cannot_change_are_refused_once() {
    let server = Server::always(http("401 No", "", "")).await;
    let error = usual(&server).look(&app(), &job()).await.unwrap_err();
    assert_eq!(kind(&error), "unauthorized");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_got_no_request() {
    // Bound and closed again: nobody listens there now.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let client = client(port, Fixed::new(secret("cs-1")));
    let error = client.start(&export(Event::All)).await.unwrap_err();
    assert_eq!(kind(&error), "unreachable");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

#[tokio::test]
async fn answers_without_end_are_given_up_within_bounds() {
    let chunk = vec![b' '; 64 * 1024];
    let head =
        |headers: &str| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}").into_bytes();
    let flood = format!("x-{}: {}\r\n", "a".repeat(20), "b".repeat(60_000)).into_bytes();
    // 400 KiB is where headers end for hyper; sockets buffer a few MiB on top of all of these.
    let buffers = 16 * 1024 * 1024;
    for (first, more, words, most) in [
        (
            head("\r\n"),
            chunk.clone(),
            "more than 16777216 bytes",
            16 * 1024 * 1024,
        ),
        (head(""), flood, "too large", 0),
        (head("x: "), chunk.clone(), "too large", 0),
        (head(""), b"a: b\r\n".repeat(1000), "too large", 0),
        (
            b"HTTP/1.1 500 Oh\r\n\r\n".to_vec(),
            chunk.clone(),
            "status 500",
            0,
        ),
        (
            vec![],
            b"HTTP/1.1 103 Early\r\n\r\n".repeat(1000),
            "timed out",
            usize::MAX - buffers,
        ),
    ] {
        let reply = (first, more);
        let server = Server::new(move |_| Reply::Endless(reply.0.clone(), reply.1.clone())).await;
        let error = usual(&server).look(&app(), &job()).await.unwrap_err();
        assert_eq!(kind(&error), "unclear", "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        let sent = server.sent.load(Ordering::Relaxed);
        assert!(sent <= most + buffers, "{words}: {sent} bytes were taken");
    }
}

#[tokio::test]
async fn a_silent_host_is_given_up() {
    for bytes in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let server = Server::new(move |_| Reply::Silence(bytes.into())).await;
        let client = usual(&server);
        let error = client.look(&app(), &job()).await.unwrap_err();
        assert_eq!(kind(&error), "unclear");
        assert!(error.to_string().contains("timed out"), "{error}");
        let file = async { whole(&mut client.open(&server.link("/f")).await?).await };
        let error = file.await.unwrap_err();
        assert!(
            matches!(error, FileError::Broken { .. }) && error.to_string().contains("timed out"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_file_comes_whole_without_the_token_and_its_link_byte_for_byte() {
    let server = Server::always(http("200 OK", "", "[1,2]")).await;
    let client = usual(&server);
    let path = "/api/getMediaStream/findly/f-1.json?n=76&s=Ik9nanpJIg$$&t=%24%24";
    let mut download = client.open(&server.link(path)).await.unwrap();
    assert_eq!(download.announced(), Some(5));
    assert_eq!(whole(&mut download).await.unwrap(), b"[1,2]");
    assert_eq!(download.chunk().await, Ok(None), "the end stays the end");
    let request = &server.requests()[0];
    assert!(
        request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
        "{request}"
    );
    assert!(!request.contains("auth"), "{request}");
    assert!(request.contains("accept-encoding: identity"), "{request}");
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_and_never_with_the_token() {
    let server = Server::new(|request| {
        let path = request.split(' ').nth(1).unwrap();
        Reply::Bytes(match path.split_once('/').unwrap().1.parse::<u32>() {
            Ok(0) => http("200 OK", "", "[]"),
            Ok(left) => http("302 There", &format!("location: /{}\r\n", left - 1), ""),
            Err(_) => http("302 There", "location: http://127.0.0.2/f\r\n", ""),
        })
    })
    .await;
    let client = usual(&server);
    let mut download = client.open(&server.link("/3")).await.unwrap();
    assert_eq!(whole(&mut download).await.unwrap(), b"[]");
    let led = ["/2", "/1", "/0"].map(|path| server.link(path));
    assert_eq!(download.redirects(), led);
    let error = client
        .open(&server.link("/4"))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file is behind more than 3 redirects"
    );
    let error = client
        .open(&server.link("/elsewhere"))
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(&error, FileError::Forbidden(why) if why.contains("127.0.0.2")),
        "{error}"
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 4 + 4 + 1);
    for request in requests {
        assert!(
            !request.contains("auth") && !request.contains("referer"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_cut_download_is_an_error() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n";
    let mut packed = http("200 OK", "content-encoding: gzip\r\n", "");
    packed.extend_from_slice(&gzip(b"[1]")[..16]);
    let packed = String::from_utf8_lossy(&packed).replace("content-length: 0\r\n", "");
    for reply in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[]",
        chunked,
        &packed,
    ] {
        let server = Server::always(reply).await;
        let mut download = usual(&server).open(&server.link("/f")).await.unwrap();
        let error = whole(&mut download).await.unwrap_err();
        assert!(matches!(error, FileError::Broken { .. }), "{error}");
        assert_eq!(
            download.chunk().await,
            Ok(None),
            "nothing is asked of it after that"
        );
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, bytes).unwrap();
    packer.finish().unwrap()
}

fn raw(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    reply.extend_from_slice(body);
    reply
}

#[tokio::test]
async fn a_packed_file_is_unpacked_and_its_length_is_not_the_announced_one() {
    let packed = gzip(br#"[{"a":"b"}]"#);
    let mut two_members = gzip(b"[1,");
    two_members.extend_from_slice(&gzip(b"2]"));
    let length = format!(
        "content-encoding: gzip\r\ncontent-length: {}\r\n",
        packed.len()
    );
    for (headers, body, unpacked) in [
        (length.as_str(), &packed, &br#"[{"a":"b"}]"#[..]),
        ("content-encoding: gzip\r\n", &two_members, b"[1,2]"),
        ("content-encoding: identity\r\n", &b"[]".to_vec(), b"[]"),
    ] {
        let server = Server::always(raw(headers, body)).await;
        let mut download = usual(&server).open(&server.link("/f")).await.unwrap();
        assert_eq!(download.announced(), None);
        assert_eq!(whole(&mut download).await.unwrap(), unpacked);
    }
    for (headers, body) in [
        ("content-encoding: br\r\n", &b"[]"[..]),
        ("content-encoding: gzip, gzip\r\n", &packed),
    ] {
        let server = Server::always(raw(headers, body)).await;
        let error = usual(&server)
            .open(&server.link("/f"))
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("which was not asked for"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_file_that_grows_a_thousandfold_is_given_up_and_takes_little_memory() {
    let mut head = raw("content-encoding: gzip\r\n", b"");
    let bomb = gzip(&vec![b' '; 32 * 1024 * 1024]);
    assert!(bomb.len() < 64 * 1024);
    head.extend_from_slice(&bomb);
    let server = Server::new(move |_| Reply::Endless(head.clone(), bomb.clone())).await;
    let client = Client {
        largest_unannounced: 100_000_000,
        ..usual(&server)
    };
    let mut download = client.open(&server.link("/f")).await.unwrap();
    let (mut received, mut largest) = (0, 0);
    let error = loop {
        match download.chunk().await {
            Ok(chunk) => {
                let length = chunk.unwrap().len();
                received += length;
                largest = largest.max(length);
            }
            Err(error) => break error,
        }
    };
    assert!(
        error.to_string().contains("more than 100000000 bytes"),
        "{error}"
    );
    assert!(
        received <= 100_000_000 && received > 95_000_000,
        "{received}"
    );
    assert!(largest <= 2 * 1100 * 1024, "{largest} bytes at once");
}

#[tokio::test]
async fn a_file_without_end_is_given_up() {
    let more = vec![b'1'; 64 * 1024];
    let server = Server::new(move |_| Reply::Endless(raw("", b""), more.clone())).await;
    let client = Client {
        largest_unannounced: 1_000_000,
        ..usual(&server)
    };
    let mut download = client.open(&server.link("/f")).await.unwrap();
    let error = whole(&mut download).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file cannot be read: it has more than 1000000 bytes, and no more are taken"
    );
    let server = Server::always(raw("content-length: 68719476737\r\n", b"[")).await;
    let error = usual(&server)
        .open(&server.link("/f"))
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has more than 68719476736 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_link_that_no_longer_works_is_told_from_a_host_in_trouble() {
    let (server, say) = Server::told().await;
    let client = usual(&server);
    for (status, refused) in [
        ("401 No", true),
        ("403 No", true),
        ("404 No", true),
        ("410 No", true),
        ("400 No", true),
        ("408 Late", false),
        ("429 Slow", false),
        ("500 Oh", false),
        ("503 Oh", false),
        ("204 None", false),
        ("206 Part", false),
        ("304 Same", false),
    ] {
        say(http(status, "", ""));
        let error = client
            .open(&server.link("/f?s=signature"))
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            matches!(error, FileError::Refused { .. }),
            refused,
            "{status}"
        );
        assert!(error.to_string().contains(&status[..3]), "{error}");
        assert!(!error.to_string().contains("signature"), "{error}");
    }
}

#[tokio::test]
async fn a_name_with_a_private_address_is_refused_before_any_connection() {
    let server = Server::always(http("200 OK", "", RUNNING)).await;
    let port = server.port;
    let lookup: Lookup = Arc::new(|_| {
        Box::pin(async {
            let answers = ["8.8.8.8", "127.0.0.1"];
            Ok(answers
                .map(|ip| std::net::SocketAddr::new(ip.parse().unwrap(), 0))
                .to_vec())
        })
    });
    let host = HostUrl::parse(&format!("https://host.kore.ai:{port}"), false).unwrap();
    let files = FileHosts::standard(&host);
    let credentials = Fixed::new(secret("cs-1"));
    let client = Client::build(host, files, false, credentials, &lookup, Patience::USUAL).unwrap();
    let error = client.look(&app(), &job()).await.unwrap_err();
    assert_eq!(kind(&error), "rejected");
    assert!(
        error
            .to_string()
            .contains("127.0.0.1, which is not a public address"),
        "{error}"
    );
    let link = FileUrl::new(format!("https://files.kore.ai:{port}/f?s=1"));
    let error = client.open(&link).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, FileError::Forbidden(why) if why.contains("127.0.0.1")),
        "{error}"
    );
    assert!(server.requests().is_empty());
}
/// Everything that is logged on this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_logs_nor_errors_hold_a_token_a_secret_or_a_signature() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber in the process, `tracing` asks that of the thread which first comes by
    // a log line, and remembers its answer: here, that of a test without any. With two, it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut errors = Vec::new();
    // Each answer repeats what it was sent, as the servers of some do.
    for status in [
        "200 OK",
        "302 There",
        "400 No",
        "401 No",
        "429 Slow",
        "500 Oh",
    ] {
        let server = Server::new(move |request| {
            let said = request.replace("\r\n", " ");
            let headers = format!(
                "location: /x?s=c2lnbmF0dXJl\r\nx-echo: {}\r\n",
                said.replace('\n', " ")
            );
            Reply::Bytes(http(status, &headers, &format!("you said {said}")))
        })
        .await;
        let client = usual(&server);
        let start = client.start(&export(Event::All)).await.unwrap_err();
        let look = client.look(&app(), &job()).await.unwrap_err();
        let file = client
            .open(&server.link("/f?n=1&s=c2lnbmF0dXJl"))
            .await
            .err();
        errors.extend([format!("{start} {start:?} {look} {look:?} {file:?}")]);
        for request in server.requests() {
            assert!(request.contains("auth: eyJ") || request.contains("s=c2lnbmF0dXJl"));
        }
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("the API has answered"), "something is logged");
    for text in errors.iter().chain([&log]) {
        for secret in ["s3cr3t", "eyJ", "c2lnbmF0dXJl"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
