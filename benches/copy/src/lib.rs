//! An S3 client that understands `rclone serve s3`.
//!
//! Its answer to the start of a multipart upload has another name at its root than S3's. The other
//! clients do not look at the name; this one does.

use aws_config::SdkConfig;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;

/// What a client for S3 or for rclone is made of.
pub fn s3(config: &SdkConfig) -> Builder {
    Builder::from(config)
        .force_path_style(true)
        .interceptor(Renamed)
}

#[derive(Debug)]
struct Renamed;

impl Intercept for Renamed {
    fn name(&self) -> &'static str {
        "the root of an answer gets S3's name"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let kind = response.headers().get("content-type").unwrap_or_default();
        if kind.starts_with("text/xml") {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let body = body.map_frame(|frame| frame.map_data(renamed));
            *response.body_mut() = SdkBody::from_body_1_x(body);
        }
        Ok(())
    }
}

/// The same answer with the right name, and as long: the declaration makes room for it.
fn renamed(data: Bytes) -> Bytes {
    const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let Some(text) = str::from_utf8(&data)
        .ok()
        .filter(|text| text.contains("<InitiateMultipartUpload>"))
    else {
        return data;
    };
    let text = text
        .replace(DECLARATION, "")
        .replace("InitiateMultipartUpload>", "InitiateMultipartUploadResult>");
    format!("{text:<length$}", length = data.len()).into()
}
