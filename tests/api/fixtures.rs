//! What many tests say: requests by their plain names, and what is asserted of every answer.

use std::fmt::Display;

use futures_util::future::join_all;
use harness::{Agent, Method, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The path of a channel's messages.
pub(crate) fn messages(channel: &str) -> String {
    format!("/api/channels/{channel}/messages")
}

/// The path of a channel's status.
pub(crate) fn status(channel: &str) -> String {
    format!("/api/channels/{channel}/status")
}

/// Posts `count` messages with the contents `1`, `2`, … and returns them.
pub(crate) async fn say_many(agent: &Agent, channel: &str, count: usize) -> Vec<Value> {
    let mut said = Vec::with_capacity(count);
    for number in 1..=count {
        said.push(agent.say(channel, &number.to_string()).await);
    }
    said
}

/// Posts a reply and returns it.
pub(crate) async fn reply(agent: &Agent, parent: &Value, content: &str) -> Value {
    let channel = text(parent, "channel");
    let body = json!({"content": content, "thread_id": parent["id"]});
    agent.post(messages(channel), body).await.expect(201)
}

/// Sets a status entry and returns it.
pub(crate) async fn set(agent: &Agent, channel: &str, key: &str, value: &str) -> Value {
    agent
        .put(status(channel), json!({"key": key, "value": value}))
        .await
        .expect(200)
}

/// Acknowledges up to a message's ID and returns the ack that stands.
pub(crate) async fn ack(agent: &Agent, channel: &str, id: &str) -> Value {
    let path = format!("/api/channels/{channel}/ack");
    agent
        .post(path, json!({"last_read_id": id}))
        .await
        .expect(200)
}

/// A page of a list, as pages are in all lists: items under `name`, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    pub(crate) next_after_id: String,
    pub(crate) has_more: bool,
    pub(crate) body: Value,
}

impl Page {
    pub(crate) fn contents(&self) -> Vec<&str> {
        self.items
            .iter()
            .map(|item| text(item, "content"))
            .collect()
    }

    pub(crate) fn ids(&self) -> Vec<&str> {
        self.items.iter().map(id).collect()
    }
}

/// Reads a page; `name` is that of its list.
pub(crate) async fn page(agent: &Agent, path: impl AsRef<str>, name: &str) -> Page {
    let body = agent.get(path).await.expect(200);
    Page {
        items: body[name]
            .as_array()
            .unwrap_or_else(|| panic!("no {name} in {body}"))
            .clone(),
        next_after_id: text(&body, "next_after_id").to_owned(),
        has_more: body["has_more"]
            .as_bool()
            .unwrap_or_else(|| panic!("no has_more in {body}")),
        body,
    }
}

/// Reads pages from the beginning to the end, `limit` items each, and returns all items.
///
/// On the way every page is checked: full while more follows, never past the limit, ascending,
/// its cursor that of its last item where nothing filters.
pub(crate) async fn walk(agent: &Agent, path: &str, name: &str, limit: usize) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let mut after = "0".to_owned();
    let joint = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = page(
            agent,
            format!("{path}{joint}after_id={after}&limit={limit}"),
            name,
        )
        .await;
        assert!(page.items.len() <= limit, "{:?}", page.body);
        if let Some(last) = page.items.last() {
            assert!(
                number(&page.next_after_id) >= number(id(last)),
                "{:?}",
                page.body
            );
        }
        assert!(
            number(&page.next_after_id) >= number(&after),
            "{:?}",
            page.body
        );
        for item in page.items {
            if let Some(last) = all.last() {
                assert!(number(id(&item)) > number(id(last)), "out of order: {item}");
            }
            all.push(item);
        }
        if !page.has_more {
            return all;
        }
        assert_ne!(page.next_after_id, after, "a page that leads nowhere");
        after = page.next_after_id;
    }
}

/// A text field.
#[track_caller]
pub(crate) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text {field} in {of}"))
}

/// The ID of an object.
#[track_caller]
pub(crate) fn id(of: &Value) -> &str {
    text(of, "id")
}

/// An ID as the number it holds: only tests may look into it.
#[track_caller]
pub(crate) fn number(id: &str) -> u64 {
    assert!(
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()),
        "not an ID: {id:?}"
    );
    id.parse().unwrap()
}

/// One field of each object.
pub(crate) fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| text(item, field))
        .collect()
}

/// Asserts that an object has exactly these fields.
#[track_caller]
pub(crate) fn has_fields(of: &Value, fields: &[&str]) {
    let mut actual: Vec<&str> = of
        .as_object()
        .expect("an object")
        .keys()
        .map(|k| &**k)
        .collect();
    let mut expected = fields.to_vec();
    actual.sort_unstable();
    expected.sort_unstable();
    assert_eq!(actual, expected, "{of}");
}

/// Asserts that an object has at least these fields.
#[track_caller]
pub(crate) fn has_at_least(of: &Value, fields: &[&str]) {
    for field in fields {
        assert!(of.get(field).is_some(), "no {field} in {of}");
    }
}

/// Asserts a time in RFC 3339, in UTC, to the microsecond at most, about now.
#[track_caller]
pub(crate) fn is_recent(of: &Value, field: &str) {
    let written = text(of, field);
    let time =
        OffsetDateTime::parse(written, &Rfc3339).unwrap_or_else(|e| panic!("{written}: {e}"));
    assert!(time.offset().is_utc(), "{written}");
    assert_eq!(time.nanosecond() % 1_000, 0, "{written}");
    let age = OffsetDateTime::now_utc() - time;
    assert!(age.whole_seconds().abs() < 120, "{written}");
}

/// A refusal without what differs from one to the next.
pub(crate) fn refusal(response: &Response) -> Value {
    let mut body = response.json();
    body.as_object_mut()
        .expect("an object")
        .remove("request_id");
    body
}

/// The names of the team's channels, as an admin sees them.
pub(crate) async fn channel_names(admin: &Agent) -> Vec<String> {
    let list = admin.get("/api/channels").await.expect(200);
    column(&list, "name")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// The same request many times at once; the answers' statuses.
pub(crate) async fn at_once(
    count: usize,
    mut request: impl FnMut(usize) -> harness::Request,
) -> Vec<Response> {
    join_all((0..count).map(|number| request(number).send())).await
}

/// How many answers had a status.
pub(crate) fn count(answers: &[Response], status: u16) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status() == status)
        .count()
}

/// Percent-encodes every byte that is not plain.
pub(crate) fn encode(text: impl Display) -> String {
    let text = text.to_string();
    percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A request with a raw body.
pub(crate) async fn raw(agent: &Agent, method: &str, path: &str, body: &[u8]) -> Response {
    let method: Method = method.parse().unwrap();
    agent.send(method, path, body.to_vec()).await
}
