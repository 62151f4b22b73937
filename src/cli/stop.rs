//! Ctrl-C: the first time work in progress is brought to a clean end, the second time it is cut off.

use std::io;

use tokio::sync::watch;

use super::screen::Screen;

/// What a shell reports of a program that a Ctrl-C has ended.
const ABORTED: i32 = 130;

/// Whether the person wants to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Takes Ctrl-C and the polite kill from here on. At the first, `notice` is said.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn listen(screen: &Screen, notice: &'static str) -> io::Result<Self> {
        let (tell, asked) = watch::channel(false);
        let mut signals = Signals::new()?;
        let screen = screen.clone();
        tokio::spawn(async move {
            signals.next().await;
            screen.say(notice);
            tell.send_replace(true);
            signals.next().await;
            // The shell's prompt comes next. A terminal that is gone needs no clearing.
            let _ = screen.bars().clear();
            // Every write to an archive is whole or not at all, so this is safe at any moment.
            std::process::exit(ABORTED);
        });
        Ok(Self { asked })
    }

    /// Completes when the person wants to stop.
    pub async fn asked(&self) {
        // An error would mean that nobody listens any more.
        if self.asked.clone().wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
