//! What a person did wrong, and what to do instead.

use std::fmt;

/// Wrong usage or settings: the exit status is 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Usage {
    error: String,
    hint: Option<String>,
}

impl Usage {
    /// `error` names the thing and what is wrong with it.
    pub fn new(error: impl fmt::Display) -> Self {
        Self {
            error: error.to_string(),
            hint: None,
        }
    }

    /// What is wrong with `thing`, in the words of an error that has the remedy behind a semicolon.
    pub fn with(thing: &str, error: impl fmt::Display) -> Self {
        let error = format!("{thing}{error}");
        match error.split_once("; ") {
            Some((error, hint)) => Self::new(error).with_hint(hint),
            None => Self::new(error),
        }
    }

    /// `hint` says what to do, where the error does not say so itself.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
