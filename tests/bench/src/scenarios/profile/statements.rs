//! What Postgres counts of a load's statements (`pg_stat_statements`), and the plans that it ran
//! them with (`auto_explain`): those of the load itself, with its parameters and its batches.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use handoff_store::statements::hot_statements;
use tokio_postgres::Client;

/// What the private Postgres has to be started with.
pub(crate) const POSTGRES_SETTINGS: [(&str, &str); 5] = [
    (
        "shared_preload_libraries",
        "pg_stat_statements,auto_explain",
    ),
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_buffers", "on"),
    ("auto_explain.log_wal", "on"),
    ("log_line_prefix", "%m [%p] "),
];

/// Of so many statements the plan is looked at: each, timed node by node, costs several times what
/// it does else.
const SAMPLE_RATE: f64 = 0.05;
/// Statements that take less than this share of the time are left out: what replicas do once a second.
const SMALL: f64 = 0.002;
/// The table shows so much of a statement that has no name.
const BEGINNING: usize = 60;

/// What a statement's runs took, all together.
pub(super) struct Statement {
    pub(super) name: String,
    pub(super) calls: i64,
    pub(super) rows: i64,
    pub(super) milliseconds: f64,
    pub(super) hit: i64,
    pub(super) read: i64,
    pub(super) dirtied: i64,
    pub(super) wal_bytes: f64,
}

/// Forgets what was counted.
pub(super) async fn reset(sql: &Client) -> Result<()> {
    sql.batch_execute(
        "create extension if not exists pg_stat_statements;
         select pg_stat_statements_reset()",
    )
    .await
    .context("this Postgres has no pg_stat_statements")
}

/// What was counted, those first that took most time.
pub(super) async fn counted(sql: &Client) -> Result<Vec<Statement>> {
    let rows = sql
        .query(
            "select *
             from (
                select query, calls, rows, total_exec_time, shared_blks_hit, shared_blks_read,
                    shared_blks_dirtied, wal_bytes::float8,
                    total_exec_time / sum(total_exec_time) over () as share
                from pg_stat_statements s
                join pg_database d on d.oid = s.dbid
                where d.datname = current_database() and query !~ 'pg_stat_statements'
             ) s
             where share >= $1
             order by share desc",
            &[&SMALL],
        )
        .await?;
    let known: Vec<_> = hot_statements()
        .into_iter()
        .map(|(name, text)| (name, normalized(&text)))
        .collect();
    let statements = rows.iter().map(|row| Statement {
        name: named(row.get(0), &known),
        calls: row.get(1),
        rows: row.get(2),
        milliseconds: row.get(3),
        hit: row.get(4),
        read: row.get(5),
        dirtied: row.get(6),
        wal_bytes: row.get(7),
    });
    Ok(statements.collect())
}

fn named(text: &str, known: &[(String, String)]) -> String {
    let normal = normalized(text);
    if let Some((name, _)) = known.iter().find(|(_, text)| *text == normal) {
        return name.clone();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(BEGINNING) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

/// A statement with its spaces, parameters and constants alike: Postgres counts those together that
/// differ in constants only, and shows parameters in their place.
fn normalized(text: &str) -> String {
    let mut normal = String::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let word = rest
            .find(|sign: char| !sign.is_alphanumeric() && sign != '_' && sign != '$')
            .unwrap_or(rest.len());
        let (token, place) = match sign {
            ' ' | '\n' | '\t' => {
                rest = rest.trim_start();
                normal.push(' ');
                continue;
            }
            '\'' => {
                let end = rest[1..].find('\'').map_or(rest.len(), |end| end + 2);
                ("?", end)
            }
            '$' | '0'..='9' => ("?", word),
            _ if word == 0 => (&rest[..sign.len_utf8()], sign.len_utf8()),
            _ => match &rest[..word] {
                "null" | "true" | "false" => ("?", word),
                name => (name, word),
            },
        };
        normal.push_str(token);
        rest = &rest[place..];
    }
    normal.trim().to_owned()
}

/// The plans that are written to Postgres' log from here on.
pub(super) struct Plans {
    log: File,
}

/// A plan that a statement ran with.
pub(super) struct Plan {
    pub(super) name: String,
    /// How many runs were looked at.
    pub(super) runs: usize,
    /// Of the run in the middle, instruments included.
    pub(super) milliseconds: f64,
    pub(super) text: String,
}

impl Plans {
    /// Has the plan of some of the statements logged.
    pub(super) async fn begin(sql: &Client, log: &Path) -> Result<Self> {
        let mut log = File::open(log)
            .with_context(|| format!("Postgres' log {} can't be read", log.display()))?;
        log.seek(SeekFrom::End(0))?;
        let sample = format!("alter system set auto_explain.sample_rate = {SAMPLE_RATE}");
        for statement in [
            sample.as_str(),
            "alter system set auto_explain.log_min_duration = 0",
            "select pg_reload_conf()",
        ] {
            sql.batch_execute(statement).await?;
        }
        Ok(Self { log })
    }

    /// Ends that; returns a plan of each statement that has a name: of the run that took the median
    /// time.
    pub(super) async fn end(mut self, sql: &Client) -> Result<Vec<Plan>> {
        for statement in [
            "alter system reset auto_explain.log_min_duration",
            "alter system reset auto_explain.sample_rate",
            "select pg_reload_conf()",
        ] {
            sql.batch_execute(statement).await?;
        }
        let mut text = Vec::new();
        self.log.read_to_end(&mut text)?;
        Ok(plans(&String::from_utf8_lossy(&text), &hot_statements()))
    }
}

fn plans(log: &str, known: &[(String, String)]) -> Vec<Plan> {
    let logged = logged(log);
    let plan = |(name, statement): &(String, String)| {
        let mut runs: Vec<_> = logged
            .iter()
            .filter_map(|(milliseconds, text)| {
                let plan = text.strip_prefix(statement)?.strip_prefix('\n')?;
                // Later releases show the parameters as well.
                let shown = plan.lines().filter(|line| !line.starts_with("Query "));
                Some((*milliseconds, shown.collect::<Vec<_>>().join("\n")))
            })
            .collect();
        runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (milliseconds, text) = runs.get(runs.len() / 2)?.clone();
        Some(Plan {
            name: name.clone(),
            runs: runs.len(),
            milliseconds,
            text,
        })
    };
    known.iter().filter_map(plan).collect()
}

/// The statements of a log with their plans behind them, and how long they took.
fn logged(log: &str) -> Vec<(f64, String)> {
    let mut found: Vec<(f64, String)> = Vec::new();
    let mut of_one = false;
    for line in log.lines() {
        // Lines after an entry's first are indented by a tab.
        if let Some(line) = line.strip_prefix('\t') {
            if let Some((_, text)) = found.last_mut().filter(|_| of_one) {
                match line.strip_prefix("Query Text: ") {
                    Some(line) if text.is_empty() => text.push_str(line),
                    _ => text.push_str(line),
                }
                text.push('\n');
            }
            continue;
        }
        let duration = line.split_once("duration: ").and_then(|(_, rest)| {
            let (milliseconds, rest) = rest.split_once(" ms")?;
            rest.trim().eq("plan:").then_some(())?;
            milliseconds.parse().ok()
        });
        of_one = duration.is_some();
        if let Some(duration) = duration {
            found.push((duration, String::new()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{normalized, plans};

    #[test]
    fn statements_that_differ_in_constants_are_alike() {
        let ours =
            "\n    select coalesce(m.seq, 0), ''\n    from messages m\n    limit 1 offset $2";
        let theirs =
            "\n    select coalesce(m.seq, $3), $4\n    from messages m\n    limit $5 offset $2";
        assert_eq!(normalized(ours), normalized(theirs));
        let other = "select coalesce(m.id, 0), '' from messages m limit 1 offset $2";
        assert_ne!(normalized(ours), normalized(other));
    }

    #[test]
    fn plans_are_found_in_the_log() {
        let log = "2026-11-28 20:18:00.1 UTC [12] LOG:  checkpoint starting: time\n\
                   2026-11-28 20:18:00.1 UTC [12] LOG:  duration: 0.120 ms  plan:\n\
                   \tQuery Text: \n\t    select 1\n\t    from t\n\
                   \tSeq Scan on t  (cost=0.00..1.00)\n\t  Buffers: shared hit=1\n\
                   2026-11-28 20:18:00.1 UTC [12] LOG:  duration: 0.320 ms  plan:\n\
                   \tQuery Text: select 2\n\tResult\n\
                   2026-11-28 20:18:00.1 UTC [12] ERROR:  no\n\tfurther\n";
        let known = [
            ("one".to_owned(), "\n    select 1\n    from t".to_owned()),
            ("three".to_owned(), "select 3".to_owned()),
        ];
        let found = plans(log, &known);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].runs), ("one", 1));
        let expected = "Seq Scan on t  (cost=0.00..1.00)\n  Buffers: shared hit=1";
        assert_eq!(found[0].text, expected);
    }
}
