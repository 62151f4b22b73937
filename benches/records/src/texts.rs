//! The texts: a fragment as the vendor makes them, and some that are hard on a counter.

use serde_json::{Value, json};

const ENGLISH: [&str; 6] = [
    "Employees may carry over up to five days of unused leave into the next calendar year, provided that their manager approves it by 15 December.",
    "To reset the device, hold the power button for 10 seconds until the LED flashes twice; then choose \"Restore\" from the menu.",
    "The warranty doesn’t cover damage caused by improper installation – see section 4.2 of the user’s guide for details.",
    "Claims are processed in the order in which they are received. You will be told of the outcome by e-mail within 14 working days.",
    "Path: C:\\Program Files\\Acme\\Client\\settings.ini. Change the value of `timeout` to 30 and restart the service.",
    "If the error persists, contact support with the reference number that is shown in the lower left corner of the window.",
];
const GERMAN: [&str; 3] = [
    "Beschäftigte können bis zu fünf Tage nicht genommenen Urlaub in das nächste Kalenderjahr übertragen, sofern die Führungskraft zustimmt.",
    "Zum Zurücksetzen drücken Sie die Taste 10 Sekunden lang, bis die Leuchte zweimal blinkt; wählen Sie dann „Wiederherstellen“ im Menü.",
    "Für Schäden durch unsachgemäße Montage übernehmen wir keine Gewähr.",
];
const JAPANESE: [&str; 2] = [
    "従業員は、上司の承認を得た場合に限り、未使用の休暇を最大五日まで翌年に繰り越すことができます。",
    "デバイスをリセットするには、ランプが二回点滅するまで電源ボタンを10秒間押し続けてください。",
];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides
    }

    fn id(&mut self, prefix: &str) -> String {
        let hex: String = (0..32)
            .map(|_| char::from(b"0123456789abcdef"[self.roll(16)]))
            .collect();
        format!("{prefix}-{hex}")
    }

    /// Paragraphs of a few sentences, at least `length` bytes.
    fn prose(&mut self, sentences: &[&str], length: usize) -> String {
        let mut text = String::new();
        while text.len() < length {
            for _ in 0..=self.roll(3) {
                text.push_str(sentences[self.roll(sentences.len())]);
                text.push(' ');
            }
            text.push('\n');
        }
        text
    }
}

/// A fragment of `records` records, most of them about 190 KB: searches with their prompts and
/// chunks, one in six in a language of other letters, one record in ten a small feedback.
pub fn fragment(records: usize) -> Vec<u8> {
    let dice = &mut Dice(1);
    let records: Vec<Value> = (0..records)
        .map(|number| match number % 30 {
            9 | 19 | 29 => feedback(dice),
            3 | 13 | 23 => search(dice, &GERMAN),
            16 | 26 => search(dice, &JAPANESE),
            _ => search(dice, &ENGLISH),
        })
        .collect();
    pretty(&Value::Array(records))
}

fn feedback(dice: &mut Dice) -> Value {
    json!({
        "_id": dice.id("fb"), "searchRequestId": dice.id("fsh"), "event": "thumbsDown",
        "comments": {"tags": ["Incorrect Formatting", "Outdated"], "comment": dice.prose(&ENGLISH, 80)},
        "query": "how many days of leave can I carry over?", "botId": dice.id("st"),
        "timeStampValue": 1_751_105_966_740_u64 + dice.roll(9999) as u64,
        "createdOn": "2025-06-28T10:19:26.740Z", "isDev": false
    })
}

fn search(dice: &mut Dice, sentences: &[&str]) -> Value {
    let id = dice.id("fsh");
    let chunks: Vec<Value> = (0..40)
        .map(|_| {
            let length = 1200 + dice.roll(1600);
            json!({
                "chunkId": dice.id("chk"), "score": f64::from(u32::try_from(dice.roll(9999)).unwrap_or(0)) / 1e4,
                "chunkText": dice.prose(sentences, length), "recordTitle": "Leave policy",
                "sourceUrl": "https://intranet.example.com/hr/policies/leave?version=2025&lang=en",
                "page": dice.roll(90), "sourceType": "file"
            })
        })
        .collect();
    // The prompt holds the chunks once more, as JSON in the text.
    let mut prompt = String::from(
        "You are a helpful assistant. Answer from the chunks below, \"verbatim\" where you can.\n\n",
    );
    for chunk in &chunks {
        prompt.push_str(
            &json!({"chunk_id": chunk["chunkId"], "text": chunk["chunkText"]}).to_string(),
        );
        prompt.push('\n');
    }
    json!({
        "_id": id, "searchRequestId": id, "event": "search", "sessionId": dice.id("ss"), "userId": dice.id("u"),
        "query": "how many days of leave can I carry over?", "language": "en", "hasResults": true,
        "timeStampValue": 1_751_105_958_209_u64, "createdOn": "2025-06-28T10:19:18.209Z",
        "graphAnswer": dice.prose(sentences, 600), "modelName": "gpt-4o", "customData": null,
        "answerDebug": [{
            "_id": dice.id("fad"), "generativeChunks": chunks, "prompt": prompt, "temperature": 0.2,
            "llmResponse": {"responseDetails": {"completionText": {
                "answer": dice.prose(sentences, 600), "chunkIds": [dice.id("chk"), dice.id("chk")]}}}
        }]
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("it is JSON")
}

/// Texts of about 8 MB that are hard on a counter, each with its name.
pub fn hard() -> Vec<(&'static str, Vec<u8>)> {
    const LENGTH: usize = 8_000_000;
    let dice = &mut Dice(2);
    let small: Vec<Value> = (0..12_000).map(|_| feedback(dice)).collect();
    let string_of =
        |content: &str| format!("[\"{}\"]", content.repeat(LENGTH / content.len())).into_bytes();
    let array_of = |element: &str| {
        let list = vec![element; LENGTH / (element.len() + 1)].join(",");
        format!("[{list}]").into_bytes()
    };
    let nest = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let objects = format!("{}0{}", r#"{"a":"#.repeat(2000), "}".repeat(2000));
    let japanese = JAPANESE.concat();
    let codes = r"\u65e5\u672c\u8a9e";
    vec![
        (
            "small records, pretty-printed",
            pretty(&Value::Array(small.clone())),
        ),
        (
            "small records, compact",
            Value::Array(small).to_string().into_bytes(),
        ),
        (
            "one string of letters",
            string_of("The quick brown fox jumps over. "),
        ),
        ("one string of multi-byte characters", string_of(&japanese)),
        (
            "one string of escaped characters (\\u65e5)",
            string_of(codes),
        ),
        (
            "one string of JSON (every quote escaped)",
            string_of(r#"{\"id\":\"x1\",\n\"n\":12}"#),
        ),
        ("one string of backslashes", string_of(r"\\")),
        ("tiny records: {}", array_of("{}")),
        ("tiny records: {\"a\":1}", array_of(r#"{"a":1}"#)),
        ("numbers: 0.123456789", array_of("0.123456789")),
        ("empty strings", array_of("\"\"")),
        ("nested arrays, 2,000 deep", array_of(&nest)),
        ("nested objects, 2,000 deep", array_of(&objects)),
        (
            "white space",
            format!("[{}]", " \n\t ".repeat(LENGTH / 4)).into_bytes(),
        ),
    ]
}
