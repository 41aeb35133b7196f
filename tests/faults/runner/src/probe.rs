//! Probes: every replica is tried all the time, by itself, past the balancer. A post is sent to it
//! four times a second whether or not the one before was answered, and a stream on it follows the
//! posts of all. What comes out is when posts were answered and when streams brought something; how
//! soon a replica served again after a fault is read off it.
//!
//! The probes have a team of their own. They don't retry: each attempt tells how the replica was at
//! that moment.

mod http;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::fleet::REPLICAS;
use http::Http;

/// How often each replica is posted to.
const PERIOD: Duration = Duration::from_millis(250);

/// When a post is given up. Others are sent meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The channel of all probes.
const CHANNEL: &str = "probes";

/// The tasks that try the replicas. They end when this is dropped.
pub struct Probes {
    seen: Arc<Seen>,
    https: Vec<Http>,
    key: String,
    tasks: Vec<JoinHandle<()>>,
}

/// What the probes saw.
#[derive(Default)]
struct Seen {
    records: Mutex<Records>,
}

/// What the probes saw, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Posts that were answered 201: by which replica, sent when, answered when, under which ID.
    pub acked: Vec<Acked>,
    /// Posts that were not: by which replica, sent when.
    pub failed: Vec<(usize, Duration)>,
    /// What streams brought: on which replica, when, and when that post was sent.
    pub arrived: Vec<Arrived>,
    /// When each post was sent, by its content.
    sent: HashMap<String, Duration>,
}

/// A post that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// By which replica.
    pub replica: usize,
    /// When it was sent.
    pub sent: Duration,
    /// When the answer came.
    pub at: Duration,
    /// The message's ID.
    pub id: u64,
}

/// An event of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// On which replica.
    pub replica: usize,
    /// When the post was sent.
    pub sent: Duration,
    /// When the event came.
    pub at: Duration,
    /// The message's ID.
    pub id: u64,
}

/// How soon a replica served again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    /// Until a post that was sent to it after the fault's end was answered.
    pub posts: Option<Duration>,
    /// Until a stream on it brought a message that was sent after the fault's end.
    pub streams: Option<Duration>,
}

impl Served {
    /// Until it served in both ways.
    pub fn whole(self) -> Option<Duration> {
        Some(self.posts?.max(self.streams?))
    }
}

impl Records {
    /// How soon a replica served again after that moment.
    pub fn served(&self, replica: usize, since: Duration) -> Served {
        let posts = self
            .acked
            .iter()
            .filter(|acked| acked.replica == replica && acked.sent >= since);
        let streams = self
            .arrived
            .iter()
            .filter(|arrived| arrived.replica == replica && arrived.sent >= since);
        Served {
            posts: posts.map(|acked| acked.at.saturating_sub(since)).min(),
            streams: streams
                .map(|arrived| arrived.at.saturating_sub(since))
                .min(),
        }
    }

    /// The longest time without an answer of that replica between two moments.
    pub fn silence(&self, replica: usize, from: Duration, to: Duration) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        let acked = self.acked.iter().filter(|acked| acked.replica == replica);
        let mut answers: Vec<_> = acked
            .map(|acked| acked.at)
            .filter(|at| *at > from && *at < to)
            .collect();
        answers.sort();
        for at in answers.into_iter().chain([to]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// The largest ID that a client had seen by then, and the smallest that it was given for what
    /// was sent after another moment.
    pub fn ids_around(&self, before: Duration, after: Duration) -> (Option<u64>, Option<u64>) {
        let acked = self.acked.iter().filter(|acked| acked.at <= before);
        let arrived = self.arrived.iter().filter(|arrived| arrived.at <= before);
        let seen = acked
            .map(|acked| acked.id)
            .chain(arrived.map(|arrived| arrived.id));
        let later = self.acked.iter().filter(|acked| acked.sent >= after);
        (seen.max(), later.map(|acked| acked.id).min())
    }
}

/// Signs up a team on that replica; the key of its admin.
pub async fn sign_up(url: &str, team: &str) -> Result<String> {
    let body = json!({"team_name": team, "sender_name": "admin"});
    let http = Http::new(url);
    let made = http
        .send(Method::POST, "/api/signup", "", Some(&body), PATIENCE)
        .await?;
    let made = made.json();
    let key = made["api_key"].as_str();
    Ok(key.with_context(|| format!("no key: {made}"))?.to_owned())
}

impl Probes {
    /// Signs up a team, and begins. Times are counted from that start.
    pub async fn start(urls: &[String], start: Instant) -> Result<Probes> {
        let https: Vec<Http> = urls.iter().map(|url| Http::new(url)).collect();
        let key = sign_up(&urls[0], "probes").await?;
        let body = json!({"content": "the channel is there"});
        let path = format!("/api/channels/{CHANNEL}/messages");
        https[0]
            .send(Method::POST, &path, &key, Some(&body), PATIENCE)
            .await?;

        let seen = Arc::<Seen>::default();
        let mut tasks = Vec::new();
        for (replica, http) in https.iter().enumerate() {
            let (http, key, seen) = (http.clone(), key.clone(), seen.clone());
            let follow = stream::follow(http.clone(), key.clone(), CHANNEL);
            tasks.push(tokio::spawn(post(replica, http, key, seen.clone(), start)));
            tasks.push(tokio::spawn(async move {
                follow
                    .each(|id, content| seen.arrived(replica, start.elapsed(), id, &content))
                    .await;
            }));
        }
        Ok(Probes {
            seen,
            https,
            key,
            tasks,
        })
    }

    /// All that was seen so far.
    pub fn records(&self) -> Records {
        self.seen.lock().clone()
    }

    /// How soon each replica served again after that moment.
    pub fn served(&self, since: Duration) -> [Served; REPLICAS] {
        let records = self.seen.lock();
        std::array::from_fn(|replica| records.served(replica, since))
    }

    /// How many posts that were sent to a replica between two moments were answered between them.
    pub fn acked_between(&self, replica: usize, from: Duration, to: Duration) -> usize {
        let records = self.seen.lock();
        let acked = records
            .acked
            .iter()
            .filter(|acked| acked.replica == replica);
        acked
            .filter(|acked| acked.sent >= from && acked.at <= to)
            .count()
    }

    /// How many posts were answered, and how many were not, since the start.
    pub fn counts(&self) -> (usize, usize) {
        let records = self.seen.lock();
        (records.acked.len(), records.failed.len())
    }

    /// Whether a replica says that it is ready.
    pub async fn ready(&self, replica: usize) -> bool {
        let answer = self.https[replica]
            .send(Method::GET, "/readyz", "", None, PATIENCE)
            .await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// When a token ends that a replica makes now for that long: it goes by its own clock.
    pub async fn token_ends(&self, replica: usize, lives: Duration) -> Result<OffsetDateTime> {
        let body = json!({"ttl_seconds": lives.as_secs()});
        let http = &self.https[replica];
        let made = http
            .send(
                Method::POST,
                "/api/tokens",
                &self.key,
                Some(&body),
                PATIENCE,
            )
            .await?;
        let made = made.json();
        let ends = made["expires_at"]
            .as_str()
            .with_context(|| format!("no token: {made}"))?;
        Ok(OffsetDateTime::parse(ends, &Rfc3339)?)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, replica: usize, at: Duration, id: u64, content: &str) {
        let mut records = self.lock();
        if let Some(sent) = records.sent.get(content).copied() {
            records.arrived.push(Arrived {
                replica,
                sent,
                at,
                id,
            });
        }
    }
}

/// Posts to a replica until it is aborted.
async fn post(replica: usize, http: Http, key: String, seen: Arc<Seen>, start: Instant) {
    let mut ticks = interval(PERIOD);
    // One replica after the other, not all in the same moment.
    sleep(PERIOD / REPLICAS as u32 * replica as u32).await;
    for number in 0_u64.. {
        ticks.tick().await;
        let (http, key, seen) = (http.clone(), key.clone(), seen.clone());
        tokio::spawn(async move {
            let content = format!("{replica}-{number}");
            let sent = start.elapsed();
            seen.lock().sent.insert(content.clone(), sent);
            let path = format!("/api/channels/{CHANNEL}/messages");
            let body = json!({"content": content});
            let answer = http
                .send(Method::POST, &path, &key, Some(&body), PATIENCE)
                .await;
            let id = answer
                .ok()
                .filter(|answer| answer.status == 201)
                .and_then(|answer| {
                    let message: Value = answer.json();
                    message["id"].as_str()?.parse().ok()
                });
            let at = start.elapsed();
            let mut records = seen.lock();
            match id {
                Some(id) => records.acked.push(Acked {
                    replica,
                    sent,
                    at,
                    id,
                }),
                None => records.failed.push((replica, sent)),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn acked(replica: usize, sent: u64, at: u64, id: u64) -> Acked {
        Acked {
            replica,
            sent: ms(sent),
            at: ms(at),
            id,
        }
    }

    fn records() -> Records {
        Records {
            // One post that was on its way when the fault ended, at 1000, tells nothing.
            acked: vec![
                acked(0, 100, 110, 1),
                acked(0, 900, 1_050, 2),
                acked(0, 1_200, 1_300, 4),
                acked(1, 400, 420, 3),
            ],
            arrived: vec![Arrived {
                replica: 0,
                sent: ms(1_200),
                at: ms(1_500),
                id: 4,
            }],
            ..Records::default()
        }
    }

    #[test]
    fn a_replica_serves_again_with_what_was_sent_after_the_fault() {
        let served = records().served(0, ms(1_000));
        assert_eq!(served.posts, Some(ms(300)));
        assert_eq!(served.streams, Some(ms(500)));
        assert_eq!(served.whole(), Some(ms(500)));
        assert_eq!(records().served(1, ms(1_000)).whole(), None);
    }

    #[test]
    fn silence_is_the_longest_time_without_an_answer_the_edges_included() {
        assert_eq!(records().silence(0, ms(0), ms(1_400)), ms(940));
        assert_eq!(records().silence(1, ms(0), ms(1_400)), ms(980));
        assert_eq!(records().silence(2, ms(0), ms(1_400)), ms(1_400));
    }

    #[test]
    fn ids_are_those_seen_before_and_those_given_after() {
        assert_eq!(
            records().ids_around(ms(1_100), ms(1_100)),
            (Some(3), Some(4))
        );
        assert_eq!(records().ids_around(ms(50), ms(2_000)), (None, None));
    }
}
