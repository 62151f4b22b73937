//! The enqueue stage: what should be archived and is not? It reconciles; it does not fire and forget.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Edges, StageError, claim, new_chain};
use crate::archive::key::{Place, manifests_of};
use crate::archive::{Archive as _, ETag, Key, manifest};
use crate::export::{AppId, Event, Export, Invalid, Time, Week, parse_date};
use crate::queue::message::Message;
use crate::queue::{Outgoing, Queue as _};

/// So many exports of an app begin at once.
pub const AT_ONCE: u32 = 10;
/// A failed export is left in peace for twice as long each time, and for so many days at most.
const LONGEST_PEACE_DAYS: u32 = 28;
/// How many claims and manifests are read at once.
const READS_AT_ONCE: usize = 16;

/// What is to be archived, by the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Whose records.
    pub apps: Vec<AppId>,
    /// Which of them.
    pub events: Vec<Event>,
    /// From the week that holds this day (`ArchiveSince`).
    pub since: Option<Date>,
    /// Without `since`: from so many weeks ago, or the oldest manifest (`CatchUpWeeks`).
    pub catch_up_weeks: u32,
    /// So many weeks are exported again for late feedback (`LookbackWeeks`).
    pub lookback_weeks: u32,
    /// A week is due so long after its end (`SettleMinutes`).
    pub settle: Duration,
    /// After [`AT_ONCE`] exports of an app, the others begin one after another, this far apart: the
    /// host's limits are per app and minute. Zero where somebody else keeps to them.
    pub apart: Duration,
}

/// What the stage was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The schedule's tick, planned from its time; or a tick now.
    Tick(Time),
    /// A person's own wish.
    Explicit(Wish),
}

/// A person's own wish: these weeks, whatever has failed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// From the week that holds this day.
    pub since: Date,
    /// Up to the week before the one that starts on or after this day; to the last due one without.
    pub until: Option<Date>,
    /// Which apps of the scope; all without.
    pub apps: Option<Vec<AppId>>,
    /// Which events; those of the scope without.
    pub events: Option<Vec<Event>>,
    /// Archived weeks are exported again and their manifests replaced.
    pub replace: bool,
    /// Nothing is sent.
    pub dry_run: bool,
}

/// Why an event is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not of a known shape.
    #[error(
        "not a request: {0}. Expected a scheduled event, {{}} for a tick now, or {{\"since\": \
         \"2025-01-20\", \"until\"?, \"apps\"?, \"events\"?, \"replace\"?, \"dryRun\"?}}"
    )]
    Shape(String),
    /// A value is not what it should be.
    #[error("not a request: {0}")]
    Value(#[from] Invalid),
    /// The dates leave nothing.
    #[error("not a request: since {since} is not before until {until}")]
    Nothing {
        /// As given.
        since: String,
        /// As given.
        until: String,
    },
    /// An app that the settings do not name.
    #[error("not a request: the app {0} is not among the settings' apps; add it to AppIds first")]
    UnknownApp(AppId),
}

impl Request {
    /// Reads the event that woke the function.
    ///
    /// # Errors
    /// When it is not a request; an unknown field is named.
    pub fn from_json(event: &serde_json::Value, now: Time) -> Result<Self, BadRequest> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Wire {
            since: Option<String>,
            until: Option<String>,
            apps: Option<Vec<AppId>>,
            events: Option<Vec<Event>>,
            #[serde(default)]
            replace: bool,
            #[serde(default)]
            dry_run: bool,
        }
        let Some(object) = event.as_object() else {
            return Err(BadRequest::Shape("it is not a JSON object".to_owned()));
        };
        if object.is_empty() {
            return Ok(Self::Tick(now));
        }
        if object.contains_key("detail-type") {
            // Only its time is read: the rest differs between schedulers.
            let time = object.get("time").and_then(serde_json::Value::as_str);
            let time =
                time.ok_or_else(|| BadRequest::Shape("a scheduled event without time".to_owned()))?;
            return Ok(Self::Tick(time.parse()?));
        }
        let wire: Wire = serde_json::from_value(event.clone())
            .map_err(|error| BadRequest::Shape(error.to_string()))?;
        let Some(since) = wire.since else {
            return Err(BadRequest::Shape("`since` is missing".to_owned()));
        };
        let wish = Wish {
            since: parse_date(&since)?,
            until: wire.until.as_deref().map(parse_date).transpose()?,
            apps: wire.apps,
            events: wire.events,
            replace: wire.replace,
            dry_run: wire.dry_run,
        };
        if let Some(until) = wish.until.filter(|until| *until <= wish.since) {
            return Err(BadRequest::Nothing {
                since: wish.since.to_string(),
                until: until.to_string(),
            });
        }
        Ok(Self::Explicit(wish))
    }
}

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The time it was planned from.
    pub time: Time,
    /// Whether nothing was sent because nothing should be.
    pub dry_run: bool,
    /// One line per app and event.
    pub exports: Vec<Line>,
    /// What was sent, or would be: the first messages of chains.
    #[serde(skip)]
    pub sent: Vec<Message>,
}

/// One app and event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Whose records.
    pub app: AppId,
    /// Which of them.
    pub event: Event,
    /// Due weeks that stand in the archive.
    pub archived: usize,
    /// Due weeks that are missing and were enqueued.
    pub enqueued: Vec<Week>,
    /// Archived weeks that were enqueued to be replaced.
    pub replacing: Vec<Week>,
    /// Due weeks at which a chain is at work.
    pub underway: Vec<Week>,
    /// Due weeks left in peace after a failure.
    pub waiting: Vec<Waiting>,
    /// The first week that is not due yet.
    pub not_yet_due: Week,
    /// Due weeks without a manifest, whatever is being done about them.
    pub missing: usize,
}

/// A week left in peace after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Which.
    pub week: Week,
    /// How many chains in a row have given it up.
    pub failures: u32,
    /// The next tick after this tries again.
    pub until: Time,
}

/// What is known of a due week.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// No manifest.
    Missing(Tried),
    /// Archived, and not to be touched.
    Archived,
    /// Archived in a version that may be replaced, and was committed then.
    Replaceable(ETag, Time, Tried),
}

/// What a claim says of a week: whether somebody is at work on it, and how that went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tried {
    /// Whether a chain is at work.
    live: bool,
    /// Until when one is, or was.
    until: Option<Time>,
    failures: u32,
}

/// What is done about a due week.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Leave,
    Underway,
    Wait(Waiting),
    Enqueue {
        base: Option<ETag>,
        failed_before: bool,
        not_before: Option<Time>,
    },
}

/// Finds what is due and missing, and sends the first message of a chain for each.
///
/// # Errors
/// When the archive or the queue fails; part of the messages may have been sent, which is harmless.
pub async fn run<E: Edges>(
    edges: &E,
    scope: &Scope,
    request: &Request,
) -> Result<Summary, StageError> {
    let now = match request {
        Request::Tick(time) => *time,
        Request::Explicit(_) => edges.now(),
    };
    let mut summary = Summary {
        time: now,
        dry_run: matches!(request, Request::Explicit(Wish { dry_run: true, .. })),
        exports: Vec::new(),
        sent: Vec::new(),
    };
    for app in apps(scope, request) {
        let mut wanted = Vec::new();
        for event in events(scope, request) {
            let (line, deeds) = reconcile(edges, scope, request, &app, event, now).await?;
            summary.exports.push(line);
            wanted.extend(deeds);
        }
        summary.sent.extend(messages(edges, scope, wanted, now));
    }
    if !summary.dry_run {
        let outgoing = summary.sent.iter().map(|message| Outgoing {
            message: message.clone(),
            delay: Duration::ZERO,
        });
        edges.queue().send(outgoing.collect()).await?;
    }
    Ok(summary)
}

/// Checks that a wish names only apps that the scope has.
///
/// # Errors
/// Naming the first that it has not.
pub fn check(scope: &Scope, request: &Request) -> Result<(), BadRequest> {
    let unknown = apps(scope, request)
        .into_iter()
        .find(|app| !scope.apps.contains(app));
    unknown.map_or(Ok(()), |app| Err(BadRequest::UnknownApp(app)))
}

fn apps(scope: &Scope, request: &Request) -> Vec<AppId> {
    let wish = match request {
        Request::Explicit(Wish {
            apps: Some(apps), ..
        }) => apps,
        _ => &scope.apps,
    };
    let distinct: BTreeSet<_> = wish.iter().cloned().collect();
    distinct.into_iter().collect()
}

fn events(scope: &Scope, request: &Request) -> Vec<Event> {
    let wish = match request {
        Request::Explicit(Wish {
            events: Some(events),
            ..
        }) => events,
        _ => &scope.events,
    };
    let distinct: BTreeSet<_> = wish.iter().copied().collect();
    distinct.into_iter().collect()
}

/// A deed that sends a message.
struct Sending {
    export: Export,
    base: Option<ETag>,
    failed_before: bool,
    not_before: Option<Time>,
}

/// One app and event: reads what there is, decides, and tells.
async fn reconcile<E: Edges>(
    edges: &E,
    scope: &Scope,
    request: &Request,
    app: &AppId,
    event: Event,
    now: Time,
) -> Result<(Line, Vec<Sending>), StageError> {
    let mut archived = BTreeSet::new();
    let note = |listed: crate::archive::Listed| {
        if let Ok(Place::Manifest(export)) = listed.key.parse() {
            archived.insert(export.week);
        }
    };
    edges
        .archive()
        .list(&manifests_of(app, event), note)
        .await?;
    let weeks = due(scope, request, archived.first().copied(), now);
    let not_yet_due = weeks.1;
    let weeks: Vec<_> = weeks.0.until(weeks.1).collect();
    let export = |week| Export {
        app: app.clone(),
        event,
        week,
    };
    let finds = weeks.iter().map(|week| {
        let (week, there) = (*week, archived.contains(week));
        let export = export(week);
        async move {
            let found = if !there {
                Found::Missing(tried(edges, &export, now).await?)
            } else if may_replace(scope, request, week, now) {
                match version(edges, &export).await? {
                    Some((etag, committed)) => {
                        Found::Replaceable(etag, committed, tried(edges, &export, now).await?)
                    }
                    None => Found::Archived,
                }
            } else {
                Found::Archived
            };
            Ok((week, found))
        }
    });
    let found: Vec<Result<_, StageError>> = stream::iter(finds)
        .buffer_unordered(READS_AT_ONCE)
        .collect()
        .await;
    let found: BTreeMap<_, _> = found.into_iter().collect::<Result<_, _>>()?;
    let mut line = Line {
        app: app.clone(),
        event,
        archived: weeks.iter().filter(|week| archived.contains(week)).count(),
        enqueued: Vec::new(),
        replacing: Vec::new(),
        underway: Vec::new(),
        waiting: Vec::new(),
        not_yet_due,
        missing: weeks.iter().filter(|week| !archived.contains(week)).count(),
    };
    let mut sending = Vec::new();
    for (week, found) in found {
        match deed(scope, request, week, &found, now) {
            Deed::Leave => {}
            Deed::Underway => line.underway.push(week),
            Deed::Wait(waiting) => line.waiting.push(waiting),
            Deed::Enqueue {
                base,
                failed_before,
                not_before,
            } => {
                let list = if base.is_some() {
                    &mut line.replacing
                } else {
                    &mut line.enqueued
                };
                list.push(week);
                sending.push(Sending {
                    export: export(week),
                    base,
                    failed_before,
                    not_before,
                });
            }
        }
    }
    Ok((line, sending))
}

/// The first due week, and the first that is not or is not asked for. Pure.
pub fn due(scope: &Scope, request: &Request, oldest: Option<Week>, now: Time) -> (Week, Week) {
    let end = Week::of(now.before(scope.settle));
    match request {
        Request::Explicit(wish) => {
            let until = wish.until.map_or(end, |until| {
                let week = Week::containing(until);
                let whole = week.monday() == until;
                end.min(if whole { week } else { week.next() })
            });
            (Week::containing(wish.since), until)
        }
        Request::Tick(_) => {
            let first = scope.since.map_or_else(
                || {
                    let recent = end.back(scope.catch_up_weeks);
                    oldest.map_or(recent, |oldest| oldest.min(recent))
                },
                Week::containing,
            );
            (first, end)
        }
    }
}

/// Whether a week that is archived may have to be exported again. Pure.
fn may_replace(scope: &Scope, request: &Request, week: Week, now: Time) -> bool {
    match request {
        Request::Explicit(wish) => wish.replace,
        Request::Tick(_) => week >= Week::of(now.before(scope.settle)).back(scope.lookback_weeks),
    }
}

/// How far the clocks of functions may differ: what waits for a claim to lapse waits this much longer,
/// for where it still looks alive the chain that was asked for would end in silence.
const CLOCKS: Duration = Duration::from_secs(5);

/// What is done about a due week. Pure.
fn deed(scope: &Scope, request: &Request, week: Week, found: &Found, now: Time) -> Deed {
    let explicit = matches!(request, Request::Explicit(_));
    let (base, tried) = match found {
        Found::Archived => return Deed::Leave,
        Found::Missing(tried) => (None, tried),
        Found::Replaceable(etag, committed, tried) => {
            // A tick replaces what was committed before the latest week's end had settled.
            let settled = Week::of(now.before(scope.settle))
                .start()
                .after(scope.settle);
            if !explicit && *committed >= settled {
                return Deed::Leave;
            }
            (Some(etag.clone()), tried)
        }
    };
    let failures = tried.failures;
    let live = tried.until.filter(|_| tried.live);
    let peace = peace(tried.until, failures).filter(|until| now < *until);
    match (live, peace) {
        (Some(_), _) if !explicit => Deed::Underway,
        (None, Some(until)) if !explicit => Deed::Wait(Waiting {
            week,
            failures,
            until,
        }),
        // A person asked: the chain begins when another can no longer be at work.
        (live, _) => Deed::Enqueue {
            base,
            failed_before: failures > 0,
            not_before: live.map(|until| until.after(CLOCKS)),
        },
    }
}

/// Until when a failed export is left in peace.
pub fn peace(until: Option<Time>, failures: u32) -> Option<Time> {
    let days = 1u32
        .checked_shl(failures)
        .unwrap_or(u32::MAX)
        .min(LONGEST_PEACE_DAYS);
    let span = Duration::from_secs(u64::from(days) * 86_400);
    until
        .filter(|_| failures > 0)
        .map(|until| until.after(span))
}

/// The first messages of the chains: missing weeks first, oldest first, those that were given up
/// before last, then replacements; some at once, the others spread.
fn messages<E: Edges>(
    edges: &E,
    scope: &Scope,
    mut sending: Vec<Sending>,
    now: Time,
) -> Vec<Message> {
    sending.sort_by_key(|s| {
        (
            s.base.is_some(),
            s.failed_before,
            s.export.week,
            s.export.event,
        )
    });
    let begins = (0u32..).zip(sending).map(|(index, sending)| {
        let after = scope.apart * (index + 1).saturating_sub(AT_ONCE);
        let turn = (!after.is_zero()).then(|| now.after(after));
        let mut message = Message::start(sending.export, new_chain(edges), sending.base);
        message.not_before = turn.max(sending.not_before);
        message
    });
    begins.collect()
}

/// What the claim says of a week.
async fn tried<E: Edges>(edges: &E, export: &Export, now: Time) -> Result<Tried, StageError> {
    let found = claim::read(edges, export).await?;
    let claim = found.and_then(|found| found.claim);
    Ok(claim.map_or_else(Tried::default, |claim| Tried {
        live: claim.is_live(now),
        until: Some(claim.until),
        failures: claim.failures,
    }))
}

/// The version of a manifest that may be replaced, and when it was committed.
async fn version<E: Edges>(edges: &E, export: &Export) -> Result<Option<(ETag, Time)>, StageError> {
    let key = Key::manifest(export);
    let Some(stored) = edges.archive().get(&key).await? else {
        return Ok(None);
    };
    match manifest::read(&stored.bytes, export) {
        Ok(manifest::Read::Known(manifest)) => Ok(Some((stored.etag, manifest.committed_at))),
        Ok(manifest::Read::Foreign { schema }) => {
            tracing::info!(%export, %schema, "{key} is of the schema {schema:?}: it is never replaced");
            Ok(None)
        }
        Err(why) => {
            tracing::error!(%export, %why, "{key} cannot be read, so it is left as it is: {why}");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            apps: vec!["st-1".parse().unwrap()],
            events: vec![Event::All],
            since: None,
            catch_up_weeks: 4,
            lookback_weeks: 1,
            settle: Duration::from_secs(3_600),
            apart: Duration::from_secs(60),
        }
    }

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn week(text: &str) -> Week {
        text.parse().unwrap()
    }

    fn date(text: &str) -> Date {
        parse_date(text).unwrap()
    }

    fn tick(text: &str) -> Request {
        Request::Tick(time(text))
    }

    fn wish(since: &str, until: Option<&str>, replace: bool) -> Request {
        Request::Explicit(Wish {
            since: date(since),
            until: until.map(date),
            apps: None,
            events: None,
            replace,
            dry_run: false,
        })
    }

    #[test]
    fn due_are_the_weeks_that_have_ended_and_settled_since_the_day_given_or_found() {
        // A Tuesday.
        let now = "2025-01-28T06:00:00Z";
        for (since, oldest, now, first, end) in [
            (None, None, now, "2024-12-30", "2025-01-27"),
            (None, Some("2024-06-03"), now, "2024-06-03", "2025-01-27"),
            (None, Some("2025-01-20"), now, "2024-12-30", "2025-01-27"),
            // The week that holds the day.
            (
                Some("2025-01-15"),
                Some("2024-06-03"),
                now,
                "2025-01-13",
                "2025-01-27",
            ),
            // Its last hour has not settled yet, and then it has.
            (
                Some("2025-01-20"),
                None,
                "2025-01-27T00:59:59Z",
                "2025-01-20",
                "2025-01-20",
            ),
            (
                Some("2025-01-20"),
                None,
                "2025-01-27T01:00:00Z",
                "2025-01-20",
                "2025-01-27",
            ),
        ] {
            let scope = Scope {
                since: since.map(date),
                ..scope()
            };
            let seen = due(&scope, &tick(now), oldest.map(week), time(now));
            assert_eq!(seen, (week(first), week(end)), "{since:?} {oldest:?} {now}");
        }
    }

    #[test]
    fn a_wish_takes_the_weeks_it_names_as_far_as_they_are_due() {
        let now = time("2025-01-28T06:00:00Z");
        for (since, until, first, end) in [
            ("2024-01-03", None, "2024-01-01", "2025-01-27"),
            // Up to the week before the one that begins on the day.
            ("2024-01-03", Some("2024-01-15"), "2024-01-01", "2024-01-15"),
            // A day in a week takes that week with it.
            ("2024-01-03", Some("2024-01-16"), "2024-01-01", "2024-01-22"),
            ("2024-01-03", Some("2030-01-01"), "2024-01-01", "2025-01-27"),
        ] {
            let seen = due(&scope(), &wish(since, until, false), None, now);
            assert_eq!(seen, (week(first), week(end)), "{since} {until:?}");
        }
    }

    #[test]
    fn a_wish_of_dates_that_leave_nothing_is_refused() {
        let now = time("2025-01-28T06:00:00Z");
        for (until, refused) in [
            ("2025-01-19", true),
            ("2025-01-20", true),
            ("2025-01-21", false),
        ] {
            let event = serde_json::json!({ "since": "2025-01-20", "until": until });
            let seen = Request::from_json(&event, now);
            let nothing = matches!(seen, Err(BadRequest::Nothing { .. }));
            assert_eq!(
                (nothing, seen.is_err()),
                (refused, refused),
                "{until}: {seen:?}"
            );
        }
    }

    #[test]
    fn a_wish_narrows_the_scope_and_names_no_app_beyond_it() {
        let app = |text: &str| -> AppId { text.parse().unwrap() };
        let scope = Scope {
            apps: vec![app("st-2"), app("st-1"), app("st-2")],
            events: vec![Event::ThumbsUp, Event::All, Event::All],
            ..scope()
        };
        let narrowed = |names: &[&str], chosen: &[Event]| {
            Request::Explicit(Wish {
                since: date("2025-01-20"),
                until: None,
                apps: Some(names.iter().map(|name| app(name)).collect()),
                events: Some(chosen.to_vec()),
                replace: false,
                dry_run: false,
            })
        };
        for (request, apps_seen, events_seen) in [
            (tick("2025-01-28T06:00:00Z"), &["st-1", "st-2"][..], 2),
            (wish("2025-01-20", None, false), &["st-1", "st-2"], 2),
            (narrowed(&["st-2", "st-2"], &[Event::All]), &["st-2"], 1),
        ] {
            let expected: Vec<_> = apps_seen.iter().map(|name| app(name)).collect();
            assert_eq!(apps(&scope, &request), expected, "{request:?}");
            assert_eq!(events(&scope, &request).len(), events_seen, "{request:?}");
            assert_eq!(check(&scope, &request), Ok(()), "{request:?}");
        }
        let foreign = narrowed(&["st-1", "st-3"], &[Event::All]);
        let refusal = Err(BadRequest::UnknownApp(app("st-3")));
        assert_eq!(check(&scope, &foreign), refusal);
    }

    /// What is done at a tick, and for a wish.
    fn deeds(found: &Found, now: Time) -> [String; 2] {
        let requests = [Request::Tick(now), wish("2024-01-01", None, true)];
        requests.map(
            |request| match deed(&scope(), &request, week("2025-01-20"), found, now) {
                Deed::Leave => "leave".to_owned(),
                Deed::Underway => "under way".to_owned(),
                Deed::Wait(waiting) => format!("wait until {}", waiting.until.date()),
                Deed::Enqueue {
                    base,
                    failed_before,
                    not_before,
                } => {
                    let base = base.map(|base| format!(" over {base}")).unwrap_or_default();
                    let failed = if failed_before { " last" } else { "" };
                    let later = not_before.map(|_| " later").unwrap_or_default();
                    format!("enqueue{base}{failed}{later}")
                }
            },
        )
    }

    #[test]
    fn a_tick_leaves_what_is_under_way_or_has_failed_lately_in_peace_and_a_person_does_not() {
        let now = time("2025-01-28T06:00:00Z");
        let tried = |live, hours_ago: i64, failures| {
            let span = Duration::from_secs(hours_ago.unsigned_abs() * 3_600);
            let until = if hours_ago < 0 {
                now.after(span)
            } else {
                now.before(span)
            };
            Tried {
                live,
                until: Some(until),
                failures,
            }
        };
        let base: ETag = "e1".parse().unwrap();
        let committed = |text, tried| Found::Replaceable(base.clone(), time(text), tried);
        for (found, expected) in [
            (Found::Archived, ["leave", "leave"]),
            (Found::Missing(Tried::default()), ["enqueue", "enqueue"]),
            (
                Found::Missing(tried(true, -1, 0)),
                ["under way", "enqueue later"],
            ),
            // The chain was lost: nobody gave up.
            (Found::Missing(tried(false, 1, 0)), ["enqueue", "enqueue"]),
            // Ended a moment ago by a clock that is ahead.
            (Found::Missing(tried(false, -1, 0)), ["enqueue", "enqueue"]),
            (
                Found::Missing(tried(false, 1, 1)),
                ["wait until 2025-01-30", "enqueue last"],
            ),
            (
                Found::Missing(tried(false, 48, 1)),
                ["enqueue last", "enqueue last"],
            ),
            (
                Found::Missing(tried(false, 48, 2)),
                ["wait until 2025-01-30", "enqueue last"],
            ),
            (
                Found::Missing(tried(true, -1, 3)),
                ["under way", "enqueue last later"],
            ),
            // Late feedback: committed before the last week's end had settled, at Monday 01:00.
            (
                committed("2025-01-27T00:59:00Z", Tried::default()),
                ["enqueue over e1", "enqueue over e1"],
            ),
            (
                committed("2025-01-27T01:00:00Z", Tried::default()),
                ["leave", "enqueue over e1"],
            ),
            (
                committed("2025-01-27T00:59:00Z", tried(false, 1, 1)),
                ["wait until 2025-01-30", "enqueue over e1 last"],
            ),
        ] {
            assert_eq!(deeds(&found, now), expected, "{found:?}");
        }
    }

    #[test]
    fn peace_doubles_up_to_four_weeks_however_often_it_fails() {
        let until = time("2025-01-01T00:00:00Z");
        for (failures, days) in [
            (1, Some(2)),
            (2, Some(4)),
            (4, Some(16)),
            (5, Some(28)),
            (31, Some(28)),
            (32, Some(28)),
            (u32::MAX, Some(28)),
            (0, None),
        ] {
            let span = days.map(|days| Duration::from_secs(days * 86_400));
            let expected = span.map(|span| until.after(span));
            assert_eq!(peace(Some(until), failures), expected, "{failures}");
        }
        assert_eq!(peace(None, 3), None);
    }

    #[test]
    fn a_tick_may_replace_the_last_weeks_alone_and_a_wish_whatever_it_names() {
        let now = time("2025-01-28T06:00:00Z");
        for (old, at_a_tick) in [("2025-01-20", true), ("2025-01-13", false)] {
            for (request, expected) in [
                (Request::Tick(now), at_a_tick),
                (wish("2024-01-01", None, true), true),
                (wish("2024-01-01", None, false), false),
            ] {
                let seen = may_replace(&scope(), &request, week(old), now);
                assert_eq!(seen, expected, "{old} {request:?}");
            }
        }
    }
}
