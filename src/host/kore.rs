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
                    path = location.strip_prefix(&base).unwrap_or(location).to_owned();
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
