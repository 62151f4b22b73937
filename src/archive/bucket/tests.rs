//! The bucket against a server that plays S3's part: what is sent, and what is made of each answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Response};

use super::*;
use crate::archive::{PART_BYTES, behaviour};
use crate::aws::loopback;

/// How many keys are on one page of a listing: few, so that listings have pages.
const PAGE: usize = 2;

/// A store with the semantics of S3 that the archive relies on.
#[derive(Debug, Default)]
struct S3 {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, (Object, BTreeMap<u32, Bytes>)>,
    /// What is answered to the next requests for an operation, in the place of doing it.
    faults: VecDeque<Fault>,
    /// What was asked: operation and headers.
    requests: Vec<(&'static str, HeaderMap)>,
}

#[derive(Debug, Clone, Default)]
struct Object {
    bytes: Bytes,
    /// Content type and user metadata.
    headers: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
struct Fault {
    operation: &'static str,
    status: u16,
    code: &'static str,
    /// Whether the request has its effect all the same.
    done: bool,
}

type Answered = Response<Full<Bytes>>;

fn answer(status: u16, body: impl Into<Bytes>) -> Answered {
    let response = Response::builder().status(status);
    response.body(Full::new(body.into())).unwrap()
}

fn refusal(status: u16, code: &str) -> Answered {
    let mut response = answer(
        status,
        format!("<Error><Code>{code}</Code><Message>as told</Message></Error>"),
    );
    let region = "eu-south-2".parse().unwrap();
    response.headers_mut().insert("x-amz-bucket-region", region);
    response
}

fn crc64(bytes: &[u8]) -> String {
    Crc64::of(bytes).to_string()
}

fn etag_of(bytes: &[u8]) -> String {
    format!("\"{:x}\"", crc_fast::crc64_nvme(bytes))
}

impl S3 {
    fn operation(method: &Method, query: &HashMap<String, String>, key: &str) -> &'static str {
        match (method.as_str(), query.contains_key("uploadId")) {
            ("GET", _) if key.is_empty() => "ListObjectsV2",
            ("GET", _) => "GetObject",
            ("HEAD", _) => "HeadObject",
            ("PUT", true) => "UploadPart",
            ("PUT", false) => "PutObject",
            ("POST", true) => "CompleteMultipartUpload",
            ("POST", false) => "CreateMultipartUpload",
            ("DELETE", true) => "AbortMultipartUpload",
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, target: &str, method: &Method, headers: &HeaderMap, body: Bytes) -> Answered {
        let url = url::Url::parse("http://s3").unwrap().join(target).unwrap();
        let path = percent_encoding::percent_decode_str(url.path());
        let path = path.decode_utf8().unwrap().into_owned();
        let key = path
            .strip_prefix("/bucket")
            .unwrap()
            .trim_start_matches('/');
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let operation = Self::operation(method, &query, key);
        self.requests.push((operation, headers.clone()));
        let fault = self.faults.iter().position(|f| f.operation == operation);
        match fault.and_then(|at| self.faults.remove(at)) {
            Some(fault) if fault.done => {
                self.work(operation, key, &query, headers, body);
                refusal(fault.status, fault.code)
            }
            Some(fault) if method == Method::HEAD => answer(fault.status, ""),
            Some(fault) => refusal(fault.status, fault.code),
            None => self.work(operation, key, &query, headers, body),
        }
    }

    fn work(
        &mut self,
        operation: &str,
        key: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Answered {
        let stated = headers.get("x-amz-checksum-crc64nvme");
        let expected = |bytes: &[u8]| stated.is_none_or(|stated| *stated == crc64(bytes));
        let upload = query.get("uploadId");
        match operation {
            "ListObjectsV2" => self.list(query),
            "GetObject" | "HeadObject" => self.read(key),
            "PutObject" | "UploadPart" if !expected(&body) => refusal(400, "BadDigest"),
            "PutObject" => {
                let object = Object {
                    bytes: body,
                    headers: described(headers),
                };
                self.put(key, headers, object)
            }
            "CreateMultipartUpload" => {
                let id = format!("upload-{}", self.uploads.len());
                let object = Object {
                    bytes: Bytes::new(),
                    headers: described(headers),
                };
                self.uploads.insert(id.clone(), (object, BTreeMap::new()));
                answer(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId>\
                         </InitiateMultipartUploadResult>"
                    ),
                )
            }
            "UploadPart" => {
                let Some((_, parts)) = self.uploads.get_mut(upload.unwrap()) else {
                    return refusal(404, NO_UPLOAD);
                };
                let etag = etag_of(&body);
                parts.insert(query["partNumber"].parse().unwrap(), body);
                let mut response = answer(200, "");
                response.headers_mut().insert("etag", etag.parse().unwrap());
                response
            }
            "CompleteMultipartUpload" => {
                let Some((object, parts)) = self.uploads.get(upload.unwrap()) else {
                    return refusal(404, NO_UPLOAD);
                };
                let bytes = parts.values().flatten().copied().collect::<Bytes>();
                let length = bytes.len().to_string();
                if headers.get("x-amz-mp-object-size").unwrap() != length.as_str() {
                    return refusal(400, "InvalidRequest");
                }
                let stated = String::from_utf8(body.to_vec()).unwrap();
                if !parts.values().all(|part| stated.contains(&crc64(part))) {
                    return refusal(400, "InvalidPart");
                }
                let headers_of_it = object.headers.clone();
                let object = Object {
                    bytes,
                    headers: headers_of_it,
                };
                let put = self.put(key, headers, object);
                let Some(etag) = put.headers().get("etag") else {
                    return put;
                };
                self.uploads.remove(upload.unwrap());
                let etag = etag.to_str().unwrap().replace('"', "&quot;");
                answer(
                    200,
                    format!(
                        "<CompleteMultipartUploadResult><ETag>{etag}</ETag>\
                         </CompleteMultipartUploadResult>"
                    ),
                )
            }
            _ => match self.uploads.remove(upload.unwrap()) {
                Some(_) => answer(204, ""),
                None => refusal(404, NO_UPLOAD),
            },
        }
    }

    fn put(&mut self, key: &str, conditions: &HeaderMap, object: Object) -> Answered {
        let there = self.objects.get(key);
        if conditions.contains_key("if-none-match") && there.is_some() {
            return refusal(412, "PreconditionFailed");
        }
        if let Some(base) = conditions.get("if-match") {
            match there {
                None => return refusal(404, "NoSuchKey"),
                Some(there) if *base != etag_of(&there.bytes) => {
                    return refusal(412, "PreconditionFailed");
                }
                Some(_) => {}
            }
        }
        let etag = etag_of(&object.bytes).parse().unwrap();
        self.objects.insert(key.to_owned(), object);
        let mut response = answer(200, "");
        response.headers_mut().insert("etag", etag);
        response
    }

    fn read(&self, key: &str) -> Answered {
        let Some(object) = self.objects.get(key) else {
            return refusal(404, "NoSuchKey");
        };
        let mut response = Response::builder()
            // To HEAD, too.
            .header("content-length", object.bytes.len())
            .header("etag", etag_of(&object.bytes))
            .header("x-amz-checksum-crc64nvme", crc64(&object.bytes))
            .header("x-amz-checksum-type", "FULL_OBJECT");
        for (name, value) in &object.headers {
            response = response.header(name, value);
        }
        response.body(Full::new(object.bytes.clone())).unwrap()
    }

    fn list(&self, query: &HashMap<String, String>) -> Answered {
        let after = query.get("continuation-token");
        let mut found = self.objects.iter().filter(|(key, _)| {
            key.starts_with(&query["prefix"]) && after.is_none_or(|after| *key > after)
        });
        let mut page = String::new();
        let mut last = None;
        for (key, object) in found.by_ref().take(PAGE) {
            let size = object.bytes.len().to_string();
            let entry = [
                "<Contents><Key>",
                key,
                "</Key><Size>",
                &size,
                "</Size></Contents>",
            ];
            page += &entry.concat();
            last = Some(key);
        }
        if let (Some(last), Some(_)) = (last, found.next()) {
            page += &["<NextContinuationToken>", last, "</NextContinuationToken>"].concat();
        }
        answer(200, format!("<ListBucketResult>{page}</ListBucketResult>"))
    }
}

/// The headers that an object keeps.
fn described(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type";
    headers
        .iter()
        .filter(|(name, _)| kept(name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}

/// Serves a store on loopback, and gives an archive in it that tries a call so many times.
async fn serve(attempts: u32) -> (Arc<Mutex<S3>>, Bucket) {
    let s3 = Arc::new(Mutex::new(S3::default()));
    let store = Arc::clone(&s3);
    let config = loopback::serve(attempts, move |request| {
        let (head, body) = request.into_parts();
        let target = head.uri.path_and_query().unwrap().as_str();
        let mut store = store.lock().unwrap();
        store.ask(target, &head.method, &head.headers, body)
    });
    (s3, bucket(&config.await))
}

fn bucket(config: &aws_config::SdkConfig) -> Bucket {
    let place = "s3://bucket/some/prefix".parse().unwrap();
    Bucket::new(aws::s3(config, true), place, Some("key-1".to_owned()))
}

fn fault(operation: &'static str, status: u16, code: &'static str) -> Fault {
    Fault {
        operation,
        status,
        code,
        done: false,
    }
}

#[tokio::test]
async fn a_bucket_behaves_as_an_archive() {
    let (s3, bucket) = serve(1).await;
    behaviour::an_archive_behaves(&bucket).await;
    let s3 = s3.lock().unwrap();
    assert!(s3.uploads.is_empty(), "unfinished uploads are left");
    assert!(s3.objects.keys().all(|key| key.starts_with("some/prefix/")));
    for (operation, headers) in &s3.requests {
        let has = |name: &str, value: &str| {
            let seen = headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(seen, Some(value), "{operation}: {name}");
        };
        match *operation {
            "PutObject" if headers.contains_key("if-match") => {}
            "PutObject" | "CompleteMultipartUpload" => has("if-none-match", "*"),
            _ => {}
        }
        if let "PutObject" | "CreateMultipartUpload" = *operation {
            has("content-type", "application/json");
            has("x-amz-server-side-encryption", "aws:kms");
            has("x-amz-server-side-encryption-aws-kms-key-id", "key-1");
        }
        if let "PutObject" | "UploadPart" = *operation {
            has("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
            let signed = headers["authorization"].to_str().unwrap();
            assert!(signed.contains("x-amz-checksum-crc64nvme"), "{signed}");
        }
        if *operation == "CreateMultipartUpload" {
            has("x-amz-checksum-algorithm", "CRC64NVME");
            has("x-amz-checksum-type", "FULL_OBJECT");
        }
    }
}

#[tokio::test]
async fn a_fragment_costs_one_request_or_its_parts_and_two() {
    let (s3, bucket) = serve(1).await;
    let key = behaviour::data_key(1);
    let about = About {
        metadata: vec![("record-count", "150".to_owned())],
        crc64nvme: None,
    };
    bucket
        .create(&key, Bytes::from_static(b"[]"), &about)
        .await
        .unwrap();
    let key = behaviour::data_key(2);
    let parts = [vec![1; PART_BYTES], vec![2; PART_BYTES], vec![3; 9]].map(Bytes::from);
    let mut upload = bucket.begin(&key, &about).await.unwrap();
    for part in &parts {
        upload.write(part.clone(), Crc64::of(part)).await.unwrap();
    }
    upload.finish(Crc64::of(&parts.concat())).await.unwrap();
    let s3 = s3.lock().unwrap();
    let asked: Vec<_> = s3
        .requests
        .iter()
        .map(|(operation, _)| *operation)
        .collect();
    assert_eq!(
        asked,
        [
            "PutObject",
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPart",
            "UploadPart",
            "CompleteMultipartUpload"
        ]
    );
    for operation in [0, 1] {
        assert_eq!(s3.requests[operation].1["x-amz-meta-record-count"], "150");
    }
}

/// What is made of one answer to one operation.
async fn outcome(operation: &'static str, status: u16, code: &'static str) -> String {
    let (s3, bucket) = serve(1).await;
    let key = behaviour::data_key(1);
    // Enough for every repetition.
    for _ in 0..=CONFLICT_WAITS.len() {
        s3.lock()
            .unwrap()
            .faults
            .push_back(fault(operation, status, code));
    }
    let bytes = Bytes::from_static(b"[]");
    let crc64nvme = Crc64::of(&bytes);
    let about = About::default();
    let outcome = match operation {
        "PutObject" => {
            let created = bucket.create(&key, bytes, &about).await;
            created.map(|created| format!("{created:?}"))
        }
        "GetObject" => bucket.get(&key).await.map(|got| format!("{got:?}")),
        "HeadObject" => bucket.head(&key).await.map(|got| format!("{got:?}")),
        "ListObjectsV2" => bucket.list("", |_| {}).await.map(|()| String::new()),
        "CreateMultipartUpload" => bucket.begin(&key, &about).await.map(|_| String::new()),
        _ => {
            let mut upload = bucket.begin(&key, &about).await.unwrap();
            let ended = async {
                upload.write(bytes, crc64nvme).await?;
                match operation {
                    "AbortMultipartUpload" => upload.abort().await.map(|()| "aborted".to_owned()),
                    _ => upload
                        .finish(crc64nvme)
                        .await
                        .map(|created| format!("{created:?}")),
                }
            };
            ended.await
        }
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(error @ ArchiveError::Refused { .. }) => format!("refused: {error}"),
        Err(error @ ArchiveError::Unavailable { .. }) => format!("unavailable: {error}"),
    }
}

/// Operation, status, code and what has to be among the words of what is made of them.
const ANSWERS: &str = "\
PutObject 412 PreconditionFailed                       => Exists
CompleteMultipartUpload 412 PreconditionFailed         => Exists
PutObject 409 ConditionalRequestConflict               => unavailable: data/
CompleteMultipartUpload 409 ConditionalRequestConflict => unavailable: data/
CompleteMultipartUpload 404 NoSuchUpload               => look whether it is there
CompleteMultipartUpload 400 BadDigest                  => unavailable: data/
UploadPart 404 NoSuchUpload                            => unavailable: data/
AbortMultipartUpload 404 NoSuchUpload                  => aborted
GetObject 404 NoSuchKey                                => None
HeadObject 404 -                                       => None
GetObject 404 NoSuchBucket                             => create the bucket bucket
PutObject 404 NoSuchBucket                             => create the bucket bucket
ListObjectsV2 404 NoSuchBucket                         => create the bucket bucket
GetObject 403 AccessDenied                             => status 403, AccessDenied (as told); check the permissions
HeadObject 403 -                                       => refused: data/
PutObject 403 AccessDenied                             => check the permissions
CreateMultipartUpload 403 AccessDenied                 => check the permissions
ListObjectsV2 403 InvalidAccessKeyId                   => check the AWS credentials
ListObjectsV2 400 ExpiredToken                         => renew the AWS credentials
PutObject 301 PermanentRedirect                        => set AWS_REGION=eu-south-2
ListObjectsV2 400 AuthorizationHeaderMalformed         => set AWS_REGION=eu-south-2
HeadObject 301 -                                       => set AWS_REGION to the region
PutObject 501 NotImplemented                           => use another one
PutObject 400 InvalidArgument                          => refused: data/
PutObject 503 SlowDown                                 => unavailable: data/
UploadPart 503 SlowDown                                => unavailable: data/
PutObject 400 RequestTimeout                           => unavailable: data/
GetObject 500 InternalError                            => unavailable: data/
HeadObject 503 -                                       => unavailable: data/
ListObjectsV2 429 TooManyRequests                      => unavailable: s3://bucket/some/prefix/";

#[tokio::test]
async fn every_answer_is_told_apart() {
    for row in ANSWERS.lines() {
        let (asked, expected) = row.split_once(" => ").unwrap();
        let mut words = asked.split_whitespace();
        let mut word = || words.next().unwrap();
        let (operation, status, code) = (word(), word(), word());
        let code = if code == "-" { "" } else { code };
        let outcome = outcome(operation, status.parse().unwrap(), code).await;
        assert!(outcome.contains(expected), "{row}: {outcome}");
    }
}

#[tokio::test]
async fn a_write_that_meets_another_is_tried_again() {
    let (s3, bucket) = serve(1).await;
    let key = behaviour::claim_key(0);
    let conflict = fault("PutObject", 409, "ConditionalRequestConflict");
    s3.lock().unwrap().faults.push_back(conflict.clone());
    let bytes = Bytes::from_static(b"{}");
    let created = bucket.create(&key, bytes.clone(), &About::default()).await;
    let Created::Written(base) = created.unwrap() else {
        panic!("it was there");
    };
    s3.lock().unwrap().faults.push_back(conflict);
    let replaced = bucket.replace(&key, bytes, &base).await.unwrap();
    assert!(matches!(replaced, Replaced::Written(_)));
    assert_eq!(s3.lock().unwrap().requests.len(), 4);
}

#[tokio::test]
async fn a_request_that_failed_in_passing_is_repeated_and_a_lost_answer_shows_as_another_write() {
    let (s3, bucket) = serve(3).await;
    let plain = About::default();
    let bytes = Bytes::from_static(b"{}");
    s3.lock()
        .unwrap()
        .faults
        .push_back(fault("PutObject", 503, "SlowDown"));
    let created = bucket
        .create(&behaviour::claim_key(0), bytes.clone(), &plain)
        .await;
    assert!(matches!(created, Ok(Created::Written(_))));
    assert_eq!(s3.lock().unwrap().requests.len(), 2);

    s3.lock().unwrap().faults.push_back(Fault {
        done: true,
        ..fault("PutObject", 500, "InternalError")
    });
    let created = bucket.create(&behaviour::claim_key(1), bytes, &plain).await;
    assert_eq!(created.unwrap(), Created::Exists);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_says_why() {
    let bucket = bucket(&loopback::nobody().await);
    let error = bucket.get(&behaviour::data_key(1)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn bytes_that_changed_in_the_store_are_an_error_when_read() {
    let (s3, bucket) = serve(1).await;
    behaviour::create_one(&bucket, 1).await;
    let key = format!("some/prefix/{}", behaviour::data_key(1));
    let wrong = base64::engine::general_purpose::STANDARD.encode([7; 8]);
    let object = Object {
        bytes: Bytes::from_static(b"[1]"),
        // The first of two headers of one name counts.
        headers: vec![("x-amz-checksum-crc64nvme".to_owned(), wrong)],
    };
    s3.lock().unwrap().objects.insert(key, object);
    let error = bucket.get(&behaviour::data_key(1)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unavailable { .. }), "{error}");
}

#[test]
fn places_in_s3_are_checked_and_spelt_in_one_way() {
    for (text, spelt) in [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://my.bucket-1/a", "s3://my.bucket-1/a/"),
        ("s3://bucket/a/app=b_c-d.e/", "s3://bucket/a/app=b_c-d.e/"),
    ] {
        assert_eq!(text.parse::<Location>().unwrap().to_string(), spelt);
    }
    for bad in [
        "bucket",
        "s3:/bucket",
        "s3://",
        "s3://ab",
        "s3://Bucket",
        "s3://bu_cket",
        "s3://bucket//",
        "s3://bucket//a",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/a b",
        "s3://bucket/ä",
        &format!("s3://bucket/{}", "a".repeat(256)),
    ] {
        assert!(bad.parse::<Location>().is_err(), "{bad}");
    }
    assert!("/a".parse::<Prefix>().is_err());
}
