//! `expires_at` on keys.

use harness::TestRelay;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::fixtures::{messages, text};

fn in_seconds(seconds: i64) -> String {
    (OffsetDateTime::now_utc() + Duration::seconds(seconds))
        .format(&Rfc3339)
        .unwrap()
}

#[tokio::test]
async fn a_key_is_refused_once_it_has_expired() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"sender_name": "bob", "expires_at": in_seconds(6)});
    let made = admin.post("/api/keys", body).await.expect(201);
    let bob = admin.with_key(text(&made, "api_key"));
    bob.say("ops", "hello").await;
    let mut stream = bob.stream("/api/channels/ops/stream").await;
    harness::eventually("the key expires", || async {
        let answer = bob.get(messages("ops")).await;
        (answer.status() == 401).then(|| answer.refused(401, "INVALID_API_KEY"))
    })
    .await;
    let expires_at = OffsetDateTime::parse(text(&made, "expires_at"), &Rfc3339).unwrap();
    assert!(
        OffsetDateTime::now_utc() >= expires_at - Duration::seconds(1),
        "not before its time"
    );
    // A key that is refused streams no more.
    stream.ended().await;
}

#[tokio::test]
async fn the_expiry_is_shown_and_none_is_none() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"sender_name": "bob", "expires_at": in_seconds(3_600)});
    let made = admin.post("/api/keys", body).await.expect(201);
    let bob = admin.with_key(text(&made, "api_key"));
    bob.get("/api/channels").await.expect(200);
    let keys = admin.get("/api/keys").await.expect(200);
    let listed = |hash: &Value| {
        keys.as_array()
            .unwrap()
            .iter()
            .find(|key| key["key"] == *hash)
            .unwrap()
            .clone()
    };
    assert_eq!(listed(&made["key"])["expires_at"], made["expires_at"]);
    assert_eq!(listed(&json!(admin.key_hash()))["expires_at"], Value::Null);
    assert_eq!(
        bob.get("/api/me").await.expect(200)["expires_at"],
        made["expires_at"]
    );

    let body = json!({"sender_name": "carol", "expires_at": null});
    admin.post("/api/keys", body).await.expect(201);
}

#[tokio::test]
async fn an_expiry_is_a_time_to_come() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for bad in [
        "",
        "tomorrow",
        "2031-01-01",
        "1700000000",
        "2031-13-01T00:00:00Z",
    ] {
        let body = json!({"sender_name": "bob", "expires_at": bad});
        let refused = admin.post("/api/keys", body).await;
        assert_eq!(refused.status(), 400, "{bad}: {refused:?}");
    }
    let past = json!({"sender_name": "bob", "expires_at": in_seconds(-60)});
    assert_eq!(admin.post("/api/keys", past).await.status(), 400);
    let number = json!({"sender_name": "bob", "expires_at": 1_900_000_000});
    admin
        .post("/api/keys", number)
        .await
        .refused(400, "INVALID_JSON");
    assert_eq!(
        admin
            .get("/api/keys")
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // Any offset will do; what comes back is UTC.
    let there = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + Duration::hours(1);
    let offset = UtcOffset::from_hms(5, 30, 0).unwrap();
    let body = json!({
        "sender_name": "bob",
        "expires_at": there.to_offset(offset).format(&Rfc3339).unwrap()
    });
    let made = admin.post("/api/keys", body).await.expect(201);
    let back = OffsetDateTime::parse(text(&made, "expires_at"), &Rfc3339).unwrap();
    assert_eq!((back, back.offset()), (there, UtcOffset::UTC));
}

#[tokio::test]
async fn a_key_that_expires_is_no_last_admin() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"sender_name": "bob", "expires_at": in_seconds(3_600)});
    let made = admin.post("/api/keys", body).await.expect(201);
    let bob = admin.with_key(text(&made, "api_key"));
    bob.get("/api/audit").await.expect(200);
    let path = format!("/api/keys/{}", admin.key_hash());
    bob.delete(&path).await.refused(409, "LAST_ADMIN");
    bob.put(format!("{path}/permissions"), json!({"permissions": {}}))
        .await
        .refused(409, "LAST_ADMIN");
    // It may go itself, though.
    bob.delete(format!("/api/keys/{}", bob.key_hash()))
        .await
        .expect(204);
}
