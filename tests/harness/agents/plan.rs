//! What a load is to do, and where.

use std::time::Duration;

use hyper::Uri;

/// What the agents do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides every choice of the agents. What the relay answers, and when, it does not decide.
    pub seed: u64,
    /// The channels that are posted to.
    pub channels: Vec<String>,
    /// Posts a second, all posters together.
    pub rate: f64,
    /// How many post at a time.
    pub posters: usize,
    /// Posts that are made up for after a standstill; what is late beyond that is left out.
    pub backlog: u64,
    /// Shortest and longest content.
    pub bytes: (usize, usize),
    /// How long a post is retried, and how long any other request is tried.
    pub patience: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Readers by pages.
    pub walkers: usize,
    /// Readers by streams.
    pub followers: usize,
    /// Readers that ack.
    pub sessions: usize,
    /// Writers and readers of status entries.
    pub setters: usize,
    /// How many status keys a channel has.
    pub status_keys: u32,
    /// Owners of API keys that change.
    pub holders: usize,
    /// How often each replica is posted to directly.
    pub pulse: Duration,
}

impl Default for Plan {
    /// A thousand posts a second to sixteen channels, read by ten readers of everything.
    fn default() -> Plan {
        Plan {
            seed: 1,
            channels: (0..16).map(|n| format!("load-{n}")).collect(),
            rate: 1_000.0,
            posters: 64,
            backlog: 30_000,
            bytes: (40, 400),
            patience: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            walkers: 4,
            followers: 10,
            sessions: 4,
            setters: 4,
            status_keys: 8,
            holders: 2,
            pulse: Duration::from_millis(100),
        }
    }
}

/// Where the relay is.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// What stands before the replicas, if anything does.
    pub balancer: Option<Uri>,
    /// Every replica.
    pub replicas: Vec<Uri>,
    /// A key with admin on `"*"` of a team that does nothing else.
    pub admin_key: String,
}
