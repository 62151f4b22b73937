//! What a function is told by its environment: parsed once, at its start, into one value.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::archive::bucket::{Location, Prefix};
use crate::export::{AppId, Event, parse_date};
use crate::kore::source::{FileHosts, HostUrl};
use crate::queue::sqs::Urls;
use crate::stages::enqueue::Scope;

/// A queue's visibility time-out is six times its function's limit: AWS's rule, which the template
/// obeys.
const VISIBILITY_LIMITS: u32 = 6;

/// Far apart enough that the host's limit of 60 requests a minute is met with many weeks under way;
/// nobody waits for a backfill.
const APART: Duration = Duration::from_mins(1);

/// Everything a function is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of its metrics (`METRICS_NAMESPACE`).
    pub namespace: String,
    /// Where the archive is.
    pub archive: ArchivePlace,
    /// What it does, and what it needs for that alone.
    pub function: Function,
}

/// Where the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePlace {
    /// The bucket, and what every key in it begins with (`ARCHIVE_BUCKET`, `ARCHIVE_PREFIX`).
    pub location: Location,
    /// The key that objects are encrypted with, where it is not the bucket's own choice
    /// (`KMS_KEY_ARN`).
    pub kms_key: Option<String>,
    /// Whether S3 is addressed by path: for a local AWS (`S3_PATH_STYLE`).
    pub path_style: bool,
}

/// Which function this is; each is told only what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Function {
    /// Finds what is missing.
    Enqueue {
        /// What is to be archived.
        scope: Scope,
        /// Where the chains begin (`POLL_QUEUE_URL`).
        poll_queue: String,
    },
    /// Starts jobs and looks at them.
    Poll {
        /// What both stages need.
        stage: StageSettings,
        /// A job without progress for so long is given up (`STALL_MINUTES`).
        stall: Duration,
    },
    /// Copies fragments and commits.
    Copy {
        /// What both stages need.
        stage: StageSettings,
        /// Where files may come from (`FILE_HOSTS`).
        file_hosts: FileHosts,
        /// The function's memory, in bytes (`AWS_LAMBDA_FUNCTION_MEMORY_SIZE`).
        memory: usize,
    },
}

/// What the functions need that work on the messages of chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSettings {
    /// The API's host (`HOST_URL`).
    pub host: HostUrl,
    /// Whether hosts on a private network may be called (`ALLOW_PRIVATE_NETWORK`).
    pub allow_private_network: bool,
    /// The secret that holds the credentials (`CREDENTIALS_SECRET_ARN`).
    pub secret: String,
    /// An export is given up so long after its first job was started (`DEADLINE_HOURS`).
    pub deadline: Duration,
    /// The queues (`POLL_QUEUE_URL`, `COPY_QUEUE_URL`, `DEAD_LETTER_QUEUE_URL`).
    pub queues: Urls,
    /// The poll queue's visibility time-out (`POLL_VISIBILITY_SECONDS`).
    pub poll_visibility: Duration,
    /// The copy queue's visibility time-out (`COPY_VISIBILITY_SECONDS`).
    pub copy_visibility: Duration,
}

impl StageSettings {
    /// How long one run of the poll function can last.
    pub fn poll_limit(&self) -> Duration {
        self.poll_visibility / VISIBILITY_LIMITS
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WrongSettings(Vec<String>);

impl fmt::Display for WrongSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the function's settings are wrong, so it does nothing until they are put right: {}",
            self.0.join("; ")
        )
    }
}

/// Reads the level of the log from its variable, `INSIGHTS_LOG`; `None` where it is not a level.
pub fn log_level(text: Option<&str>) -> Option<LevelFilter> {
    match text {
        None | Some("") => Some(LevelFilter::INFO),
        Some(text) => text.parse().ok(),
    }
}

/// Reads the settings of the function that `_HANDLER` names. `lookup` gives the value of a variable.
///
/// # Errors
/// With everything that is missing or wrong, in one message.
pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Settings, WrongSettings> {
    let reader = Reader {
        lookup: &lookup,
        faults: RefCell::default(),
    };
    let settings = reader.settings();
    let faults = reader.faults.into_inner();
    settings
        .filter(|_| faults.is_empty())
        .ok_or(WrongSettings(faults))
}

/// Reads variables and collects what is wrong with them.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn settings(&self) -> Option<Settings> {
        let level = self.optional("INSIGHTS_LOG");
        if log_level(level.as_deref()).is_none() {
            self.fault::<()>(format!(
                "INSIGHTS_LOG must be error, warn, info, debug or trace; got {:?}",
                level.unwrap_or_default()
            ));
        }
        let archive = self.archive();
        let function = match self.optional("_HANDLER").as_deref() {
            Some("enqueue") => self.enqueue(),
            Some("poll") => self.poll(),
            Some("copy") => self.copy(),
            other => {
                let seen = other.unwrap_or_default();
                return self.fault(format!(
                    "the handler (_HANDLER) must be enqueue, poll or copy; got {seen:?}"
                ));
            }
        };
        Some(Settings {
            namespace: self
                .optional("METRICS_NAMESPACE")
                .unwrap_or_else(|| "InsightsArchive".to_owned()),
            archive: archive?,
            function: function?,
        })
    }

    fn archive(&self) -> Option<ArchivePlace> {
        let bucket: Option<String> = self.required("ARCHIVE_BUCKET");
        let prefix = self.optional("ARCHIVE_PREFIX").unwrap_or_default();
        let prefix: Option<Prefix> = self.checked("ARCHIVE_PREFIX", prefix.parse());
        let bucket = bucket.and_then(|bucket| {
            if bucket.contains('/') {
                return self.fault(format!(
                    "ARCHIVE_BUCKET must be a bucket's name, without s3:// and slashes; got {bucket:?}"
                ));
            }
            self.checked("ARCHIVE_BUCKET", format!("s3://{bucket}").parse())
        });
        let path_style = self.flag("S3_PATH_STYLE");
        Some(ArchivePlace {
            location: Location {
                prefix: prefix?,
                ..bucket?
            },
            kms_key: self.optional("KMS_KEY_ARN"),
            path_style: path_style?,
        })
    }

    fn enqueue(&self) -> Option<Function> {
        let apps = self.list::<AppId>("APP_IDS");
        let events = self.list::<Event>("EVENTS");
        let since = match self.optional("ARCHIVE_SINCE") {
            None => Some(None),
            Some(text) => self.checked("ARCHIVE_SINCE", parse_date(&text)).map(Some),
        };
        let catch_up_weeks = self.number("CATCH_UP_WEEKS", 1, 520);
        let lookback_weeks = self.number("LOOKBACK_WEEKS", 0, 52);
        let settle = self.number("SETTLE_MINUTES", 0, 10_080);
        let poll_queue = self.required("POLL_QUEUE_URL");
        Some(Function::Enqueue {
            scope: Scope {
                apps: apps?,
                events: events?,
                since: since?,
                catch_up_weeks: catch_up_weeks?,
                lookback_weeks: lookback_weeks?,
                settle: minutes(settle?),
                apart: APART,
            },
            poll_queue: poll_queue?,
        })
    }

    fn poll(&self) -> Option<Function> {
        let stage = self.stage();
        let stall = self.number("STALL_MINUTES", 5, 10_080);
        Some(Function::Poll {
            stage: stage?,
            stall: minutes(stall?),
        })
    }

    fn copy(&self) -> Option<Function> {
        let stage = self.stage();
        let file_hosts = match self.optional("FILE_HOSTS") {
            None => Some(None),
            Some(text) => {
                let hosts = FileHosts::parse(text.split(','));
                self.checked("FILE_HOSTS", hosts).map(Some)
            }
        };
        let memory = self.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 128, 10_240);
        let stage = stage?;
        Some(Function::Copy {
            file_hosts: file_hosts?.unwrap_or_else(|| FileHosts::standard(&stage.host)),
            stage,
            memory: memory? as usize * 1024 * 1024,
        })
    }

    fn stage(&self) -> Option<StageSettings> {
        let allow_private_network = self.flag("ALLOW_PRIVATE_NETWORK");
        let host: Option<String> = self.required("HOST_URL");
        let host = host.and_then(|text| {
            // Where the flag is wrong, too, the stricter rule speaks.
            let host = HostUrl::parse(&text, allow_private_network.unwrap_or(false));
            self.checked("HOST_URL", host)
        });
        let secret = self.required("CREDENTIALS_SECRET_ARN");
        let deadline = self.number("DEADLINE_HOURS", 1, 168);
        let poll = self.required("POLL_QUEUE_URL");
        let copy = self.required("COPY_QUEUE_URL");
        let dead_letter = self.required("DEAD_LETTER_QUEUE_URL");
        let poll_visibility = self.number("POLL_VISIBILITY_SECONDS", 6, 43_200);
        let copy_visibility = self.number("COPY_VISIBILITY_SECONDS", 6, 43_200);
        Some(StageSettings {
            host: host?,
            allow_private_network: allow_private_network?,
            secret: secret?,
            deadline: Duration::from_hours(deadline?.into()),
            queues: Urls {
                poll: poll?,
                copy: Some(copy?),
                dead_letter: Some(dead_letter?),
            },
            poll_visibility: seconds(poll_visibility?),
            copy_visibility: seconds(copy_visibility?),
        })
    }

    fn fault<T>(&self, what: impl Into<String>) -> Option<T> {
        self.faults.borrow_mut().push(what.into());
        None
    }

    /// A variable that is empty counts as not set: that is how a template leaves one out.
    fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn required<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Option<T> {
        match self.optional(name) {
            None => self.fault(format!("{name} is not set")),
            Some(text) => self.checked(name, text.parse()),
        }
    }

    fn checked<T, E: fmt::Display>(&self, name: &str, value: Result<T, E>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => self.fault(format!("{name}: {error}")),
        }
    }

    fn list<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Option<Vec<T>> {
        let text: String = self.required(name)?;
        let values = text.split(',').map(|text| self.checked(name, text.parse()));
        // Into a list first, so that each wrong one is told.
        let values: Vec<_> = values.collect();
        values.into_iter().collect()
    }

    fn number(&self, name: &str, least: u32, most: u32) -> Option<u32> {
        let text: String = self.required(name)?;
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => self.fault(format!(
                "{name} must be a whole number from {least} to {most}; got {text:?}"
            )),
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.optional(name).as_deref() {
            None | Some("false") => Some(false),
            Some("true") => Some(true),
            Some(other) => self.fault(format!("{name} must be true or false; got {other:?}")),
        }
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_mins(minutes.into())
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the template sets, for all functions at once.
    const TEMPLATE: [(&str, &str); 22] = [
        ("INSIGHTS_LOG", "info"),
        ("METRICS_NAMESPACE", "InsightsArchive/archive"),
        ("HOST_URL", "https://platform.kore.ai"),
        ("APP_IDS", "st-1,st-2"),
        ("EVENTS", "all,thumbsDown"),
        ("CREDENTIALS_SECRET_ARN", "arn:secret"),
        ("ARCHIVE_SINCE", ""),
        ("CATCH_UP_WEEKS", "4"),
        ("LOOKBACK_WEEKS", "0"),
        ("SETTLE_MINUTES", "60"),
        ("STALL_MINUTES", "120"),
        ("DEADLINE_HOURS", "24"),
        ("FILE_HOSTS", ""),
        ("ALLOW_PRIVATE_NETWORK", "false"),
        ("ARCHIVE_BUCKET", "archive-1"),
        ("ARCHIVE_PREFIX", "kore/"),
        ("S3_PATH_STYLE", "false"),
        ("POLL_QUEUE_URL", "https://sqs/poll"),
        ("COPY_QUEUE_URL", "https://sqs/copy"),
        ("DEAD_LETTER_QUEUE_URL", "https://sqs/dead"),
        ("POLL_VISIBILITY_SECONDS", "720"),
        ("COPY_VISIBILITY_SECONDS", "1800"),
    ];

    /// The settings of a function where some variables differ from the template's.
    fn with(handler: &str, changes: &[(&str, &str)]) -> Result<Settings, String> {
        let mut variables = BTreeMap::from(TEMPLATE);
        variables.insert("_HANDLER", handler);
        variables.insert("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769");
        variables.extend(changes.iter().copied());
        let lookup = |name: &str| variables.get(name).map(|&value| value.to_owned());
        parse(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn each_function_is_told_what_it_needs() {
        let settings = with("enqueue", &[("ARCHIVE_SINCE", "2025-01-08")]).unwrap();
        assert_eq!(settings.namespace, "InsightsArchive/archive");
        assert_eq!(
            settings.archive.location.to_string(),
            "s3://archive-1/kore/"
        );
        let Function::Enqueue { scope, poll_queue } = settings.function else {
            panic!("{settings:?}")
        };
        assert_eq!(poll_queue, "https://sqs/poll");
        assert_eq!(scope.apps.len(), 2);
        assert_eq!(scope.events, [Event::All, Event::ThumbsDown]);
        assert_eq!(scope.since, parse_date("2025-01-08").ok());
        assert_eq!(scope.settle, Duration::from_hours(1));

        let Function::Poll { stage, stall } = with("poll", &[]).unwrap().function else {
            panic!("not poll")
        };
        assert_eq!(stage.poll_limit(), Duration::from_mins(2));
        assert_eq!(stage.deadline, Duration::from_hours(24));
        assert_eq!(stall, Duration::from_hours(2));

        let own = [
            ("FILE_HOSTS", "files.example.com"),
            ("KMS_KEY_ARN", "arn:key"),
        ];
        let settings = with("copy", &own).unwrap();
        assert_eq!(settings.archive.kms_key.as_deref(), Some("arn:key"));
        let Function::Copy {
            file_hosts, memory, ..
        } = settings.function
        else {
            panic!("not copy")
        };
        assert_eq!(file_hosts, FileHosts::parse(["files.example.com"]).unwrap());
        assert_eq!(memory, 1_769 * 1024 * 1024);
    }

    #[test]
    fn a_variable_that_another_function_needs_may_be_anything() {
        let others = ["HOST_URL", "STALL_MINUTES", "FILE_HOSTS", "COPY_QUEUE_URL"];
        assert!(with("enqueue", &others.map(|name| (name, "nonsense "))).is_ok());
        assert!(with("poll", &[("APP_IDS", "/"), ("FILE_HOSTS", "/")]).is_ok());
        assert!(with("copy", &[("APP_IDS", "/"), ("STALL_MINUTES", "-1")]).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let enqueue = [
            ("INSIGHTS_LOG", "loud"),
            ("APP_IDS", "st-1,st/2,st 3"),
            ("EVENTS", "thumbsup"),
            ("ARCHIVE_SINCE", "2025-02-29"),
            ("CATCH_UP_WEEKS", "0"),
            ("LOOKBACK_WEEKS", "many"),
            ("SETTLE_MINUTES", ""),
            ("ARCHIVE_BUCKET", "s3://archive-1"),
            ("ARCHIVE_PREFIX", "../"),
            ("S3_PATH_STYLE", "yes"),
            ("POLL_QUEUE_URL", ""),
        ];
        let error = with("enqueue", &enqueue).unwrap_err();
        for (name, _) in enqueue {
            assert!(error.contains(name), "{name}: {error}");
        }
        for seen in [
            "loud",
            "st/2",
            "st 3",
            "thumbsup",
            "2025-02-29",
            "many",
            "../",
            "yes",
        ] {
            assert!(error.contains(&format!("{seen:?}")), "{seen}: {error}");
        }
        assert!(!error.contains('\n'), "{error}");

        let copy = [
            ("HOST_URL", "https://platform.kore.ai/path"),
            ("ALLOW_PRIVATE_NETWORK", "1"),
            ("CREDENTIALS_SECRET_ARN", ""),
            ("DEADLINE_HOURS", "169"),
            ("FILE_HOSTS", "https://files.example.com"),
            ("COPY_QUEUE_URL", ""),
            ("DEAD_LETTER_QUEUE_URL", ""),
            ("POLL_VISIBILITY_SECONDS", "5"),
            ("COPY_VISIBILITY_SECONDS", "1.5"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "64"),
        ];
        let error = with("copy", &copy).unwrap_err();
        for (name, _) in copy {
            assert!(error.contains(name), "{name}: {error}");
        }
        let error = with("poll", &[("STALL_MINUTES", "4")]).unwrap_err();
        assert!(error.contains("from 5 to 10080; got \"4\""), "{error}");
    }

    #[test]
    fn another_handler_is_refused() {
        for handler in ["", "bootstrap", "Enqueue"] {
            let error = with(handler, &[]).unwrap_err();
            assert!(error.contains("must be enqueue, poll or copy"), "{error}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_repeated() {
        let error = with(
            "poll",
            &[("HOST_URL", "https://me:hunter2@platform.kore.ai")],
        );
        let error = error.unwrap_err();
        assert!(
            error.contains("HOST_URL") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
