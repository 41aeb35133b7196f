//! `/healthz`, `/readyz` and `/api`: for anybody, without limits.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{has_at_least, text};

#[tokio::test]
async fn health_and_readiness_answer_ok_to_anybody() {
    let relay = TestRelay::new().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            relay.anyone().get(path).await.expect(200),
            json!({"status": "ok"}),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_key_is_not_looked_at_where_none_is_needed() {
    let relay = TestRelay::new().await;
    for path in ["/healthz", "/readyz", "/api"] {
        relay
            .admin()
            .with_key("nonsense")
            .get(path)
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn the_relay_describes_itself() {
    let relay = TestRelay::new().await;
    let about = relay.anyone().get("/api").await.expect(200);
    has_at_least(&about, &["name", "version", "endpoints", "limits"]);
    assert!(!text(&about, "name").is_empty());
    assert!(!text(&about, "version").is_empty());
    for limit in [
        "message_content",
        "status_key",
        "status_value",
        "channel_name",
    ] {
        // In words: a sentence that names the number.
        let words = text(&about["limits"], limit);
        assert!(words.contains(|c: char| c.is_alphabetic()), "{words}");
        assert!(words.contains(|c: char| c.is_ascii_digit()), "{words}");
    }
    let endpoints = about["endpoints"].as_array().unwrap();
    let listed = |method: &str, path: &str| {
        endpoints
            .iter()
            .any(|e| e["method"] == method && e["path"] == path)
    };
    assert!(
        listed("POST", "/api/channels/{channel}/messages"),
        "{about}"
    );
    assert!(listed("GET", "/api/channels/{channel}/messages"), "{about}");
}

#[tokio::test]
async fn a_relay_without_its_database_is_alive_but_not_ready() {
    let relay = TestRelay::builder().through_proxy().start().await;
    let proxies = relay.proxy(0);
    for proxy in [&proxies.database, &proxies.listen] {
        proxy.refuse_new();
        proxy.cut();
    }
    harness::eventually("readiness is withdrawn", || async {
        let ready = relay.anyone().get("/readyz").await;
        (ready.status() == 503).then_some(())
    })
    .await;
    relay.anyone().get("/healthz").await.expect(200);

    for proxy in [&proxies.database, &proxies.listen] {
        proxy.pass();
    }
    harness::eventually("readiness is back", || async {
        let ready = relay.anyone().get("/readyz").await;
        (ready.status() == 200).then_some(())
    })
    .await;
}
