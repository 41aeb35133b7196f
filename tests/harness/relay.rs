//! A relay for one test: a database, replicas, and a team.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::database::Database;
use crate::http::{self, Connections};
use crate::postgres::OwnPostgres;
use crate::programs::relay_binary;
use crate::proxy::Proxy;
use crate::replica::Replica;

/// The replicas as agents see them.
pub(crate) struct Fleet {
    replicas: Mutex<Vec<Arc<Replica>>>,
    pub(crate) connections: Connections,
}

impl Fleet {
    pub(crate) fn replica(&self, index: usize) -> Arc<Replica> {
        let replicas = self.replicas.lock().unwrap();
        replicas
            .get(index)
            .unwrap_or_else(|| panic!("there is no replica {index}"))
            .clone()
    }
}

/// The proxies between one replica and its Postgres.
#[derive(Clone)]
pub struct Proxies {
    /// On the way of `DATABASE_URL`.
    pub database: Arc<Proxy>,
    /// On the way of `DATABASE_LISTEN_URL`.
    pub listen: Arc<Proxy>,
}

/// A relay with a database of its own, and a first team. Everything goes when it is dropped.
pub struct TestRelay {
    fleet: Arc<Fleet>,
    admin: Agent,
    settings: Builder,
    proxies: Mutex<Vec<Proxies>>,
    database: Database,
    postgres: Option<OwnPostgres>,
}

impl TestRelay {
    /// One replica with the usual settings.
    pub async fn new() -> TestRelay {
        TestRelay::builder().start().await
    }

    /// A relay to be described further.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The key of the team's signup: `{"*": "admin"}`, on replica 0.
    pub fn admin(&self) -> Agent {
        self.admin.clone()
    }

    /// A caller without a key, on replica 0.
    pub fn anyone(&self) -> Agent {
        self.admin.with_key("")
    }

    /// A new key of the team with these permissions, on replica 0.
    pub async fn agent(&self, sender: &str, permissions: Value) -> Agent {
        self.admin.new_key(sender, permissions).await
    }

    /// The first key of a new team, on replica 0.
    pub async fn signup(&self, team_name: &str, sender_name: &str) -> Agent {
        sign_up(&self.fleet, team_name, sender_name).await
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A replica.
    pub fn replica(&self, index: usize) -> Arc<Replica> {
        self.fleet.replica(index)
    }

    /// How many replicas there are, those that were killed included.
    pub fn replicas(&self) -> usize {
        self.fleet.replicas.lock().unwrap().len()
    }

    /// Starts one more replica, with further settings, and returns its number.
    pub async fn start_replica(&self, environment: &[(&str, &str)]) -> usize {
        self.start_replica_of(self.settings.program(), environment)
            .await
    }

    /// Starts one more replica, of another release of the relay, and returns its number.
    pub async fn start_replica_of(&self, program: &Path, environment: &[(&str, &str)]) -> usize {
        let index = self.replicas();
        let proxies = self.settings.proxies(&self.database).await;
        let mut settings = self.settings.clone();
        for (name, value) in environment {
            settings = settings.replica_env(index, name, value);
        }
        let environment = settings.environment(index, &self.database, proxies.as_ref());
        let replica = Arc::new(Replica::start(program, environment).await);
        self.proxies.lock().unwrap().extend(proxies);
        let mut replicas = self.fleet.replicas.lock().unwrap();
        replicas.push(replica);
        replicas.len() - 1
    }

    /// The Postgres of the test's own; there is one if the builder was asked for it.
    pub fn postgres(&self) -> &OwnPostgres {
        self.postgres
            .as_ref()
            .expect("ask the builder for `own_postgres()`")
    }

    /// The proxies of a replica; there are some if the builder was asked for them.
    pub fn proxy(&self, replica: usize) -> Proxies {
        let proxies = self.proxies.lock().unwrap();
        proxies
            .get(replica)
            .expect("ask the builder for `through_proxy()`")
            .clone()
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        for (index, replica) in self.fleet.replicas.lock().unwrap().iter().enumerate() {
            replica.kill_now();
            if std::thread::panicking() {
                eprintln!(
                    "--- the end of replica {index}'s log\n{}",
                    replica.last_words()
                );
            }
        }
        self.database.drop_now();
    }
}

/// What a [`TestRelay`] shall be like.
#[derive(Clone, Default)]
pub struct Builder {
    replicas: usize,
    environment: HashMap<String, String>,
    left_at_default: Vec<String>,
    replica_environment: HashMap<usize, HashMap<String, String>>,
    own_postgres: bool,
    through_proxy: bool,
    program: Option<PathBuf>,
    database_url: Option<String>,
}

impl Builder {
    /// How many replicas to start; one by default.
    pub fn replicas(mut self, count: usize) -> Builder {
        self.replicas = count;
        self
    }

    /// A setting of all replicas.
    pub fn env(mut self, name: &str, value: impl ToString) -> Builder {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Leaves a setting to the relay's own default, where the harness would set another.
    pub fn default_env(mut self, name: &str) -> Builder {
        self.left_at_default.push(name.to_owned());
        self
    }

    /// A setting of one replica, which wins over that of all.
    pub fn replica_env(mut self, replica: usize, name: &str, value: impl ToString) -> Builder {
        let environment = self.replica_environment.entry(replica).or_default();
        environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// A private Postgres cluster for this test alone.
    pub fn own_postgres(mut self) -> Builder {
        self.own_postgres = true;
        self
    }

    /// Proxies between each replica and Postgres.
    pub fn through_proxy(mut self) -> Builder {
        self.through_proxy = true;
        self
    }

    /// An empty database that the test has made, and will remove.
    pub fn database(mut self, url: &str) -> Builder {
        self.database_url = Some(url.to_owned());
        self
    }

    /// Another release of the relay, for its replicas and, with `own_postgres()`, for the schema.
    pub fn release(mut self, program: &Path) -> Builder {
        self.program = Some(program.to_owned());
        self
    }

    fn program(&self) -> &Path {
        self.program.as_deref().unwrap_or_else(|| relay_binary())
    }

    /// Starts everything and signs up the team `acme`, whose first sender is `admin`.
    pub async fn start(self) -> TestRelay {
        let postgres = if self.own_postgres {
            Some(OwnPostgres::new().await)
        } else {
            None
        };
        let database = match (&postgres, &self.database_url) {
            (Some(postgres), _) => Database::create_on(postgres, self.program()).await,
            (None, Some(url)) => Database::given(url, self.program()).await,
            (None, None) => Database::create().await,
        };
        let mut proxies = Vec::new();
        let mut replicas = Vec::new();
        for index in 0..self.replicas.max(1) {
            let between = self.proxies(&database).await;
            let environment = self.environment(index, &database, between.as_ref());
            replicas.push(Arc::new(Replica::start(self.program(), environment).await));
            proxies.extend(between);
        }
        let fleet = Arc::new(Fleet {
            replicas: Mutex::new(replicas),
            connections: http::connections(),
        });
        let admin = sign_up(&fleet, "acme", "admin").await;
        TestRelay {
            fleet,
            admin,
            settings: self,
            proxies: Mutex::new(proxies),
            database,
            postgres,
        }
    }

    async fn proxies(&self, database: &Database) -> Option<Proxies> {
        if !self.through_proxy {
            return None;
        }
        Some(Proxies {
            database: Arc::new(Proxy::start(database.url()).await),
            listen: Arc::new(Proxy::start(database.url()).await),
        })
    }

    fn environment(
        &self,
        replica: usize,
        database: &Database,
        proxies: Option<&Proxies>,
    ) -> Vec<(String, String)> {
        let (url, listen_url) = match proxies {
            Some(proxies) => (proxies.database.url(), proxies.listen.url()),
            None => (database.url(), database.url()),
        };
        let mut environment: HashMap<String, String> = [
            ("PORT", "0"),
            ("HANDOFF_BIND", "127.0.0.1"),
            ("DATABASE_URL", url),
            ("DATABASE_LISTEN_URL", listen_url),
            ("RATE_LIMIT_MAX", "1000000"),
            ("HANDOFF_SIGNUPS_PER_HOUR", "1000000"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        // For whoever looks for a fault: `RUST_LOG=debug cargo test …`.
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            environment.extend(std::env::var(name).map(|value| (name.to_owned(), value)));
        }
        environment.retain(|name, _| !self.left_at_default.contains(name));
        environment.extend(self.environment.clone());
        environment.extend(
            self.replica_environment
                .get(&replica)
                .cloned()
                .unwrap_or_default(),
        );
        environment.into_iter().collect()
    }
}

async fn sign_up(fleet: &Arc<Fleet>, team_name: &str, sender_name: &str) -> Agent {
    let nobody = Agent {
        fleet: fleet.clone(),
        replica: 0,
        key: String::new(),
        sender: sender_name.to_owned(),
        team: Value::Null,
        base: None,
    };
    let body = json!({"team_name": team_name, "sender_name": sender_name});
    let made = nobody.post("/api/signup", body).await.expect(201);
    let key = made["api_key"]
        .as_str()
        .expect("signup shows the key")
        .to_owned();
    Agent {
        key,
        team: made["team"].clone(),
        ..nobody
    }
}
