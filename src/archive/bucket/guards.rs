//! The guards of a bucket: what the template gives to the one that it makes, looked for on any.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::BucketVersioningStatus;
use serde_json::Value;

use super::Bucket;
use crate::aws::{self, Answer};

/// What became of the question whether a bucket has a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guard {
    Stands,
    Lacks,
    /// It cannot be told, and why.
    Unknown(String),
}

impl Bucket {
    /// A sentence for each guard that the bucket lacks, or of which it cannot be told: versioning,
    /// the block of public access, and the policy by which `data/` is written once.
    pub async fn lacking_guards(&self) -> Vec<String> {
        let (versioning, public, policy) =
            tokio::join!(self.versioning(), self.public_access(), self.write_once());
        let named = [
            (
                versioning,
                "keeps no versions of its objects: what is overwritten or deleted is gone",
                "keeps versions of its objects (s3:GetBucketVersioning)",
            ),
            (
                public,
                "does not block public access itself (its account still may)",
                "blocks public access (s3:GetBucketPublicAccessBlock)",
            ),
            (
                policy,
                "has no policy by which objects under data/ are written only once",
                "has a policy by which data/ is written once (s3:GetBucketPolicy)",
            ),
        ];
        let name = &self.place.bucket;
        let told = |(guard, lacks, has): (Guard, &str, &str)| match guard {
            Guard::Stands => None,
            Guard::Lacks => Some(format!(
                "The bucket {name} {lacks}. The README lists the guards to apply."
            )),
            Guard::Unknown(why) => Some(format!("Cannot tell whether {name} {has}: {why}")),
        };
        named.into_iter().filter_map(told).collect()
    }

    async fn versioning(&self) -> Guard {
        let asked = self.client.get_bucket_versioning();
        match asked.bucket(&self.place.bucket).send().await {
            Ok(answer) if answer.status == Some(BucketVersioningStatus::Enabled) => Guard::Stands,
            Ok(_) => Guard::Lacks,
            Err(error) => unknown(&error),
        }
    }

    async fn public_access(&self) -> Guard {
        let asked = self.client.get_public_access_block();
        match asked.bucket(&self.place.bucket).send().await {
            Ok(answer) => {
                let all = answer.public_access_block_configuration.is_some_and(|is| {
                    [
                        is.block_public_acls,
                        is.block_public_policy,
                        is.ignore_public_acls,
                        is.restrict_public_buckets,
                    ]
                    .iter()
                    .all(|each| *each == Some(true))
                });
                if all { Guard::Stands } else { Guard::Lacks }
            }
            Err(error) if has_code(&error, "NoSuchPublicAccessBlockConfiguration") => Guard::Lacks,
            Err(error) => unknown(&error),
        }
    }

    async fn write_once(&self) -> Guard {
        let asked = self.client.get_bucket_policy();
        match asked.bucket(&self.place.bucket).send().await {
            Ok(answer) => {
                let data = format!("{}/{}data/*", self.place.bucket, self.place.prefix);
                let policy = answer.policy.unwrap_or_default();
                let policy = serde_json::from_str(&policy).unwrap_or_default();
                if is_write_once(&policy, &data) {
                    Guard::Stands
                } else {
                    Guard::Lacks
                }
            }
            Err(error) if has_code(&error, "NoSuchBucketPolicy") => Guard::Lacks,
            Err(error) => unknown(&error),
        }
    }
}

fn has_code<E: ProvideErrorMetadata>(error: &SdkError<E>, code: &str) -> bool {
    Answer::of(error).is_some_and(|answer| answer.code == code)
}

fn unknown<E>(error: &SdkError<E>) -> Guard
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    Guard::Unknown(aws::told(error))
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether a bucket policy denies everyone to write objects at `data` (`bucket/prefix/data/*`)
/// without `If-None-Match`. Pure.
fn is_write_once(policy: &Value, data: &str) -> bool {
    let statements = match &policy["Statement"] {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    statements.iter().any(|statement| {
        let principal = &statement["Principal"];
        let everyone = *principal == "*" || texts(&principal["AWS"]).contains(&"*");
        let writing = texts(&statement["Action"])
            .iter()
            .any(|action| matches!(*action, "s3:PutObject" | "s3:Put*" | "s3:*" | "*"));
        let there = texts(&statement["Resource"]).iter().any(|resource| {
            // Behind the partition, region and account.
            let resource = resource.rsplit(":::").next().unwrap_or_default();
            let covers = resource.strip_suffix('*');
            covers.is_some_and(|start| data.starts_with(start))
        });
        let unconditional = statement["Condition"]["Null"]
            .as_object()
            .is_some_and(|null| {
                null.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case("s3:if-none-match")
                        && (*value == "true" || *value == true)
                })
            });
        statement["Effect"] == "Deny" && everyone && writing && there && unconditional
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::loopback;
    use http_body_util::Full;
    use serde_json::json;

    fn policy() -> Value {
        json!({"Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::bucket/kore/data/*",
            "Condition": {
                "Null": {"s3:if-none-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        }]})
    }

    #[test]
    fn only_a_policy_that_denies_everyone_is_the_guard() {
        let data = "bucket/kore/data/*";
        assert!(is_write_once(&policy(), data));
        for (at, value) in [
            ("/Statement/0/Principal", json!({"AWS": ["*"]})),
            (
                "/Statement/0/Action",
                json!(["s3:GetObject", "s3:PutObject"]),
            ),
            ("/Statement/0/Resource", json!(["arn:aws-cn:s3:::bucket/*"])),
            ("/Statement", policy()["Statement"][0].clone()),
        ] {
            let mut other = policy();
            *other.pointer_mut(at).unwrap() = value;
            assert!(is_write_once(&other, data), "{other}");
        }
        for (at, value) in [
            ("/Statement/0/Effect", json!("Allow")),
            (
                "/Statement/0/Principal",
                json!({"AWS": "arn:aws:iam::1:root"}),
            ),
            ("/Statement/0/Action", json!("s3:DeleteObject")),
            ("/Statement/0/Resource", json!("arn:aws:s3:::bucket/data/*")),
            (
                "/Statement/0/Resource",
                json!("arn:aws:s3:::bucket/kore/data/app=st-1/*"),
            ),
            ("/Statement/0/Condition", json!({})),
            (
                "/Statement/0/Condition/Null",
                json!({"s3:if-none-match": "false"}),
            ),
            ("/Statement", json!("what is this")),
        ] {
            let mut other = policy();
            *other.pointer_mut(at).unwrap() = value;
            assert!(!is_write_once(&other, data), "{other}");
        }
    }

    #[tokio::test]
    async fn each_guard_that_is_lacking_or_hidden_is_named() {
        let all = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
                   <BlockPublicPolicy>true</BlockPublicPolicy><IgnorePublicAcls>true\
                   </IgnorePublicAcls><RestrictPublicBuckets>true</RestrictPublicBuckets>\
                   </PublicAccessBlockConfiguration>";
        let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let off = "<VersioningConfiguration/>";
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let policy = policy().to_string();
        let tables = [
            (
                [(200, on.to_owned()), (200, all.to_owned()), (200, policy)],
                [""; 3],
            ),
            (
                [
                    (200, off.to_owned()),
                    (404, error("NoSuchPublicAccessBlockConfiguration")),
                    (404, error("NoSuchBucketPolicy")),
                ],
                [
                    "keeps no versions",
                    "does not block public",
                    "has no policy",
                ],
            ),
            (
                [
                    (403, error("AccessDenied")),
                    (403, error("AccessDenied")),
                    (403, error("AccessDenied")),
                ],
                ["Cannot tell", "Cannot tell", "AccessDenied"],
            ),
        ];
        for (answers, expected) in tables {
            let config = loopback::serve(1, move |request| {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let asked = ["versioning", "publicAccessBlock", "policy"];
                let at = asked.iter().position(|name| query.contains(name)).unwrap();
                let (status, body) = answers[at].clone();
                let response = hyper::Response::builder().status(status);
                response.body(Full::new(body.into())).unwrap()
            });
            let place = "s3://bucket/kore".parse().unwrap();
            let bucket = Bucket::new(aws::s3(&config.await, true), place, None);
            let told = bucket.lacking_guards().await;
            let expected: Vec<_> = expected.iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (said, expected) in told.iter().zip(expected) {
                assert!(said.contains(*expected), "{said}");
            }
        }
    }
}
