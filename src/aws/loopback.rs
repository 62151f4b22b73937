//! A server on loopback that plays an AWS service's part in tests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Serves what `answer` makes of each request, until the test ends, and gives the settings of clients
/// that talk to it and try a call so many times.
pub async fn serve(
    attempts: u32,
    answer: impl FnMut(Request<Bytes>) -> Response<Full<Bytes>> + Send + 'static,
) -> SdkConfig {
    let answer = Arc::new(Mutex::new(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = Arc::clone(&answer);
            let serve = service_fn(move |request: Request<Incoming>| {
                let answer = Arc::clone(&answer);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let mut answer = answer.lock().unwrap();
                    Ok::<_, Infallible>(answer(Request::from_parts(head, body)))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), serve));
        }
    });
    settings(&format!("http://{address}"), attempts)
}

/// The settings of clients that talk to an address where nobody listens.
pub async fn nobody() -> SdkConfig {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    settings(&format!("http://{address}"), 1)
}

fn settings(endpoint: &str, attempts: u32) -> SdkConfig {
    let credentials = Credentials::new("AKID", "secret", None, None, "test");
    let retries = RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(1));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .retry_config(retries)
        .build()
}
