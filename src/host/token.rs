//! Tokens as the vendor checks them: HS256, `appId`, `sub`, and good once where the app says so.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::export::Time;

/// What an app's API client is known by.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The Client ID: the claim `appId`.
    pub client_id: String,
    /// The Client Secret: signs every token.
    pub client_secret: SecretString,
}

impl Credentials {
    /// A token as a client mints it for one request: good for `seconds` from `now`, once. Written apart
    /// from the client's own minting, so that a mistake there is not made here too.
    pub fn mint(&self, jti: &str, now: Time, seconds: i64) -> String {
        let issued = now.unix_seconds();
        self.sign(
            &json!({"alg": "HS256", "typ": "JWT"}),
            &json!({
                "sub": "insights-archive", "appId": self.client_id,
                "iat": issued, "exp": issued + seconds, "jti": jti,
            }),
        )
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = hmac::sign(&self.key(), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn key(&self) -> hmac::Key {
        let secret = self.client_secret.expose_secret().as_bytes();
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Missing, unreadable, wrongly signed, of another client, passed, or without what it must have.
    Invalid,
    /// Good, but seen before.
    Replayed,
}

/// An app's door: remembers which tokens it has seen.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Each `jti` seen, with its token's `exp`, after which it need not be remembered.
    seen: HashMap<String, i64>,
}

impl Door {
    /// Lets a request with this `auth` header in, or says why not. With `once`, a token needs a `jti`
    /// not seen before and an `exp` at most one hour away.
    pub(crate) fn admit(
        &mut self,
        credentials: &Credentials,
        auth: Option<&str>,
        once: bool,
        now: Time,
    ) -> Result<(), Refusal> {
        const LONGEST_SECONDS: i64 = 3_600;
        let claims = auth
            .and_then(|token| verified_claims(credentials, token))
            .ok_or(Refusal::Invalid)?;
        let is_text = |name: &str| claims[name].as_str().is_some_and(|text| !text.is_empty());
        if claims["appId"] != credentials.client_id.as_str() || !is_text("sub") {
            return Err(Refusal::Invalid);
        }
        let (now, expiry) = (now.unix_seconds(), &claims["exp"]);
        let expiry = match expiry.as_i64() {
            Some(expiry) if expiry > now => Some(expiry),
            None if expiry.is_null() => None,
            _ => return Err(Refusal::Invalid),
        };
        if !once {
            return Ok(());
        }
        let (Some(expiry), Some(jti)) = (expiry, claims["jti"].as_str()) else {
            return Err(Refusal::Invalid);
        };
        if jti.is_empty() || expiry > now + LONGEST_SECONDS {
            return Err(Refusal::Invalid);
        }
        if self.seen.len() >= 10_000 {
            self.seen.retain(|_, expiry| *expiry > now);
        }
        match self.seen.insert(jti.to_owned(), expiry) {
            None => Ok(()),
            Some(_) => Err(Refusal::Replayed),
        }
    }
}

/// The claims of a token that this client signed with HS256.
fn verified_claims(credentials: &Credentials, token: &str) -> Option<Value> {
    let (text, signature) = token.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
    if header["alg"] != "HS256" {
        return None;
    }
    hmac::verify(&credentials.key(), text.as_bytes(), &decode(signature)?).ok()?;
    serde_json::from_slice(&decode(claims)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            client_id: "cs-1".to_owned(),
            client_secret: "secret".into(),
        }
    }

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    /// A good token's claims, changed.
    fn token(change: impl Fn(&mut Value)) -> String {
        let exp = now().unix_seconds() + 3_600;
        let mut claims = json!({"sub": "x", "appId": "cs-1", "exp": exp, "jti": "1"});
        change(&mut claims);
        credentials().sign(&json!({"alg": "HS256"}), &claims)
    }

    #[test]
    fn tokens_are_judged_as_documented() {
        let now = now().unix_seconds();
        let other = Credentials {
            client_secret: "other".into(),
            ..credentials()
        };
        let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", "eyJhcHBJZCI6ImNzLTEifQ");
        let claims = json!({"sub": "x", "appId": "cs-1", "exp": now + 60, "jti": "1"});
        let wrong_algorithm = credentials().sign(&json!({"alg": "HS512"}), &claims);
        // what it is, the token, whether it is let in, whether it is where tokens are good once
        let table: [(&str, Option<String>, bool, bool); 15] = [
            ("good", Some(token(|_| ())), true, true),
            (
                "minted",
                Some(credentials().mint("1", self::now(), 60)),
                true,
                true,
            ),
            ("absent", None, false, false),
            ("empty", Some(String::new()), false, false),
            ("not a token", Some("a.b.c".to_owned()), false, false),
            ("unsigned", Some(unsigned), false, false),
            ("of another algorithm", Some(wrong_algorithm), false, false),
            (
                "signed by another",
                Some(other.mint("1", self::now(), 60)),
                false,
                false,
            ),
            (
                "of another client",
                Some(token(|c| c["appId"] = "cs-2".into())),
                false,
                false,
            ),
            (
                "misspelt",
                Some(token(|c| c["appid"] = c["appId"].take())),
                false,
                false,
            ),
            (
                "without sub",
                Some(token(|c| c["sub"] = Value::Null)),
                false,
                false,
            ),
            (
                "passed",
                Some(token(|c| c["exp"] = now.into())),
                false,
                false,
            ),
            (
                "for ever",
                Some(token(|c| c["exp"] = Value::Null)),
                true,
                false,
            ),
            (
                "too long",
                Some(token(|c| c["exp"] = (now + 3_601).into())),
                true,
                false,
            ),
            (
                "without jti",
                Some(token(|c| c["jti"] = Value::Null)),
                true,
                false,
            ),
        ];
        for (what, token, lenient, strict) in table {
            for (once, good) in [(false, lenient), (true, strict)] {
                let admitted =
                    Door::default().admit(&credentials(), token.as_deref(), once, self::now());
                assert_eq!(admitted.is_ok(), good, "{what}, once: {once}: {admitted:?}");
            }
        }
    }

    #[test]
    fn a_token_is_good_once_where_the_app_says_so() {
        let (mut door, token) = (Door::default(), token(|_| ()));
        let mut admit = |once| door.admit(&credentials(), Some(&token), once, now());
        assert_eq!(admit(false), Ok(()));
        assert_eq!(admit(false), Ok(()));
        assert_eq!(admit(true), Ok(()));
        assert_eq!(admit(true), Err(Refusal::Replayed));
    }
}
