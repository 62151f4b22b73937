//! The three Lambda functions: one program that is told by its handler which one it is.
//!
//! # Layout
//! - [`settings`]: what the environment tells, as one value
//! - [`outside`]: the clients behind the traits of the stages
//! - [`secret`]: the credentials in Secrets Manager
//! - [`handlers`]: events in, answers out
//! - [`log`] and [`metrics`]: what people are told

pub mod handlers;
pub mod log;
pub mod metrics;
pub mod outside;
pub mod secret;
pub mod settings;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use aws_config::SdkConfig;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::archive::bucket::Bucket;
use crate::aws::{self, Patience};
use crate::export::Time;
use crate::kore::client::{Client, SetupError};
use crate::kore::out_of_reach::OutOfReach;
use crate::kore::source::FileHosts;
use crate::queue::Line;
use crate::queue::sqs::{Sqs, Urls};
use crate::stages::enqueue::Scope;
use crate::stages::{Budget, Lease, Rules};
use handlers::Failure;
use metrics::Metrics;
use outside::Outside;
use secret::Secret;
use settings::{ArchivePlace, Function, Settings, StageSettings};

/// Fragments on their way at once, where the memory allows. More would not be faster on the one CPU
/// that the copy function has, and the file host serves others, too.
const FRAGMENTS_AT_ONCE: usize = 8;

/// A function, ready for its events.
pub struct Ready {
    namespace: String,
    work: Work,
}

/// What it does, and its outside.
enum Work {
    Enqueue(Box<Outside<OutOfReach, Bucket, Sqs>>, Scope),
    Batch(Box<Outside<Client<Secret>, Bucket, Sqs>>, Line),
}

impl Ready {
    /// Builds the function's clients, and only those that it needs. Nothing is called yet.
    ///
    /// # Errors
    /// When HTTPS cannot be set up.
    pub async fn new(settings: Settings) -> Result<Self, SetupError> {
        let config = aws::config(Patience::FUNCTION).await;
        let place = settings.archive;
        let work = match settings.function {
            Function::Enqueue { scope, poll_queue } => {
                let urls = Urls {
                    poll: poll_queue,
                    copy: None,
                    dead_letter: None,
                };
                // It decides by its scope alone.
                let rules = Rules {
                    stall: Duration::MAX,
                    deadline: Duration::MAX,
                    poll_limit: Duration::ZERO,
                    lease: Lease::Renewed(Duration::ZERO),
                };
                let outside = outside(&config, OutOfReach, place, urls, rules, Budget::new(0, 1));
                Work::Enqueue(Box::new(outside), scope)
            }
            Function::Poll { stage, stall } => {
                // It opens no file.
                let files = FileHosts::standard(&stage.host);
                let budget = Budget::new(0, 1);
                let outside = stage_outside(&config, place, stage, files, stall, budget)?;
                Work::Batch(Box::new(outside), Line::Poll)
            }
            Function::Copy {
                stage,
                file_hosts,
                memory,
            } => {
                // The other half is for the program, the connections, and what a client copies of a
                // part that it sends. It looks at no job's progress.
                let budget = Budget::new(memory / 2, FRAGMENTS_AT_ONCE);
                let outside =
                    stage_outside(&config, place, stage, file_hosts, Duration::MAX, budget)?;
                Work::Batch(Box::new(outside), Line::Copy)
            }
        };
        Ok(Self {
            namespace: settings.namespace,
            work,
        })
    }

    /// Answers one event; `limit` is when the function is cut off. Every line of the log has the
    /// invocation's id. What there is to count goes to standard output, whatever the end.
    ///
    /// # Errors
    /// When the invocation has to count as failed: as [`handlers::enqueue`] and [`handlers::batch`].
    pub async fn answer(
        &self,
        request_id: &str,
        event: &Value,
        limit: Option<Instant>,
    ) -> Result<Value, Failure> {
        // Of the highest level, so that no filter takes it away.
        let invocation = tracing::error_span!("invocation", request_id);
        self.work(event, limit).instrument(invocation).await
    }

    async fn work(&self, event: &Value, limit: Option<Instant>) -> Result<Value, Failure> {
        let began = Instant::now();
        let (answer, metrics) = match &self.work {
            Work::Enqueue(outside, scope) => {
                let answer = handlers::enqueue(outside, scope, event, limit).await;
                (answer.map(|summary| json(&summary)), outside.take_metrics())
            }
            Work::Batch(outside, line) => {
                let answer = handlers::batch(outside, *line, event, limit).await;
                (answer.map(|answer| json(&answer)), outside.take_metrics())
            }
        };
        self.write(&metrics, began.elapsed());
        if let Err(error) = &answer {
            tracing::error!(%error, "{error}");
        }
        answer
    }

    fn write(&self, metrics: &Metrics, took: Duration) {
        if let Some(line) = metrics.line(&self.namespace, Time::now(), took) {
            // Nobody could be told that standard output is closed.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// The outside of poll and copy.
fn stage_outside(
    config: &SdkConfig,
    place: ArchivePlace,
    stage: StageSettings,
    files: FileHosts,
    stall: Duration,
    budget: Budget,
) -> Result<Outside<Client<Secret>, Bucket, Sqs>, SetupError> {
    let rules = Rules {
        stall,
        deadline: stage.deadline,
        poll_limit: stage.poll_limit(),
        lease: Lease::Delivery {
            poll: stage.poll_visibility,
            copy: stage.copy_visibility,
        },
    };
    let secrets = aws_sdk_secretsmanager::Client::new(config);
    let secret = Secret::new(secrets, stage.secret);
    let kore = Client::new(stage.host, files, stage.allow_private_network, secret)?;
    Ok(outside(config, kore, place, stage.queues, rules, budget))
}

fn outside<K>(
    config: &SdkConfig,
    kore: K,
    place: ArchivePlace,
    urls: Urls,
    rules: Rules,
    budget: Budget,
) -> Outside<K, Bucket, Sqs> {
    let s3 = aws::s3(config, place.path_style);
    Outside {
        kore,
        archive: Bucket::new(s3, place.location, place.kms_key),
        queue: Sqs::new(aws_sdk_sqs::Client::new(config), urls),
        rules,
        budget,
        metrics: Mutex::default(),
    }
}

/// An answer; texts, numbers and lists of them always serialise.
fn json(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
