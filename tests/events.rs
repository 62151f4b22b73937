//! The sample events in `events/` are what the functions read.

use std::path::Path;

use insights_archive::export::Time;
use insights_archive::queue::message::{Message, Work};
use insights_archive::stages::enqueue::Request;
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

#[test]
fn every_enqueue_sample_is_a_request() {
    let now: Time = "2025-02-03T12:00:00Z".parse().expect("a time");
    let request =
        |name| Request::from_json(&event(name), now).unwrap_or_else(|e| panic!("{name}: {e}"));
    let scheduled: Time = "2025-01-27T06:00:00Z".parse().expect("a time");
    assert_eq!(request("enqueue-scheduled.json"), Request::Tick(scheduled));
    assert_eq!(request("enqueue-now.json"), Request::Tick(now));
    for (name, replace, dry_run) in [
        ("enqueue-backfill.json", false, false),
        ("enqueue-replace.json", true, true),
    ] {
        let Request::Explicit(wish) = request(name) else {
            panic!("{name} is not a wish");
        };
        assert_eq!((wish.replace, wish.dry_run), (replace, dry_run), "{name}");
    }
}
