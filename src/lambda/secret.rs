//! The credentials in Secrets Manager: read when first needed, kept, and read afresh when the host
//! refuses them.

use std::sync::Arc;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use tokio::sync::Mutex;

use crate::aws;
use crate::export::Time;
use crate::kore::token::{CredentialError, CredentialSet, CredentialSource};

/// Refusals that pass; every other 4xx needs a person.
const PASSING: [&str; 3] = [
    "ThrottlingException",
    "Throttling",
    "RequestExpired", // a clock that is put right by itself
];

/// The secret that holds the credentials.
pub struct Secret {
    client: Client,
    id: String,
    /// What was read last. Held while it is read, so that messages side by side read it once.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    /// Secrets Manager's own name of this version of the secret.
    version: Option<String>,
    credentials: Arc<CredentialSet>,
}

impl Secret {
    /// The secret with this ARN. Nothing is read yet.
    pub fn new(client: Client, id: String) -> Self {
        Self {
            client,
            id,
            kept: Mutex::new(None),
        }
    }

    fn failed(&self, error: &SdkError<GetSecretValueError>) -> CredentialError {
        let id = &self.id;
        let said = aws::causes(error);
        let refused = error
            .raw_response()
            .is_some_and(|r| r.status().is_client_error());
        match error.code() {
            Some(code) if refused && !PASSING.contains(&code) => CredentialError::Wrong(format!(
                "cannot read the secret {id}: {said}; check that it exists in this region and that \
                 the function's role may read it (and decrypt with its key)"
            )),
            _ => CredentialError::Unavailable(format!("the secret {id}: {said}")),
        }
    }
}

impl CredentialSource for Secret {
    async fn get(&self, fresh: bool) -> Result<Arc<CredentialSet>, CredentialError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|_| !fresh) {
            return Ok(Arc::clone(&kept.credentials));
        }
        let answer = self
            .client
            .get_secret_value()
            .secret_id(&self.id)
            .send()
            .await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        let version = answer.version_id;
        if let Some(kept) = kept
            .as_ref()
            .filter(|kept| version.is_some() && kept.version == version)
        {
            // The very same value tells the client that another try is of no use.
            return Ok(Arc::clone(&kept.credentials));
        }
        let Some(text) = answer.secret_string else {
            let id = &self.id;
            let why = format!("the secret {id} holds bytes; put the credentials into it as text");
            return Err(CredentialError::Wrong(why));
        };
        let credentials = Arc::new(CredentialSet::parse(&text, Time::now())?);
        *kept = Some(Kept {
            version,
            credentials: Arc::clone(&credentials),
        });
        Ok(credentials)
    }
}
