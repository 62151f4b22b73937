//! The command line: see `insights_archive::cli`.
fn main() {}
