//! A complete, verified, immutable archive of a Kore.ai Search AI app's Answer Insights: every week,
//! every fragment, in the owner's own bucket or folder, unattended for years.
//!
//! # Layout
//! - [`export`]: what is archived (app, event, week)
//! - [`kore`]: the vendor's side, as the stages see it
//! - [`archive`]: where it goes: keys, manifests, receipts, stores
//! - [`queue`]: what carries messages between stages
//! - [`host`]: the vendor's side, simulated
//! - [`records`]: counting records in a stream
//! - [`stages`]: enqueue, poll, copy: every decision
//! - [`audit`]: reading an archive: is it complete, is it right?
//! - [`run`](mod@run): the three stages in one process
//! - [`lambda`]: the three stages as AWS Lambda functions
//! - [`cli`]: the command line

pub mod archive;
pub mod audit;
pub mod aws;
pub mod cli;
pub mod export;
pub mod host;
pub mod kore;
pub mod lambda;
pub mod queue;
pub mod records;
pub mod run;
pub mod stages;
