//! The three Lambda functions: see `insights_archive::lambda`.
fn main() {}
