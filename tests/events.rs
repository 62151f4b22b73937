//! The sample events in `events/` are what the functions read.

use std::path::Path;

use insights_archive::stages::message::{Message, Work};
use serde_json::Value;

fn event(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("events")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn message(name: &str) -> Message {
    let event = event(name);
    let body = event["Records"][0]["body"].as_str().expect("a body");
    let message = Message::from_json(body).unwrap_or_else(|e| panic!("{name}: {e}"));
    let again = Message::from_json(&message.to_json());
    assert_eq!(again.as_ref(), Ok(&message), "{name}");
    message
}

#[test]
fn every_queue_sample_is_a_message_for_its_function() {
    assert_eq!(message("poll-start.json").work, Work::Start);
    assert!(matches!(message("poll-look.json").work, Work::Look(_)));
    assert!(matches!(message("copy-slice.json").work, Work::Copy(_)));
}
