//! Tenancy: what belongs to another team answers exactly as what does not exist.

use harness::{Response, TestRelay};
use serde_json::json;

use crate::fixtures::{ack, channel_names, id, messages, page, refusal, set};
use crate::routes::{Needs, ROUTES, Scene, answer, wide_relay};

/// An answer without the names that the request itself gave.
fn shape(answer: &Response, scene: &Scene) -> (u16, String) {
    let body = match answer.status() {
        200..300 => answer.text(),
        _ => {
            let id = format!("\"{}\"", scene.message);
            refusal(answer).to_string().replace(&id, "ID")
        }
    };
    let body = body
        .replace(&scene.channel, "CHANNEL")
        .replace(&scene.key_hash, "HASH");
    (answer.status(), body)
}

#[tokio::test]
async fn anothers_things_answer_as_things_that_do_not_exist() {
    let relay = wide_relay().await;
    let victim = relay.admin();
    let mallory = relay.signup("other", "mallory").await;
    for (number, route) in ROUTES.iter().enumerate() {
        // Writing would make a channel of one's own; reading and deleting tells.
        if matches!(route.needs, Needs::Nothing | Needs::Write) || route.method == "POST" {
            continue;
        }
        let theirs = Scene::new(&victim, &format!("secret{number}")).await;
        let nobodys = Scene::imaginary(&format!("absent{number}"));
        let (status, foreign) = answer(route.request(&mallory, &theirs)).await;
        let (expected, imaginary) = answer(route.request(&mallory, &nobodys)).await;
        assert_eq!(status, expected, "{} {}", route.method, route.path);
        if let (Some(foreign), Some(imaginary)) = (foreign, imaginary) {
            assert_eq!(shape(&foreign, &theirs), shape(&imaginary, &nobodys));
        }
    }
    // And nothing happened to them.
    assert_eq!(channel_names(&victim).await.len(), count_of_scenes());
    let keys = victim.get("/api/keys").await.expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 1 + count_of_scenes());
}

fn count_of_scenes() -> usize {
    ROUTES
        .iter()
        .filter(|r| !matches!(r.needs, Needs::Nothing | Needs::Write) && r.method != "POST")
        .count()
}

#[tokio::test]
async fn channels_of_one_name_are_apart() {
    let relay = TestRelay::new().await;
    let (acme, other) = (relay.admin(), relay.signup("other", "admin").await);
    let ours = acme.say("ops", "ours").await;
    set(&acme, "ops", "k", "ours").await;
    ack(&acme, "ops", id(&ours)).await;
    let mut stream = other.stream_from("/api/channels/ops/stream", "0").await;
    let mut many = other
        .stream("/api/stream?channels=ops&last_event_id=0")
        .await;

    assert_eq!(channel_names(&other).await, Vec::<String>::new());
    assert!(
        page(&other, messages("ops"), "messages")
            .await
            .items
            .is_empty()
    );
    assert!(
        page(&other, "/api/channels/ops/unread", "messages")
            .await
            .items
            .is_empty()
    );
    for list in ["status", "acks"] {
        assert_eq!(
            other
                .get(format!("/api/channels/ops/{list}"))
                .await
                .expect(200),
            json!([])
        );
    }
    assert_eq!(other.get("/api/status").await.expect(200), json!([]));
    assert!(
        page(&other, "/api/channels/ops/status/changes", "changes")
            .await
            .items
            .is_empty()
    );

    let theirs = other.say("ops", "theirs").await;
    assert_eq!(stream.next().await.data, theirs);
    assert_eq!(many.next().await.data, theirs);
    acme.say("ops", "ours again").await;
    stream.stays_silent().await;
    many.stays_silent().await;
    assert_eq!(
        page(&acme, messages("ops"), "messages").await.contents(),
        ["ours", "ours again"]
    );
    other.delete("/api/channels/ops").await.expect(204);
    assert_eq!(channel_names(&acme).await, ["ops"]);
}

#[tokio::test]
async fn anothers_ids_name_nothing_in_a_channel_of_ones_own() {
    let relay = TestRelay::new().await;
    let (acme, other) = (relay.admin(), relay.signup("other", "mallory").await);
    // IDs are unique within a team only: take one that the other team does not have itself.
    let mut ours = acme.say("ops", "ours").await;
    for _ in 0..5 {
        ours = acme.say("ops", "ours").await;
    }
    other.say("ops", "theirs").await;
    let path = format!("{}/{}", messages("ops"), id(&ours));
    let missing = format!("{}/{}", messages("ops"), "4000000000");
    let foreign = other.delete(path).await;
    foreign.refused(404, "MESSAGE_NOT_FOUND");
    assert_eq!(
        refusal(&foreign)["code"],
        refusal(&other.delete(missing).await)["code"]
    );
    other
        .get(format!("/api/channels/ops/threads/{}", id(&ours)))
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    other
        .post(
            messages("ops"),
            json!({"content": "x", "thread_id": id(&ours)}),
        )
        .await
        .refused(404, "THREAD_PARENT_NOT_FOUND");
    assert_eq!(
        page(&acme, messages("ops"), "messages").await.items.len(),
        6
    );
}

#[tokio::test]
async fn the_audit_log_is_the_teams_own() {
    let relay = TestRelay::new().await;
    let (acme, other) = (relay.admin(), relay.signup("other", "mallory").await);
    let nobody = relay.agent("nobody", json!({})).await;
    nobody.get(messages("ops")).await.refused(403, "FORBIDDEN");
    assert_eq!(page(&acme, "/api/audit", "entries").await.items.len(), 1);
    assert!(page(&other, "/api/audit", "entries").await.items.is_empty());
}
