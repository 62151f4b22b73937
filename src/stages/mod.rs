//! The three stages and what passes between them.

pub mod message;
