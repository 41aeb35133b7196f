//! The play: a release from its kick-off to the health check. Who may do what, who does what, and
//! what each of them tries although it must not.

use super::agent::{Agent, Inbound};
use anyhow::{Context, ensure};
use handoff_client::types::{MessageQuery, NewMessage, PageQuery, Permissions};

const VERSION: &str = "v1.4.0";
const LAST_WORDS: &str = "released";

/// The channels, and what they are for.
pub(super) const CHANNELS: [(&str, &str); 4] = [
    ("build", "What is built, and how far it is"),
    ("deploy", "What is deployed"),
    ("monitoring", "How what runs is doing"),
    ("review", "Verdicts"),
];

/// A part in the play.
pub(super) struct Role {
    /// The agent's name.
    pub(super) name: &'static str,
    /// What its key may do; a channel that is not named is closed to it.
    pub(super) may: &'static [(&'static str, &'static str)],
    /// The channels that it follows: all that it may read.
    pub(super) hears: &'static [&'static str],
}

impl Role {
    /// What its key may do, as the relay is told.
    pub(super) fn permissions(&self) -> Permissions {
        let each = self.may.iter();
        each.map(|(channel, level)| (channel.to_string(), level.to_string()))
            .collect()
    }
}

const EVERYTHING: &[&str] = &["build", "deploy", "monitoring", "review"];

/// Who takes part.
pub(super) const CAST: [Role; 7] = [
    Role {
        name: "orchestrator",
        may: &[("*", "admin")],
        hears: EVERYTHING,
    },
    Role {
        name: "builder",
        may: &[("build", "write"), ("deploy", "read")],
        hears: &["build", "deploy"],
    },
    Role {
        name: "reviewer",
        may: &[("build", "read"), ("review", "write")],
        hears: &["build", "review"],
    },
    Role {
        name: "deployer",
        may: &[("build", "read"), ("deploy", "write")],
        hears: &["build", "deploy"],
    },
    Role {
        name: "monitor",
        may: &[
            ("build", "read"),
            ("deploy", "read"),
            ("monitoring", "write"),
        ],
        hears: &["build", "deploy", "monitoring"],
    },
    Role {
        name: "qa",
        may: &[("build", "read"), ("deploy", "read"), ("review", "write")],
        hears: &["build", "deploy", "review"],
    },
    Role {
        name: "notifier",
        may: &[("*", "read")],
        hears: EVERYTHING,
    },
];

/// Plays one part to its end.
pub(super) async fn play(mut agent: Agent, mut inbound: Inbound) -> anyhow::Result<Agent> {
    let (me, it) = (&mut agent, &mut inbound);
    match me.role.name {
        "orchestrator" => orchestrate(me, it).await,
        "builder" => build(me, it).await,
        "reviewer" => review(me, it).await,
        "deployer" => deploy(me, it).await,
        "monitor" => monitor(me, it).await,
        "qa" => assure_quality(me, it).await,
        _ => notify(me, it).await,
    }
    .with_context(|| format!("the {} failed", agent.role.name))?;
    Ok(agent)
}

/// Kicks off, hands on, and watches for the end.
async fn orchestrate(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    me.set_status("build", "phase", "requested").await?;
    let text = format!("build {VERSION}, please");
    let kick_off = me.post("build", &text, Some("builder")).await?;
    it.next_from("reviewer", "approved").await?;
    // The deployer can't see the review: it is told.
    let order = me
        .post("deploy", &format!("deploy {VERSION}"), Some("deployer"))
        .await?;
    let deployed = it.next_from("deployer", "deployed").await?;
    ensure!(
        deployed.thread_id.as_ref() == Some(&order.id),
        "the deployer answered in another thread"
    );
    me.post("monitoring", "check health, please", Some("monitor"))
        .await?;
    // These two know nothing of each other.
    let mut awaited = vec![("monitor", "healthy"), ("qa", "accepted")];
    while !awaited.is_empty() {
        let message = it.next().await?;
        awaited.retain(|(sender, start)| {
            message.sender != *sender || !message.content.starts_with(start)
        });
        if matches!(message.sender.as_str(), "monitor" | "qa") {
            me.ack(&message).await?;
        }
    }
    me.set_status("build", "phase", "released").await?;
    me.reply(&kick_off, &format!("{LAST_WORDS} {VERSION}"))
        .await?;
    Ok(())
}

/// Builds what it is asked for by mention, in the thread of the request.
async fn build(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    let asked = it.next_from("orchestrator", "build ").await?;
    ensure!(
        asked.mention.as_deref() == Some("builder"),
        "the request mentions somebody else"
    );
    me.ack(&asked).await?;
    me.set_status("build", "phase", "building").await?;
    for step in ["compiled", "tested", "packed"] {
        me.reply(&asked, step).await?;
    }
    let mine = NewMessage {
        content: "deployed it myself".to_owned(),
        ..NewMessage::default()
    };
    let outcome = me.client.post_message("deploy", mine).await;
    me.must_not("post to deploy", "deploy", outcome)?;
    me.set_status("build", "artifact", VERSION).await?;
    me.reply(&asked, &format!("built {VERSION}")).await?;
    let outcome = me
        .client
        .read_messages("review", &MessageQuery::default())
        .await;
    me.must_not("read review", "review", outcome)
}

/// Reads the whole thread of what was built, and approves.
async fn review(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    let built = it.next_from("builder", "built").await?;
    let thread = built.thread_id.as_deref().context("it is in no thread")?;
    let page = me
        .client
        .read_thread("build", thread, &PageQuery::default())
        .await?;
    ensure!(
        page.parent.sender == "orchestrator" && page.replies.len() == 4,
        "the thread is not whole"
    );
    let outcome = me.client.delete_message("build", &built.id).await;
    me.must_not("delete a message of build", "build", outcome)?;
    me.post(
        "review",
        &format!("approved {VERSION}"),
        Some("orchestrator"),
    )
    .await?;
    Ok(())
}

/// Deploys what the build channel's status names, when it is told to.
async fn deploy(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    let order = it.next_from("orchestrator", "deploy ").await?;
    let artifact = me.client.list_statuses("build", Some("artifact")).await?;
    let artifact = artifact.first().context("the artifact has no name")?;
    let artifact = artifact.value.clone();
    me.ack(&order).await?;
    me.set_status("deploy", "running", &artifact).await?;
    me.reply(&order, &format!("deployed {artifact}")).await?;
    let outcome = me.client.delete_channel("deploy").await;
    me.must_not("delete the channel deploy", "deploy", outcome)
}

/// Checks the health of what runs, when it is told to.
async fn monitor(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    let check = it.next_from("orchestrator", "check health").await?;
    let running = me.client.list_all_statuses(None, Some("running")).await?;
    let running = running.first().context("nothing runs")?.value.clone();
    let outcome = me.client.set_status("deploy", "running", "mine").await;
    me.must_not("set a status of deploy", "deploy", outcome)?;
    me.set_status("monitoring", "health", "green").await?;
    me.reply(&check, &format!("healthy: {running}")).await?;
    me.ack(&check).await
}

/// Tests what runs, and says so in the review.
async fn assure_quality(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    let approved = it.next_from("reviewer", "approved").await?;
    // Every channel comes over the one stream, in the one order of the team.
    it.next_from("deployer", "deployed").await?;
    let everything = Permissions::from([("*".to_owned(), "admin".to_owned())]);
    let outcome = me
        .client
        .set_key_permissions(&me.hash.clone(), &everything)
        .await;
    me.must_not("make itself an admin", "*", outcome)?;
    me.reply(&approved, &format!("accepted {VERSION}")).await?;
    me.ack(&approved).await
}

/// Only listens: to everything, until the end.
async fn notify(me: &mut Agent, it: &mut Inbound) -> anyhow::Result<()> {
    loop {
        let message = it.next().await?;
        me.show(&message)?;
        if message.sender == "orchestrator" && message.content.starts_with(LAST_WORDS) {
            break;
        }
    }
    me.pause().await;
    let mine = NewMessage {
        content: "hear, hear".to_owned(),
        ..NewMessage::default()
    };
    let outcome = me.client.post_message("review", mine).await;
    me.must_not("post to review", "review", outcome)
}
