//! The three Lambda functions in one program: reads the environment, builds the function that
//! `_HANDLER` names, and answers events. See [`insights_archive::lambda`].

use std::env;
use std::time::SystemTime;

use insights_archive::lambda::{Ready, log, settings};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

// One thread: the functions have at most one CPU, and start sooner.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let lookup = |name: &str| env::var(name).ok();
    let level = settings::log_level(lookup("INSIGHTS_LOG").as_deref());
    log::init(level.unwrap_or(LevelFilter::INFO));
    // A function that cannot work says so to whoever invokes it: that reaches the log, the failure
    // destination and the dead-letter queue, where a process that ends at once would leave a line.
    let ready = match settings::parse(lookup) {
        Ok(settings) => Ready::new(settings)
            .await
            .map_err(|error| error.to_string()),
        Err(wrong) => Err(wrong.to_string()),
    };
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let ready = &ready;
        async move {
            let (event, context) = event.into_parts();
            let left = context.deadline().duration_since(SystemTime::now());
            // A deadline that has passed is now.
            let limit = Instant::now() + left.unwrap_or_default();
            let answer = match ready {
                Ok(ready) => {
                    let answer = ready.answer(&context.request_id, &event, Some(limit));
                    answer.await.map_err(|error| error.to_string())
                }
                Err(why) => {
                    tracing::error!("{why}");
                    Err(why.clone())
                }
            };
            answer.map_err(|error_message| Diagnostic {
                error_type: "Failed".to_owned(),
                error_message,
            })
        }
    }))
    .await
}
