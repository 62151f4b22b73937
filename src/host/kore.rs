//! The simulated host in the place of the real API, inside one process and without HTTP.
//!
//! What a client would make of an answer on the wire, this makes of the model's. Waiting is done by
//! tokio's clock, so that it takes no time where that is paused.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Host;
use super::answer::{Answer, Conduct, End, FileBody, Framing};
use crate::export::{AppId, Event, Export, JobId, Time};
use crate::kore::job::{File, FileUrl, Job, Status, Totals};
use crate::kore::{ApiError, Download, FileError, Kore};

/// A client of a [`Host`] in the same process.
pub struct HostKore<C> {
    host: Arc<Mutex<Host>>,
    clock: C,
    /// How long it waits for an answer, and for each piece of a file.
    patience: Duration,
    next_token: std::sync::atomic::AtomicU64,
}

impl<C> fmt::Debug for HostKore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKore").finish_non_exhaustive()
    }
}

impl<C: Fn() -> Time + Send + Sync> HostKore<C> {
    /// A client that reads the time from `clock` and waits at most `patience` for anything.
    pub fn new(host: Arc<Mutex<Host>>, clock: C, patience: Duration) -> Self {
        Self {
            host,
            clock,
            patience,
            next_token: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh token for one request.
    fn token(&self, host: &Host, now: Time) -> String {
        let number = self
            .next_token
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // its address tells this client's tokens from those of another client of the same host
        let jti = format!("{:p}-{number}", &raw const self.next_token);
        host.plan().credentials.mint(&jti, now, 60)
    }

    async fn understand(&self, request: String, answer: Answer) -> Result<Job, ApiError> {
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
            200 => decode(&answer.body).map_err(unclear),
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

/// Reads a job's answer; the error says what is missing.
fn decode(body: &[u8]) -> Result<Job, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    let id = answer["_id"].as_str().and_then(|id| id.parse().ok());
    let word = answer["status"].as_str().unwrap_or_default().to_lowercase();
    let status = match word.as_str() {
        _ if answer["timedOut"] == true => Status::Failed("timedOut".to_owned()),
        "success" => Status::Success,
        "failed" => Status::Failed(word),
        _ => Status::Running,
    };
    let file = |entry: &Value| {
        Some(File {
            id: entry["fileId"].as_str()?.to_owned(),
            name: entry["fileName"].as_str().map(str::to_owned),
            url: FileUrl::new(entry["fileUrl"].as_str()?),
            records: entry["recordCount"].as_u64(),
        })
    };
    let files = match answer["analyticsFragments"].as_array() {
        _ if status != Status::Success => Vec::new(),
        Some(entries) => entries.iter().filter_map(file).collect(),
        None => file(&answer["fileInfo"]).into_iter().collect(),
    };
    Ok(Job {
        id: id.ok_or("the answer has no usable _id")?,
        status,
        percent: answer["percentageDone"].as_f64(),
        created_on: answer["createdOn"].as_str().map(str::to_owned),
        files,
        totals: Totals {
            files: answer["store"]["totalFiles"].as_u64(),
            records: answer["store"]["totalRecords"].as_u64(),
        },
    })
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
            let token = self.token(&host, now);
            host.start(app, Some(&token), body.to_string().as_bytes(), now)
        };
        let request = format!("POST /api/public/bot/{app}/search/analytics-export");
        self.understand(request, answer).await
    }

    async fn look(&self, app: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let now = (self.clock)();
        let answer = {
            let mut host = self.host();
            let token = self.token(&host, now);
            host.look(app.as_str(), job.as_str(), Some(&token), now)
        };
        let request = format!("GET /api/public/bot/{app}/search/jobs/{job}");
        self.understand(request, answer).await
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
