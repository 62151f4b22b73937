//! The vendor's side: jobs that advance in time, files behind links that expire, and every way in
//! which they can be odd.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash as _;
use std::time::Duration;

use bytes::Bytes;
use insights_archive::export::{Export, JobId};
use insights_archive::kore::job::{File, FileUrl, Job, Status, Totals};

use crate::fault::Fault;
use crate::rng::Rng;
use crate::seen::Print;

/// In every link: found anywhere else, a secret has leaked.
pub const CANARY: &str = "SIGNATURE-4711";

#[derive(Debug, Clone)]
pub struct FileModel {
    pub id: String,
    pub bytes: Bytes,
    pub records: u64,
    pub declared: Option<u64>,
}

#[derive(Debug)]
pub struct JobModel {
    pub export: Export,
    pub odd: Option<Fault>,
    pub files: Vec<FileModel>,
    pub totals: Totals,
    /// Files that were never listed first and were traded in by [`Fault::JobSwaps`].
    pub traded: Option<FileModel>,
    /// The file ids, sorted, of every answer that named files.
    pub listings: BTreeSet<Vec<String>>,
    created: Duration,
    takes: Duration,
    link_life: Duration,
    /// How many looks after its end an odd answer lasts; what is odd for ever has a large number.
    odd_looks: u32,
    looks: u32,
    looks_at_success: u32,
}

#[derive(Debug, Default)]
pub struct Host {
    pub jobs: BTreeMap<JobId, JobModel>,
    /// What else was served as the whole of a file: by job and file id.
    pub served: BTreeMap<(JobId, String), Vec<Bytes>>,
    pub looks: u64,
    pub opens: u64,
    /// Every file has another number of records each time.
    pub restless: bool,
}

/// What the host serves behind a link.
pub enum Served {
    Bytes(Bytes),
    Refused(u16),
}

fn records(job: usize, file: usize, count: u64) -> Bytes {
    let records: Vec<_> = (0..count)
        .map(|n| format!("{{\"job\":{job},\"file\":{file},\"n\":{n}}}"))
        .collect();
    Bytes::from(format!("[{}]", records.join(",\n ")))
}

impl Host {
    /// What tells it apart from others of a small world, where a job's number, oddness and start say
    /// what its files are.
    pub fn print(&self, print: &mut Print) {
        for (id, job) in &self.jobs {
            // What the looks so far make of those to come.
            let looks = match job.odd {
                Some(Fault::JobRenames) => job.looks,
                Some(Fault::JobRelapses) => job.looks_at_success.min(2),
                Some(Fault::JobSwaps) => job.looks_at_success % 2,
                _ => 0,
            };
            let created = job.odd.map(|_| job.created);
            (id, &job.export, job.odd, created, looks, &job.listings).hash(print);
        }
        self.served.hash(print);
    }

    /// Starts a job; `odd` is what is wrong with it.
    pub fn start(
        &mut self,
        export: &Export,
        now: Duration,
        odd: Option<Fault>,
        rng: &mut Rng,
        files: Option<usize>,
    ) -> JobId {
        let number = self.jobs.len() + 1;
        let id: JobId = format!("fj-{number}").parse().expect("a job id");
        let small = files.is_some();
        let count = files.unwrap_or_else(|| {
            let few = [0, 1, 1, 1, 2, 2, 3, 4, 5, 7];
            rng.pick(&few)
        });
        let older = count == 1 && odd.is_none() && !small && rng.chance(1_500);
        let mut files: Vec<_> = (1..=count)
            .map(|file| {
                let records_in = if small { 2 } else { rng.between(0, 6) };
                FileModel {
                    id: format!("f-{number}-{file}"),
                    bytes: records(number, file, records_in),
                    records: records_in,
                    declared: (!older).then_some(records_in),
                }
            })
            .collect();
        let mut totals = Totals {
            files: Some(count as u64),
            records: Some(files.iter().map(|file| file.records).sum()),
        };
        if older {
            totals = Totals::default();
        }
        match odd {
            Some(Fault::JobMiscounts) => {
                if let Some(file) = files.last_mut() {
                    file.declared = Some(file.records + 1);
                }
            }
            Some(Fault::JobMisadds) => totals.records = totals.records.map(|sum| sum + 3),
            _ => {}
        }
        let traded = (odd == Some(Fault::JobSwaps)).then(|| FileModel {
            id: format!("f-{number}-0"),
            bytes: records(number, 0, 4),
            records: 4,
            declared: Some(4),
        });
        let takes = match odd {
            Some(Fault::JobSlow) if small => 3 * 3_600,
            _ if small => 0,
            Some(Fault::JobSlow) => rng.between(3_600, 6 * 3_600),
            _ => rng.pick(&[0, 1, 5, 20, 60, 300, 900]),
        };
        let link_life = match odd {
            Some(Fault::ShortLinks) => Duration::from_millis(rng.between(5, 4_000)),
            _ => Duration::from_secs(3_600),
        };
        let odd_looks = if small {
            u32::MAX
        } else {
            rng.pick(&[1, 2, 5, 8, u32::MAX])
        };
        let job = JobModel {
            export: export.clone(),
            odd,
            files,
            totals,
            traded,
            listings: BTreeSet::new(),
            created: now,
            takes: Duration::from_secs(takes),
            link_life,
            odd_looks,
            looks: 0,
            looks_at_success: 0,
        };
        self.jobs.insert(id.clone(), job);
        id
    }

    /// The state of a job; `None`: there is no such job.
    pub fn look(&mut self, id: &JobId, now: Duration, rng: &mut Rng) -> Option<Job> {
        self.looks += 1;
        let job = self.jobs.get_mut(id)?;
        job.looks += 1;
        let age = now.saturating_sub(job.created);
        let share = age.as_secs_f64() / job.takes.as_secs_f64().max(0.001);
        let half = share >= 0.5;
        if job.odd == Some(Fault::JobVanishes) && half {
            return None;
        }
        let answer = |status, percent, files, totals| Job {
            id: id.clone(),
            status,
            percent,
            created_on: Some("2025-01-27T06:00:00.000Z".to_owned()),
            files,
            totals,
        };
        if job.odd == Some(Fault::JobFails) && half {
            let words = "FAILED: out of memory".to_owned();
            return Some(answer(
                Status::Failed(words),
                None,
                vec![],
                Totals::default(),
            ));
        }
        let stuck = job.odd == Some(Fault::JobStuck);
        if share < 1.0 || stuck {
            let percent = (share.min(if stuck { 0.4 } else { 0.99 }) * 100.0).floor();
            let running = answer(Status::Running, Some(percent), vec![], Totals::default());
            return Some(running);
        }
        job.looks_at_success += 1;
        let odd = job.odd.filter(|_| job.looks_at_success <= job.odd_looks);
        if odd == Some(Fault::JobRelapses) && job.looks_at_success == 2 {
            return Some(answer(
                Status::Running,
                Some(50.0),
                vec![],
                Totals::default(),
            ));
        }
        let mut models: Vec<_> = job.files.clone();
        let mut totals = job.totals;
        match odd {
            Some(Fault::JobFewer) => drop(models.pop()),
            Some(Fault::JobMore) => {
                let mut extra = models.first().cloned();
                if let Some(extra) = &mut extra {
                    extra.id.push_str("-more");
                }
                models.extend(extra);
            }
            Some(Fault::JobTwice) if models.len() > 1 => models[0] = models[1].clone(),
            Some(Fault::JobSilent) => {
                models.clear();
                totals = Totals::default();
            }
            Some(Fault::JobRenames) => {
                for model in &mut models {
                    model.id = format!("{}-look-{}", model.id, job.looks);
                }
            }
            Some(Fault::JobSwaps) => {
                if let (Some(first), Some(traded)) = (models.first_mut(), &job.traded)
                    && job.looks_at_success % 2 == 1
                {
                    *first = traded.clone();
                }
            }
            _ => {}
        }
        if job.odd == Some(Fault::JobReorders) {
            rng.shuffle(&mut models);
        }
        let mut listing: Vec<_> = models.iter().map(|model| model.id.clone()).collect();
        listing.sort();
        job.listings.insert(listing);
        let expires = (now + job.link_life).as_millis();
        let files = models
            .into_iter()
            .map(|model| File {
                url: FileUrl::new(format!(
                    "https://files.test/{id}/{}?e={expires}&s={CANARY}$$",
                    model.id
                )),
                name: Some(format!("part of {id}")),
                id: model.id,
                records: model.declared,
            })
            .collect();
        Some(answer(Status::Success, Some(100.0), files, totals))
    }

    /// The file behind a link.
    pub fn open(&mut self, url: &FileUrl, now: Duration) -> (JobId, String, Served) {
        self.opens += 1;
        let text = url.expose();
        let (path, query) = text
            .strip_prefix("https://files.test/")
            .and_then(|rest| rest.split_once('?'))
            .expect("a link of this host");
        let (id, file) = path.split_once('/').expect("a path of this host");
        let id: JobId = id.parse().expect("a job id");
        let file = file.to_owned();
        let expires = query
            .strip_prefix("e=")
            .and_then(|rest| rest.split_once('&'))
            .and_then(|(expires, signature)| {
                assert_eq!(signature, format!("s={CANARY}$$"), "byte for byte");
                expires.parse::<u128>().ok()
            })
            .expect("a query of this host");
        let job = &self.jobs[&id];
        let served = if job.odd == Some(Fault::JobForgets) || now.as_millis() > expires {
            Served::Refused(403)
        } else {
            match job.file(&file) {
                None => Served::Refused(404),
                Some(model) if self.restless => {
                    Served::Bytes(records(0, 0, model.records + self.opens))
                }
                Some(model) => Served::Bytes(model.bytes.clone()),
            }
        };
        (id, file, served)
    }
}

impl JobModel {
    /// A file by an id under which it was ever listed.
    pub fn file(&self, id: &str) -> Option<&FileModel> {
        let plain = id.split("-look-").next().unwrap_or(id);
        let plain = plain.strip_suffix("-more").unwrap_or(plain);
        self.files
            .iter()
            .chain(&self.traded)
            .find(|model| model.id == plain)
    }
}
