//! The load's API keys and channels are made, and the agents set to work.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use handoff_checker::Recorder;
use handoff_checker::history::{Answer, Call, Number};
use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use hyper::{Method, Uri};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::counters::Meter;
use super::holders::hold;
use super::link::bearer;
use super::posters::post;
use super::pulses::pulse;
use super::readers::{Of, walk};
use super::seat::{Seat, Told};
use super::sessions::attend;
use super::setters::set;
use super::streams::{Following, follow};
use super::{Agents, Endpoints, Ends, Place, Plan, Shared};

/// How long a follower that leaves by itself stays at most.
const HOP: Duration = Duration::from_secs(8);

/// Streams that share an API key, which has a limit of them.
const FOLLOWERS_PER_KEY: usize = 8;

/// Why a load could not begin.
#[derive(Debug)]
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupError {}

fn authority(url: &Uri) -> Result<Authority, SetupError> {
    let authority = url
        .authority()
        .filter(|authority| authority.port().is_some());
    let authority = authority.filter(|_| url.scheme_str() == Some("http"));
    authority
        .cloned()
        .ok_or_else(|| SetupError(format!("{url} is no http URL with a port")))
}

#[derive(Deserialize)]
struct Made {
    api_key: String,
}

pub(super) async fn start(
    plan: Plan,
    endpoints: Endpoints,
    recorder: Recorder,
) -> Result<Agents, SetupError> {
    let replicas: Vec<Authority> = endpoints
        .replicas
        .iter()
        .map(authority)
        .collect::<Result<_, _>>()?;
    if replicas.is_empty() || plan.channels.is_empty() {
        return Err(SetupError(
            "a load needs a replica and a channel".to_owned(),
        ));
    }
    let balancer = endpoints.balancer.as_ref().map(authority).transpose()?;
    let pulses = (0..replicas.len()).map(|replica| format!("pulse-{replica}"));
    let names: Vec<String> = plan.channels.iter().cloned().chain(pulses).collect();
    let channels: Vec<Place> = names
        .into_iter()
        .map(|name| Place {
            number: recorder.channel(&name),
            name,
            newest: AtomicU64::new(0),
        })
        .collect();
    let numbers: HashMap<String, u32> = channels
        .iter()
        .map(|place| (place.name.clone(), place.number))
        .collect();
    let shared = Arc::new(Shared {
        meter: Meter::new(replicas.len()),
        balancer,
        replicas: RwLock::new(replicas),
        admin: bearer(&endpoints.admin_key),
        channels,
        numbers,
        values: AtomicU64::new(1),
        tickets: AtomicU64::new(0),
        stop: watch::Sender::new(false),
        ends: watch::Sender::new(Ends::default()),
        plan,
        recorder,
    });
    let mut clerk = Seat::new(&shared, &shared.admin, 0);
    open_channels(&mut clerk).await?;
    begin(&shared, &mut clerk).await
}

async fn open_channels(clerk: &mut Seat) -> Result<(), SetupError> {
    let shared = clerk.shared.clone();
    let mut log = clerk.log();
    for place in &shared.channels {
        let c = place.number;
        log.invoke(Call::OpenChannel { c });
        let ask = clerk
            .ask(Method::POST, "/api/channels")
            .body(&json!({"name": place.name}));
        match clerk.persist(&ask).await {
            Told::Ok(_) => drop(log.ok(Answer::Done)),
            Told::Refused(status) | Told::Unknown(status) => {
                log.info(status);
                let name = &place.name;
                return Err(SetupError(format!("{name} was not opened: {status}")));
            }
        }
    }
    Ok(())
}

/// A key for agents of one name. A key whose answer was lost is never used.
async fn key(clerk: &mut Seat, sender: &str) -> Result<HeaderValue, SetupError> {
    let body = json!({"sender_name": sender, "permissions": {"*": "admin"}});
    let ask = clerk.ask(Method::POST, "/api/keys").body(&body);
    match clerk.persist(&ask).await {
        Told::Ok(reply) => {
            let made: Made = serde_json::from_slice(&reply.body)
                .map_err(|error| SetupError(format!("a key was not shown: {error}")))?;
            Ok(bearer(&made.api_key))
        }
        Told::Refused(status) | Told::Unknown(status) => Err(SetupError(format!(
            "no key for {sender} was made: {status}"
        ))),
    }
}

async fn begin(shared: &Arc<Shared>, clerk: &mut Seat) -> Result<Agents, SetupError> {
    let plan = &shared.plan;
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    let mut number = 0;
    let mut seat = |key: &HeaderValue| {
        number += 1;
        Seat::new(shared, key, number)
    };
    let all: Vec<usize> = (0..shared.channels.len()).collect();

    let reader = key(clerk, "walker").await?;
    for walker in 0..plan.walkers {
        let of = match walker % 4 {
            3 => Of::Changes,
            _ => Of::Messages,
        };
        readers.spawn(walk(seat(&reader), of, all.clone()));
    }
    let mut reader = reader;
    for follower in 0..plan.followers {
        if follower % FOLLOWERS_PER_KEY == 0 {
            reader = key(clerk, &format!("follower-{follower}")).await?;
        }
        readers.spawn(follow(seat(&reader), following(&all, follower)));
    }
    for session in 0..plan.sessions {
        // Two by two they are one sender.
        let sender = session / 2;
        let own = key(clerk, &format!("session-{sender}")).await?;
        writers.spawn(attend(seat(&own), sender as Number));
    }
    let setter = key(clerk, "setter").await?;
    for _ in 0..plan.setters {
        writers.spawn(set(seat(&setter)));
    }
    let keys = Arc::default();
    for holder in 0..plan.holders {
        let channel = holder % plan.channels.len();
        writers.spawn(hold(
            seat(&shared.admin),
            holder,
            channel,
            Arc::clone(&keys),
        ));
    }
    for replica in 0..shared.replica_count() {
        let own = key(clerk, &format!("pulse-{replica}")).await?;
        let channel = plan.channels.len() + replica;
        writers.spawn(pulse(seat(&own), replica, channel));
    }
    let sender = "poster";
    let poster = key(clerk, sender).await?;
    let began = Instant::now();
    for _ in 0..plan.posters {
        writers.spawn(post(seat(&poster), sender.to_owned(), began));
    }
    Ok(Agents {
        shared: shared.clone(),
        writers,
        readers,
    })
}

/// Followers of five sorts: of everything from the beginning, and from now on; of one channel from now
/// on; of half of them from the beginning; of everything, leaving again and again.
fn following(all: &[usize], follower: usize) -> Following {
    let everything = Following {
        channels: all.to_vec(),
        cursor: Some(0),
        leaves: None,
        key: None,
    };
    match follower % 5 {
        0 => everything,
        1 => Following {
            cursor: None,
            ..everything
        },
        2 => Following {
            channels: vec![all[follower % all.len()]],
            cursor: None,
            ..everything
        },
        3 => Following {
            channels: all[..all.len().div_ceil(2)].to_vec(),
            ..everything
        },
        _ => Following {
            leaves: Some(HOP),
            ..everything
        },
    }
}
