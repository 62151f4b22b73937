//! The vendor's side, simulated: one pure model of the export API and its file host.
//!
//! [`Host`] knows neither network nor clock: every call takes the present time and returns what is to
//! be answered, and how the answer misbehaves. [`server`] serves it over HTTP; [`kore`] puts it in
//! the place of the real API inside one process.
//!
//! # Layout
//! - [`plan`]: what a host is to be like; [`options`]: the same from the command line
//! - [`records`]: what its files hold
//! - [`faults`]: what goes wrong
//! - `job`, `token`, `link`: jobs that advance, tokens that are checked, links that expire
//! - [`answer`]: what comes back
//! - [`server`], [`kore`]: two ways to reach it

pub mod answer;
mod dice;
pub mod faults;
mod job;
pub mod kore;
mod link;
pub mod options;
pub mod plan;
pub mod records;
pub mod server;
pub mod token;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::export::{AppId, Event, Export, Time, Week, Window};
use answer::{Answer, Conduct, FileAnswer, FileBody};
use dice::{fork, fork_text, pick, unit, uuid, within};
use faults::{Fault, Faults, Occasion, Throw, Thrower};
use job::{Fate, Job, Quirks, Slips};
use link::{Link, Refused, Signer};
use plan::Plan;
use records::{Content, Style};
use token::{Door, Refusal};

/// What a host was asked and what it did, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests by kind: `start`, `look`, `open`.
    pub requests: BTreeMap<&'static str, u64>,
    /// Answers by status; 0 where the connection closed without one.
    pub answers: BTreeMap<u16, u64>,
    /// Faults by name, as they struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests refused because an app asked too often, faults not included.
    pub over_limit: u64,
    /// Jobs started, by export.
    pub jobs: BTreeMap<String, u64>,
}

/// The simulated host.
#[derive(Debug)]
pub struct Host {
    plan: Plan,
    files_base: String,
    signer: Signer,
    thrower: Thrower,
    doors: HashMap<AppId, Door>,
    /// When each app's requests were let in, oldest first, for one hour.
    requests: HashMap<AppId, VecDeque<Time>>,
    /// Weeks whose size was set by hand.
    sizes: HashMap<(AppId, Week), u64>,
    jobs: HashMap<String, Job>,
    /// Which file of which job a link's id means.
    files: HashMap<String, (String, u64)>,
    started: u64,
    minted: u64,
    stats: Stats,
}

/// What a start request asks for.
struct Wanted {
    window: Window,
    event: Event,
}

impl Host {
    /// A host whose files are under `files_base`, such as `http://127.0.0.1:8080`.
    pub fn new(plan: Plan, files_base: impl Into<String>) -> Self {
        Self {
            files_base: files_base.into(),
            signer: Signer::new(plan.seed),
            thrower: Thrower::new(plan.seed, plan.faults.clone()),
            doors: HashMap::new(),
            requests: HashMap::new(),
            sizes: HashMap::new(),
            jobs: HashMap::new(),
            files: HashMap::new(),
            started: 0,
            minted: 0,
            stats: Stats::default(),
            plan,
        }
    }

    /// What it is like.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it was asked and did so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// From now on, other things go wrong; jobs that run keep their fate.
    pub fn set_faults(&mut self, faults: Faults) {
        self.thrower.replace(faults);
    }

    /// From now on, other credentials are right.
    pub fn set_credentials(&mut self, credentials: token::Credentials) {
        self.plan.credentials = credentials;
    }

    /// From now on, a week has so many records (of both kinds), as when feedback arrives late. Jobs
    /// that were started before keep what they had.
    pub fn set_records(&mut self, app: &AppId, week: Week, records: u64) {
        self.sizes.insert((app.clone(), week), records);
    }

    /// What an export of this week holds: the truth to compare an archive with.
    pub fn content(&self, export: &Export) -> Content {
        self.content_of(&export.app, export.event, &export.week.window())
    }

    /// A token that is good for one request now, for callers without a client of their own.
    pub fn mint(&mut self, now: Time) -> String {
        const SECONDS: i64 = 60;
        self.minted += 1;
        let jti = format!("minted-{}", self.minted);
        self.plan.credentials.mint(&jti, now, SECONDS)
    }

    /// Where the files are.
    pub(crate) fn files_base(&self) -> &str {
        &self.files_base
    }

    fn content_of(&self, app: &AppId, event: Event, window: &Window) -> Content {
        let style = Style {
            seed: self.plan.seed,
            record_bytes: self.plan.record_bytes.clone(),
        };
        Content::new(
            app,
            event,
            window,
            &style,
            self.plan.records_per_fragment,
            |week| self.records_of(app, week),
        )
    }

    fn records_of(&self, app: &AppId, week: Week) -> u64 {
        if let Some(records) = self.sizes.get(&(app.clone(), week)) {
            return *records;
        }
        let number = fork_text(fork_text(!self.plan.seed, app.as_str()), &week.to_string());
        if unit(number) * 100.0 < self.plan.empty_weeks {
            return 0;
        }
        let range = &self.plan.records_per_week;
        within(fork(number, 1), *range.start(), *range.end())
    }

    /// `POST /api/public/bot/<app>/search/analytics-export`.
    pub fn start(&mut self, app: &str, auth: Option<&str>, body: &[u8], now: Time) -> Answer {
        self.count_request("start");
        let wanted = read_start(body);
        let export = match (&wanted, app.parse()) {
            (Ok(Wanted { window, event }), Ok(app)) => Some(Export {
                app,
                event: *event,
                week: Week::of(window.from),
            }),
            _ => None,
        };
        let subject = export
            .as_ref()
            .map_or_else(|| app.to_owned(), Export::to_string);
        let throw = self
            .thrower
            .throw(Occasion::Start, &subject, export.as_ref());
        let answer = self.before(&throw).unwrap_or_else(|| {
            let answer = match (self.admit(app, auth, now), wanted, export) {
                (Err(refusal), ..) => refusal,
                (Ok(()), Ok(wanted), Some(export)) => self.start_job(export, &wanted, &throw, now),
                (Ok(()), Err(refusal), _) => Answer::error(400, &refusal),
                (Ok(()), Ok(_), None) => Answer::error(404, "Bot not found"),
            };
            self.after(&throw, answer)
        });
        self.count_answer(answer)
    }

    /// `GET /api/public/bot/<app>/search/jobs/<job>`.
    pub fn look(&mut self, app: &str, job: &str, auth: Option<&str>, now: Time) -> Answer {
        self.count_request("look");
        let export = self.jobs.get(job).map(|job| job.export.clone());
        let throw = self.thrower.throw(Occasion::Look, job, export.as_ref());
        let answer = self.before(&throw).unwrap_or_else(|| {
            let answer = match self.admit(app, auth, now) {
                Err(refusal) => refusal,
                Ok(()) => self
                    .job_answer(app, job, &throw, now)
                    .unwrap_or_else(|| Answer::error(404, "Job not found")),
            };
            self.after(&throw, answer)
        });
        self.count_answer(answer)
    }

    fn start_job(&mut self, export: Export, wanted: &Wanted, throw: &Throw, now: Time) -> Answer {
        self.started += 1;
        if self.started.is_multiple_of(256) {
            self.forget_old_jobs(now);
        }
        *self.stats.jobs.entry(export.to_string()).or_default() += 1;
        let number = fork(fork(self.plan.seed, 7), self.started);
        let mut job = Job {
            id: format!("fj-{}", uuid(number)),
            started: now,
            content: self.content_of(&export.app, wanted.event, &wanted.window),
            export,
            shape: self.plan.shape,
            empty: self.plan.empty,
            takes: Duration::ZERO,
            fate: Fate::Success,
            quirks: Quirks::default(),
            number,
        };
        let files = job.files();
        let each = u32::try_from(files).unwrap_or(u32::MAX);
        job.takes = self.plan.job_time + self.plan.fragment_time.saturating_mul(each);
        if self.strikes(throw, Fault::SlowJob).is_some() {
            job.takes = job.takes.saturating_mul(20);
        }
        if let Some(number) = self.strikes(throw, Fault::StuckJob) {
            job.fate = Fate::Stuck(Fate::point(number, 1.0));
        } else if let Some(number) = self.strikes(throw, Fault::FailingJob) {
            job.fate = Fate::Failing(Fate::point(number, 1.0));
        } else if let Some(number) = self.strikes(throw, Fault::VanishingJob) {
            job.fate = Fate::Vanishing(Fate::point(number, 2.0));
        }
        job.quirks = Quirks {
            unknown_status: self.strikes(throw, Fault::UnknownStatus),
            early_files: self.strikes(throw, Fault::EarlyFiles),
            wrong_records: self.strikes(throw, Fault::WrongRecords),
            wrong_total_records: self.strikes(throw, Fault::WrongTotalRecords),
        };
        for file in 0..files {
            self.files.insert(job.link_id(file), (job.id.clone(), file));
        }
        let mut answer = job.first_answer();
        if self.strikes(throw, Fault::NoId).is_some()
            && let Some(members) = answer.as_object_mut()
        {
            members.remove("_id");
        }
        self.jobs.insert(job.id.clone(), job);
        Answer::json(200, &answer)
    }

    fn job_answer(&mut self, app: &str, job: &str, throw: &Throw, now: Time) -> Option<Answer> {
        let slips = {
            let mut slip = |fault| self.strikes(throw, fault);
            Slips {
                wrong_total_files: slip(Fault::WrongTotalFiles),
                repeated_file: slip(Fault::RepeatedFile),
                reordered_files: slip(Fault::ReorderedFiles),
                absurd_numbers: slip(Fault::AbsurdNumbers),
            }
        };
        let job = self
            .kept(job, now)
            .filter(|job| job.export.app.as_str() == app)?;
        let expires = now.after(self.plan.link_lifetime).unix_seconds();
        let answer = job.answer(now, &slips, |file| {
            let link = Link {
                file: file.to_owned(),
                expires,
                hop: 0,
            };
            format!("{}{}", self.files_base, self.signer.sign(&link))
        })?;
        Some(Answer::json(200, &answer))
    }

    fn kept(&self, job: &str, now: Time) -> Option<&Job> {
        let lifetime = self.plan.job_lifetime;
        self.jobs
            .get(job)
            .filter(|job| now.since(job.started) < lifetime)
    }

    fn forget_old_jobs(&mut self, now: Time) {
        let lifetime = self.plan.job_lifetime;
        self.jobs.retain(|_, job| now.since(job.started) < lifetime);
        self.files.retain(|_, (job, _)| self.jobs.contains_key(job));
    }

    /// Lets a request in by its token and its app's limits.
    fn admit(&mut self, app: &str, auth: Option<&str>, now: Time) -> Result<(), Answer> {
        let invalid = || {
            Answer::json(
                401,
                &json!({"errors": [{"msg": "Invalid SDK credentials", "code": 4002}]}),
            )
        };
        let app: AppId = app
            .parse()
            .map_err(|_| Answer::error(404, "Bot not found"))?;
        if self
            .plan
            .apps
            .as_ref()
            .is_some_and(|apps| !apps.contains(&app))
        {
            return Err(invalid());
        }
        let door = self.doors.entry(app.clone()).or_default();
        match door.admit(&self.plan.credentials, auth, self.plan.tokens_once, now) {
            Ok(()) => {}
            Err(Refusal::Invalid) => return Err(invalid()),
            Err(Refusal::Replayed) => {
                return Err(Answer::error(401, "JWT was used before, possibly a replay"));
            }
        }
        let Some(limits) = self.plan.limits else {
            return Ok(());
        };
        let requests = self.requests.entry(app).or_default();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        while requests
            .front()
            .is_some_and(|first| now.since(*first) >= hour)
        {
            requests.pop_front();
        }
        // the request so many places back must be older than the span
        let wait = |allowed: u32, span: Duration| {
            let place = requests.len().checked_sub(usize::try_from(allowed).ok()?)?;
            let age = requests
                .get(place)
                .map_or(Duration::ZERO, |time| now.since(*time));
            span.checked_sub(age).filter(|left| !left.is_zero())
        };
        let refused = wait(limits.per_minute, minute)
            .map(|left| ("per-minute", left))
            .or_else(|| wait(limits.per_hour, hour).map(|left| ("per-hour", left)));
        let Some((which, left)) = refused else {
            requests.push_back(now);
            return Ok(());
        };
        self.stats.over_limit += 1;
        Err(too_many(which, Some(left)))
    }

    /// What goes wrong before a request has any effect.
    fn before(&mut self, throw: &Throw) -> Option<Answer> {
        if self.strikes(throw, Fault::LostRequest).is_some() {
            return Some(Answer::lost());
        }
        if let Some(number) = self.strikes(throw, Fault::Limited) {
            let seconds = within(number >> 1, 1, 5);
            let stated = number
                .is_multiple_of(2)
                .then(|| Duration::from_secs(seconds));
            return Some(too_many("per-minute", stated));
        }
        if self.strikes(throw, Fault::Html).is_some() {
            return Some(Answer::html());
        }
        let number = throw.of(Fault::ServerError)?;
        let early = number.is_multiple_of(2);
        early.then(|| {
            self.strikes(throw, Fault::ServerError);
            server_error(pick(number >> 1, &[500, 503]), number)
        })
    }

    /// What goes wrong once a request has had its effect.
    fn after(&mut self, throw: &Throw, answer: Answer) -> Answer {
        if self.strikes(throw, Fault::LostAnswer).is_some() {
            Answer::lost()
        } else if self.strikes(throw, Fault::HangingAnswer).is_some() {
            answer.conducted(Conduct::Hanging)
        } else if let Some(number) = self.strikes(throw, Fault::ServerError) {
            server_error(pick(number >> 1, &[502, 504]), number)
        } else if self.strikes(throw, Fault::EmptyAnswer).is_some() {
            Answer::empty()
        } else if self.strikes(throw, Fault::EndlessAnswer).is_some() {
            answer.conducted(Conduct::Endless)
        } else {
            answer
        }
    }

    /// `GET` of a file, by path and query exactly as they came.
    pub fn file(&mut self, path_and_query: &str, now: Time) -> FileAnswer {
        self.count_request("open");
        let answer = self.file_answer(path_and_query, now);
        *self.stats.answers.entry(answer.status).or_default() += 1;
        answer
    }

    fn file_answer(&mut self, path_and_query: &str, now: Time) -> FileAnswer {
        let link = match self.signer.verify(path_and_query, now) {
            Ok(link) => link,
            Err(Refused::Altered) => return FileAnswer::refused(403),
            Err(Refused::Expired) => return FileAnswer::refused(410),
        };
        let found = self.files.get(&link.file).and_then(|(job, number)| {
            let job = self.kept(job, now)?;
            Some((job.export.clone(), job.file(*number)))
        });
        let Some((export, fragment)) = found else {
            return FileAnswer::refused(404);
        };
        let throw = self
            .thrower
            .throw(Occasion::Open, &link.file, Some(&export));
        if let Some(number) = self.strikes(&throw, Fault::ExpiredLink) {
            return FileAnswer::refused(pick(number, &[401, 403, 404, 410]));
        }
        if let Some(number) = self.strikes(&throw, Fault::FileError) {
            return FileAnswer::of(&match number % 3 {
                0 => too_many("per-minute", Some(Duration::from_secs(1))),
                1 => server_error(500, number),
                _ => server_error(503, number),
            });
        }
        if self.strikes(&throw, Fault::RedirectLoop).is_some() {
            return FileAnswer::redirect(format!("{}{path_and_query}", self.files_base));
        }
        if link.hop == 0
            && let Some(number) = self.strikes(&throw, Fault::Redirect)
        {
            let path = self.signer.sign(&Link { hop: 1, ..link });
            return FileAnswer::redirect(if number.is_multiple_of(2) {
                path
            } else {
                format!("{}{path}", self.files_base)
            });
        }
        if self.strikes(&throw, Fault::HtmlFile).is_some() {
            return FileAnswer::of(&Answer::html());
        }
        let body = if fragment.records() > 0 && self.strikes(&throw, Fault::ShortFile).is_some() {
            FileBody::new(fragment.without_the_last())
        } else {
            FileBody::new(fragment)
        };
        FileAnswer::ok(self.spoil(&throw, body))
    }

    /// What goes wrong, or is only unusual, while a file arrives.
    fn spoil(&mut self, throw: &Throw, mut body: FileBody) -> FileBody {
        if let Some(number) = self.strikes(throw, Fault::DamagedFile) {
            body.damage(number);
        }
        if self.strikes(throw, Fault::Gzip).is_some() {
            body.gzip = true;
        }
        if self.strikes(throw, Fault::NoLength).is_some() {
            body.framing = answer::Framing::Chunked;
        }
        if self.strikes(throw, Fault::Drip).is_some() {
            body.drip(self.plan.drip_time);
        }
        if let Some(number) = self.strikes(throw, Fault::CutFile) {
            body.end = answer::End::Cut(body.somewhere(number));
        } else if let Some(number) = self.strikes(throw, Fault::StalledFile) {
            body.end = answer::End::Stalled(body.somewhere(number));
        } else if let Some(number) = self.strikes(throw, Fault::TornFile) {
            body.end = answer::End::Cut(body.somewhere(number));
            body.framing = answer::Framing::UntilClosed;
        }
        body
    }

    /// Whether a fault strikes here; counts it.
    fn strikes(&mut self, throw: &Throw, fault: Fault) -> Option<u64> {
        let number = throw.of(fault)?;
        *self.stats.faults.entry(fault.as_str()).or_default() += 1;
        Some(number)
    }

    fn count_request(&mut self, kind: &'static str) {
        *self.stats.requests.entry(kind).or_default() += 1;
    }

    fn count_answer(&mut self, answer: Answer) -> Answer {
        *self.stats.answers.entry(answer.status).or_default() += 1;
        answer
    }
}

fn too_many(which: &str, wait: Option<Duration>) -> Answer {
    let message =
        format!("You've exceeded the {which} rate limit. Please wait for sometime before retrying");
    let answer = Answer::error(429, &message);
    match wait {
        // rounded up: a client that waits exactly so long is let in
        Some(wait) => answer.with("retry-after", wait.as_millis().div_ceil(1_000).to_string()),
        None => answer,
    }
}

fn server_error(status: u16, number: u64) -> Answer {
    let answer = Answer::error(status, "Something went wrong, please try again");
    if (number >> 8).is_multiple_of(3) {
        answer.with("retry-after", "1".to_owned())
    } else {
        answer
    }
}

/// What a start request asks for, or what is wrong with it.
fn read_start(body: &[u8]) -> Result<Wanted, String> {
    const LONGEST: Duration = Duration::from_hours(7 * 24);
    let body: Value = serde_json::from_slice(body).map_err(|_| "Invalid JSON".to_owned())?;
    let time = |name: &str| {
        body["filters"][name]
            .as_str()
            .and_then(|text| text.parse::<Time>().ok())
            .ok_or_else(|| format!("filters.{name} is mandatory and must be an ISO 8601 date"))
    };
    let window = Window {
        from: time("from")?,
        to: time("to")?,
    };
    if window.from > window.to {
        return Err("filters.from must not be after filters.to".to_owned());
    }
    if window.to.since(window.from) > LONGEST {
        return Err("The date range must not be more than 7 days".to_owned());
    }
    let event = match &body["event"] {
        Value::Null => Event::All,
        Value::String(word) if word == "thumbsUp" => Event::ThumbsUp,
        Value::String(word) if word == "thumbsDown" => Event::ThumbsDown,
        _ => return Err("event must be one of [thumbsUp, thumbsDown]".to_owned()),
    };
    Ok(Wanted { window, event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kore::job::{Job, Status};
    use faults::When;
    use plan::{Empty, Shape};

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn seconds(seconds: u64) -> Time {
        now().after(Duration::from_secs(seconds))
    }

    fn export(event: Event) -> Export {
        Export {
            app: "st-1".parse().unwrap(),
            event,
            week: "2025-01-20".parse().unwrap(),
        }
    }

    fn body(export: &Export) -> Vec<u8> {
        let mut body = json!({"filters": export.week.window()});
        if export.event != Event::All {
            body["event"] = json!(export.event);
        }
        body.to_string().into()
    }

    /// A host with three files in a week, made in 1 s each after the first 200 ms.
    fn host(change: impl FnOnce(&mut Plan)) -> Host {
        let mut plan = Plan {
            records_per_week: 400..=400,
            ..Plan::default()
        };
        change(&mut plan);
        Host::new(plan, "http://127.0.0.1:1")
    }

    fn start(host: &mut Host, export: &Export, now: Time) -> Answer {
        let token = host.mint(now);
        host.start(export.app.as_str(), Some(&token), &body(export), now)
    }

    fn look(host: &mut Host, job: &Job, now: Time) -> Answer {
        let token = host.mint(now);
        host.look("st-1", job.id.as_str(), Some(&token), now)
    }

    /// Starts an export and looks at it after so many seconds.
    fn job(host: &mut Host, event: Event, after: u64) -> Job {
        let started = Job::decode(&start(host, &export(event), now()).body).unwrap();
        Job::decode_look(&look(host, &started, seconds(after)).body, &started.id).unwrap()
    }

    fn open(host: &mut Host, file: &crate::kore::job::File, now: Time) -> FileAnswer {
        let path = file
            .url
            .expose()
            .strip_prefix("http://127.0.0.1:1")
            .unwrap();
        host.file(path, now)
    }

    /// A file's bytes and records.
    fn read(answer: FileAnswer) -> (Vec<u8>, Vec<Value>) {
        assert_eq!(answer.status, 200);
        let announced = answer.body.announced();
        let bytes: Vec<u8> = answer.body.flatten().collect();
        assert_eq!(announced, Some(bytes.len() as u64));
        let records = serde_json::from_slice(&bytes).unwrap();
        (bytes, records)
    }

    fn error(answer: &Answer) -> (u16, String) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = body["errors"][0]["msg"].as_str().unwrap();
        (answer.status, message.to_owned())
    }

    #[test]
    fn a_job_advances_file_by_file_and_then_lists_what_it_made() {
        let mut host = host(|_| ());
        let answer = start(&mut host, &export(Event::All), now());
        let started = Job::decode(&answer.body).unwrap();
        assert_eq!(
            (&started.status, started.percent),
            (&Status::Running, Some(0.0))
        );
        let mut percents = Vec::new();
        for after in [0, 1, 2, 3] {
            let answer = look(&mut host, &started, seconds(after));
            let job = Job::decode_look(&answer.body, &started.id).unwrap();
            assert_eq!((&job.status, job.files.len()), (&Status::Running, 0));
            percents.push(job.percent.unwrap().round());
        }
        assert_eq!(percents, [0.0, 0.0, 33.0, 67.0]);
        let answer = look(&mut host, &started, seconds(4));
        let job = Job::decode_look(&answer.body, &started.id).unwrap();
        assert_eq!((&job.status, job.percent), (&Status::Success, Some(100.0)));
        assert_eq!((job.totals.files, job.totals.records), (Some(3), Some(400)));
        let counts: Vec<_> = job.files.iter().map(|file| file.records).collect();
        assert_eq!(counts, [Some(150), Some(150), Some(100)]);
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(shown["hasAnalyticsFragments"], true);
        assert_eq!(
            shown["message"],
            "ANALYTICS DATA JSON Export Completed - 3 file(s) with 400 total records"
        );
        assert!(
            job.files[1]
                .name
                .as_ref()
                .unwrap()
                .ends_with("_part_2_of_3")
        );
    }

    #[test]
    fn files_hold_what_their_job_states_and_two_jobs_serve_the_same_bytes() {
        let mut host = host(|_| ());
        for event in Event::EVERY {
            let (first, second) = (job(&mut host, event, 9), job(&mut host, event, 9));
            assert_ne!(first.id, second.id);
            let mut records = Vec::new();
            for (one, other) in first.files.iter().zip(&second.files) {
                assert_ne!(one.id, other.id);
                let (bytes, own) = read(open(&mut host, one, seconds(9)));
                assert_eq!(Some(own.len() as u64), one.records);
                assert!(bytes == read(open(&mut host, other, seconds(9))).0);
                records.extend(own);
            }
            assert_eq!(Some(records.len() as u64), first.totals.records);
            assert_eq!(records.len() as u64, host.content(&export(event)).records());
            let kinds: std::collections::BTreeSet<_> = records
                .iter()
                .map(|record| record["event"].to_string())
                .collect();
            assert_eq!(
                kinds.len(),
                if event == Event::All { 3 } else { 1 },
                "{kinds:?}"
            );
        }
    }

    #[test]
    fn every_shape_is_understood_as_far_as_it_goes() {
        // shape, a week's records, what an empty week comes to; files, totals
        let table = [
            (Shape::Full, 9, Empty::NoFile, 1, Some((1, 9))),
            (Shape::Abridged, 400, Empty::NoFile, 3, None),
            (Shape::Older, 400, Empty::NoFile, 1, None),
            (Shape::Full, 0, Empty::NoFile, 0, Some((0, 0))),
            (Shape::Full, 0, Empty::EmptyFile, 1, Some((1, 0))),
            (Shape::Full, 0, Empty::NoTotals, 0, None),
            (Shape::Older, 0, Empty::EmptyFile, 1, None),
        ];
        for (shape, records, empty, files, totals) in table {
            let mut host = host(|plan| {
                plan.shape = shape;
                plan.records_per_week = records..=records;
                plan.empty = empty;
            });
            let job = job(&mut host, Event::All, 9);
            let case = format!("{shape:?} {records} {empty:?}");
            assert_eq!(job.status, Status::Success, "{case}");
            assert_eq!(job.files.len(), files, "{case}");
            assert_eq!(job.totals.files.zip(job.totals.records), totals, "{case}");
            let mut read = |file| read(open(&mut host, file, seconds(9))).1.len() as u64;
            assert_eq!(
                job.files.iter().map(&mut read).sum::<u64>(),
                records,
                "{case}"
            );
        }
    }

    #[test]
    fn a_request_out_of_bounds_is_refused() {
        let (from, to) = ("2025-01-20T00:00:00.000Z", "2025-01-27T00:00:00.000Z");
        let filters = |from: &str, to: &str| json!({"filters": {"from": from, "to": to}});
        let with_event = |event: &str| {
            let mut body = filters(from, to);
            body["event"] = json!(event);
            body
        };
        for (body, status) in [
            (filters(from, to), 200),
            (with_event("thumbsUp"), 200),
            (filters(from, "2025-01-27T00:00:00.001Z"), 400),
            (filters(to, from), 400),
            (filters(from, "tomorrow"), 400),
            (json!({"filters": {"from": from}}), 400),
            (with_event("thumbsup"), 400),
            (with_event("all"), 400),
        ] {
            let mut host = host(|_| ());
            let token = host.mint(now());
            let answer = host.start("st-1", Some(&token), body.to_string().as_bytes(), now());
            assert_eq!(answer.status, status, "{body}");
        }
    }

    #[test]
    fn wrong_tokens_are_refused_in_the_documented_words() {
        let mut host = host(|plan| plan.apps = Some(["st-1".parse().unwrap()].into()));
        let token = host.mint(now());
        let mut ask = |app: &str, token: Option<&str>| {
            let answer = host.look(app, "fj-1", token, now());
            error(&answer)
        };
        let invalid = (401, "Invalid SDK credentials".to_owned());
        assert_eq!(ask("st-1", None), invalid);
        assert_eq!(ask("st-2", Some(&token)), invalid);
        assert_eq!(ask("st-1", Some(&token)).0, 404, "no such job");
        let (status, words) = ask("st-1", Some(&token));
        assert_eq!(status, 401);
        assert!(words.contains("possibly a replay"), "{words}");
    }

    #[test]
    fn requests_are_limited_over_rolling_spans_and_per_app() {
        let mut host = host(|_| ());
        let mut ask = |app: &str, after: u64| {
            let token = host.mint(seconds(after));
            let answer = host.look(app, "fj-1", Some(&token), seconds(after));
            let wait = answer.header("retry-after").map(str::to_owned);
            (answer.status, wait)
        };
        for n in 0..60 {
            assert_eq!(ask("st-1", n / 2).0, 404);
        }
        assert_eq!(ask("st-1", 45), (429, Some("15".to_owned())));
        assert_eq!(ask("st-2", 45).0, 404);
        assert_eq!((ask("st-1", 60).0, ask("st-1", 60).0), (404, 404));
        assert_eq!(ask("st-1", 60).0, 429, "only two were 60 s ago");
        // one every 2 s is what the hour allows
        for n in 0..1_738 {
            assert_eq!(ask("st-1", 100 + 2 * n).0, 404, "request {n}");
        }
        assert_eq!(ask("st-1", 3_577), (429, Some("23".to_owned())));
        assert_eq!(host.stats().over_limit, 3);
    }

    #[test]
    fn links_expire_and_a_new_look_gives_fresh_ones() {
        let mut host = host(|plan| plan.link_lifetime = Duration::from_mins(1));
        let job = job(&mut host, Event::All, 10);
        assert_eq!(open(&mut host, &job.files[0], seconds(69)).status, 200);
        assert_eq!(open(&mut host, &job.files[0], seconds(70)).status, 410);
        let answer = look(&mut host, &job, seconds(70));
        let again = Job::decode_look(&answer.body, &job.id).unwrap();
        assert_eq!(again.files[0].id, job.files[0].id);
        assert_eq!(open(&mut host, &again.files[0], seconds(70)).status, 200);
        assert_eq!(
            host.file("/api/getMediaStream/findly/f-1.json?s=$$", now())
                .status,
            403
        );
    }

    #[test]
    fn jobs_and_their_files_are_forgotten_in_time() {
        let mut host = host(|plan| {
            plan.job_lifetime = Duration::from_hours(1);
            plan.link_lifetime = Duration::from_hours(2);
        });
        let job = job(&mut host, Event::All, 9);
        assert_eq!(look(&mut host, &job, seconds(3_600)).status, 404);
        assert_eq!(open(&mut host, &job.files[0], seconds(3_600)).status, 404);
    }

    #[test]
    fn late_feedback_shows_in_jobs_started_later() {
        let mut host = host(|_| ());
        let before = job(&mut host, Event::All, 9);
        let export = export(Event::All);
        host.set_records(&export.app, export.week, 401);
        assert_eq!(job(&mut host, Event::All, 9).totals.records, Some(401));
        let (_, records) = read(open(&mut host, &before.files[2], seconds(9)));
        assert_eq!(records.len(), 100);
    }

    /// What one fault makes of a job and of its files, in one word each.
    fn fates(fault: Fault) -> std::collections::BTreeSet<&'static str> {
        let mut words = std::collections::BTreeSet::new();
        for seed in 0..25 {
            let mut host = host(|plan| {
                plan.seed = seed;
                plan.faults = Faults::none().plan(fault, When::Always);
            });
            let answer = start(&mut host, &export(Event::All), now());
            let Ok(started) = Job::decode(&answer.body) else {
                words.insert("no job");
                continue;
            };
            for after in [2, 4, 9, 90] {
                let answer = look(&mut host, &started, seconds(after));
                let Ok(job) = Job::decode_look(&answer.body, &started.id) else {
                    words.insert(if answer.status == 404 {
                        "gone"
                    } else {
                        "unreadable"
                    });
                    continue;
                };
                words.insert(match job.status {
                    Status::Running if after == 90 => "running for ever",
                    Status::Running if after == 9 => "late",
                    Status::Running => "running",
                    Status::Failed(_) => "failed",
                    Status::Success => "done",
                });
            }
        }
        words
    }

    #[test]
    fn jobs_go_wrong_as_ordered() {
        for (fault, words) in [
            (Fault::SlowJob, &["done", "late", "running"][..]),
            (Fault::StuckJob, &["late", "running", "running for ever"]),
            (Fault::FailingJob, &["failed", "running"]),
            (Fault::VanishingJob, &["done", "gone", "running"]),
            (Fault::UnknownStatus, &["done", "running"]),
            (Fault::EarlyFiles, &["done", "running"]),
            (Fault::NoId, &["no job"]),
            (Fault::AbsurdNumbers, &["done", "running", "unreadable"]),
        ] {
            let seen: Vec<_> = fates(fault).into_iter().collect();
            assert_eq!(seen, words, "{fault}");
        }
    }

    #[test]
    fn what_a_job_says_of_its_files_is_wrong_as_ordered() {
        let plain = job(&mut host(|_| ()), Event::All, 9);
        let ids = |job: &Job| {
            job.files
                .iter()
                .map(|file| file.id.clone())
                .collect::<Vec<_>>()
        };
        let counts = |job: &Job| {
            job.files
                .iter()
                .map(|file| file.records)
                .collect::<Vec<_>>()
        };
        for fault in [
            Fault::WrongRecords,
            Fault::WrongTotalRecords,
            Fault::WrongTotalFiles,
            Fault::RepeatedFile,
            Fault::ReorderedFiles,
        ] {
            let mut seen = 0;
            for seed in 0..20 {
                let mut host = host(|plan| {
                    plan.seed = seed;
                    plan.faults = Faults::none().chance(fault, 100.0);
                });
                let job = job(&mut host, Event::All, 9);
                let mut distinct = ids(&job);
                distinct.sort();
                let mut in_order = distinct.clone();
                distinct.dedup();
                in_order.sort_by_key(|id| ids(&job).iter().position(|other| other == id));
                let differs = match fault {
                    Fault::WrongRecords => counts(&job) != counts(&plain),
                    Fault::WrongTotalRecords => job.totals.records != plain.totals.records,
                    Fault::WrongTotalFiles => job.totals.files != plain.totals.files,
                    Fault::RepeatedFile => distinct.len() < 3,
                    _ => counts(&job)[2] != Some(100),
                };
                seen += u32::from(differs);
                assert_eq!(host.stats().faults[fault.as_str()], 1);
            }
            assert!(
                seen == 20 || fault == Fault::ReorderedFiles && seen > 5,
                "{fault}: {seen}"
            );
        }
    }

    #[test]
    fn a_lost_answer_has_had_its_effect_and_a_lost_request_has_not() {
        for (fault, jobs) in [
            (Fault::LostAnswer, 1),
            (Fault::HangingAnswer, 1),
            (Fault::EmptyAnswer, 1),
            (Fault::LostRequest, 0),
            (Fault::Limited, 0),
            (Fault::Html, 0),
        ] {
            let mut host = host(|plan| {
                plan.faults = Faults::none().plan(fault, When::Nth(Occasion::Start, 1));
            });
            let export = export(Event::All);
            assert!(
                Job::decode(&start(&mut host, &export, now()).body).is_err()
                    || fault == Fault::HangingAnswer
            );
            assert_eq!(host.stats().jobs.values().sum::<u64>(), jobs, "{fault}");
            assert!(Job::decode(&start(&mut host, &export, now()).body).is_ok());
        }
    }

    #[test]
    fn a_run_with_every_fault_repeats_with_its_seed() {
        let run = |seed| {
            let mut host = host(|plan| {
                plan.seed = seed;
                plan.faults = Faults::every(20.0);
            });
            let mut seen = Vec::new();
            for second in 0..30 {
                let now = seconds(60 * second);
                let answer = start(&mut host, &export(Event::All), now);
                let started = Job::decode(&answer.body);
                seen.push(answer);
                let Ok(started) = started else { continue };
                let answer = look(&mut host, &started, now.after(Duration::from_secs(9)));
                for file in
                    Job::decode_look(&answer.body, &started.id).map_or(vec![], |job| job.files)
                {
                    open(&mut host, &file, now.after(Duration::from_secs(9)));
                }
                seen.push(answer);
            }
            (seen, host.stats().clone())
        };
        assert_eq!(run(1), run(1));
        let (_, stats) = run(1);
        assert_ne!(run(2).1, stats);
        assert!(stats.faults.len() > 15, "{:?}", stats.faults);
    }
}
