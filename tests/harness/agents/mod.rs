//! The load of a long run. A [`Plan`], the relay's [`Endpoints`] and a recorder come in; the
//! history of all that the agents were told goes to the recorder, and [`Counters`] tell meanwhile
//! how they fare. It judges nothing, injects no fault, and no fault makes it panic: whatever a
//! replica does, the agents go on as good clients would, each wait bounded.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use handoff_checker::Recorder;
//! # use harness::agents::{Agents, Endpoints, Plan};
//! # async fn run(admin_key: String) -> Result<(), Box<dyn std::error::Error>> {
//! let recorder = Recorder::to_file("history.jsonl".as_ref(), 7, "handoff-relay 0.1.0")?;
//! let endpoints = Endpoints {
//!     balancer: Some("http://127.0.0.1:8080".parse()?),
//!     replicas: vec!["http://127.0.0.1:3001".parse()?, "http://127.0.0.1:3002".parse()?],
//!     admin_key,
//! };
//! let agents = Agents::start(Plan::default(), endpoints, recorder.clone()).await?;
//! // Each second: agents.counters(), agents.take_latencies(). Around each fault:
//! // recorder.nemesis(Nemesis { t: recorder.now(), fault: "kill".into(), phase, target, .. }).
//! let finished = agents.finish(Duration::from_secs(60)).await;
//! let lines = recorder.close()?; // finish() does the final reads; closing is the caller's
//! # Ok(()) }
//! ```
//!
//! **Who does what.** Every agent is a task with a connection of its own, which it opens anew after
//! an error:
//! - *posters* post at a common rate in an open loop (a late post is made up for, up to
//!   [`Plan::backlog`]), most with idempotency keys, which they retry on any replica until they are
//!   answered or [`Plan::patience`] is over; some reply in threads and mention others;
//! - *walkers* follow a channel's messages or status changes by pages from the beginning;
//! - *followers* hold streams of one, several or all channels, from the beginning or from now on,
//!   and resume with `Last-Event-ID`, wherever they are let in; some leave by themselves again and
//!   again;
//! - *sessions* read what is unread, ack it, sometimes an older ID, and read acks; two share a
//!   sender;
//! - *setters* set, delete and read the entries of a few status keys;
//! - *holders* narrow, widen and revoke an API key on one replica, use it on every replica by
//!   itself, before and after, and hold a stream open with it;
//! - *pulses*, one a replica, post directly to their replica every [`Plan::pulse`]: what
//!   [`Counters::replicas`] says of a replica's last success comes from them alone.
//!
//! **Where requests go.** To the balancer if there is one, else to the replicas in turn; a request
//! that failed goes to the next one. Probes of API keys and pulses always go to their replica. A
//! replica that comes back at another address is told of by [`Agents::move_replica`].
//!
//! **What the relay has to be set to.** `RATE_LIMIT_MAX`, `HANDOFF_STREAMS_PER_KEY` and
//! `HANDOFF_KEYS_PER_TEAM` so high that they refuse nothing (429s are counted as errors), and a team
//! for the load alone: IDs are compared across a team.
//!
//! **Nemesis lines.** A fault that may keep a replica from hearing of key changes (bells dropped, the
//! listener cut, Postgres down or out of reach, the replica stopped) is recorded with `deaf: true`.
//! A failover to an asynchronous standby is recorded at its end with `lossy: Some(Lossy { since })`,
//! `since` being a time before which everything answered was certainly on the standby.

mod plan;

pub use plan::{Endpoints, Plan};
