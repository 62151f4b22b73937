//! Keeping within the vendor's rate limits, for a process that makes all of an app's requests itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::job::{FileUrl, Job};
use super::{ApiError, FileError, Kore};
use crate::export::{AppId, Export, JobId};

/// How many requests an app may make in each rolling span.
const LIMITS: [(usize, Duration); 2] = [
    (60, Duration::from_mins(1)),
    (1_800, Duration::from_hours(1)),
];

/// For what clocks and roundings differ in.
const MARGIN: Duration = Duration::from_millis(100);

/// A host whose API is asked no more often than an app may ask; a request that would be too many waits
/// for its turn. Files are no part of the API and do not wait.
pub struct Paced<K> {
    inner: K,
    apps: Mutex<HashMap<AppId, Arc<Pace>>>,
}

impl<K> Paced<K> {
    /// Paces this host's requests.
    pub fn new(inner: K) -> Self {
        Self {
            inner,
            apps: Mutex::default(),
        }
    }

    /// Waits until the app may make one more request, which is over when the turn is dropped.
    async fn turn(&self, app: &AppId) -> Turn {
        let pace = {
            let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(apps.entry(app.clone()).or_default())
        };
        // First come, first served.
        let queue = pace.queue.lock().await;
        loop {
            let free = pace.past().free_at();
            match free {
                Some(free) if free <= Instant::now() => break,
                Some(free) => sleep_until(free).await,
                // An end since the look above is not missed: it is kept for whoever asks.
                None => pace.ended.notified().await,
            }
        }
        pace.past().under_way += 1;
        drop(queue);
        Turn(pace)
    }
}

impl<K: Kore> Kore for Paced<K> {
    type Download = K::Download;

    async fn start(&self, export: &Export) -> Result<Job, ApiError> {
        let _turn = self.turn(&export.app).await;
        self.inner.start(export).await
    }

    async fn look(&self, app: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let _turn = self.turn(app).await;
        self.inner.look(app, job).await
    }

    async fn open(&self, url: &FileUrl) -> Result<K::Download, FileError> {
        self.inner.open(url).await
    }
}

/// One app's requests.
#[derive(Default)]
struct Pace {
    queue: tokio::sync::Mutex<()>,
    past: Mutex<Past>,
    ended: Notify,
}

impl Pace {
    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests that count against the limits.
///
/// The vendor counts a request when it arrives, and that is some time between its start and its end
/// here. So one under way counts, and after its end it counts for the whole span: then there are never
/// more in any span of the vendor's, however slow the way. What that costs is the time under way: of a
/// minute's 60, one in 60 for each second that a request takes.
#[derive(Default)]
struct Past {
    under_way: usize,
    /// When the last ones ended, in order; as many as the longest span's limit.
    ends: VecDeque<Instant>,
}

impl Past {
    /// When one more request may start; `None` if that hangs on one under way.
    fn free_at(&self) -> Option<Instant> {
        let mut free = Instant::now();
        for (most, span) in LIMITS {
            // Of those that have ended, so many fit beside those under way and the new one.
            let room = most.checked_sub(self.under_way + 1)?;
            if let Some(over) = self.ends.len().checked_sub(room + 1) {
                free = free.max(self.ends[over] + span + MARGIN);
            }
        }
        Some(free)
    }
}

/// Leave for one request.
struct Turn(Arc<Pace>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut past = self.0.past();
        past.under_way -= 1;
        past.ends.push_back(Instant::now());
        let [.., (longest, _)] = LIMITS;
        if past.ends.len() > longest {
            past.ends.pop_front();
        }
        drop(past);
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kore::Download;
    use bytes::Bytes;
    use futures_util::future::join_all;

    /// A host that is so many seconds away and notes when each request arrives.
    struct Far {
        arrived: Mutex<Vec<Instant>>,
        way: fn(usize) -> Duration,
    }

    enum Never {}

    impl Download for Never {
        fn announced(&self) -> Option<u64> {
            match *self {}
        }
        async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
            match *self {}
        }
    }

    impl Kore for Far {
        type Download = Never;

        async fn start(&self, export: &Export) -> Result<Job, ApiError> {
            self.look(&export.app, &"fj-1".parse().unwrap()).await
        }

        async fn look(&self, _: &AppId, _: &JobId) -> Result<Job, ApiError> {
            let way = (self.way)(self.arrived.lock().unwrap().len());
            tokio::time::sleep(way).await;
            self.arrived.lock().unwrap().push(Instant::now());
            tokio::time::sleep(way).await;
            Ok(Job::decode(br#"{"_id":"fj-1"}"#).unwrap())
        }

        async fn open(&self, _: &FileUrl) -> Result<Never, FileError> {
            Err(FileError::Refused { status: 404 })
        }
    }

    /// The most arrivals in any rolling span.
    fn most(arrived: &[Instant], span: Duration) -> usize {
        (1..=arrived.len())
            .map(|end| end - arrived.partition_point(|at| arrived[end - 1] - *at >= span))
            .max()
            .unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_limits_are_used_and_never_exceeded() {
        let ways: [fn(usize) -> Duration; 2] = [
            |_| Duration::from_millis(100),
            // Some requests take long to arrive, some are quick: they bunch up.
            |n| Duration::from_millis([5, 900, 40, 10, 300][n % 5]),
        ];
        let app: AppId = "st-1".parse().unwrap();
        let job: JobId = "fj-1".parse().unwrap();
        for way in ways {
            let host = Paced::new(Far {
                arrived: Mutex::default(),
                way,
            });
            let begin = Instant::now();
            join_all((0..4_000).map(|_| host.look(&app, &job))).await;
            let arrived = host.inner.arrived.lock().unwrap().clone();
            assert!(most(&arrived, Duration::from_mins(1)) <= 60);
            assert!(most(&arrived, Duration::from_hours(1)) <= 1_800);
            // In the first half hour the minute's limit holds, later the hour's.
            let within = |span| arrived.iter().filter(|at| **at - begin < span).count();
            assert!(
                within(Duration::from_mins(29)) >= 29 * 57,
                "{}",
                within(Duration::from_mins(29))
            );
            assert!(
                within(Duration::from_hours(2)) >= 2 * 1_710,
                "{}",
                within(Duration::from_hours(2))
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_does_not_wait_for_another() {
        let host = Paced::new(Far {
            arrived: Mutex::default(),
            way: |_| Duration::ZERO,
        });
        let job: JobId = "fj-1".parse().unwrap();
        let apps: Vec<AppId> = (0..50)
            .map(|n| format!("st-{n}").parse().unwrap())
            .collect();
        let begin = Instant::now();
        for _ in 0..60 {
            join_all(apps.iter().map(|app| host.look(app, &job))).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        host.look(&apps[0], &job).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_mins(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_leaves_its_turn() {
        let host = Paced::new(Far {
            arrived: Mutex::default(),
            way: |_| Duration::from_hours(9),
        });
        let app: AppId = "st-1".parse().unwrap();
        let job: JobId = "fj-1".parse().unwrap();
        let looks = join_all((0..61).map(|_| host.look(&app, &job)));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), looks)
                .await
                .is_err()
        );
        let begin = Instant::now();
        host.turn(&app).await;
        assert_eq!(begin.elapsed(), Duration::from_mins(1) + MARGIN);
    }
}
