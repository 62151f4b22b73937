//! The floor: moves bytes from socket to socket through the same client libraries, in the same parts,
//! and does nothing else. Nothing is counted, hashed, checked or verified.
//!
//! `relay FILES_URL BUCKET FRAGMENTS AT_ONCE`

use std::env;

use anyhow::{Context as _, bail};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use insights_archive::archive::PART_BYTES;
use insights_archive::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [files, bucket, fragments, at_once] = &words[..] else {
        bail!("usage: relay FILES_URL BUCKET FRAGMENTS AT_ONCE");
    };
    let config = aws::config(aws::Patience::FUNCTION).await;
    // A checksum that nobody asks for would be computed, which is not moving bytes.
    let s3 = copy_bench::s3(&config)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let s3 = Client::from_conf(s3.build());
    let http = reqwest::Client::builder().http1_only().no_proxy().build()?;
    let fragments: u32 = fragments.parse()?;
    stream::iter(1..=fragments)
        .map(|number| relay(&http, &s3, format!("{files}/{number}"), bucket, number))
        .buffer_unordered(at_once.parse()?)
        .try_collect::<()>()
        .await
}

async fn relay(
    http: &reqwest::Client,
    s3: &Client,
    url: String,
    bucket: &str,
    number: u32,
) -> anyhow::Result<()> {
    let key = format!("relayed/{number}");
    let mut body = http.get(url).send().await?.error_for_status()?;
    let created = s3
        .create_multipart_upload()
        .bucket(bucket)
        .key(&key)
        .send()
        .await?;
    let upload = created.upload_id().context("no upload id")?;
    let mut parts = Vec::new();
    let mut part = BytesMut::with_capacity(PART_BYTES);
    loop {
        let piece = body.chunk().await?;
        let ended = piece.is_none();
        let piece = piece.unwrap_or_default();
        let (now, rest) = piece.split_at(piece.len().min(PART_BYTES - part.len()));
        part.extend_from_slice(now);
        if part.len() == PART_BYTES || ended {
            let number = i32::try_from(parts.len() + 1)?;
            let full: Bytes = part.split().freeze();
            part.reserve(PART_BYTES);
            let sent = s3
                .upload_part()
                .bucket(bucket)
                .key(&key)
                .upload_id(upload)
                .part_number(number)
                .body(ByteStream::from(full))
                .customize()
                .disable_payload_signing()
                .send()
                .await?;
            let done = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .build();
            parts.push(done);
        }
        part.extend_from_slice(rest);
        if ended {
            break;
        }
    }
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    s3.complete_multipart_upload()
        .bucket(bucket)
        .key(&key)
        .upload_id(upload)
        .multipart_upload(parts)
        .send()
        .await?;
    Ok(())
}
