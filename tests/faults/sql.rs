//! What tests do to the database behind the relay's back: play a replica that dies at a bad
//! moment, hold a slot's lock, cut connections.

use harness::{Agent, TestRelay, eventually};
use tokio_postgres::{Client, NoTls, Transaction};

/// The class of the slots' advisory locks.
const SLOTS: i32 = 72;

/// A team's slot in the database: its lock and its sequence.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    team: i64,
    number: i32,
}

impl Slot {
    /// The slot of an agent's team.
    pub(crate) fn of(agent: &Agent) -> Slot {
        let team: i64 = agent.team()["id"].as_str().unwrap().parse().unwrap();
        Slot {
            team,
            number: (team % 64) as i32,
        }
    }

    /// Which of so many lanes a replica writes it through.
    pub(crate) fn lane(self, lanes: i32) -> i32 {
        self.number % lanes
    }

    /// Takes the slot's lock, held until the transaction ends: no replica writes meanwhile.
    pub(crate) async fn lock(self, transaction: &Transaction<'_>) {
        transaction
            .execute(
                "select pg_advisory_xact_lock($1, $2)",
                &[&SLOTS, &self.number],
            )
            .await
            .unwrap();
    }

    /// How many sessions wait for the slot's lock.
    pub(crate) async fn waiting(self, client: &Client) -> i64 {
        let statement = "
            select count(*) from pg_locks
            where locktype = 'advisory' and not granted
              and database = (select oid from pg_database where datname = current_database())
              and classid = $1::int4::oid and objid = $2::int4::oid";
        client
            .query_one(statement, &[&SLOTS, &self.number])
            .await
            .unwrap()
            .get(0)
    }

    /// Does what a replica does to post a message, up to its commit and without the bell.
    pub(crate) async fn post_silently(
        self,
        client: &mut Client,
        channel: &str,
        content: &str,
    ) -> u64 {
        let transaction = client.transaction().await.unwrap();
        self.lock(&transaction).await;
        let statement = format!(
            "insert into messages (team_id, channel_id, id, seq, created_at, sender, content)
             select $1, channel.id, nextval('slot_{}'),
                    1 + coalesce((select max(seq) from messages
                                  where team_id = $1 and channel_id = channel.id), 0),
                    clock_timestamp(), 'a dying replica', $3
             from channels as channel
             where channel.team_id = $1 and channel.name = $2 and channel.deleted_id is null
             returning id",
            self.number
        );
        let row = transaction
            .query_one(&statement, &[&self.team, &channel, &content])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        row.get::<_, i64>(0) as u64
    }

    /// Does what a replica does to open a channel, without the bell.
    pub(crate) async fn open_silently(self, client: &mut Client, channel: &str) {
        let transaction = client.transaction().await.unwrap();
        self.lock(&transaction).await;
        let statement = format!(
            "insert into channels (team_id, id, name, created_at)
             values ($1, nextval('slot_{}'), $2, clock_timestamp())",
            self.number
        );
        transaction
            .execute(&statement, &[&self.team, &channel])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    /// Does what a replica does to delete a channel, without the bell.
    pub(crate) async fn delete_silently(self, client: &mut Client, channel: &str) {
        let transaction = client.transaction().await.unwrap();
        self.lock(&transaction).await;
        let statement = format!(
            "update channels set deleted_id = nextval('slot_{}')
             where team_id = $1 and name = $2 and deleted_id is null",
            self.number
        );
        let deleted = transaction
            .execute(&statement, &[&self.team, &channel])
            .await
            .unwrap();
        assert_eq!(deleted, 1, "there is such a channel");
        transaction.commit().await.unwrap();
    }
}

/// Ends the sessions that listen for bells; how many there were.
pub(crate) async fn cut_listeners(client: &Client) -> i64 {
    let statement = "
        select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
          and query ilike '%listen %'";
    client.query_one(statement, &[]).await.unwrap().get(0)
}

/// How many messages of a content stand in the team's channels.
pub(crate) async fn count(relay: &TestRelay, content: &str) -> i64 {
    let statement = "select count(*) from messages where content = $1";
    relay
        .database()
        .connect()
        .await
        .query_one(statement, &[&content])
        .await
        .unwrap()
        .get(0)
}

/// A backup of a relay's database, on a Postgres of the test's own: a copy that takes its place.
pub(crate) struct Backup {
    maintenance: Client,
    database: String,
}

impl Backup {
    /// Of this relay's database; nothing is copied yet.
    pub(crate) async fn of(relay: &TestRelay) -> Backup {
        let maintenance = relay.postgres().url("postgres");
        let (maintenance, connection) = tokio_postgres::connect(&maintenance, NoTls).await.unwrap();
        tokio::spawn(connection);
        let database = relay.database().url().rsplit('/').next().unwrap();
        let database = database.split('?').next().unwrap().to_owned();
        Backup {
            maintenance,
            database,
        }
    }

    /// Copies the database as it stands.
    pub(crate) async fn take(&self) {
        let database = &self.database;
        self.offline(format!("create database backup template {database}"))
            .await;
        self.run(&format!("alter database {database} allow_connections true"))
            .await;
    }

    /// Puts the copy in the database's place.
    pub(crate) async fn restore(&self) {
        let database = &self.database;
        self.offline(format!("alter database {database} rename to lost"))
            .await;
        self.run(&format!("alter database backup rename to {database}"))
            .await;
    }

    /// Nobody may be connected while a database is copied or renamed.
    async fn offline(&self, statement: String) {
        let database = &self.database;
        self.run(&format!(
            "alter database {database} allow_connections false"
        ))
        .await;
        eventually("nobody is connected", || async {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
            self.maintenance.execute(end, &[database]).await.unwrap();
            self.maintenance.execute(&statement, &[]).await.ok()
        })
        .await;
    }

    async fn run(&self, statement: &str) {
        self.maintenance.execute(statement, &[]).await.unwrap();
    }
}
