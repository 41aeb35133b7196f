//! IDs and cursors: strings that hold a decimal serial.

use harness::{Agent, TestRelay};
use serde_json::json;

use crate::fixtures::{id, messages, number, page, raw, say_many};

const MALFORMED: &[&str] = &[
    "x",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "0x1",
    "1-0",
    "0-1",
    "0-0-0",
    "1_000",
    "1,2",
    " 1",
    "1 ",
    "\u{ff11}",
    "\u{661}",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999",
];

const CURSORS: &[&str] = &["0", "0-0", "1", "9223372036854775807"];

/// Every place where a GET takes an ID, with `{}` for it.
const PLACES: &[&str] = &[
    "/api/channels/ops/messages?after_id={}",
    "/api/channels/ops/messages?thread_id={}",
    "/api/channels/ops/threads/{parent}?after_id={}",
    "/api/channels/ops/status/changes?after_id={}",
    "/api/audit?after_id={}",
];

async fn place(admin: &Agent, template: &str, id: &str, parent: &str) -> harness::Response {
    let encoded = crate::fixtures::encode(id);
    admin
        .get(template.replace("{parent}", parent).replace("{}", &encoded))
        .await
}

#[tokio::test]
async fn a_malformed_id_is_an_invalid_cursor_everywhere() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    for malformed in MALFORMED {
        for template in PLACES {
            place(&admin, template, malformed, id(&parent))
                .await
                .refused(400, "INVALID_CURSOR");
        }
        let encoded = crate::fixtures::encode(malformed);
        admin
            .get(format!("/api/channels/ops/threads/{encoded}"))
            .await
            .refused(400, "INVALID_CURSOR");
        admin
            .delete(format!("/api/channels/ops/messages/{encoded}"))
            .await
            .refused(400, "INVALID_CURSOR");
        for path in ["/api/channels/ops/stream?", "/api/stream?channels=ops&"] {
            admin
                .get(format!("{path}last_event_id={encoded}"))
                .await
                .refused(400, "INVALID_CURSOR");
        }
        admin
            .post(
                messages("ops"),
                json!({"content": "x", "thread_id": malformed}),
            )
            .await
            .refused(400, "INVALID_CURSOR");
        admin
            .post("/api/channels/ops/ack", json!({"last_read_id": malformed}))
            .await
            .refused(400, "INVALID_CURSOR");
        if malformed.trim() == *malformed {
            admin
                .request(harness::Method::GET, "/api/channels/ops/stream")
                .header("last-event-id", malformed)
                .send()
                .await
                .refused(400, "INVALID_CURSOR");
        }
    }
    // Also past what text can hold.
    for garbage in ["%00", "%FF", "1%00", "%F0%9F%98%80"] {
        for path in ["after_id", "thread_id"] {
            let answer = admin
                .get(format!("{}?{path}={garbage}", messages("ops")))
                .await;
            assert_eq!(answer.status(), 400, "{answer:?}");
        }
        admin
            .delete(format!("/api/channels/ops/messages/{garbage}"))
            .await
            .refused(400, "INVALID_CURSOR");
    }
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        1
    );
}

#[tokio::test]
async fn a_cursor_need_not_exist() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    for cursor in CURSORS {
        for template in PLACES {
            place(&admin, template, cursor, id(&parent))
                .await
                .expect(200);
        }
        admin.stream_from("/api/channels/ops/stream", cursor).await;
        admin
            .stream(format!("/api/stream?channels=ops&last_event_id={cursor}"))
            .await;
    }
}

#[tokio::test]
async fn zero_is_the_beginning() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    say_many(&admin, "ops", 3).await;
    for beginning in ["0", "0-0"] {
        let path = format!("{}?after_id={beginning}&limit=2", messages("ops"));
        assert_eq!(page(&admin, path, "messages").await.contents(), ["1", "2"]);
        let mut stream = admin
            .stream_from("/api/channels/ops/stream", beginning)
            .await;
        assert_eq!(stream.next().await.data["content"], "1");
    }
}

#[tokio::test]
async fn zero_names_no_message() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    for nothing in ["0", "0-0", "9223372036854775807"] {
        admin
            .delete(format!("{}/{nothing}", messages("ops")))
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
        admin
            .get(format!("/api/channels/ops/threads/{nothing}"))
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
        admin
            .post(
                messages("ops"),
                json!({"content": "x", "thread_id": nothing}),
            )
            .await
            .refused(404, "THREAD_PARENT_NOT_FOUND");
        let replies = format!("{}?thread_id={nothing}", messages("ops"));
        assert!(page(&admin, replies, "messages").await.items.is_empty());
    }
}

#[tokio::test]
async fn ids_are_strings_not_numbers() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin.say("ops", "hello").await;
    let number = number(id(&said));
    let ack = format!(r#"{{"last_read_id":{number}}}"#);
    raw(&admin, "POST", "/api/channels/ops/ack", ack.as_bytes())
        .await
        .refused(400, "INVALID_JSON");
    let reply = format!(r#"{{"content":"x","thread_id":{number}}}"#);
    raw(&admin, "POST", &messages("ops"), reply.as_bytes())
        .await
        .refused(400, "INVALID_JSON");
}

#[tokio::test]
async fn ids_ascend_over_the_channels_of_a_team() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut last = 0;
    for round in 0..20 {
        let said = admin.say(["a", "b", "c"][round % 3], "hello").await;
        let id = number(id(&said));
        assert!(id > last, "{id} after {last}");
        last = id;
    }
    // A status change draws from the same order.
    crate::fixtures::set(&admin, "a", "k", "v").await;
    let changes = page(&admin, "/api/channels/a/status/changes", "changes").await;
    assert!(number(changes.ids()[0]) > last);
}
