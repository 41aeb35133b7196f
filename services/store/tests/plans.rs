//! The plans of all hot statements, on tables where a scan would hurt: a channel of 200,000
//! messages beside many small ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use handoff_private_postgres::Ephemeral;
use handoff_store::{DatabaseUrl, PLANNER_SETTINGS, migrations, statements::hot_statements};
use serde_json::Value;
use std::{collections::BTreeSet, env, str::FromStr};
use tokio_postgres::{Client, Config, NoTls};

/// A migrated database of its own, dropped at the end.
struct Database {
    name: String,
    server: Config,
    client: Option<Client>,
    _cluster: Option<Ephemeral>,
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    async fn new(name: &str) -> Self {
        let (url, cluster) = match env::var("TEST_DATABASE_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let cluster = tokio::task::spawn_blocking(|| Ephemeral::start().unwrap());
                let cluster = cluster.await.unwrap();
                (cluster.url("postgres"), Some(cluster))
            }
        };
        let server = Config::from_str(&url).unwrap();
        let name = format!("{name}_{}", std::process::id());
        let admin = connect(&server).await;
        admin
            .batch_execute(&format!("drop database if exists {name}"))
            .await
            .unwrap();
        admin
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
        let old = server.get_dbname().unwrap();
        let own_url = url.replacen(&format!("/{old}"), &format!("/{name}"), 1);
        migrations::migrate(&DatabaseUrl::from_str(&own_url).unwrap())
            .await
            .unwrap();
        let config = server
            .clone()
            .dbname(&name)
            .options(PLANNER_SETTINGS)
            .to_owned();
        let client = Some(connect(&config).await);
        Self {
            name,
            server,
            client,
            _cluster: cluster,
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    async fn remove(mut self) {
        self.client.take();
        let admin = connect(&self.server).await;
        let drop = format!("drop database {} with (force)", self.name);
        admin.batch_execute(&drop).await.unwrap();
    }
}

/// Team 1: channel 1 with 200,000 messages of `alice`, every hundredth a reply to message 1 that
/// mentions `bob`; 400 small channels; as many status changes and denials.
const FILL: &str = "
    insert into teams (name) values ('t');
    insert into channels (team_id, id, name, created_at)
    select 1, n, 'c' || n, now() from generate_series(1, 400) n;
    insert into messages
        (team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content)
    select 1, 1, n, n, case when n > 1 and n % 100 = 0 then 1 end, now(), 'alice',
        case when n % 100 = 0 then 'bob' end, 'hello'
    from generate_series(1, 200000) n;
    insert into messages (team_id, channel_id, id, seq, created_at, sender, content)
    select 1, 1 + n % 400, 200000 + n, n, now(), 'carol', 'hello'
    from generate_series(1, 4000) n where n % 400 <> 0;
    insert into mentions (team_id, name, channel_id, id)
    select team_id, mention, channel_id, id from messages where mention is not null;
    insert into status_history
        (team_id, channel_id, id, key, value, changed_by, changed_at, deleted)
    select 1, 1, n, 'k', 'v', 'alice', now(), false from generate_series(1, 50000) n;
    insert into status_entries
        (team_id, channel_id, key, value, updated_by, updated_at, version)
    select 1, 1 + n % 400, 'k' || n, 'v', 'alice', now(), n from generate_series(1, 4000) n;
    insert into audit_log (team_id, id, key_hash, sender, action, channel, denied_at)
    select 1, n, '\\x00', 'alice', 'GET /', '*', now() from generate_series(1, 50000) n;
    insert into acks (team_id, channel_id, sender, last_read_id, acked_at, id)
    select 1, 1, 'reader' || n, n, now(), n from generate_series(1, 5000) n;";

/// Tables that hold the data of teams.
const TEAM_TABLES: [&str; 10] = [
    "channels",
    "messages",
    "mentions",
    "acks",
    "status_entries",
    "status_history",
    "hook_sessions",
    "idempotency",
    "idempotency_keys",
    "audit_log",
];

fn nodes<'a>(plan: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

async fn plan_of(client: &Client, sql: &str) -> Value {
    let parameters = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
    client
        .batch_execute(&format!("prepare hot as {sql}"))
        .await
        .unwrap();
    let nulls = vec!["null"; parameters].join(", ");
    let explain = match parameters {
        0 => "explain (format json) execute hot".to_owned(),
        _ => format!("explain (format json) execute hot ({nulls})"),
    };
    let row = client.query_one(&explain, &[]).await.unwrap();
    client.batch_execute("deallocate hot").await.unwrap();
    row.get::<_, Value>(0)[0]["Plan"].clone()
}

async fn check_plans(client: &Client, when: &str) {
    for (name, sql) in hot_statements() {
        let plan = plan_of(client, &sql).await;
        let mut all = Vec::new();
        nodes(&plan, &mut all);
        for node in all {
            let Some(table) = node["Relation Name"].as_str() else {
                continue;
            };
            let kind = node["Node Type"].as_str().unwrap();
            let is_write = kind == "ModifyTable";
            let condition = node["Index Cond"].as_str().unwrap_or_default();
            if is_write || kind == "Seq Scan" && table == "replicas" {
                continue;
            }
            let by_index = matches!(kind, "Index Scan" | "Index Only Scan");
            assert!(by_index, "{when}, {name}: {kind} on {table}\n{plan:#}");
            if TEAM_TABLES.contains(&table) {
                let by_team = condition.contains("team_id");
                assert!(
                    by_team,
                    "{when}, {name}: {table} by {condition:?}\n{plan:#}"
                );
            }
            // A secondary index counts only by the column that it is for.
            let index = node["Index Name"].as_str().unwrap_or_default();
            if let Some((_, column)) = index.split_once("messages_by_") {
                let by_column = condition.contains(column);
                assert!(
                    by_column,
                    "{when}, {name}: {index} by {condition:?}\n{plan:#}"
                );
            }
            // By channel as well, or it would walk over the whole team.
            if ["messages", "status_history", "acks"].contains(&table) {
                let by_channel = condition.contains("channel_id");
                assert!(
                    by_channel,
                    "{when}, {name}: {table} by {condition:?}\n{plan:#}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_hot_statement_finds_its_rows_by_index() {
    let database = Database::new("plans").await;
    let client = database.client();
    // Cached plans are made when a replica starts, perhaps on empty tables.
    check_plans(client, "empty tables").await;
    client.batch_execute(FILL).await.unwrap();
    check_plans(client, "full tables, old statistics").await;
    client.batch_execute("analyze").await.unwrap();
    check_plans(client, "full tables").await;
    database.remove().await;
}

/// Rows that a statement reads, over all its scans.
async fn rows_read(client: &Client, sql: &str, parameters: &str) -> f64 {
    client
        .batch_execute(&format!("prepare hot as {sql}"))
        .await
        .unwrap();
    let explain = format!("explain (analyze, format json) execute hot ({parameters})");
    let row = client.query_one(&explain, &[]).await.unwrap();
    client.batch_execute("deallocate hot").await.unwrap();
    let plan = row.get::<_, Value>(0)[0]["Plan"].clone();
    let mut all = Vec::new();
    nodes(&plan, &mut all);
    let read = |node: &&Value| {
        let removed = node["Rows Removed by Filter"].as_f64().unwrap_or(0.0);
        (node["Actual Rows"].as_f64().unwrap() + removed) * node["Actual Loops"].as_f64().unwrap()
    };
    let scans = all.iter().filter(|node| node["Relation Name"].is_string());
    scans.map(read).sum()
}

#[tokio::test]
async fn a_page_reads_no_more_rows_than_it_has() {
    let database = Database::new("pages").await;
    let client = database.client();
    client.batch_execute(FILL).await.unwrap();
    client.batch_execute("analyze").await.unwrap();
    let pages = [
        ("unread", "1, 'c1', 'reader100', 51"),
        ("stream page", "1, '{1,2}', 100000, 9223372036854775807, 50"),
        ("feed: messages", "'{1}', '{1}', 100000, 100040, 500"),
        ("status changes after", "1, 'c1', 25000, 51"),
        ("newest status changes", "1, 'c1', 50"),
        ("audit after", "1, 25000, 51"),
        ("newest audit", "1, 50"),
        (
            "messages page, filters 000, newest false",
            "1, 'c1', 100000, 51",
        ),
        (
            "messages page, filters 000, newest true",
            "1, 'c1', 9223372036854775807, 51",
        ),
        (
            "messages page, filters 001, newest false",
            "1, 'c1', 100000, 51, 'bob'",
        ),
        (
            "messages page, filters 001, newest true",
            "1, 'c1', 9223372036854775807, 51, 'bob'",
        ),
        (
            "messages page, filters 010, newest false",
            "1, 'c1', 100000, 51, 'carol'",
        ),
        (
            "messages page, filters 010, newest true",
            "1, 'c1', 9223372036854775807, 51, 'carol'",
        ),
        (
            "messages page, filters 100, newest false",
            "1, 'c1', 100000, 51, 1",
        ),
        (
            "messages page, filters 100, newest true",
            "1, 'c1', 9223372036854775807, 51, 1",
        ),
    ];
    let statements = hot_statements();
    for (name, parameters) in pages {
        let (_, sql) = statements.iter().find(|(found, _)| found == name).unwrap();
        let read = rows_read(client, sql, parameters).await;
        // The page, what it is joined with row by row, the channel and the ack.
        assert!(read <= 2.0 * 51.0 + 5.0, "{name} read {read} rows");
    }
    // What is newer than what was counted before, and the names of 400 channels.
    let (_, sql) = statements
        .iter()
        .find(|(name, _)| name == "inbox: channels")
        .unwrap();
    let parameters = "1, 'alice', '{c1}', 0, 100, '{1}', '{0}', '{0}', '{199960}', 200";
    let read = rows_read(client, sql, parameters).await;
    assert!(read <= 400.0 + 45.0, "a look read {read} rows");
    database.remove().await;
}

#[tokio::test]
async fn every_unique_constraint_of_a_teams_data_begins_with_the_team() {
    let database = Database::new("constraints").await;
    let rows = database
        .client()
        .query(
            "select c.relname, a.attname
            from pg_index i
            join pg_class c on c.oid = i.indrelid
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where c.relnamespace = 'public'::regnamespace and i.indisunique",
            &[],
        )
        .await
        .unwrap();
    // Keys are found by hash alone; the others hold nothing of a team's.
    let exempt = [
        "_sqlx_migrations",
        "epochs",
        "teams",
        "api_keys",
        "key_changes",
        "signing_keys",
        "replicas",
        "replica_streams",
        "rate_limits",
        "signups",
    ];
    let mut seen = BTreeSet::new();
    for row in rows {
        let (table, first): (String, String) = (row.get(0), row.get(1));
        if !exempt.contains(&table.as_str()) {
            assert_eq!(first, "team_id", "{table}");
            seen.insert(table);
        }
    }
    assert_eq!(seen, TEAM_TABLES.map(String::from).into());
    database.remove().await;
}
