//! The vendor's own words, made fit for an error, a log line or a message attribute.

use std::error::Error as _;

use serde_json::Value;

/// Enough for a sentence; an HTML page or a stack trace helps nobody in a log line.
const LONGEST_CHARS: usize = 200;

/// What is looked at before it is cut, so that a huge text costs no more than a small one.
const LONGEST_READ: usize = 4096;

/// One line of at most 200 characters, without control or direction characters, without the query of
/// any link (it is a signature) and without anything that looks like a JWT.
pub(super) fn fit(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(LONGEST_READ)];
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word: String = word.chars().filter(|c| !is_direction(*c)).collect();
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        hide_secrets(&word, &mut line);
    }
    match line.char_indices().nth(LONGEST_CHARS) {
        None => line,
        Some((cut, _)) => {
            line.truncate(cut);
            line + "…"
        }
    }
}

/// The words in an error of these APIs, as they came: a string, or the message inside an object or a
/// list of these. Words that are nowhere expected are better than none; `null`, `[]` and the like say
/// nothing.
pub(super) fn within(json: &str) -> Option<String> {
    /// Where the words are, the most telling first.
    const MEMBERS: [&str; 6] = ["msg", "message", "reason", "error", "errors", "description"];
    fn search(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            Value::Array(list) => list.iter().find_map(search),
            Value::Object(members) => MEMBERS.iter().find_map(|name| search(members.get(*name)?)),
            _ => None,
        }
    }
    // A tree of values takes many times its text.
    let value = if json.len() <= 16 * LONGEST_READ {
        serde_json::from_str(json).unwrap_or(Value::Bool(true))
    } else {
        Value::Bool(true)
    };
    let silent = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    let said = search(&value).map(str::to_owned);
    said.or_else(|| (!silent).then(|| json[..json.floor_char_boundary(LONGEST_READ)].to_owned()))
}

/// A failed request, with what caused it: the outermost error alone says "error sending request". The
/// URL, which may be signed, is not among the words.
pub(super) fn of_request(error: &reqwest::Error) -> String {
    let mut words = String::new();
    // The error itself names the URL; its causes say the rest.
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !words.ends_with(&said) {
            words.push_str(if words.is_empty() { "" } else { ": " });
            words.push_str(&said);
        }
        cause = error.source();
    }
    fit(if words.is_empty() {
        "the request failed"
    } else {
        &words
    })
}

/// Marks that turn the direction of text or have no width: a terminal would show other words than
/// were said.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Copies a word, with each query and each token in it replaced by `…`.
fn hide_secrets(word: &str, line: &mut String) {
    let mut rest = word;
    while !rest.is_empty() {
        // A JWT starts with the base64 of `{"`; a query starts with `?` and holds a `=`.
        let token = rest.find("eyJ");
        let query = rest
            .find('?')
            .filter(|at| run(&rest[*at..], is_link).contains('='));
        let Some(at) = token.into_iter().chain(query).min() else {
            break;
        };
        line.push_str(&rest[..at]);
        let hidden = if query == Some(at) {
            line.push('?');
            run(&rest[at..], is_link)
        } else {
            run(&rest[at..], is_token)
        };
        line.push('…');
        rest = &rest[at + hidden.len()..];
    }
    line.push_str(rest);
}

/// The start of a text that consists of such characters.
fn run(text: &str, of: fn(char) -> bool) -> &str {
    &text[..text.find(|c| !of(c)).unwrap_or(text.len())]
}

fn is_link(c: char) -> bool {
    !matches!(c, '"' | '\'' | '<' | '>' | '`')
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_one_short_line_without_secrets() {
        for (said, fit_to_print) in [
            ("plain words", "plain words"),
            ("two\n\tlines\u{1b}[31m red", "two lines [31m red"),
            ("turned\u{202e}round", "turnedround"),
            (
                r#"{"fileUrl":"https://h.kore.ai:443/f.json?n=1&s=Ik9$$","x":1}"#,
                r#"{"fileUrl":"https://h.kore.ai:443/f.json?…","x":1}"#,
            ),
            ("bad token eyJhbGciOi.eyJhcHBJ.c2ln!", "bad token …!"),
            (
                r#"{"t":"eyJhb.eyJh.c2","u":"/a?s=1"}"#,
                r#"{"t":"…","u":"/a?…"}"#,
            ),
            ("why? because", "why? because"),
            ("", ""),
        ] {
            assert_eq!(fit(said), fit_to_print, "{said:?}");
        }
        assert_eq!(fit(&"ä".repeat(100_000)), "ä".repeat(200) + "…");
        assert_eq!(fit(&"a ".repeat(100_000)).chars().count(), 201);
    }
}
