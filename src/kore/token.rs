//! The app's credentials, and the token that each request carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};

use super::words;
use crate::export::{AppId, Time};

/// What a secret looks like, for the errors.
const SHAPE: &str =
    r#"{"clientId": "…", "clientSecret": "…"} or {"jwt": "…"}, or an object of those by AppID"#;

/// How long a minted token is good. The vendor allows an hour at most; it is used at once.
const LIFETIME_SECONDS: i64 = 5 * 60;

/// How far the vendor's clock may be behind: a token issued in the future is refused by some.
const SKEW_SECONDS: i64 = 60;

/// Why there are no credentials, by what the caller does about it. No message holds any part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// They are missing, malformed or expired: a person must act.
    #[error("{0}")]
    Wrong(String),
    /// The place where they are kept does not answer: try later.
    #[error("cannot read the credentials: {0}")]
    Unavailable(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, CredentialError> {
    Err(CredentialError::Wrong(why.into()))
}

/// Where credentials come from.
pub trait CredentialSource: Send + Sync {
    /// The credentials; with `fresh`, not from any cache: the host has refused the ones before.
    fn get(
        &self,
        fresh: bool,
    ) -> impl Future<Output = Result<Arc<CredentialSet>, CredentialError>> + Send;
}

/// Credentials that do not change while the program runs.
pub struct Fixed(Arc<CredentialSet>);

impl Fixed {
    /// These, for good.
    pub fn new(credentials: CredentialSet) -> Self {
        Self(Arc::new(credentials))
    }
}

impl CredentialSource for Fixed {
    async fn get(&self, _fresh: bool) -> Result<Arc<CredentialSet>, CredentialError> {
        Ok(Arc::clone(&self.0))
    }
}

/// The credentials of one app or of several. It has no `Debug`: there is nothing in it to show.
pub struct CredentialSet(Apps);

enum Apps {
    /// The same for all of them.
    Same(Credential),
    /// Each app's own: what is wrong with one's is no matter of the others.
    Own(BTreeMap<AppId, Result<Credential, CredentialError>>),
}

/// What one app shows to the API.
pub enum Credential {
    /// A fresh token is minted from these for every request.
    Client {
        /// The claim `appId` of a token.
        id: String,
        /// The key that signs it.
        secret: SecretString,
    },
    /// A token made elsewhere.
    Jwt {
        /// The token.
        token: SecretString,
        /// When it ends, in seconds since 1970, where it says so.
        expires: Option<i64>,
    },
}

impl CredentialSet {
    /// Reads a secret: an id with its secret or a JWT, or an object of these by [`AppId`].
    ///
    /// # Errors
    /// When it has another shape, or its JWT is none or has expired at `now`. What is wrong with the
    /// credentials of one app among several is told where that app's are asked for.
    pub fn parse(secret: &str, now: Time) -> Result<Self, CredentialError> {
        let members = match serde_json::from_str(secret) {
            Ok(Value::Object(members)) => members,
            Ok(_) => {
                return wrong(format!(
                    "the secret is not a JSON object; it must be {SHAPE}"
                ));
            }
            // Serde's words hold a position and no text.
            Err(error) => {
                return wrong(format!(
                    "the secret is not JSON ({error}); it must be {SHAPE}"
                ));
            }
        };
        if members.is_empty() {
            return wrong(format!("the secret is empty; it must be {SHAPE}"));
        }
        if !members.values().any(Value::is_object) {
            return Ok(Self(Apps::Same(Credential::read(
                &members,
                "the secret",
                now,
            )?)));
        }
        let mut own = BTreeMap::new();
        for (app, credential) in &members {
            let Ok(app) = app.parse::<AppId>() else {
                let app = words::fit(app);
                return wrong(format!("the secret has {app:?} where an AppID should be"));
            };
            let place = format!("the secret of {app}");
            let credential = match credential {
                Value::Object(members) => Credential::read(members, &place, now),
                _ => wrong(format!("{place} is not a JSON object; it must be {SHAPE}")),
            };
            own.insert(app, credential);
        }
        Ok(Self(Apps::Own(own)))
    }

    /// Reads the environment's values: `KORE_JWT`, or `KORE_CLIENT_ID` and `KORE_CLIENT_SECRET`. An
    /// empty one counts as not set.
    ///
    /// # Errors
    /// When none, both kinds or half a pair is set, or the JWT is none or has expired at `now`.
    pub fn from_values(
        jwt: Option<String>,
        client_id: Option<String>,
        client_secret: Option<String>,
        now: Time,
    ) -> Result<Self, CredentialError> {
        let set = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        let credential = match (set(jwt), set(client_id), set(client_secret)) {
            (Some(jwt), None, None) => Credential::jwt(&jwt, "KORE_JWT", now)?,
            (None, Some(id), Some(secret)) => Credential::client(&id, &secret),
            (None, None, None) => {
                return wrong(
                    "no credentials: set KORE_JWT, or KORE_CLIENT_ID and KORE_CLIENT_SECRET, from \
                     the app's API scopes at the vendor",
                );
            }
            (None, Some(_), None) => {
                return wrong("KORE_CLIENT_ID is set; set KORE_CLIENT_SECRET, too");
            }
            (None, None, Some(_)) => {
                return wrong("KORE_CLIENT_SECRET is set; set KORE_CLIENT_ID, too");
            }
            (Some(_), ..) => {
                return wrong(
                    "both kinds of credentials are set: keep KORE_JWT, or KORE_CLIENT_ID and \
                     KORE_CLIENT_SECRET, and unset the other",
                );
            }
        };
        Ok(Self(Apps::Same(credential)))
    }

    /// The app's credentials.
    ///
    /// # Errors
    /// When the secret is by app and has none for this one, or none that can be used.
    pub fn for_app(&self, app: &AppId) -> Result<&Credential, CredentialError> {
        match &self.0 {
            Apps::Same(credential) => Ok(credential),
            Apps::Own(own) => match own.get(app) {
                Some(credential) => credential.as_ref().map_err(CredentialError::clone),
                None => wrong(format!(
                    "the secret has credentials by AppID, and none for {app}"
                )),
            },
        }
    }
}

impl Credential {
    fn client(id: &str, secret: &str) -> Self {
        // Copied by hand, with a line's end at its end as often as not.
        Self::Client {
            id: id.trim().to_owned(),
            secret: secret.trim().into(),
        }
    }

    fn jwt(text: &str, place: &str, now: Time) -> Result<Self, CredentialError> {
        let text = text.trim();
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let parts: Vec<_> = text.split('.').collect();
        let payload = match parts[..] {
            [header, payload, signature]
                if object(header).is_some()
                    && URL_SAFE_NO_PAD
                        .decode(signature)
                        .is_ok_and(|bytes| !bytes.is_empty()) =>
            {
                object(payload)
            }
            _ => None,
        };
        let Some(payload) = payload else {
            return wrong(format!(
                "{place} is not a JWT: three base64url parts with dots between, the first two of them \
                 JSON objects"
            ));
        };
        let expires = payload.get("exp").and_then(Value::as_f64);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, which is right for a time"
        )]
        let expires = expires.map(|seconds| seconds as i64);
        let credential = Self::Jwt {
            token: text.into(),
            expires,
        };
        credential.check_expiry(place, now)?;
        Ok(credential)
    }

    fn check_expiry(&self, place: &str, now: Time) -> Result<(), CredentialError> {
        match self {
            Self::Jwt {
                expires: Some(expires),
                ..
            } if *expires <= now.unix_seconds() => {
                let ago = now.unix_seconds().saturating_sub(*expires);
                wrong(format!(
                    "{place} has a JWT that expired {ago} seconds ago; put a new one, or the client's \
                     id and secret, from which a token is made for every request"
                ))
            }
            _ => Ok(()),
        }
    }

    fn read(members: &Map<String, Value>, place: &str, now: Time) -> Result<Self, CredentialError> {
        const KNOWN: [&str; 3] = ["clientId", "clientSecret", "jwt"];
        if let Some(other) = members.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let other = words::fit(other);
            return wrong(format!(
                "{place} has an unknown member {other:?}; it must be {SHAPE}"
            ));
        }
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(_) => wrong(format!(
                "{place} has a {name} that is not a text, or is empty"
            )),
        };
        match (text("jwt")?, text("clientId")?, text("clientSecret")?) {
            (Some(jwt), None, None) => Self::jwt(jwt, place, now),
            (None, Some(id), Some(secret)) => Ok(Self::client(id, secret)),
            (Some(_), ..) => wrong(format!(
                "{place} has both kinds of credentials; it must be {SHAPE}"
            )),
            (None, Some(_), None) => wrong(format!("{place} has a clientId and no clientSecret")),
            (None, None, Some(_)) => wrong(format!("{place} has a clientSecret and no clientId")),
            (None, None, None) => wrong(format!("{place} is empty; it must be {SHAPE}")),
        }
    }

    /// The token for one request. A minted one has a fresh `jti`, so that an app which takes each
    /// token only once takes it, too.
    ///
    /// # Errors
    /// When a given JWT has expired, or the system has no random numbers.
    pub fn token(&self, now: Time) -> Result<SecretString, CredentialError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Claims<'a> {
            app_id: &'a str,
            sub: &'a str,
            iat: i64,
            exp: i64,
            jti: String,
        }
        match self {
            Self::Jwt { token, .. } => {
                self.check_expiry("the secret", now)?;
                Ok(token.clone())
            }
            Self::Client { id, secret } => {
                let mut jti = [0; 16];
                rand::fill(&mut jti)
                    .map_err(|_| CredentialError::Unavailable("no random numbers".to_owned()))?;
                let claims = Claims {
                    app_id: id,
                    sub: "insights-archive",
                    iat: now.unix_seconds() - SKEW_SECONDS,
                    exp: now.unix_seconds() + LIFETIME_SECONDS,
                    jti: URL_SAFE_NO_PAD.encode(jti),
                };
                // Texts and whole numbers always serialise.
                let claims = serde_json::to_vec(&claims).unwrap_or_default();
                let mut token = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
                token.push('.');
                URL_SAFE_NO_PAD.encode_string(claims, &mut token);
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
                let signature = hmac::sign(&key, token.as_bytes());
                token.push('.');
                URL_SAFE_NO_PAD.encode_string(signature, &mut token);
                Ok(token.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn jwt(payload: &str) -> String {
        let part = |text| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"HS256"}"#),
            part(payload),
            part("signature")
        )
    }

    fn payload(token: &SecretString) -> Value {
        let payload = token.expose_secret().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    /// The message of a refusal; a `CredentialSet` has no `Debug` to unwrap with.
    fn refusal(result: Result<CredentialSet, CredentialError>) -> String {
        match result {
            Ok(_) => panic!("was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_minted_token_is_the_documented_one_and_never_twice_the_same() {
        let secret = r#"{"clientId":"cs-1","clientSecret":"s3cr3t\n"}"#;
        let set = CredentialSet::parse(secret, now()).unwrap_or_else(|e| panic!("{e}"));
        let credential = set
            .for_app(&"st-1".parse().unwrap())
            .unwrap_or_else(|e| panic!("{e}"));
        let (one, two) = (
            credential.token(now()).unwrap(),
            credential.token(now()).unwrap(),
        );

        let (signed, signature) = one.expose_secret().rsplit_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cr3t");
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
        let header = URL_SAFE_NO_PAD
            .decode(signed.split('.').next().unwrap())
            .unwrap();
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);

        let (one, two) = (payload(&one), payload(&two));
        assert_eq!(one["appId"], "cs-1");
        assert_eq!(one["sub"], "insights-archive");
        assert_eq!(one["iat"], now().unix_seconds() - 60);
        assert_eq!(one["exp"], now().unix_seconds() + 300);
        assert_eq!(one["jti"].as_str().unwrap().len(), 22, "128 bits");
        assert_ne!(one["jti"], two["jti"]);
    }

    #[test]
    fn a_token_signs_as_rfc_7515_says() {
        // The key of the RFC's example A.1 is no text; this pair is from an independent signer.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"your-256-bit-secret");
        let signed = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ";
        assert_eq!(
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())),
            "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
        );
    }

    #[test]
    fn a_given_jwt_is_used_until_it_expires() {
        let expires = now().unix_seconds() + 1;
        let token = jwt(&format!(r#"{{"appId":"cs-1","exp":{expires}}}"#));
        let secret = format!(r#"{{"jwt":"{token}"}}"#);
        let set = CredentialSet::parse(&secret, now()).unwrap_or_else(|e| panic!("{e}"));
        let credential = set
            .for_app(&"st-1".parse().unwrap())
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(credential.token(now()).unwrap().expose_secret(), token);
        let later = now().after(std::time::Duration::from_secs(3));
        let error = credential.token(later).unwrap_err().to_string();
        assert!(
            error.contains("a JWT that expired 2 seconds ago; put a new one"),
            "{error}"
        );
        let error = refusal(CredentialSet::parse(&secret, later));
        assert!(
            error.starts_with("the secret has a JWT that expired"),
            "{error}"
        );
    }

    #[test]
    fn each_app_may_have_its_own_credentials() {
        let secret = format!(
            r#"{{"st-1":{{"clientId":"one","clientSecret":"x"}},"st-2":{{"jwt":"{}"}}}}"#,
            jwt("{}")
        );
        let set = CredentialSet::parse(&secret, now()).unwrap_or_else(|e| panic!("{e}"));
        let of = |app: &str| set.for_app(&app.parse().unwrap());
        assert!(matches!(of("st-1"), Ok(Credential::Client { id, .. }) if id == "one"));
        assert!(matches!(
            of("st-2"),
            Ok(Credential::Jwt { expires: None, .. })
        ));
        let Err(error) = of("st-3") else {
            panic!("has none")
        };
        assert_eq!(
            error.to_string(),
            "the secret has credentials by AppID, and none for st-3"
        );
    }

    #[test]
    fn a_secret_of_another_shape_is_refused_without_a_word_of_it() {
        let good = jwt("{}");
        for (secret, why) in [
            ("hunter2", "the secret is not JSON"),
            (
                r#""hunter2""#,
                "the secret is not a JSON object; it must be {\"clientId\"",
            ),
            ("{}", "the secret is empty"),
            (
                r#"{"clientId":"hunter2"}"#,
                "has a clientId and no clientSecret",
            ),
            (
                r#"{"clientSecret":"hunter2"}"#,
                "has a clientSecret and no clientId",
            ),
            (
                r#"{"clientId":"hunter2","clientSecret":""}"#,
                "clientSecret that is not a text, or is empty",
            ),
            (
                r#"{"clientId":"hunter2","clientSecret":7}"#,
                "clientSecret that is not a text",
            ),
            (
                r#"{"clientID":"hunter2","clientSecret":"hunter2"}"#,
                "unknown member \"clientID\"",
            ),
            (
                r#"{"jwt":"@","clientId":"hunter2","clientSecret":"hunter2"}"#,
                "both kinds",
            ),
            (
                r#"{"jwt":"hunter2"}"#,
                "the secret is not a JWT: three base64url parts",
            ),
            (r#"{"jwt":"hunter2.hunter2.hunter2"}"#, "is not a JWT"),
            (r#"{"jwt":"@.x"}"#, "is not a JWT"),
            (
                r#"{"st/1":{"jwt":"@"}}"#,
                "\"st/1\" where an AppID should be",
            ),
        ] {
            let error = refusal(CredentialSet::parse(&secret.replace('@', &good), now()));
            assert!(error.contains(why), "{secret}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains(&good),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_the_credentials_of_one_app_stops_no_other() {
        let (good, expired) = (jwt("{}"), jwt(r#"{"exp":1}"#));
        for (other, why) in [
            (r#"{"jwt":"hunter2"}"#, "is not a JWT"),
            (r#"{"jwt":"@"}"#, "has a JWT that expired"),
            (
                r#"{"clientId":"hunter2"}"#,
                "has a clientId and no clientSecret",
            ),
            (r#"{"clientID":"hunter2"}"#, "unknown member \"clientID\""),
            ("{}", "is empty"),
            (r#""hunter2""#, "is not a JSON object"),
        ] {
            let other = other.replace('@', &expired);
            let secret = format!(r#"{{"st-1":{{"jwt":"{good}"}},"st-2":{other}}}"#);
            let set = CredentialSet::parse(&secret, now()).unwrap_or_else(|e| panic!("{e}"));
            assert!(set.for_app(&"st-1".parse().unwrap()).is_ok(), "{other}");
            let Err(error) = set.for_app(&"st-2".parse().unwrap()) else {
                panic!("{other} was taken")
            };
            let error = error.to_string();
            assert!(
                error.starts_with("the secret of st-2 ") && error.contains(why),
                "{error}"
            );
            assert!(
                !error.contains("hunter2") && !error.contains(&expired),
                "{error}"
            );
        }
    }

    #[test]
    fn the_environment_gives_one_kind_of_credentials() {
        let good = jwt("{}");
        let from = |jwt: &str, id: &str, secret: &str| {
            let set = |text: &str| (text != "-").then(|| text.replace('@', &good));
            CredentialSet::from_values(set(jwt), set(id), set(secret), now())
        };
        for (jwt, id, secret) in [
            ("@", "-", "-"),
            ("@\n", "", " "),
            ("-", "id", "secret"),
            ("", "id", "s"),
        ] {
            assert!(from(jwt, id, secret).is_ok(), "{jwt} {id} {secret}");
        }
        for (jwt, id, secret, why) in [
            (
                "-",
                "-",
                "-",
                "no credentials: set KORE_JWT, or KORE_CLIENT_ID",
            ),
            ("", "", "", "no credentials"),
            ("-", "id", "-", "set KORE_CLIENT_SECRET, too"),
            ("-", "-", "secret", "set KORE_CLIENT_ID, too"),
            ("@", "id", "secret", "both kinds"),
            ("@", "id", "-", "both kinds"),
            ("nonsense", "-", "-", "KORE_JWT is not a JWT"),
        ] {
            let error = refusal(from(jwt, id, secret));
            assert!(error.contains(why), "{jwt} {id} {secret}: {error}");
        }
    }
}
