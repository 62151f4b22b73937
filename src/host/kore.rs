//! The simulated host in the place of the real API, inside one process and without HTTP.
//!
//! What a client would make of an answer on the wire, this makes of the model's. Waiting is done by
//! tokio's clock, so that it takes no time where that is paused.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::Host;
use super::answer::{Answer, Conduct, End, FileBody, Framing};
use crate::export::{AppId, Event, Export, JobId, Time};
use crate::kore::job::{FileUrl, Job, Undecodable};
use crate::kore::{ApiError, Download, FileError, Kore};

/// A client of a [`Host`] in the same process.
pub struct HostKore<C> {
    host: Arc<Mutex<Host>>,
    clock: C,
    /// How long it waits for an answer, and for each piece of a file.
    patience: Duration,
}

impl<C> fmt::Debug for HostKore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKore").finish_non_exhaustive()
    }
}

impl<C: Fn() -> Time + Send + Sync> HostKore<C> {
    /// A client of a host whose time is `clock`, with the right credentials. It waits at most `patience` for anything.
    pub fn new(host: Arc<Mutex<Host>>, clock: C, patience: Duration) -> Self {
        Self {
            host,
            clock,
            patience,
        }
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn understand(
        &self,
        request: String,
        answer: Answer,
        decode: impl FnOnce(&[u8]) -> Result<Job, Undecodable>,
    ) -> Result<Job, ApiError> {
        let retry_after = seconds(answer.header("retry-after"));
        let unclear = |detail: String| ApiError::Unclear {
            request: request.clone(),
            detail,
            retry_after,
        };
        match answer.conduct {
            Conduct::Sent => {}
            Conduct::Lost => return Err(unclear("the connection closed".to_owned())),
            Conduct::Hanging => {
                tokio::time::sleep(self.patience).await;
                return Err(unclear("no answer in time".to_owned()));
            }
            Conduct::Endless => return Err(unclear("the answer is too long".to_owned())),
        }
        let said = || String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => decode(&answer.body).map_err(|error| unclear(error.to_string())),
            429 => Err(ApiError::Limited {
                request,
                retry_after,
            }),
            401 | 403 => Err(ApiError::Unauthorized {
                request,
                detail: format!("status {}: {}", answer.status, said()),
            }),
            404 if request.starts_with("GET") => Err(ApiError::Gone { request }),
            status @ 500.. => Err(unclear(format!("status {status}"))),
            status => Err(ApiError::Rejected {
                request,
                detail: format!("status {status}: {}", said()),
            }),
        }
    }
}

fn seconds(header: Option<&str>) -> Option<Duration> {
    Some(Duration::from_secs(header?.parse().ok()?))
}

impl<C: Fn() -> Time + Send + Sync> Kore for HostKore<C> {
    type Download = HostDownload;

    async fn start(&self, export: &Export) -> Result<Job, ApiError> {
        let window = export.week.window();
        let mut body = json!({"filters": window});
        if export.event != Event::All {
            body["event"] = json!(export.event);
        }
        let now = (self.clock)();
        let app = export.app.as_str();
        let answer = {
            let mut host = self.host();
            let token = host.mint(now);
            host.start(app, Some(&token), body.to_string().as_bytes(), now)
        };
        let request = format!("POST /api/public/bot/{app}/search/analytics-export");
        self.understand(request, answer, Job::decode).await
    }

    async fn look(&self, app: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let now = (self.clock)();
        let answer = {
            let mut host = self.host();
            let token = host.mint(now);
            host.look(app.as_str(), job.as_str(), Some(&token), now)
        };
        let request = format!("GET /api/public/bot/{app}/search/jobs/{job}");
        let decode = |body: &[u8]| Job::decode_look(body, job);
        self.understand(request, answer, decode).await
    }

    async fn open(&self, url: &FileUrl) -> Result<HostDownload, FileError> {
        const REDIRECTS: u32 = 3;
        let base = self.host().files_base().to_owned();
        let mut path = url
            .expose()
            .strip_prefix(&base)
            .ok_or_else(|| {
                FileError::Forbidden("the file is not at the simulated host".to_owned())
            })?
            .to_owned();
        for _ in 0..=REDIRECTS {
            let answer = self.host().file(&path, (self.clock)());
            let broken = |detail: String| FileError::Broken {
                detail,
                retry_after: seconds(answer.header("retry-after")),
            };
            match answer.status {
                200 => {
                    return Ok(HostDownload {
                        body: answer.body,
                        patience: self.patience,
                    });
                }
                302 => {
                    let location = answer.header("location").unwrap_or_default();
                    let place = location.strip_prefix(&base).unwrap_or(location);
                    place.clone_into(&mut path);
                }
                status @ (429 | 500..) => {
                    return Err(broken(format!(
                        "the file host answers with status {status}"
                    )));
                }
                status => return Err(FileError::Refused { status }),
            }
        }
        Err(FileError::Broken {
            detail: format!("the file host redirects more than {REDIRECTS} times"),
            retry_after: None,
        })
    }
}

/// A file of a [`Host`] in the same process.
#[derive(Debug)]
pub struct HostDownload {
    body: FileBody,
    patience: Duration,
}

impl Download for HostDownload {
    fn announced(&self) -> Option<u64> {
        self.body.announced()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        let broken = |detail: &str| FileError::Broken {
            detail: detail.to_owned(),
            retry_after: None,
        };
        if !self.body.pause.is_zero() {
            tokio::time::sleep(self.body.pause).await;
        }
        if let Some(piece) = self.body.next() {
            return Ok(Some(piece));
        }
        match self.body.end {
            // a torn gzip stream lacks its trailer, which no framing hides
            End::Cut(_) if self.body.framing == Framing::UntilClosed && !self.body.gzip => Ok(None),
            End::Cut(_) => Err(broken("the connection closed before the file's end")),
            End::Stalled(_) => {
                tokio::time::sleep(self.patience).await;
                Err(broken("no more bytes in time"))
            }
            End::Whole => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::faults::{Fault, Faults, Occasion, When};
    use crate::host::plan::Plan;

    fn export() -> Export {
        Export {
            app: "st-1".parse().unwrap(),
            event: Event::ThumbsUp,
            week: "2025-01-20".parse().unwrap(),
        }
    }

    /// A client whose host lives by tokio's clock.
    fn client(faults: Faults) -> HostKore<impl Fn() -> Time + Send + Sync> {
        let plan = Plan {
            records_per_week: 2_000..=2_000,
            faults,
            ..Plan::default()
        };
        let host = Arc::new(Mutex::new(Host::new(
            plan,
            "https://files.example.com:8443",
        )));
        let (origin, start) = (tokio::time::Instant::now(), export().week.end());
        let clock = move || start.after(origin.elapsed());
        HostKore::new(host, clock, Duration::from_secs(30))
    }

    async fn done(client: &impl Kore) -> Job {
        let mut job = client.start(&export()).await.unwrap();
        while job.files.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            job = client.look(&export().app, &job.id).await.unwrap();
        }
        job
    }

    async fn read(mut file: impl Download) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        while let Some(piece) = file.chunk().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn an_export_is_started_watched_and_read_in_no_time() {
        let client = client(Faults::none());
        let job = done(&client).await;
        assert_eq!(
            job.totals.records,
            Some(267),
            "two thirds of 400 feedback records"
        );
        for (number, file) in (0..).zip(&job.files) {
            let file = client.open(&file.url).await.unwrap();
            let announced = file.announced();
            let bytes = read(file).await.unwrap();
            assert_eq!(announced, Some(bytes.len() as u64));
            let content = client.host().content(&export());
            let truth: Vec<u8> = content.fragment(number).pieces().flatten().collect();
            assert!(bytes == truth);
        }
        let elsewhere = FileUrl::new("https://example.com/f.json");
        let refused = client.open(&elsewhere).await.unwrap_err();
        assert!(matches!(refused, FileError::Forbidden(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_go_wrong_are_the_errors_that_a_client_would_see() {
        for (fault, name) in [
            (Fault::Limited, "Limited"),
            (Fault::ServerError, "Unclear"),
            (Fault::Html, "Unclear"),
            (Fault::EmptyAnswer, "Unclear"),
            (Fault::LostRequest, "Unclear"),
            (Fault::LostAnswer, "Unclear"),
            (Fault::HangingAnswer, "Unclear"),
            (Fault::EndlessAnswer, "Unclear"),
            (Fault::NoId, "Unclear"),
        ] {
            let client = client(Faults::none().plan(fault, When::Nth(Occasion::Start, 1)));
            let error = client.start(&export()).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(name), "{fault}: {error:?}");
            assert!(client.start(&export()).await.is_ok(), "{fault}");
        }
        let client = client(Faults::none());
        let unknown = client.look(&export().app, &"fj-1".parse().unwrap()).await;
        assert!(matches!(unknown, Err(ApiError::Gone { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_go_wrong_are_the_errors_that_a_client_would_see() {
        for (fault, expected) in [
            (Fault::Gzip, "right"),
            (Fault::NoLength, "right"),
            (Fault::Redirect, "right"),
            (Fault::Drip, "right"),
            (Fault::TornFile, "wrong"),
            (Fault::ShortFile, "wrong"),
            (Fault::DamagedFile, "wrong"),
            (Fault::HtmlFile, "wrong"),
            (Fault::CutFile, "broken"),
            (Fault::StalledFile, "broken"),
            (Fault::FileError, "broken"),
            (Fault::RedirectLoop, "broken"),
            (Fault::ExpiredLink, "refused"),
        ] {
            let client = client(Faults::none().chance(fault, 100.0));
            let job = done(&client).await;
            let bytes = match client.open(&job.files[0].url).await {
                Ok(file) => read(file).await,
                Err(error) => Err(error),
            };
            let content = client.host().content(&export());
            let truth: Vec<u8> = content.fragment(0).pieces().flatten().collect();
            let seen = match bytes {
                Ok(bytes) if bytes == truth => "right",
                Ok(_) => "wrong",
                Err(FileError::Broken { .. }) => "broken",
                Err(FileError::Refused { .. }) => "refused",
                Err(FileError::Forbidden(_)) => "forbidden",
            };
            assert_eq!(seen, expected, "{fault}");
        }
    }
}
