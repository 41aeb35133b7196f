//! From a post that mentions an agent to the agent's wake-up: the line that `handoff watch` prints,
//! and the notification that `handoff mcp --channel` sends.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hyper::StatusCode;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::{Common, WakeOptions};
use crate::report::{self, Bar, Figures, Row, Scenario};

/// Between two of them: longer than what `watch` takes for one burst.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a wake-up may take before it counts as lost.
const LOST: Duration = Duration::from_secs(10);
/// Tries until both are listening.
const WARM_UP_TRIES: u32 = 30;
const PATH: &str = "/api/channels/wake/messages";

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &WakeOptions,
) -> Result<Scenario> {
    let deployment = server.deploy("wake", common.replicas(1)).await?;
    let team = deployment.sign_up("wake").await?;
    let program = server.program("handoff")?;
    let mut watch = Sleeper::start(&program, &["watch"], &deployment, &team).await?;
    let mut push = Sleeper::start(&program, &["mcp", "--channel"], &deployment, &team).await?;
    push.initialize().await?;
    // The last replica gets the posts; both programs are on the first.
    let address = deployment.address(deployment.replica_count() - 1);
    let mut connection = Connection::open(address).await?;

    for number in 0.. {
        ensure!(number < WARM_UP_TRIES, "an agent does not wake up");
        let mark = format!("warm-up-{number}");
        mention(&mut connection, &team, &mark).await?;
        let second = Duration::from_secs(1);
        let heard = timeout(second, async {
            watch.hear(&mark).await?;
            push.hear(&mark).await
        });
        if matches!(heard.await, Ok(Ok(()))) {
            break;
        }
    }
    let (mut lines, mut pushes) = (report::histogram(), report::histogram());
    for number in 0..options.mentions * u32::from(common.rounds()) {
        sleep(PAUSE).await;
        let mark = format!("mention-{number}");
        let posted = Instant::now();
        let hear = async |sleeper: &mut Sleeper| -> Result<Duration> {
            sleeper.hear(&mark).await?;
            Ok(posted.elapsed())
        };
        let (answered, line, push) = tokio::join!(
            mention(&mut connection, &team, &mark),
            timeout(LOST, hear(&mut watch)),
            timeout(LOST, hear(&mut push)),
        );
        answered?;
        lines.record(line.context("watch lost a mention")??.as_nanos() as u64)?;
        pushes.record(push.context("the channel lost a mention")??.as_nanos() as u64)?;
    }
    drop((watch, push));
    deployment.stop().await?;

    let mut scenario = Scenario::new(
        "wake",
        format!(
            "{} mentions, one every {} ms, to an agent with `handoff watch` and `handoff mcp \
             --channel` on the same machine",
            lines.len(),
            PAUSE.as_millis()
        ),
    );
    for (subject, program, latency) in [
        ("post to watch's line", "the line of handoff watch", &lines),
        (
            "post to notification",
            "the notification of handoff mcp",
            &pushes,
        ),
    ] {
        let figures = Figures::default().with_latency(latency);
        let p99 = figures.value("p99_ms");
        scenario
            .rows
            .push(Row::new(format!("post to {program}"), figures));
        scenario
            .bars
            .push(Bar::at_most(format!("{subject}, p99 ms"), p99, 100.0));
    }
    Ok(scenario)
}

async fn mention(connection: &mut Connection, team: &Team, mark: &str) -> Result<()> {
    // Ends with a sign that no other mark has.
    let body = json!({"content": format!("{mark}."), "mention": "sleeper"});
    let request = Prepared::post(PATH, &team.key, &body);
    connection
        .send(&request)
        .await?
        .expect(StatusCode::CREATED)?;
    Ok(())
}

/// A program that prints a line when its agent is called.
struct Sleeper {
    _process: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Sleeper {
    async fn start(
        program: &Path,
        arguments: &[&str],
        deployment: &Deployment<'_>,
        team: &Team,
    ) -> Result<Self> {
        let key = deployment.add_key(team, "sleeper").await?;
        let mut process = Command::new(program)
            .args(arguments)
            .env("RELAY_API_URL", format!("http://{}", deployment.address(0)))
            .env("RELAY_API_KEY", key)
            .env_remove("HANDOFF_ENCRYPTION_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take().context("no standard input")?;
        let stdout = process.stdout.take().context("no standard output")?;
        Ok(Self {
            _process: process,
            stdin,
            stdout: BufReader::new(stdout).lines(),
        })
    }

    /// Shakes hands as an MCP client.
    async fn initialize(&mut self) -> Result<()> {
        let initialize = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "handoff-bench", "version": "1"},
            },
        });
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.stdin
            .write_all(format!("{initialize}\n").as_bytes())
            .await?;
        self.hear("serverInfo").await?;
        self.stdin
            .write_all(format!("{initialized}\n").as_bytes())
            .await?;
        Ok(())
    }

    /// Reads on to a line with this in it.
    async fn hear(&mut self, mark: &str) -> Result<()> {
        while let Some(line) = self.stdout.next_line().await? {
            if line.contains(&format!("{mark}.")) || line.contains(&format!("{mark}\"")) {
                return Ok(());
            }
        }
        bail!("the program has ended")
    }
}
