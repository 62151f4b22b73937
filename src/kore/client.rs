//! The real host: the API and the file hosts, over HTTP.
//!
//! Two clients that share nothing but the system's certificates. The API's alone carries the token, and follows no redirect: a
//! header named `auth` would be forwarded. The files' never has the token, and follows a few
//! redirects, each checked like the link itself. Neither heeds a system proxy: behind one, names
//! would be resolved where the rules of [`super::source`] do not reach. Both speak HTTP/1.1 only:
//! a connection for each download keeps a slow one from holding up the others.
//!
//! Whatever comes is bounded, in time and in bytes, before it is understood.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{ClientBuilder, Method, Response, StatusCode, redirect, retry};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use url::Url;

use super::body::{Body, BodyError};
use super::job::{FileUrl, Job};
use super::source::{
    FileHosts, FileRules, Forbidden, GuardedResolver, HostUrl, Lookup, system_lookup,
};
use super::token::{CredentialError, CredentialSource};
use super::{ApiError, Download, FileError, Kore, words};
use crate::export::{AppId, Event, Export, JobId, Time};

/// The header that carries the token.
const AUTH: HeaderName = HeaderName::from_static("auth");

/// The largest answer that is read: 10,000 files at well over a kilobyte each.
const LARGEST_ANSWER: u64 = 16 * 1024 * 1024;

/// How much of an error's body is read for its words.
const LARGEST_ERROR: u64 = 4 * 1024;

/// How often a file may be elsewhere.
const MOST_REDIRECTS: usize = 3;

/// The largest file that is taken where its length is announced: below 10,000 parts of 8 MiB.
const LARGEST_ANNOUNCED: u64 = 64 * 1024 * 1024 * 1024;

/// The largest where it is not: a hundred times any file that was seen. It ends endless bodies and
/// compressed ones that grow a thousandfold.
const LARGEST_UNANNOUNCED: u64 = 8 * 1024 * 1024 * 1024;

/// How long the host is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For a connection, its name's lookup and TLS included.
    connect: Duration,
    /// For the next bytes.
    idle: Duration,
    /// For an answer of the API from beginning to end. (A file's limit is the stage's own.)
    answer: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        connect: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        answer: Duration::from_secs(30),
    };
}

/// Why there is no client: the system's certificates cannot be loaded, for one.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up HTTPS: {0}; are the system's CA certificates installed?")]
pub struct SetupError(String);

/// The vendor's API, and the files that it links to.
pub struct Client<S> {
    host: HostUrl,
    credentials: S,
    api: reqwest::Client,
    files: reqwest::Client,
    rules: FileRules,
    largest_unannounced: u64,
}

impl<S: CredentialSource> Client<S> {
    /// A client for one host. Cheap to use from many tasks at once, behind an `Arc`.
    ///
    /// # Errors
    /// When the system's certificates cannot be loaded.
    pub fn new(
        host: HostUrl,
        files: FileHosts,
        allow_private_network: bool,
        credentials: S,
    ) -> Result<Self, SetupError> {
        let lookup = system_lookup();
        let patience = Patience::USUAL;
        Self::build(
            host,
            files,
            allow_private_network,
            credentials,
            &lookup,
            patience,
        )
    }

    fn build(
        host: HostUrl,
        files: FileHosts,
        allow_private_network: bool,
        credentials: S,
        lookup: &Lookup,
        patience: Patience,
    ) -> Result<Self, SetupError> {
        let rules = FileRules {
            hosts: files,
            allow_private_network,
        };
        let resolver = |what, hosts| GuardedResolver {
            lookup: Arc::clone(lookup),
            what,
            hosts,
            allow_private_network,
        };
        let tls = tls()?;
        let setup = |builder: ClientBuilder| {
            builder
                .tls_backend_preconfigured(tls.clone())
                .build()
                .map_err(|error| SetupError(words::of_request(&error)))
        };
        Ok(Self {
            host,
            credentials,
            api: setup(
                builder(patience)
                    .timeout(patience.answer)
                    .dns_resolver(resolver("the host URL", None)),
            )?,
            files: setup(
                builder(patience)
                    .dns_resolver(resolver("a file's link", Some(rules.hosts.clone()))),
            )?,
            rules,
            largest_unannounced: LARGEST_UNANNOUNCED,
        })
    }

    /// One call of the API; where the token is refused, one more with credentials read afresh.
    async fn call(&self, call: &Call<'_>) -> Result<Vec<u8>, ApiError> {
        let mut refused = None;
        loop {
            let fresh = refused.is_some();
            let attempt = async {
                let credentials = self.credentials.get(fresh).await?;
                let token = credentials.for_app(call.app)?.token(Time::now())?;
                Ok::<_, CredentialError>((credentials, token))
            };
            let (refusal, credentials) = match attempt.await {
                Err(error @ CredentialError::Unavailable(_)) => {
                    return Err(ApiError::Unreachable {
                        request: call.name.clone(),
                        detail: error.to_string(),
                    });
                }
                Err(CredentialError::Wrong(detail)) => (call.unauthorized(detail), None),
                Ok((credentials, token)) => {
                    // The very same credentials would be refused again.
                    if let Some((refusal, Some(before))) = &refused
                        && Arc::ptr_eq(before, &credentials)
                    {
                        return Err(ApiError::clone(refusal));
                    }
                    match self.send(call, &token).await {
                        Err(refusal @ ApiError::Unauthorized { .. }) => {
                            (refusal, Some(credentials))
                        }
                        other => return other,
                    }
                }
            };
            if fresh {
                return Err(refusal);
            }
            refused = Some((refusal, credentials));
        }
    }

    async fn send(&self, call: &Call<'_>, token: &SecretString) -> Result<Vec<u8>, ApiError> {
        let mut token = HeaderValue::try_from(token.expose_secret())
            .map_err(|_| call.unauthorized("the token cannot stand in a header".to_owned()))?;
        token.set_sensitive(true);
        let mut request = self
            .api
            .request(call.method.clone(), self.host.join(&call.path))
            .header(AUTH, token)
            .header(CONTENT_TYPE, "application/json");
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|error| call.no_answer(&error))?;
        let status = response.status();
        tracing::debug!(
            request = call.name,
            status = status.as_u16(),
            "the API has answered"
        );
        if status.is_success() {
            let body = Body::new(response, LARGEST_ANSWER, LARGEST_ANSWER);
            let (body, end) = body.map_err(|error| call.unread(&error))?.whole().await;
            return end.map(|()| body).map_err(|error| call.unread(&error));
        }
        Err(call.refused(response).await)
    }
}

/// What both clients trust. Loading the system's certificates takes most of a function's start, so it
/// is done once.
fn tls() -> Result<ClientConfig, SetupError> {
    let mut tls =
        ClientConfig::with_platform_verifier().map_err(|error| SetupError(error.to_string()))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// What both clients have in common.
fn builder(patience: Patience) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("insights-archive/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        // Whether a request is sent again is decided by the stages.
        .retry(retry::never())
        .http1_only()
        .connect_timeout(patience.connect)
        .read_timeout(patience.idle)
        // Shorter than servers keep an idle connection (5 s is a common default), so that a request
        // does not meet one that is being closed: the start of a job must not end in doubt.
        .pool_idle_timeout(Duration::from_secs(4))
}

/// One request to the API.
struct Call<'a> {
    app: &'a AppId,
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// Method and path, for errors and logs.
    name: String,
}

impl<'a> Call<'a> {
    fn new(app: &'a AppId, method: Method, path: &str, body: Option<Bytes>) -> Self {
        let path = format!("/api/public/bot/{app}/search/{path}");
        let name = format!("{method} {path}");
        Self {
            app,
            method,
            path,
            body,
            name,
        }
    }

    fn unauthorized(&self, detail: String) -> ApiError {
        ApiError::Unauthorized {
            request: self.name.clone(),
            detail,
        }
    }

    fn unclear(&self, detail: String, retry_after: Option<Duration>) -> ApiError {
        ApiError::Unclear {
            request: self.name.clone(),
            detail,
            retry_after,
        }
    }

    fn rejected(&self, detail: String) -> ApiError {
        ApiError::Rejected {
            request: self.name.clone(),
            detail,
        }
    }

    fn no_answer(&self, error: &reqwest::Error) -> ApiError {
        if let Some(forbidden) = forbidden(error) {
            return self.rejected(forbidden.to_string());
        }
        let detail = words::of_request(error);
        if error.is_connect() {
            ApiError::Unreachable {
                request: self.name.clone(),
                detail,
            }
        } else {
            self.unclear(detail, None)
        }
    }

    fn unread(&self, error: &BodyError) -> ApiError {
        self.unclear(format!("the answer cannot be read: {error}"), None)
    }

    /// An answer whose status is not a success.
    async fn refused(&self, response: Response) -> ApiError {
        let status = response.status();
        let retry_after = retry_after(response.headers(), Time::now());
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                return ApiError::Limited {
                    request: self.name.clone(),
                    retry_after,
                };
            }
            StatusCode::NOT_FOUND | StatusCode::GONE if self.method == Method::GET => {
                return ApiError::Gone {
                    request: self.name.clone(),
                };
            }
            _ => {}
        }
        let code = status.as_u16();
        if status.is_redirection() {
            let place = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let place = words::fit(place.unwrap_or("nowhere"));
            return self.rejected(format!(
                "the host redirects ({code}) to {place}; the token is sent to no other place than the \
                 host URL: if that is the host, set it"
            ));
        }
        // What cannot be read of it, or is beyond the limit, is not missed.
        let said = match Body::new(response, LARGEST_ERROR, LARGEST_ERROR) {
            Ok(body) => said(&body.whole().await.0),
            Err(_) => String::new(),
        };
        let detail = format!("status {code}{said}");
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(format!(
                "{detail}; check the client id and secret (or the JWT), and that the app has both API \
                 scopes, Answer Insights and Answer Generation"
            )),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => self.unclear(detail, retry_after),
            _ if status.is_client_error() => self.rejected(detail),
            _ => self.unclear(detail, retry_after),
        }
    }
}

impl<S: CredentialSource> Kore for Client<S> {
    type Download = HttpDownload;

    async fn start(&self, export: &Export) -> Result<Job, ApiError> {
        #[derive(Serialize)]
        struct Start {
            filters: Filters,
            #[serde(skip_serializing_if = "Option::is_none")]
            event: Option<Event>,
        }
        #[derive(Serialize)]
        struct Filters {
            from: Time,
            to: Time,
        }
        let window = export.week.window();
        let start = Start {
            filters: Filters {
                from: window.from,
                to: window.to,
            },
            event: Some(export.event).filter(|event| *event != Event::All),
        };
        // Texts always serialise.
        let body = serde_json::to_vec(&start).unwrap_or_default().into();
        let call = Call::new(&export.app, Method::POST, "analytics-export", Some(body));
        let answer = self.call(&call).await?;
        Job::decode(&answer).map_err(|error| call.unclear(error.to_string(), None))
    }

    async fn look(&self, app: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let call = Call::new(app, Method::GET, &format!("jobs/{job}"), None);
        let answer = self.call(&call).await?;
        Job::decode_look(&answer, job).map_err(|error| call.unclear(error.to_string(), None))
    }

    async fn open(&self, link: &FileUrl) -> Result<HttpDownload, FileError> {
        let mut url = self.rules.check_link(link)?;
        let mut redirects = Vec::new();
        for _ in 0..=MOST_REDIRECTS {
            // Asked for as it is: then its length is announced, and nothing is spent on unpacking.
            // A server that packs it all the same is understood.
            let request = self
                .files
                .get(url.clone())
                .header(ACCEPT_ENCODING, "identity");
            let response = request.send().await.map_err(|error| unreached(&error))?;
            if !response.status().is_redirection() {
                return self.download(response, redirects);
            }
            url = self.redirect(&url, &response)?;
            redirects.push(FileUrl::new(url.as_str()));
        }
        Err(unusable(format!(
            "the file is behind more than {MOST_REDIRECTS} redirects"
        )))
    }
}

impl<S> Client<S> {
    fn redirect(&self, from: &Url, response: &Response) -> Result<Url, FileError> {
        let location = response.headers().get(LOCATION);
        if let Some(location) = location.and_then(|location| location.to_str().ok()) {
            return Ok(self.rules.check_redirect(from, location)?);
        }
        let code = response.status().as_u16();
        Err(unusable(format!(
            "the file host redirects ({code}) without saying where to"
        )))
    }

    fn download(
        &self,
        response: Response,
        redirects: Vec<FileUrl>,
    ) -> Result<HttpDownload, FileError> {
        let status = response.status();
        let refused = status.is_client_error()
            && !matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            );
        if refused {
            return Err(FileError::Refused {
                status: status.as_u16(),
            });
        }
        if status != StatusCode::OK {
            return Err(FileError::Broken {
                detail: format!("the file host answers with status {}", status.as_u16()),
                retry_after: retry_after(response.headers(), Time::now()),
            });
        }
        let body = Body::new(response, LARGEST_ANNOUNCED, self.largest_unannounced);
        let body = body.map_err(|error| unread(&error))?;
        Ok(HttpDownload { body, redirects })
    }
}

/// A file on its way in.
pub struct HttpDownload {
    body: Body,
    redirects: Vec<FileUrl>,
}

impl Download for HttpDownload {
    fn announced(&self) -> Option<u64> {
        self.body.announced()
    }

    fn redirects(&self) -> &[FileUrl] {
        &self.redirects
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        self.body.chunk().await.map_err(|error| unread(&error))
    }
}

fn unusable(detail: String) -> FileError {
    FileError::Broken {
        detail,
        retry_after: None,
    }
}

fn unread(error: &BodyError) -> FileError {
    unusable(format!("the file cannot be read: {error}"))
}

fn unreached(error: &reqwest::Error) -> FileError {
    match forbidden(error) {
        Some(forbidden) => forbidden.into(),
        None => unusable(format!(
            "the file host cannot be reached: {}",
            words::of_request(error)
        )),
    }
}

impl From<Forbidden> for FileError {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden.to_string())
    }
}

/// The resolver's refusal, inside what the client makes of it.
fn forbidden(error: &reqwest::Error) -> Option<Forbidden> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(forbidden) = error.downcast_ref() {
            return Some(Forbidden::clone(forbidden));
        }
        cause = error.source();
    }
    None
}

/// The words in an error's body, if any, to stand behind its status.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') {
        return " with a page of HTML or XML".to_owned();
    }
    let said = words::fit(&words::within(text).unwrap_or_default());
    if said.is_empty() {
        said
    } else {
        format!(": {said}")
    }
}

/// How long the server asks to wait: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        Time::from(date.timestamp()).since(now)
    };
    Some(wait)
}

#[cfg(test)]
mod tests;
