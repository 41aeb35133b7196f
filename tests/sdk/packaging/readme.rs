//! The npm page: every program on it is run as it stands there, in a project with the packages
//! installed. Only its address and key are replaced.

use std::fs;
use std::path::PathBuf;

use harness::{Agent, TestRelay, within};
use serde_json::{Value, json};

use super::project::Project;
use crate::mcp_client::{Language, McpClient};
use crate::programs::{sdk, succeed};

const URL: &str = "https://relay.example";
const KEY: &str = "relay_...";
/// What a block that goes on from the first one stands on.
const PRELUDE: &str = r#"import { Handoff } from "handoff-sdk";
const hf = new Handoff({ apiUrl: "https://relay.example", apiKey: "relay_..." });
"#;

/// The page's code in a language, block by block.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(sdk().join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix("```") else {
            continue;
        };
        let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if found == language {
            blocks.push(code.join("\n"));
        }
    }
    assert!(!blocks.is_empty(), "the page has no {language}");
    blocks
}

/// The block for a relay and a key.
fn filled_in(code: &str, relay: &TestRelay, agent: &Agent) -> String {
    assert!(code.contains(URL) && code.contains(KEY), "{code}");
    code.replace(URL, relay.replica(0).url())
        .replace(KEY, agent.key())
}

#[tokio::test]
async fn its_programs_run_and_are_typed() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let project = Project::with_sdk().await;
    let mut programs: Vec<PathBuf> = Vec::new();
    for (number, block) in blocks("ts").into_iter().enumerate() {
        let code = if block.contains("const hf = ") {
            block
        } else {
            format!("{PRELUDE}{block}")
        };
        let code = filled_in(&code, &relay, &admin);
        programs.push(project.write(&format!("block-{number}.mts"), &code));
    }

    project.check_types(&programs).await;
    let mut said = Vec::new();
    for program in &programs {
        said.push(succeed(&mut project.node(program)).await);
    }

    // The first one is the example that everybody begins with.
    let infra = admin.get("/api/channels/infra/messages").await.expect(200);
    let [ready, question] = &infra["messages"].as_array().unwrap()[..] else {
        panic!("two messages: {infra}");
    };
    assert_eq!(ready["content"], "EKS cluster ready");
    assert_eq!(ready["mention"], "jordan");
    assert_eq!(question["thread_id"], ready["id"]);
    let status = admin.get("/api/status?channel=infra").await.expect(200);
    assert_eq!(status[0]["value"], "ready");
    assert!(said[0].contains("What node instance type?"), "{said:?}");

    let printed = |text: &str| said.iter().any(|output| output.contains(text));
    assert!(
        printed("deploy: 1.4.0 is live"),
        "a stream of two: {said:?}"
    );
    assert!(printed("only for us encrypted"), "{said:?}");
    assert!(printed("404 MESSAGE_NOT_FOUND"), "{said:?}");
    assert!(printed("true yes\n1"), "a wait: {said:?}");
    let reviews = admin.get("/api/channels/reviews/messages").await;
    let finding = &reviews.expect(200)["messages"][1];
    assert_eq!(finding["sender"], "admin/linter", "{finding}");
    let deploys = admin.get("/api/channels/deploy/messages").await.expect(200);
    let text = deploys.to_string();
    assert_eq!(text.matches("rolling out 42").count(), 1, "{text}");
    let secrets = admin
        .get("/api/channels/secrets/messages")
        .await
        .expect(200);
    assert!(!secrets.to_string().contains("only for us"), "{secrets}");
}

#[tokio::test]
async fn its_program_for_commonjs_runs_and_has_types() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let project = Project::with_sdk().await;
    let [block] = &blocks("js")[..] else {
        panic!("one block");
    };
    let program = project.write("program.cjs", &filled_in(block, &relay, &admin));
    let printed = succeed(&mut project.node(&program)).await;
    let page = admin.get("/api/channels/infra/messages").await.expect(200);
    assert_eq!(page["messages"][0]["content"], "hello from CommonJS");
    assert_eq!(page["messages"][0]["id"], printed.trim());

    let typed = r#"
        import sdk = require("handoff-sdk");
        import { HandoffError, type Message } from "handoff-sdk";
        export async function post(hf: sdk.Handoff): Promise<Message | HandoffError> {
          return hf.post("infra", "typed");
        }
        // @ts-expect-error: a number is no text, and the compiler knows
        export const wrong = (hf: sdk.Handoff) => hf.post("infra", 7);
    "#;
    project
        .check_types(&[project.write("typed.cts", typed)])
        .await;
}

#[tokio::test]
async fn mcp_clients_run_what_its_configuration_says() {
    let relay = TestRelay::new().await;
    let project = Project::with_program().await;
    let [block] = &blocks("json")[..] else {
        panic!("one block");
    };
    let block: Value = serde_json::from_str(block).unwrap();
    let server = &block["mcpServers"]["handoff"];
    assert_eq!(
        server["env"],
        json!({"RELAY_API_URL": URL, "RELAY_API_KEY": KEY})
    );
    let command: Vec<&Value> = std::iter::once(&server["command"])
        .chain(server["args"].as_array().unwrap())
        .collect();
    // The line for Claude Code ends in the same command.
    let line: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    let ending = format!("-- {}", line.join(" "));
    assert!(
        blocks("sh").iter().any(|block| block.ends_with(&ending)),
        "{ending}"
    );

    for language in [Language::Python, Language::TypeScript] {
        let alice = relay.agent("alice", json!({"*": "write"})).await;
        let options = project.mcp_options(&json!(command), &relay, &alice);
        let mut client = McpClient::start_in(project.path(), language, options).await;
        let tools = client.list_tools().await;
        assert!(tools["tools"].as_array().unwrap().len() >= 18, "{tools}");
        let text = format!("from {language:?} by npx");
        let arguments = json!({"channel": "build", "content": text});
        client.call("post_message", arguments).await;
        let page = relay.admin().get("/api/channels/build/messages").await;
        assert!(page.text().contains(&text), "{}", page.text());

        drop(client);
        within(
            "npx and handoff end with their client",
            project.left_alone(),
        )
        .await;
    }
}
