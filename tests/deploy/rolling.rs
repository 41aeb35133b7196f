//! All replicas are replaced, one by one, behind a real proxy, while agents post, read and listen
//! through it: no post fails, no stream skips or repeats anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use handoff_client::types::NewMessage;
use handoff_client::{Client, StreamQuery};
use harness::load::{Kind as Items, Load, Writing};
use harness::{DEADLINE, TestRelay, within};

use crate::site::{Kind, Site};

/// What a fresh replica may take until it is ready.
const READY: Duration = Duration::from_secs(2);
/// The default of `HANDOFF_SHUTDOWN_MS`, and the half second in which a proxy notices.
const GRACE: Duration = Duration::from_millis(20_500);

#[tokio::test]
async fn g1_g3_a_rolling_restart_behind_haproxy_loses_nothing() {
    rolling_restart(Kind::Haproxy).await;
}

#[tokio::test]
async fn g1_g3_a_rolling_restart_behind_nginx_loses_nothing() {
    rolling_restart(Kind::Nginx).await;
}

async fn rolling_restart(kind: Kind) {
    let site = Site::start(kind, 3, TestRelay::builder()).await;
    let mut load = site.load();
    begin(&mut load);
    let clients = Clients::start(&site, 8).await;
    load.stored_more(200).await;

    let (mut ready, mut left) = (Vec::new(), Vec::new());
    for replica in site.members() {
        left.push(site.leave(replica).await);
        load.stored_more(100).await;
        ready.push(site.join(None).await);
        load.stored_more(200).await;
    }
    let resumed = load.resumed();
    let report = clients.finish().await;
    let history = load.finish().await;
    println!(
        "{kind:?}: {} posts by clients, {} writes beside them ({} of unknown outcome, of writers \
         that don't retry), {resumed} streams resumed; ready after {ready:?}, left after {left:?}",
        report.posts,
        history.writes(),
        history.unknown(),
    );
    assert!(resumed >= 3, "no stream was moved: {resumed}");
    history.assert_sound();
    ready.sort();
    // One may meet a busy moment of the machine.
    assert!(ready[1] < READY, "ready after {ready:?}");
    assert!(left.iter().all(|left| *left < GRACE), "left after {left:?}");
}

/// Writers and readers of the usual kinds, through the proxy.
pub(crate) fn begin(load: &mut Load) {
    for _ in 0..3 {
        load.follow("ops", Some("0"), 0);
        load.follow_many(&["ops", "dev"], None, 0);
    }
    load.walk("ops", Items::Message, 50);
    load.walk("dev", Items::Message, 7);
    load.write_in_both_ways(["ops", "dev"], Duration::from_millis(20));
    load.write(Writing {
        writers: 2,
        kind: Items::Status,
        pause: Duration::from_millis(20),
        ..Writing::to(&["ops"])
    });
}

/// Agents that use the client which is shipped, as it is: its own retries, its own streams.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    posts: Arc<AtomicUsize>,
    writers: Vec<tokio::task::JoinHandle<Vec<String>>>,
    readers: Vec<tokio::task::JoinHandle<Vec<(u64, String)>>>,
    admin: Client,
}

/// What the clients did.
pub(crate) struct Report {
    pub(crate) posts: usize,
}

const CHANNEL: &str = "clients";
const LAST: &str = "the last one";

impl Clients {
    pub(crate) async fn start(site: &Site, count: usize) -> Clients {
        let connect = || Client::connect(site.url(), Some(site.admin().key())).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let posts = Arc::<AtomicUsize>::default();
        let mut readers = Vec::new();
        for _ in 0..3 {
            let mut stream = connect().stream(StreamQuery {
                channels: vec![CHANNEL.to_owned()],
                after_id: Some("0".to_owned()),
            });
            readers.push(tokio::spawn(async move {
                let mut read = Vec::new();
                while read.last().is_none_or(|(_, content)| content != LAST) {
                    let message = within("a message", stream.next()).await.unwrap().unwrap();
                    read.push((message.id.parse().unwrap(), message.content));
                }
                read
            }));
        }
        let writers = (0..count).map(|me| {
            let (client, stop, posts) = (connect(), stop.clone(), posts.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let content = format!("{me}-{}", written.len());
                    client
                        .post_message(CHANNEL, message(&content))
                        .await
                        .unwrap_or_else(|error| panic!("a post failed: {error}"));
                    posts.fetch_add(1, Ordering::Relaxed);
                    written.push(content);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                written
            })
        });
        Clients {
            writers: writers.collect(),
            stop,
            posts,
            readers,
            admin: connect(),
        }
    }

    /// Stops them. None of them was refused anything, and all of their streams agree with what
    /// was written: each message once, in the order of the IDs.
    pub(crate) async fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let written = within("the writers stop", join_all(self.writers)).await;
        let mut written: Vec<String> = written.into_iter().flat_map(Result::unwrap).collect();
        self.admin
            .post_message(CHANNEL, message(LAST))
            .await
            .unwrap();
        written.push(LAST.to_owned());
        written.sort();
        for reader in self.readers {
            let read = within("the readers reach the end", reader).await.unwrap();
            assert!(read.is_sorted_by(|one, next| one.0 < next.0), "in order");
            let mut read: Vec<String> = read.into_iter().map(|(_, content)| content).collect();
            read.sort();
            assert!(
                read == written,
                "{} read, {} written",
                read.len(),
                written.len()
            );
        }
        Report {
            posts: self.posts.load(Ordering::Relaxed),
        }
    }
}

fn message(content: &str) -> NewMessage {
    NewMessage {
        content: content.to_owned(),
        ..NewMessage::default()
    }
}

#[tokio::test]
async fn g4_a_replica_with_a_thousand_streams_leaves_in_time() {
    const STREAMS: usize = 1_000;
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", STREAMS)
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "the channel is there").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS / 50 {
        let open = (0..50).map(|_| admin.stream("/api/channels/ops/stream"));
        streams.extend(join_all(open).await);
    }
    let message = admin.say("ops", "hello, all").await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.data, message);
    }
    let told = Instant::now();
    let leaving = relay.replica(0);
    let (status, _) = tokio::join!(
        leaving.terminate(),
        join_all(streams.iter_mut().map(|stream| stream.ended()))
    );
    let took = told.elapsed();
    println!("{STREAMS} streams: left after {took:?}");
    assert_eq!(status.code(), Some(0), "{}", leaving.logs());
    assert!(
        !leaving.logs().contains("Stopped before"),
        "{}",
        leaving.logs()
    );
    assert!(took < GRACE.min(DEADLINE), "left after {took:?}");
}
