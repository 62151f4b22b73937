//! `simulate`: serve the simulated host until Ctrl-C.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use super::results;
use super::screen::Screen;
use super::stop::Stop;
use super::usage::Usage;
use crate::export::{Time, Week};
use crate::host::options::Options;
use crate::host::{Host, server};

/// Serve a simulated host: the vendor's export API, with faults on demand
///
/// Both endpoints with the documented shapes, tokens that are checked, rate limits, jobs that take
/// their time, signed and expiring file links, synthetic records. Point `run` at it to rehearse
/// anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive simulate                          a healthy host on port 8080
  insights-archive simulate --port 0 --faults 5      on any free port; 5 % of everything goes wrong
  insights-archive simulate --fault cut-file=30 --fault stuck-job=10
  insights-archive simulate --help                   with all faults there are")]
pub struct Args {
    #[command(flatten)]
    options: Options,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args, screen: &Screen) -> anyhow::Result<ExitCode> {
    let options = args.options;
    let stop = Stop::listen(screen, "stopped")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .await
        .map_err(|error| {
            Usage::new(format!("cannot serve on port {}: {error}", options.port))
                .with_hint("give another --port, or --port 0 for any that is free")
        })?;
    let base = format!("http://{}", listener.local_addr()?);
    let plan = options.plan();
    let app = options.apps.first().map_or("st-demo", |app| app.as_str());
    let since = Week::of(Time::now()).back(4);
    results(&format!(
        "Serving on {base}; Ctrl-C stops it. In another terminal:

  export KORE_CLIENT_ID={} KORE_CLIENT_SECRET={}
  insights-archive run --host-url {base} --allow-private-network \\
    --app {app} --since {since} --archive ./simulated-archive

Its counters: {base}/_control/stats
",
        plan.credentials.client_id,
        plan.credentials.client_secret.expose_secret(),
    ))?;
    let host = Arc::new(Mutex::new(Host::new(plan, &base)));
    tokio::select! {
        never = server::serve(listener, host, Time::now) => match never {},
        () = stop.asked() => Ok(ExitCode::SUCCESS),
    }
}
