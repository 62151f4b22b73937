//! How this program talks to AWS: how long it waits, how often it tries, what went wrong.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::ProvideCredentials as _;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How patient calls to AWS are. What polls a function's clock needs less patience than someone at
/// the far end of a slow line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long one try of a call may take, its request sent and its answer begun. It must suffice
    /// for a part of [`PART_BYTES`](crate::archive::PART_BYTES) on the slowest line expected.
    pub attempt: Duration,
    /// How often a call that failed in passing is tried in all, with growing waits in between.
    pub attempts: u32,
}

impl Patience {
    /// Within a function: three tries, waits included, take less than 100 seconds.
    pub const FUNCTION: Self = Self {
        attempt: Duration::from_secs(30),
        attempts: 3,
    };

    /// On a person's machine: a part of 8 MiB passes at 30 KB a second.
    pub const PERSON: Self = Self {
        attempt: Duration::from_mins(5),
        attempts: 4,
    };
}

/// Why AWS cannot be talked to from here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotSetUp {
    /// Nothing names a region.
    #[error("no AWS region is set; set AWS_REGION, or a region in the AWS profile")]
    Region,
    /// Nothing gives credentials.
    #[error("no AWS credentials: {0}; {CREDENTIALS}")]
    Credentials(String),
}

const CREDENTIALS: &str = "set AWS_PROFILE, or the variables that `aws configure \
                           export-credentials --format env` prints";

/// Region, credentials and endpoint as the environment and the AWS profile have them, for all
/// clients.
pub async fn config(patience: Patience) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        // To the first byte of the answer.
        .read_timeout(patience.attempt)
        .operation_attempt_timeout(patience.attempt + CONNECT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts))
        .load()
        .await
}

/// Looks whether there are a region and credentials, so that their absence is said once and clearly.
///
/// # Errors
/// When one is missing.
pub async fn check(config: &SdkConfig) -> Result<(), NotSetUp> {
    if config.region().is_none() {
        return Err(NotSetUp::Region);
    }
    match config.credentials_provider() {
        None => Err(NotSetUp::Credentials("none are configured".to_owned())),
        Some(provider) => match provider.provide_credentials().await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotSetUp::Credentials(causes(&error))),
        },
    }
}

/// A client for S3. `path_style` puts the bucket into the path instead of the host's name, as local
/// servers need it.
pub fn s3(config: &SdkConfig, path_style: bool) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// An error and what caused it, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Many errors repeat their cause.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// What a service answered instead of doing as asked.
pub(crate) struct Answer<'e> {
    pub(crate) status: u16,
    /// Empty where the answer had no body.
    pub(crate) code: &'e str,
    message: &'e str,
    raw: &'e HttpResponse,
}

impl<'e> Answer<'e> {
    /// `None` where there was no answer.
    pub(crate) fn of<E: ProvideErrorMetadata>(error: &'e SdkError<E>) -> Option<Self> {
        let raw = error.raw_response()?;
        let service = error.as_service_error();
        Some(Self {
            status: raw.status().as_u16(),
            code: service.and_then(E::code).unwrap_or_default(),
            message: service.and_then(E::message).unwrap_or_default(),
            raw,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&'e str> {
        self.raw.headers().get(name)
    }

    /// What a person has to do where it is the credentials that were refused.
    pub(crate) fn credentials_remedy(&self) -> Option<&'static str> {
        match self.code {
            "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidToken"
            | "MissingAuthenticationToken"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException" => Some("check the AWS credentials"),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Some("renew the AWS credentials")
            }
            "RequestTimeTooSkewed" => Some("set this machine's clock"),
            _ => None,
        }
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        Ok(())
    }
}

/// What became of a failed request, in one line.
pub(crate) fn told<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    Answer::of(error).map_or_else(|| causes(error), |answer| answer.to_string())
}

/// What a person has to do about a request that got no answer; `None` where trying again may help.
pub(crate) fn remedy<E>(error: &SdkError<E>) -> Option<&'static str> {
    match error {
        SdkError::ConstructionFailure(_) => Some("check AWS_REGION and AWS_ENDPOINT_URL"),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod loopback;
