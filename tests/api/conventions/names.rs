//! Names: what may be called what.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{channel_names, column, encode, messages, page, set, status};
use crate::routes::{ROUTES, Scene};

const BAD_CHANNELS: &[&str] = &[
    ".a",
    "-a",
    "_a",
    "a b",
    " a",
    "a ",
    "a/b",
    "a\\b",
    "ä",
    "\u{e9}",
    "a\n",
    "a\u{0}",
    "#ops",
    "a:b",
    "*",
    "@here",
    "a%b",
    "a?b",
    "..",
    ".",
    "日本",
    "🦀",
    "a\u{200b}",
];

#[tokio::test]
async fn a_channels_name_is_plain() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let longest = "x".repeat(128);
    for good in [
        "a",
        "Z",
        "0",
        "9.",
        "a-",
        "a_",
        "build.2026_x-y",
        "Ops",
        "ops",
        &longest,
    ] {
        let made = admin
            .post("/api/channels", json!({"name": good}))
            .await
            .expect(201);
        assert_eq!(made["name"], good);
        let said = admin.say(good, "hello").await;
        assert_eq!(said["channel"], good);
        set(&admin, good, "k", "v").await;
    }
}

#[tokio::test]
async fn an_impossible_channel_name_is_refused_in_path_and_body() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let too_long = "x".repeat(129);
    for bad in BAD_CHANNELS.iter().copied().chain([too_long.as_str()]) {
        admin
            .post("/api/channels", json!({"name": bad}))
            .await
            .refused(400, "INVALID_CHANNEL_NAME");
        let scene = Scene {
            channel: encode(bad),
            ..Scene::imaginary("")
        };
        for route in ROUTES.iter().filter(|route| route.in_channel()) {
            let answer = route.request(&admin, &scene).send().await;
            answer.refused(400, "INVALID_CHANNEL_NAME");
        }
    }
    for unreadable in ["%FF", "a%FF", "%ED%A0%80", "%C3%28"] {
        let scene = Scene {
            channel: unreadable.into(),
            ..Scene::imaginary("")
        };
        for route in ROUTES.iter().filter(|route| route.in_channel()) {
            let answer = route.request(&admin, &scene).send().await;
            answer.refused(400, "INVALID_CHANNEL_NAME");
        }
    }
    assert_eq!(channel_names(&admin).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_percent_sign_that_encodes_nothing_is_no_500() {
    let relay = TestRelay::new().await;
    for path in [
        "/api/channels/%/messages",
        "/api/channels/%zz/messages",
        "/api/channels/a%2/messages",
    ] {
        let answer = relay.admin().get(path).await;
        answer.refused(400, "INVALID_CHANNEL_NAME");
    }
}

#[tokio::test]
async fn case_counts() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("Ops", "upper").await;
    admin.say("ops", "lower").await;
    assert_eq!(
        page(&admin, messages("Ops"), "messages").await.contents(),
        ["upper"]
    );
    set(&admin, "ops", "Key", "upper").await;
    set(&admin, "ops", "key", "lower").await;
    let entries = admin.get(status("ops")).await.expect(200);
    assert_eq!(column(&entries, "value"), ["upper", "lower"]);
}

/// Texts that an eager relay would trim, normalise or stumble over.
const TEXTS: &[&str] = &[
    " ",
    "  leading and trailing  ",
    "line\nbreak",
    "carriage\r\nreturn",
    "tab\there",
    "data: x\n\nid: 7",
    "caf\u{e9}",
    "cafe\u{301}",
    "\u{fb01}",
    "日本語テキスト",
    "🦀👩‍👩‍👧‍👦",
    "\u{feff}bom",
    "\u{202e}rtl",
    "\u{10ffff}\u{ffff}\u{fffd}",
    "\u{1}\u{7f}\u{85}\u{2028}\u{2029}",
    "quote\" back\\slash /",
    "'; drop table messages; --",
    "%00 %s {} $1 \\u0000 &amp; <b>",
    "null",
];

#[tokio::test]
async fn text_is_never_trimmed_normalised_or_altered() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for (number, text) in TEXTS.iter().enumerate() {
        let channel = format!("c{number}");
        let description = json!({"name": channel, "description": text});
        let made = admin.post("/api/channels", description).await.expect(201);
        assert_eq!(made["description"], *text);

        let agent = relay.agent(text, json!({"*": "write"})).await;
        let mut stream = agent
            .stream(format!("/api/channels/{channel}/stream"))
            .await;
        let said = agent
            .post(
                messages(&channel),
                json!({"content": text, "mention": text}),
            )
            .await
            .expect(201);
        for field in ["content", "mention", "sender"] {
            assert_eq!(said[field], *text, "{field}");
        }
        assert_eq!(stream.next().await.data, said);
        let found = page(
            &agent,
            format!(
                "{}?sender={1}&mention={1}",
                messages(&channel),
                encode(text)
            ),
            "messages",
        )
        .await;
        assert_eq!(found.items, [said]);

        let written = set(&agent, &channel, text, text).await;
        for field in ["key", "value", "updated_by"] {
            assert_eq!(written[field], *text, "{field}");
        }
        let read = agent
            .get(format!("{}?key={}", status(&channel), encode(text)))
            .await
            .expect(200);
        assert_eq!(read, json!([written]));
        let changes = page(
            &agent,
            format!("/api/channels/{channel}/status/changes"),
            "changes",
        )
        .await;
        assert_eq!(changes.items[0]["key"], *text);
        assert_eq!(changes.items[0]["changed_by"], *text);
    }
    let list = admin.get("/api/channels").await.expect(200);
    assert_eq!(list.as_array().unwrap().len(), TEXTS.len());
    for channel in list.as_array().unwrap() {
        let number: usize = channel["name"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(channel["description"], TEXTS[number]);
    }
}

#[tokio::test]
async fn names_that_look_alike_are_different_names() {
    let relay = TestRelay::new().await;
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let one = relay.agent(composed, json!({"*": "write"})).await;
    let other = relay.agent(decomposed, json!({"*": "write"})).await;
    let said = one.say("ops", "hello").await;
    other.say("ops", "hello").await;
    let found = page(
        &one,
        format!("{}?sender={}", messages("ops"), encode(composed)),
        "messages",
    )
    .await;
    assert_eq!(found.items, [said]);
}

#[tokio::test]
async fn a_plus_in_a_query_is_a_space_and_an_encoded_one_a_plus() {
    let relay = TestRelay::new().await;
    let plus = relay.agent("a+b", json!({"*": "write"})).await;
    let space = relay.agent("a b", json!({"*": "write"})).await;
    plus.say("ops", "plus").await;
    space.say("ops", "space").await;
    for (query, found) in [("a%2Bb", "plus"), ("a%20b", "space"), ("a+b", "space")] {
        let path = format!("{}?sender={query}", messages("ops"));
        assert_eq!(
            page(&plus, path, "messages").await.contents(),
            [found],
            "{query}"
        );
    }
}
