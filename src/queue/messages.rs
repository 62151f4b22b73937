//! Messages for the tests of the queues.

use super::message::{Fragment, Looking, Message, Slice, Work};
use crate::export::{Event, Export};

fn message(hop: u32, work: Work) -> Message {
    Message {
        export: Export {
            app: "st-1".parse().unwrap(),
            event: Event::ThumbsUp,
            week: "2025-01-20".parse().unwrap(),
        },
        chain: "c-1".parse().unwrap(),
        attempt: 0,
        hop,
        first_start: None,
        not_before: None,
        weathered: 0,
        base: None,
        work,
    }
}

pub fn start() -> Message {
    message(0, Work::Start)
}

pub fn look(hop: u32) -> Message {
    let started_at = "2025-01-27T06:00:00.000Z".parse().unwrap();
    let looking = Looking {
        id: "fj-1".parse().unwrap(),
        started_at,
        looks: hop,
        percent: None,
        moved_at: started_at,
        puzzled: 0,
        unanswered: 0,
    };
    message(hop, Work::Look(looking))
}

pub fn copy(hop: u32) -> Message {
    copy_of(hop, "file 1")
}

pub fn copy_of(hop: u32, file_id: &str) -> Message {
    let fragment = Fragment {
        number: 1,
        file_id: file_id.to_owned(),
    };
    let slice = Slice {
        job: "fj-1".parse().unwrap(),
        of: 1,
        fragments: vec![fragment],
        fruitless: 0,
        troubled: 0,
    };
    message(hop, Work::Copy(slice))
}
