//! Standard error: live progress on a terminal, log lines elsewhere, and never one across the other.

use std::fmt;
use std::io::{self, Write};

use console::{Style, Term};
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::usage::Usage;
use crate::export::Time;

/// Standard error.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
    live: bool,
}

impl Screen {
    /// Sets up logging at the given level, or else at `warn` beside live progress and at `info`
    /// where the log is all that is seen.
    ///
    /// # Errors
    /// When that is not a level.
    pub fn new(level: Option<&str>) -> Result<Self, Usage> {
        let live = Term::stderr().is_term();
        let bars = MultiProgress::with_draw_target(if live {
            ProgressDrawTarget::term_like(Box::new(Steady(Term::buffered_stderr())))
        } else {
            ProgressDrawTarget::hidden()
        });
        let usual = if live {
            LevelFilter::WARN
        } else {
            LevelFilter::INFO
        };
        let level = match level.map(str::trim).filter(|text| !text.is_empty()) {
            None => usual,
            Some(text) => text.parse().map_err(|_| {
                Usage::new(format!("INSIGHTS_LOG is {text:?}, which is not a level"))
                    .with_hint("set it to off, error, warn, info, debug or trace, or unset it")
            })?,
        };
        let screen = Self { bars, live };
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Format { dated: !live })
            .with_writer(screen.clone());
        // Of the libraries below only warnings: what they log in detail may hold secrets.
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::from_level(Level::WARN)))
            // It warns of every place where there are no credentials; what is missing is said in the end.
            .with_target("aws_config", level.min(LevelFilter::ERROR))
            // It warns of each object whose checksum is not of the whole; `verify` reads and hashes those.
            .with_target(
                "aws_sdk_s3::http_response_checksum",
                level.min(LevelFilter::ERROR),
            )
            .with_target(env!("CARGO_CRATE_NAME"), level);
        tracing_subscriber::registry()
            .with(lines)
            .with(targets)
            .init();
        Ok(screen)
    }

    /// Where bars are added; draws nothing where there is no terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether a person sees bars; otherwise what happens should be logged.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// How many rows and columns the terminal has.
    pub fn size() -> (usize, usize) {
        let (rows, columns) = Term::stderr().size();
        (rows.into(), columns.into())
    }

    /// Says something to the person, above the bars.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| {
            // Nobody is left to be told where standard error is closed.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }
}

/// A terminal whose cursor waits at the start of a line while bars are shown. indicatif leaves it
/// behind the last column: there the `^C` that the terminal echoes wraps, everything moves up by a
/// line, and the first bar is never cleared.
#[derive(Debug)]
struct Steady(Term);

impl TermLike for Steady {
    fn width(&self) -> u16 {
        TermLike::width(&self.0)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.write_str("\r")?;
        self.0.flush()
    }
}

/// How a log line looks.
struct Format {
    /// With its time: nobody watches, it is read later.
    dated: bool,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut line: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let word = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let style = match level {
            Level::ERROR => Style::new().red().bold(),
            Level::WARN => Style::new().yellow().bold(),
            _ => Style::new().dim(),
        };
        if self.dated {
            write!(line, "{} ", Time::now())?;
        }
        write!(line, "{}: ", style.for_stderr().apply_to(word))?;
        let mut message = Message {
            line,
            written: Ok(()),
        };
        event.record(&mut message);
        message.written?;
        writeln!(message.line)
    }
}

/// Writes an event's message; its fields repeat for programs what the message says to people.
struct Message<'a> {
    line: format::Writer<'a>,
    written: fmt::Result,
}

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.written = write!(self.line, "{value:?}");
        }
    }
}

/// One log line, written whole.
pub struct Line<'a>(&'a MultiProgress);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.bars)
    }
}
