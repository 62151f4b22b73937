//! Signed file links that work for a while, spelt as the vendor spells them.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::dice::{fork, mix};
use crate::export::Time;

const FOLDER: &str = "/api/getMediaStream/findly/";

/// Where a file is, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) file: String,
    /// Seconds since 1970.
    pub(crate) expires: i64,
    /// How many redirects led here.
    pub(crate) hop: u32,
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not one of ours, or altered on its way.
    Altered,
    /// It worked once.
    Expired,
}

/// Signs links and knows its own.
#[derive(Debug)]
pub(crate) struct Signer {
    key: hmac::Key,
    seed: u64,
}

impl Signer {
    pub(crate) fn new(seed: u64) -> Self {
        let secret = [seed.to_be_bytes(), mix(seed).to_be_bytes()].concat();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            seed,
        }
    }

    /// Path and query of a link. Some end in `$$`, some in its percent-encoded form.
    pub(crate) fn sign(&self, link: &Link) -> String {
        let Link { file, expires, hop } = link;
        let number = super::dice::fork_text(fork(self.seed, u64::from(*hop)), file);
        let n = number % 10_000_000_000;
        let hops = if *hop == 0 {
            String::new()
        } else {
            format!("&h={hop}")
        };
        let unsigned = format!("{FOLDER}{file}.json?n={n}&e={expires}{hops}");
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, unsigned.as_bytes()));
        let end = if n.is_multiple_of(2) { "$$" } else { "%24%24" };
        format!("{unsigned}&s={signature}{end}")
    }

    /// What a path and query leads to, provided that it came back byte for byte.
    pub(crate) fn verify(&self, path_and_query: &str, now: Time) -> Result<Link, Refused> {
        let link = parse(path_and_query).ok_or(Refused::Altered)?;
        if self.sign(&link) != path_and_query {
            return Err(Refused::Altered);
        }
        if link.expires <= now.unix_seconds() {
            return Err(Refused::Expired);
        }
        Ok(link)
    }
}

fn parse(path_and_query: &str) -> Option<Link> {
    let (file, query) = path_and_query.strip_prefix(FOLDER)?.split_once(".json?")?;
    let member = |name: &str| {
        query
            .split('&')
            .filter_map(|member| member.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    Some(Link {
        file: file.to_owned(),
        expires: member("e")?.parse().ok()?,
        hop: member("h").map_or(Some(0), |hop| hop.parse().ok())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_until_it_expires_and_only_byte_for_byte() {
        let signer = Signer::new(1);
        let now: Time = "2025-01-27T06:00:00Z".parse().unwrap();
        let mut endings = [0, 0];
        for file in 0..20 {
            let link = Link {
                file: format!("f-{file}"),
                expires: now.unix_seconds() + 60,
                hop: file % 2,
            };
            let text = signer.sign(&link);
            assert_eq!(signer.verify(&text, now), Ok(link.clone()));
            let later = now.after(std::time::Duration::from_mins(1));
            assert_eq!(signer.verify(&text, later), Err(Refused::Expired));
            let recoded = if text.ends_with("$$") {
                endings[0] += 1;
                text.replace("$$", "%24%24")
            } else {
                endings[1] += 1;
                text.replace("%24%24", "$$")
            };
            let other = text.replace(&link.file, "f-other");
            let longer = text.replace("&s=", "0&s=");
            for altered in [recoded, other, longer, "/".to_owned()] {
                assert_eq!(signer.verify(&altered, now), Err(Refused::Altered));
            }
            assert_eq!(Signer::new(2).verify(&text, now), Err(Refused::Altered));
        }
        assert!(endings.iter().all(|&n| n > 0), "{endings:?}");
    }
}
