//! The credentials in Secrets Manager: read when first needed, kept, and read afresh when the host
//! refuses them.

use std::sync::Arc;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use tokio::sync::Mutex;

use crate::aws::{self, Answer};
use crate::export::Time;
use crate::kore::token::{CredentialError, CredentialSet, CredentialSource};

/// Refusals that pass; every other 4xx needs a person.
const PASSING: [&str; 2] = ["ThrottlingException", "Throttling"];

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
        let (id, said) = (&self.id, aws::told(error));
        match Answer::of(error) {
            Some(answer) if answer.status < 500 && !PASSING.contains(&answer.code) => {
                CredentialError::Wrong(format!(
                    "cannot read the secret {id}: {said}; check that it is there, that this \
                     function's role may read it, and may decrypt with its key"
                ))
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::aws::loopback;

    /// A service that gives these answers one after another, the last for good, and its requests.
    async fn secret(answers: Vec<(u16, Value)>) -> (Secret, Arc<StdMutex<Vec<Value>>>) {
        let asked = Arc::new(StdMutex::new(Vec::new()));
        let (requests, turn) = (Arc::clone(&asked), AtomicUsize::new(0));
        let config = loopback::serve(1, move |request: Request<Bytes>| {
            let body = serde_json::from_slice(request.body()).unwrap();
            requests.lock().unwrap().push(body);
            let turn = turn.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            let (status, body) = &answers[turn];
            let body = Full::new(Bytes::from(body.to_string()));
            Response::builder().status(*status).body(body).unwrap()
        })
        .await;
        let secret = Secret::new(Client::new(&config), "arn:secret".to_owned());
        (secret, asked)
    }

    fn version(version: &str, id: &str) -> (u16, Value) {
        let text = format!(r#"{{"clientId": "{id}", "clientSecret": "hunter2"}}"#);
        (200, json!({"VersionId": version, "SecretString": text}))
    }

    async fn get(secret: &Secret, fresh: bool) -> Arc<CredentialSet> {
        let got = secret.get(fresh).await;
        got.unwrap_or_else(|error| panic!("{error}"))
    }

    #[tokio::test]
    async fn the_secret_is_read_once_and_afresh_when_asked() {
        let answers = vec![version("1", "a"), version("1", "a"), version("2", "b")];
        let (secret, asked) = secret(answers).await;
        let (one, beside) = tokio::join!(get(&secret, false), get(&secret, false));
        assert!(Arc::ptr_eq(&one, &beside));
        assert_eq!(*asked.lock().unwrap(), [json!({"SecretId": "arn:secret"})]);

        let same = get(&secret, true).await;
        assert!(
            Arc::ptr_eq(&one, &same),
            "the same version is the same value"
        );
        let rotated = get(&secret, true).await;
        assert!(!Arc::ptr_eq(&one, &rotated));
        assert!(Arc::ptr_eq(&rotated, &get(&secret, false).await), "is kept");
        assert_eq!(asked.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_is_told_by_what_to_do() {
        let refused = |status, code: &str| (status, json!({"__type": code, "message": "as told"}));
        for (answer, wrong, why) in [
            (
                refused(400, "ResourceNotFoundException"),
                true,
                "check that it is there",
            ),
            (refused(400, "AccessDeniedException"), true, "as told"),
            (
                refused(400, "DecryptionFailure"),
                true,
                "decrypt with its key",
            ),
            (
                refused(400, "ThrottlingException"),
                false,
                "ThrottlingException",
            ),
            (refused(500, "InternalServiceError"), false, "status 500"),
            (
                (200, json!({"SecretBinary": "aHVudGVyMg=="})),
                true,
                "holds bytes",
            ),
            ((200, json!({"SecretString": "hunter2"})), true, "not JSON"),
        ] {
            let (secret, _) = secret(vec![answer.clone()]).await;
            let Err(error) = secret.get(false).await else {
                panic!("{answer:?} was taken")
            };
            assert_eq!(matches!(error, CredentialError::Wrong(_)), wrong, "{error}");
            let error = error.to_string();
            assert!(error.contains(why), "{error}");
            assert!(
                !error.contains("hunter2") && !error.contains("aHVudGVyMg"),
                "{error}"
            );
        }
        let nobody = loopback::nobody().await;
        let secret = Secret::new(Client::new(&nobody), "arn:secret".to_owned());
        let error = secret.get(false).await.err();
        assert!(
            matches!(error, Some(CredentialError::Unavailable(_))),
            "{error:?}"
        );
    }
}
