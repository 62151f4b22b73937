//! A complete, verified, immutable archive of a Kore.ai Search AI app's Answer Insights: every week,
//! every fragment, in the owner's own bucket or folder, unattended for years.
//!
//! # Layout
//! - [`export`]: what is archived (app, event, week)
//! - [`kore`]: the vendor's side, as the stages see it
//! - [`archive`]: where it goes: keys, manifests, receipts, stores
//! - [`queue`]: what carries messages between stages
//! - [`records`]: counting records in a stream
//! - [`stages`]: enqueue, poll, copy: every decision

pub mod archive;
pub mod export;
pub mod kore;
pub mod queue;
pub mod records;
pub mod stages;
