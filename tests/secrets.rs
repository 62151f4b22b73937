//! The whole pipeline over loopback at trace level, with every failure that the simulated host knows
//! and servers that repeat what they were sent: nowhere does a token, the client's secret or the
//! signature of a link remain.
//!
//! A relay between client and host sees every token and every signature on the wire, so that they are
//! searched for by their own text: in the log, in errors, in messages and dead letters, in panics, in
//! metrics and the answers of functions, and in every object of the archive with its metadata.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use insights_archive::archive::folder::Folder;
use insights_archive::export::{AppId, Event, Export, JobId, Time, parse_date};
use insights_archive::host::Host;
use insights_archive::host::faults::{Fault, Faults};
use insights_archive::host::plan::Plan;
use insights_archive::host::server::serve;
use insights_archive::host::token::Credentials;
use insights_archive::kore::client::Client;
use insights_archive::kore::job::{FileUrl, Job};
use insights_archive::kore::source::{FileHosts, HostUrl};
use insights_archive::kore::token::{CredentialSet, Fixed};
use insights_archive::kore::{ApiError, Download, FileError, Kore};
use insights_archive::lambda::handlers;
use insights_archive::lambda::outside::{BuryRaw, Outside as Function};
use insights_archive::queue::message::Message;
use insights_archive::queue::{DeadLetter, Line, Outgoing, Queue, QueueError};
use insights_archive::stages::enqueue::{self, Request, Scope, Wish};
use insights_archive::stages::{Budget, Edges, Lease, Report, Rules, handle};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const CLIENT_SECRET: &str = "k0re-cl1ent-s3cr3t";

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that several write to.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What libraries log that do not use `tracing`.
struct Plain(Sink);

impl log::Log for Plain {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!(
            "{} {}: {}\n",
            record.level(),
            record.target(),
            record.args()
        );
        lock(&self.0.0).extend_from_slice(line.as_bytes());
    }

    fn flush(&self) {}
}

/// What was said, by whom.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Heard {
    fn say(&self, who: &'static str, what: &impl Debug) {
        lock(&self.0).push((who, format!("{what:?} {what:#?}")));
    }

    /// An error in every way that it may be shown, with its causes.
    fn error(&self, who: &'static str, error: &(dyn Error + 'static)) {
        let mut said = vec![format!("{error:?} {error:#?}")];
        let mut cause = Some(error);
        while let Some(error) = cause {
            said.push(error.to_string());
            cause = error.source();
        }
        lock(&self.0).push((who, said.join(" <- ")));
    }

    fn count(&self, who: &str, of: &str) -> usize {
        let heard = lock(&self.0);
        let said = |(by, what): &&(&str, String)| *by == who && what.contains(of);
        heard.iter().filter(said).count()
    }
}

/// The client, overheard.
struct Overheard {
    client: Client<Fixed>,
    heard: Heard,
}

struct Body<D> {
    body: D,
    heard: Heard,
}

impl Kore for Overheard {
    type Download = Body<<Client<Fixed> as Kore>::Download>;

    async fn start(&self, export: &Export) -> Result<Job, ApiError> {
        let started = self.client.start(export).await;
        self.heard.say("start", &started);
        started.inspect_err(|error| self.heard.error("start", error))
    }

    async fn look(&self, app: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let looked = self.client.look(app, job).await;
        self.heard.say("look", &looked);
        looked.inspect_err(|error| self.heard.error("look", error))
    }

    async fn open(&self, url: &FileUrl) -> Result<Self::Download, FileError> {
        self.heard.say("open", url);
        let opened = self.client.open(url).await;
        let body = opened.inspect_err(|error| self.heard.error("open", error))?;
        let heard = self.heard.clone();
        Ok(Body { body, heard })
    }
}

impl<D: Download> Download for Body<D> {
    fn announced(&self) -> Option<u64> {
        self.body.announced()
    }

    fn redirects(&self) -> &[FileUrl] {
        self.body.redirects()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        let chunk = self.body.chunk().await;
        chunk.inspect_err(|error| self.heard.error("chunk", error))
    }
}

/// A queue that can be read.
struct Post {
    out: mpsc::UnboundedSender<(Message, Duration)>,
    heard: Heard,
}

impl Queue for Post {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        for Outgoing { message, delay } in messages {
            self.heard.say("message", &(message.to_json(), &message));
            // It fails when nobody works any more.
            let _ = self.out.send((message, delay));
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), QueueError> {
        self.heard.say("letter", &(letter.start.to_json(), &letter));
        Ok(())
    }
}

impl BuryRaw for Post {
    async fn bury_raw(&self, body: &str, reason: &str) -> Result<(), QueueError> {
        self.heard.say("raw letter", &(body, reason));
        Ok(())
    }
}

/// What a function has, in faster time.
struct Outside {
    function: Function<Overheard, Folder, Post>,
    clock: Clock,
    heard: Heard,
    /// Whether the next bytes that arrive are met with a panic.
    panics: AtomicBool,
}

impl Edges for Outside {
    type Kore = Overheard;
    type Archive = Folder;
    type Queue = Post;

    fn kore(&self) -> &Overheard {
        self.function.kore()
    }

    fn archive(&self) -> &Folder {
        self.function.archive()
    }

    fn queue(&self) -> &Post {
        self.function.queue()
    }

    fn rules(&self) -> &Rules {
        self.function.rules()
    }

    fn budget(&self) -> &Budget {
        self.function.budget()
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn random(&self) -> u64 {
        self.function.random()
    }

    fn report(&self, export: &Export, report: Report) {
        self.heard.say("report", &report);
        tracing::trace!(%export, ?report, "{export}: {report:?}");
        let arrived = matches!(report, Report::Arrived { .. });
        let panics = arrived && self.panics.swap(false, Ordering::Relaxed);
        assert!(
            !panics,
            "a defect, met with bytes of {export} in hand: {report:?}"
        );
        self.function.report(export, report);
    }
}

/// Time that passes faster than the real one, so that pauses and patience are short.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    base: Time,
}

impl Clock {
    /// So much virtual time in a millisecond.
    const STEP: Duration = Duration::from_millis(200);
    /// The same while a request is under way: a machine under load must not look like a host in trouble.
    const SHORT_STEP: Duration = Duration::from_millis(25);

    fn start(relay: Arc<Relay>) -> Self {
        tokio::spawn(async move {
            loop {
                // While another thread works, a paused clock does not run ahead by itself.
                let tick = || std::thread::sleep(Duration::from_millis(1));
                tokio::task::spawn_blocking(tick).await.unwrap();
                let idle = relay.open.load(Ordering::Relaxed) == 0;
                tokio::time::advance(if idle { Self::STEP } else { Self::SHORT_STEP }).await;
            }
        });
        Self {
            began: Instant::now(),
            base: Time::now(),
        }
    }

    fn now(&self) -> Time {
        self.base.after(self.began.elapsed())
    }
}

/// Which requests the relay answers itself, with what it was sent.
#[derive(Debug, Clone, Copy)]
enum Echo {
    Nothing,
    /// Every so manieth.
    Some(usize),
    /// Those to the API.
    Api,
    /// Those for files, as if the page were the file.
    Files,
    /// The same, where a redirect led to it.
    Redirected,
}

/// Between client and host: it keeps what passes, and repeats some requests to whoever sent them.
struct Relay {
    wire: Sink,
    host: std::net::SocketAddr,
    echo: Mutex<Echo>,
    requests: AtomicUsize,
    /// Requests under way.
    open: AtomicUsize,
}

impl Relay {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let relay = Arc::clone(&self);
            tokio::spawn(async move {
                relay.open.fetch_add(1, Ordering::Relaxed);
                // An error is a connection that broke, on purpose or because the client left.
                let _ = relay.answer(client).await;
                relay.open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    async fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        let mut request = Vec::new();
        while !is_whole(&request) {
            if client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        self.wire.clone().write_all(&request)?;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&request).into_owned();
        let api = text.contains("/search/");
        let status = match *lock(&self.echo) {
            Echo::Nothing => None,
            Echo::Files => (!api).then_some("200 OK"),
            Echo::Redirected => text.contains("&h=1&").then_some("200 OK"),
            Echo::Some(one_in) if !number.is_multiple_of(one_in) => None,
            Echo::Api if !api => None,
            Echo::Some(one_in) => Some(STATUSES[number / one_in % STATUSES.len()]),
            Echo::Api => Some(STATUSES[number % STATUSES.len()]),
        };
        if let Some(status) = status {
            let line = text.split_whitespace().nth(1).unwrap_or("/");
            let body = format!("<html>you said {text}</html>");
            let answer = format!(
                "HTTP/1.1 {status}\r\nlocation: {line}\r\nx-said: {}\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                text.replace("\r\n", " "),
                body.len()
            );
            client.write_all(answer.as_bytes()).await?;
            return client.shutdown().await;
        }
        let mut host = TcpStream::connect(self.host).await?;
        let line = text.find("\r\n").unwrap_or(0) + 2;
        host.write_all(&request[..line]).await?;
        host.write_all(b"connection: close\r\n").await?;
        host.write_all(&request[line..]).await?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut gone = [0];
            tokio::select! {
                read = host.read(&mut buffer) => match read? {
                    0 => return client.shutdown().await,
                    length => {
                        self.wire.clone().write_all(&buffer[..length])?;
                        client.write_all(&buffer[..length]).await?;
                    }
                },
                _ = client.read(&mut gone) => return Ok(()),
            }
        }
    }
}

const STATUSES: [&str; 7] = [
    "500 Oh",
    "302 There",
    "200 OK",
    "429 Slow",
    "401 No",
    "503 Later",
    "400 No",
];

/// Whether a request has come with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap_or(0));
    body.len() >= length
}

/// What follows a mark, as long as it is of the letters of a token.
fn after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).map(move |(at, _)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The secrets that passed over the wire: tokens, each whole and in its telling parts, and signatures.
fn secrets(wire: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let tokens = after(wire, "auth: ").flat_map(|token| {
        let parts = token.split('.').skip(1);
        std::iter::once(token).chain(parts).map(str::to_owned)
    });
    let signatures = after(wire, "&s=").map(str::to_owned);
    let long = |secret: &String| secret.len() > 20;
    (
        tokens.filter(long).collect(),
        signatures.filter(long).collect(),
    )
}

/// Which of the secrets stand in a text.
fn found<'a>(text: &str, secrets: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    let stands = |secret: &&String| text.contains(secret.as_str());
    secrets.into_iter().filter(stands).collect()
}

/// Every file below a folder, by its path.
fn files(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            all.push((path.display().to_string(), text));
        }
    }
}

fn scope() -> Scope {
    Scope {
        apps: vec!["st-1".parse().unwrap()],
        events: vec![Event::All],
        since: None,
        catch_up_weeks: 4,
        lookback_weeks: 0,
        settle: Duration::from_secs(3_600),
        apart: Duration::ZERO,
    }
}

/// Enqueues the weeks and works until there are no messages left.
async fn archive(
    outside: &Arc<Outside>,
    inbox: &mut mpsc::UnboundedReceiver<(Message, Duration)>,
    since: &str,
    until: &str,
) {
    let wish = Request::Explicit(Wish {
        since: parse_date(since).unwrap(),
        until: Some(parse_date(until).unwrap()),
        apps: None,
        events: None,
        replace: false,
        dry_run: false,
    });
    let summary = enqueue::run(&**outside, &scope(), &wish).await.unwrap();
    outside.heard.say("summary", &summary);
    work(inbox, |message, delay| {
        let outside = Arc::clone(outside);
        async move {
            sleep(delay).await;
            let work = AssertUnwindSafe(handle(&*outside, &message, None));
            match work.catch_unwind().await {
                Ok(Ok(outcome)) => outside.heard.say("outcome", &outcome),
                Ok(Err(error)) => {
                    outside.heard.error("stage", &error);
                    let _ = outside.queue().out.send((message, Duration::from_secs(5)));
                }
                Err(panic) => {
                    let said = panic.downcast_ref::<String>().cloned();
                    outside.heard.say("panic", &said);
                    let _ = outside.queue().out.send((message, Duration::from_secs(5)));
                }
            }
        }
    })
    .await;
}

/// The same by the functions' own handlers, in real time but for the delays of messages: each is woken
/// by its event, and a body that is no message comes with every message.
async fn archive_by_functions(
    outside: &Arc<Outside>,
    inbox: &mut mpsc::UnboundedReceiver<(Message, Duration)>,
    since: &str,
    until: &str,
) {
    let event = json!({"since": since, "until": until});
    let summary = handlers::enqueue(&outside.function, &scope(), &event, None).await;
    outside.heard.say("summary", &summary.unwrap());
    work(inbox, |message, delay| {
        let outside = Arc::clone(outside);
        async move {
            sleep(delay).await;
            let event = json!({"Records": [
                {"messageId": "1", "body": message.to_json()},
                {"messageId": "2", "body": "no message"},
            ]});
            let line = Line::of(&message);
            let answer = handlers::batch(&outside.function, line, &event, None).await;
            let answer = answer.unwrap();
            outside.heard.say("answer", &answer);
            if !answer.batch_item_failures.is_empty() {
                let _ = outside.queue().out.send((message, Duration::from_secs(5)));
            }
        }
    })
    .await;
}

/// Does the work of each message, side by side, until there are none left.
async fn work<W: Future<Output = ()> + Send + 'static>(
    inbox: &mut mpsc::UnboundedReceiver<(Message, Duration)>,
    one: impl Fn(Message, Duration) -> W,
) {
    let mut working = JoinSet::new();
    loop {
        while let Ok((message, delay)) = inbox.try_recv() {
            working.spawn(one(message, delay));
        }
        match working.join_next().await {
            Some(ended) => ended.unwrap(),
            None if inbox.is_empty() => return,
            None => {}
        }
    }
}

/// Keeps everything that is logged, by whatever means, and everything that a panic says.
fn overhear() -> Sink {
    let log = Sink::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log::set_logger(Box::leak(Box::new(Plain(log.clone())))).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let said = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(said.clone(), "{panic} {panic:?}");
        eprintln!("{panic}");
    }));
    log
}

fn credentials(secret: &str) -> Credentials {
    Credentials {
        client_id: "cs-1".to_owned(),
        client_secret: secret.into(),
    }
}

/// A host, a relay before it, and a client of that.
async fn served() -> (Arc<Mutex<Host>>, Arc<Relay>, Client<Fixed>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let host_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Arc::new(Relay {
        wire: Sink::default(),
        host: host_listener.local_addr().unwrap(),
        echo: Mutex::new(Echo::Nothing),
        requests: AtomicUsize::new(0),
        open: AtomicUsize::new(0),
    });
    tokio::spawn(Arc::clone(&relay).serve(listener));
    let plan = Plan {
        credentials: credentials(CLIENT_SECRET),
        records_per_week: 20..=40,
        records_per_fragment: 10,
        record_bytes: 2_048..=2_100,
        job_time: Duration::ZERO,
        fragment_time: Duration::ZERO,
        // A minute of the host is too long here; 429 is among the faults.
        limits: None,
        link_lifetime: Duration::from_secs(2),
        drip_time: Duration::from_millis(20),
        ..Plan::default()
    };
    let host = Arc::new(Mutex::new(Host::new(plan, &base)));
    // Tokens are of the real time, and so is the host.
    tokio::spawn(serve(host_listener, Arc::clone(&host), Time::now));

    let own = CredentialSet::from_values(
        None,
        Some("cs-1".to_owned()),
        Some(CLIENT_SECRET.to_owned()),
        Time::now(),
    )
    .unwrap();
    let url = HostUrl::parse(&base, true).unwrap();
    let hosts = FileHosts::standard(&url);
    let client = Client::new(url, hosts, true, Fixed::new(own)).unwrap();
    (host, relay, client)
}

/// What the stages see: everything is overheard.
fn outside(
    client: Client<Fixed>,
    relay: &Arc<Relay>,
    folder: &Path,
    out: mpsc::UnboundedSender<(Message, Duration)>,
) -> Arc<Outside> {
    let heard = Heard::default();
    let minutes = Duration::from_mins;
    Arc::new(Outside {
        function: Function {
            kore: Overheard {
                client,
                heard: heard.clone(),
            },
            archive: Folder::open(folder).unwrap(),
            queue: Post {
                out,
                heard: heard.clone(),
            },
            rules: Rules {
                stall: minutes(1),
                deadline: minutes(3),
                poll_limit: minutes(1),
                lease: Lease::Delivery {
                    poll: minutes(1),
                    copy: minutes(1),
                },
            },
            budget: Budget::new(64 << 20, 8),
            metrics: Mutex::default(),
        },
        clock: Clock::start(Arc::clone(relay)),
        heard,
        panics: AtomicBool::new(true),
    })
}

/// What chance brings about, sooner or later.
const BY_CHANCE: [(&str, &str); 7] = [
    ("start", "Unauthorized"),
    ("start", "Unclear"),
    ("look", "Limited"),
    ("look", "Unclear"),
    ("open", "Refused"),
    ("report", "Quarantined"),
    ("report", "Committed"),
];

/// Whether everything was said that is to be searched.
fn assert_much_was_said(heard: &Heard, logged: &str) {
    for (who, of) in [
        ("letter", "401"),
        ("letter", "3 jobs were tried"),
        ("panic", "a defect, met with bytes"),
        ("raw letter", "no message"),
        ("answer", "Answer"),
        ("metrics", "3 jobs were tried"),
        ("metrics", "401"),
        ("message", "poll"),
        ("message", "copy"),
    ]
    .into_iter()
    .chain(BY_CHANCE)
    {
        assert!(
            heard.count(who, of) > 0,
            "nothing like {of:?} was heard of {who}"
        );
    }
    for target in ["insights_archive", "hyper", "a defect, met with bytes"] {
        assert!(logged.contains(target), "nothing of {target} was logged");
    }
}

#[tokio::test(start_paused = true)]
async fn at_trace_level_and_under_every_failure_no_secret_remains_anywhere() {
    let log = overhear();
    let (host, relay, client) = served().await;
    let folder = tempfile::tempdir().unwrap();
    let (out, mut inbox) = mpsc::unbounded_channel();
    let outside = outside(client, &relay, folder.path(), out);
    let rounds = [
        (Faults::none(), Echo::Nothing, "2025-01-06", "2025-01-20"),
        (
            Faults::none().chance(Fault::Redirect, 100.0),
            Echo::Redirected,
            "2025-01-20",
            "2025-01-27",
        ),
        (Faults::none(), Echo::Files, "2025-05-05", "2025-05-12"),
        (Faults::none(), Echo::Api, "2025-05-12", "2025-05-26"),
        (
            Faults::none().chance(Fault::ExpiredLink, 100.0),
            Echo::Nothing,
            "2025-06-02",
            "2025-06-09",
        ),
    ];
    for (faults, echo, since, until) in rounds {
        lock(&host).set_faults(faults);
        *lock(&relay.echo) = echo;
        archive(&outside, &mut inbox, since, until).await;
    }
    for (since, until) in [
        ("2025-02-03", "2025-04-28"),
        ("2024-02-05", "2024-04-29"),
        ("2023-02-06", "2023-05-01"),
        ("2022-02-07", "2022-05-02"),
    ] {
        lock(&host).set_faults(Faults::every(15.0));
        *lock(&relay.echo) = Echo::Some(9);
        archive(&outside, &mut inbox, since, until).await;
        if BY_CHANCE
            .iter()
            .all(|(who, of)| outside.heard.count(who, of) > 0)
        {
            break;
        }
    }
    for (faults, echo, since, until) in [
        (Faults::none(), Echo::Nothing, "2025-06-30", "2025-07-07"),
        (Faults::none(), Echo::Some(9), "2025-07-07", "2025-07-14"),
        (Faults::none(), Echo::Files, "2025-07-14", "2025-07-21"),
    ] {
        lock(&host).set_faults(faults);
        *lock(&relay.echo) = echo;
        archive_by_functions(&outside, &mut inbox, since, until).await;
    }
    *lock(&relay.echo) = Echo::Nothing;
    lock(&host).set_credentials(credentials("another"));
    archive(&outside, &mut inbox, "2025-06-09", "2025-06-16").await;
    archive_by_functions(&outside, &mut inbox, "2025-07-28", "2025-08-04").await;
    let metrics = outside.function.take_metrics();
    let line = metrics.line("namespace", outside.now(), Duration::ZERO);
    outside.heard.say("metrics", &line);

    let wire = relay.wire.text();
    let (tokens, signatures) = secrets(&wire);
    let passed = (tokens.len(), signatures.len());
    assert!(passed.0 > 50 && passed.1 > 20, "{passed:?} on the wire");
    // What is searched for can be found.
    assert_eq!(found(&wire, &tokens).len(), tokens.len());
    assert_eq!(found(&wire, &signatures).len(), signatures.len());
    let logged = log.text();
    assert_much_was_said(&outside.heard, &logged);

    let mut texts = vec![("the log".to_owned(), logged)];
    let heard = std::mem::take(&mut *lock(&outside.heard.0));
    texts.extend(
        heard
            .into_iter()
            .map(|(who, what)| (format!("what {who} said"), what)),
    );
    files(folder.path(), &mut texts);
    for kind in ["manifests", "receipts", "claims", "data", "quarantine"] {
        let kept = |(place, _): &(String, String)| place.contains(&format!("/{kind}/"));
        assert!(texts.iter().any(kept), "no {kind}");
    }
    let client_secret = [CLIENT_SECRET.to_owned()];
    for (place, text) in &texts {
        let every = tokens.iter().chain(&signatures).chain(&client_secret);
        if let Some(secret) = found(text, every).first() {
            let at = text.find(secret.as_str()).unwrap_or(0);
            let from = text.floor_char_boundary(at.saturating_sub(300));
            panic!("{place}: {secret} in …{}", &text[from..at + secret.len()]);
        }
    }
}
