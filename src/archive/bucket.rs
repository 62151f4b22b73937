//! An archive in an S3 bucket, under an optional prefix.
//!
//! # What S3 is asked to guarantee
//! A write is create-only by `If-None-Match: *`, or replaces one version by `If-Match`; S3 answers
//! 412 where the condition does not hold, and 409 where a concurrent write makes it impossible to
//! say, which is tried again here a few times. Every body goes out with its CRC-64/NVME in a signed
//! header, which S3 compares with what arrived and keeps for the whole object. The body is therefore
//! not hashed a second time for the signature (`UNSIGNED-PAYLOAD`).
//!
//! The client repeats a request whose answer was lost. A write that had its effect then answers 412:
//! "exists" and "changed" may mean one's own write, and callers look at what is there.

mod erase;
mod guards;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    ServerSideEncryption,
};
use bytes::{Bytes, BytesMut};

use super::{
    About, Archive, ArchiveError, Crc64, Created, Download, ETag, Head, Key, LARGEST_DOCUMENT,
    Listed, Replaced, Stored, Upload,
};
use crate::aws::{self, Answer};
use crate::export::Invalid;

/// The type of everything that is written.
const CONTENT_TYPE: &str = "application/json";

/// The waits before a write that S3 answered with 409 is tried again. A conflict lasts as long as the
/// other write, which is a small document.
const CONFLICT_WAITS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(900),
];

/// An S3 limit.
const MOST_PARTS: usize = 10_000;

/// What every key of an archive starts with in its bucket: nothing, or segments that each end in a
/// slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Empty, or with a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    /// Takes a prefix with or without the slash at its end.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_.=-".contains(&byte);
        let segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(safe);
        // With the longest key below it, far from S3's 1,024 bytes.
        if path.len() < 256 && path.split('/').all(segment) {
            Ok(Self(format!("{path}/")))
        } else {
            Err(Invalid::new(
                "a bucket's prefix",
                "at most 256 letters, digits, '_', '.', '=', '-', and '/' between them (such as \
                 kore/archive)",
                text,
            ))
        }
    }
}

/// A place in S3, `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket's name.
    pub bucket: String,
    /// What the archive's keys start with.
    pub prefix: Prefix,
}

impl FromStr for Location {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                "a place in S3",
                "s3://bucket or s3://bucket/prefix, with the bucket's name in 3 to 63 lower-case \
                 letters, digits, '-' and '.'",
                text,
            )
        };
        let place = text.strip_prefix("s3://").ok_or_else(invalid)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let safe =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(safe) {
            return Err(invalid());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.parse()?,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// An archive in an S3 bucket. Clones are the same archive.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    place: Location,
    kms_key: Option<String>,
}

impl Bucket {
    /// The archive at a place that `client` can reach. Objects are encrypted with `kms_key` where one
    /// is given, and else as the bucket is set up.
    pub fn new(client: Client, place: Location, kms_key: Option<String>) -> Self {
        Self {
            client,
            place,
            kms_key,
        }
    }

    /// The key in the bucket.
    fn key(&self, key: &Key) -> String {
        format!("{}{key}", self.place.prefix)
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    /// What a failed request means, and what to do about it.
    fn failed<E>(&self, key: &str, to: &str, error: &SdkError<E>) -> ArchiveError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let detail = format!("cannot {to} in {}: {}", self.place, aws::told(error));
        let key = key.to_owned();
        let remedy = match Answer::of(error) {
            Some(answer) => remedy(&answer, &self.place.bucket),
            None => aws::remedy(error).map(str::to_owned),
        };
        match remedy {
            Some(remedy) => ArchiveError::Refused {
                key,
                detail: format!("{detail}; {remedy}"),
            },
            None => ArchiveError::Unavailable { key, detail },
        }
    }

    /// Writes a small object under a condition; `None` where the condition does not hold.
    async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
        base: Option<&ETag>,
    ) -> Result<Option<ETag>, ArchiveError> {
        let crc64nvme = about.crc64nvme.unwrap_or_else(|| Crc64::of(&bytes));
        let mut waits = CONFLICT_WAITS.into_iter();
        loop {
            let mut put = self
                .client
                .put_object()
                .bucket(&self.place.bucket)
                .key(self.key(key))
                .content_type(CONTENT_TYPE)
                .set_metadata(Some(metadata(about)))
                .checksum_crc64_nvme(crc64nvme.to_string())
                .set_server_side_encryption(self.encryption())
                .set_ssekms_key_id(self.kms_key.clone())
                .body(ByteStream::from(bytes.clone()));
            put = match base {
                Some(base) => put.if_match(base.as_str()),
                None => put.if_none_match("*"),
            };
            let error = match put.customize().disable_payload_signing().send().await {
                Ok(written) => return self.etag(key, written.e_tag()).map(Some),
                Err(error) => error,
            };
            match Answer::of(&error) {
                Some(Answer { status: 412, .. }) => return Ok(None),
                // What was to be replaced is not there.
                Some(Answer {
                    status: 404, code, ..
                }) if base.is_some() && code != NO_BUCKET => {
                    return Ok(None);
                }
                Some(Answer { status: 409, .. }) => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(self.failed(key.as_str(), "write it", &error)),
                },
                _ => return Err(self.failed(key.as_str(), "write it", &error)),
            }
        }
    }

    async fn get_object(&self, key: &Key) -> Result<Option<GetObjectOutput>, ArchiveError> {
        let got = self
            .client
            .get_object()
            .bucket(&self.place.bucket)
            .key(self.key(key))
            .send()
            .await;
        match got {
            Ok(got) => Ok(Some(got)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(key.as_str(), "read it", &error)),
        }
    }

    fn etag(&self, key: &Key, etag: Option<&str>) -> Result<ETag, ArchiveError> {
        let parsed = etag.and_then(|etag| etag.parse().ok());
        parsed.ok_or_else(|| ArchiveError::Unavailable {
            key: key.to_string(),
            detail: format!("{} answered without an ETag", self.place),
        })
    }
}

fn metadata(about: &About) -> std::collections::HashMap<String, String> {
    let named = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
    about.metadata.iter().map(named).collect()
}

impl Archive for Bucket {
    type Upload = BucketUpload;
    type Download = BucketDownload;

    /// S3 computes the checksum itself, and checks what it keeps against it.
    const HEAD_PROVES: bool = true;

    async fn list(
        &self,
        prefix: &str,
        mut each: impl FnMut(Listed) + Send,
    ) -> Result<(), ArchiveError> {
        let own = self.place.prefix.as_str();
        let mut after = None;
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.place.bucket)
                .prefix(format!("{own}{prefix}"))
                .set_continuation_token(after.take())
                .send()
                .await
                .map_err(|error| self.failed(&self.place.to_string(), "list objects", &error))?;
            for object in page.contents() {
                let key = object.key().and_then(|key| key.strip_prefix(own));
                let bytes = object.size().and_then(|size| u64::try_from(size).ok());
                if let (Some(key), Some(bytes)) = (key, bytes) {
                    let key = key.to_owned();
                    each(Listed { key, bytes });
                }
            }
            after = page.next_continuation_token;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Stored>, ArchiveError> {
        let Some(got) = self.get_object(key).await? else {
            return Ok(None);
        };
        let etag = self.etag(key, got.e_tag())?;
        let mut download = self.download(key, got);
        let mut bytes = BytesMut::new();
        while let Some(chunk) = download.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > LARGEST_DOCUMENT {
                return Err(ArchiveError::Refused {
                    key: key.to_string(),
                    detail: format!(
                        "expected a document of at most {LARGEST_DOCUMENT} bytes, and it is \
                         larger: not one that this program wrote; move it away"
                    ),
                });
            }
        }
        let bytes = bytes.freeze();
        Ok(Some(Stored { bytes, etag }))
    }

    async fn head(&self, key: &Key) -> Result<Option<Head>, ArchiveError> {
        let head = self
            .client
            .head_object()
            .bucket(&self.place.bucket)
            .key(self.key(key))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let head = match head {
            Ok(head) => head,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed(key.as_str(), "look at it", &error)),
        };
        let bytes = head.content_length().and_then(|n| u64::try_from(n).ok());
        let bytes = bytes.ok_or_else(|| ArchiveError::Unavailable {
            key: key.to_string(),
            detail: format!("{} answered without its length", self.place),
        })?;
        let mut metadata: Vec<_> = head.metadata.unwrap_or_default().into_iter().collect();
        metadata.sort();
        Ok(Some(Head {
            bytes,
            metadata,
            // A checksum of the parts' checksums is not one of the bytes.
            crc64nvme: match head.checksum_type {
                Some(ChecksumType::Composite) => None,
                _ => head.checksum_crc64_nvme,
            },
        }))
    }

    async fn open(&self, key: &Key) -> Result<Option<BucketDownload>, ArchiveError> {
        let got = self.get_object(key).await?;
        Ok(got.map(|got| self.download(key, got)))
    }

    async fn create(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
    ) -> Result<Created, ArchiveError> {
        let written = self.put(key, bytes, about, None).await?;
        Ok(written.map_or(Created::Exists, Created::Written))
    }

    async fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        base: &ETag,
    ) -> Result<Replaced, ArchiveError> {
        let written = self.put(key, bytes, &About::default(), Some(base)).await?;
        Ok(written.map_or(Replaced::Changed, Replaced::Written))
    }

    async fn begin(&self, key: &Key, about: &About) -> Result<BucketUpload, ArchiveError> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.place.bucket)
            .key(self.key(key))
            .content_type(CONTENT_TYPE)
            .set_metadata(Some(metadata(about)))
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key.clone())
            .send()
            .await
            .map_err(|error| self.failed(key.as_str(), "begin to write it", &error))?;
        let id = begun.upload_id.ok_or_else(|| ArchiveError::Unavailable {
            key: key.to_string(),
            detail: format!("{} answered without an upload id", self.place),
        })?;
        Ok(BucketUpload {
            bucket: self.clone(),
            key: key.clone(),
            id,
            parts: Vec::new(),
            bytes: 0,
            crc64nvme: Crc64::NOTHING,
        })
    }
}

impl Bucket {
    fn download(&self, key: &Key, got: GetObjectOutput) -> BucketDownload {
        BucketDownload {
            key: key.clone(),
            place: self.place.clone(),
            body: got.body,
        }
    }
}

/// A multipart upload under way.
#[derive(Debug)]
pub struct BucketUpload {
    bucket: Bucket,
    key: Key,
    id: String,
    parts: Vec<CompletedPart>,
    /// The length of the parts so far.
    bytes: u64,
    /// The checksum of the parts so far, joined.
    crc64nvme: Crc64,
}

impl Upload for BucketUpload {
    async fn write(&mut self, part: Bytes, crc64nvme: Crc64) -> Result<(), ArchiveError> {
        let number = self.parts.len() + 1;
        if number > MOST_PARTS {
            return Err(ArchiveError::Refused {
                key: self.key.to_string(),
                detail: format!("it is larger than {MOST_PARTS} parts, the most that S3 takes"),
            });
        }
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let length = part.len() as u64;
        let uploaded = self
            .bucket
            .client
            .upload_part()
            .bucket(&self.bucket.place.bucket)
            .key(self.bucket.key(&self.key))
            .upload_id(&self.id)
            .part_number(number)
            .checksum_crc64_nvme(crc64nvme.to_string())
            .body(ByteStream::from(part))
            .customize()
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| {
                let to = format!("write part {number} of it");
                self.bucket.failed(self.key.as_str(), &to, &error)
            })?;
        self.parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(uploaded.e_tag)
                .checksum_crc64_nvme(crc64nvme.to_string())
                .build(),
        );
        self.bytes += length;
        self.crc64nvme = self.crc64nvme.followed_by(crc64nvme, length);
        Ok(())
    }

    async fn finish(&mut self, crc64nvme: Crc64) -> Result<Created, ArchiveError> {
        // S3 has compared each part with its checksum, and compares the parts that it joins with the
        // checksums and the length stated below: if those are the whole's, so is what it joins. (The
        // whole's could be stated as well; the local AWS of the tests takes that for a checksum of
        // checksums.)
        if crc64nvme != self.crc64nvme {
            return Err(ArchiveError::Unavailable {
                key: self.key.to_string(),
                detail: format!(
                    "its parts have the CRC-64/NVME {}, expected {crc64nvme}: they changed on the \
                     way, and nothing was written",
                    self.crc64nvme
                ),
            });
        }
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.parts.clone()))
            .build();
        let completed = self
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.place.bucket)
            .key(self.bucket.key(&self.key))
            .upload_id(&self.id)
            .if_none_match("*")
            .mpu_object_size(i64::try_from(self.bytes).unwrap_or(i64::MAX))
            .multipart_upload(parts)
            .send()
            .await;
        let error = match completed {
            Ok(completed) => {
                let etag = self.bucket.etag(&self.key, completed.e_tag())?;
                return Ok(Created::Written(etag));
            }
            Err(error) => error,
        };
        match Answer::of(&error) {
            Some(Answer { status: 412, .. }) => Ok(Created::Exists),
            // Repeated after its answer was lost, a completion that worked is answered so.
            Some(answer) if answer.code == NO_UPLOAD => Err(ArchiveError::Unavailable {
                key: self.key.to_string(),
                detail: format!(
                    "whether it was written is unknown, its upload has ended: {answer}; look \
                     whether it is there"
                ),
            }),
            _ => Err(self.bucket.failed(self.key.as_str(), "write it", &error)),
        }
    }

    async fn abort(&mut self) -> Result<(), ArchiveError> {
        let aborted = self
            .bucket
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket.place.bucket)
            .key(self.bucket.key(&self.key))
            .upload_id(&self.id)
            .send()
            .await;
        match aborted {
            Ok(_) => Ok(()),
            // It is finished, or aborted already.
            Err(error) if Answer::of(&error).is_some_and(|answer| answer.code == NO_UPLOAD) => {
                Ok(())
            }
            Err(error) => {
                let to = "abort its upload";
                Err(self.bucket.failed(self.key.as_str(), to, &error))
            }
        }
    }
}

/// An object being read from a bucket. Its checksum is verified on the way, where S3 has one.
#[derive(Debug)]
pub struct BucketDownload {
    key: Key,
    place: Location,
    body: ByteStream,
}

impl Download for BucketDownload {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            return match self.body.next().await {
                None => Ok(None),
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => Ok(Some(chunk)),
                Some(Err(error)) => Err(ArchiveError::Unavailable {
                    key: self.key.to_string(),
                    detail: format!(
                        "reading it from {} broke off: {}",
                        self.place,
                        aws::causes(&error)
                    ),
                }),
            };
        }
    }
}

const NO_BUCKET: &str = "NoSuchBucket";
const NO_UPLOAD: &str = "NoSuchUpload";

/// Whether there is no such object, as S3 says it to those who may list the bucket. A missing bucket
/// is something else, except to a HEAD request, whose answer has no body to say it in.
fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    Answer::of(error).is_some_and(|answer| answer.status == 404 && answer.code != NO_BUCKET)
}

/// What a person has to do about an answer; `None` where trying again may help.
fn remedy(answer: &Answer<'_>, bucket: &str) -> Option<String> {
    if let Some(remedy) = answer.credentials_remedy() {
        return Some(remedy.to_owned());
    }
    let remedy = match (answer.status, answer.code) {
        (_, NO_BUCKET) => format!("create the bucket {bucket}, or name another one"),
        (301 | 307, _)
        | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            match answer.header("x-amz-bucket-region") {
                Some(region) => {
                    format!(
                        "the bucket {bucket} is in the region {region}: set AWS_REGION={region}"
                    )
                }
                None => format!("set AWS_REGION to the region of the bucket {bucket}"),
            }
        }
        // Another upload may do better.
        (_, NO_UPLOAD) => return None,
        // Not answers to what was asked: it was broken on the way, or came too slowly.
        (_, "RequestTimeout" | "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            return None;
        }
        (403, _) => format!(
            "check the permissions of these credentials on the bucket {bucket}, its policy and its \
             encryption key"
        ),
        (501, _) => "this store does not do what the archive needs (conditional writes, \
                     CRC-64/NVME); use another one"
            .to_owned(),
        (409 | 429, _) => return None,
        (400..=499, _) => "this will not pass by itself; see what the answer says".to_owned(),
        _ => return None,
    };
    Some(remedy)
}

#[cfg(test)]
mod tests;
