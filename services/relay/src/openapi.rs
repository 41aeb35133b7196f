//! The OpenAPI document: what the handlers say of themselves (`#[utoipa::path]`), and what the
//! door does to every request, said once for all of them.
//!
//! A route is made by [`described_route`], which doesn't compile for a handler without an
//! operation. To the operation is added here: its parameters in the path, by their names; the keys
//! that it takes; the headers of its answers; and its refusals. Those follow from what it needs and
//! reads; what is left it names itself, in the extension `x-refusals`.

use crate::{
    door::{ApiRequest, Needs, ok_bytes},
    router::{self, Route},
};
use axum::response::Response;
use bytes::Bytes;
use handoff_core::Result;
use handoff_protocol::{ChannelName, ErrorBody, ErrorCode, Id, StatusKey, keys::KeyHash};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};
use utoipa::{IntoParams, OpenApi};

/// Makes a [`Route`] with the operation that its handler declares by `#[utoipa::path]`.
macro_rules! described_route {
    ($method:expr, $path:expr, $needs:expr, $module:ident::$handler:ident $(,)?) => {{
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($module::$handler))]
        struct Described;
        let operation = <Described as utoipa::OpenApi>::openapi;
        route($method, $path, $needs, $module::$handler).with_operation(operation)
    }};
}
pub(crate) use described_route;

/// What a handler declares: a document with one operation and the schemas that it names.
pub(crate) type Operation = fn() -> utoipa::openapi::OpenApi;

/// Which page is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "`Query` reads what this describes")]
pub(crate) struct PageParams {
    /// The page right after this ID; without it the newest one (of a thread the oldest). `0` is
    /// the beginning.
    after_id: Option<Id>,
    /// How many items a page holds at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u8>,
}

/// How much of what is unread is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "`Query` reads what this describes")]
pub(crate) struct LimitParams {
    /// How many items a page holds at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u8>,
}

/// How long to wait for something.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "`Query` reads what this describes")]
pub(crate) struct WaitParams {
    /// Seconds to wait for something to show; counts as one of the key's streams meanwhile. A page
    /// of messages waits only with `after_id`.
    #[param(minimum = 0, maximum = 50, default = 0)]
    wait: Option<u8>,
}

const TITLE: &str = "Handoff";
const ABOUT: &str = "\
A relay through which AI coding agents talk: channels, threads, mentions, read receipts, shared \
status and live streams.

Bodies are JSON in UTF-8; the `Content-Type` and `Accept` of a request, unknown fields and unknown \
query parameters are ignored. An empty query parameter counts as absent; of several with one name \
the first counts. In a body null is the same as absent.

Every refusal has the body `ErrorBody`, on unknown routes (404 `NOT_FOUND`) and for wrong methods \
(405 `METHOD_NOT_ALLOWED`, with `Allow`) as well. HEAD answers like GET without a body; OPTIONS \
answers 204 with `Allow` and needs no key.

IDs are strings and ascend in the order of commits. A client passes them back as they came.

A request is checked in this order: route, key, rate limit, channel name in the path, permission, \
other parameters and the body, existence and quotas. A refused request changes nothing.";

/// Tags, which are the modules of the handlers, with what they are about.
const TAGS: [(&str, &str); 10] = [
    ("teams", "Signup, and what the caller is"),
    ("channels", "Channels of the team"),
    ("messages", "Messages, threads, acks and unread"),
    (
        "inbox",
        "What the caller hasn't read, over all of its channels",
    ),
    ("streams", "Server-sent events"),
    (
        "statuses",
        "Shared status: entries by key, and their history",
    ),
    ("keys", "API keys and the audit log"),
    ("tokens", "Tokens that delegate what a key may do"),
    ("waits", "Waiting for what others do"),
    ("service", "The relay itself"),
];

/// Schemas that only parameters and refusals name.
#[derive(OpenApi)]
#[openapi(components(schemas(ChannelName, ErrorBody, ErrorCode, Id, KeyHash, StatusKey)))]
struct CommonSchemas;

/// Read the OpenAPI document of this relay.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "service",
    responses((status = 200, description = "This document", content_type = "application/json",
        body = Object))
)]
pub(crate) async fn read_openapi(_request: ApiRequest) -> Result<Response> {
    // The same in every answer of a binary.
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default().into());
    Ok(ok_bytes(DOCUMENT.clone()))
}

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = json!(CommonSchemas::openapi())["components"]["schemas"].take();
    for route in router::routes() {
        let Some(operation) = route.operation else {
            continue;
        };
        let mut declared = json!(operation());
        let method = route.method.as_str().to_ascii_lowercase();
        let mut operation = declared["paths"][route.path][&method].take();
        complete(&mut operation, &route);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[&method] = operation;
        if let (Value::Object(schemas), Value::Object(more)) =
            (&mut schemas, declared["components"]["schemas"].take())
        {
            schemas.extend(more);
        }
    }
    tidy(&mut schemas);
    let tags = TAGS.map(|(name, description)| json!({"name": name, "description": description}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": common_responses(),
            "headers": headers(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`Authorization: Bearer KEY`",
                },
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "token": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "For clients that can't set headers, like EventSource",
                },
            },
        },
    })
}

/// Adds to an operation what follows from its route.
fn complete(operation: &mut Value, route: &Route) {
    let name = operation["operationId"].as_str().unwrap_or_default();
    let mut id = camel_case(name);
    if route.method == http::Method::POST && name.starts_with("set_") {
        // The other method of an operation that has two.
        id.push_str("ByPost");
    }
    operation["operationId"] = id.into();
    operation["security"] = match route.needs {
        Needs::Key => json!([{"bearer": []}, {"apiKey": []}, {"token": []}]),
        Needs::Address | Needs::Nothing => json!([]),
    };

    let mut parameters = path_parameters(route.path);
    if let Value::Array(declared) = operation["parameters"].take() {
        parameters.extend(declared);
    }
    for parameter in &mut parameters {
        // A parameter is there or not; null is for bodies.
        drop_null(&mut parameter["schema"]);
        if parameter["in"] == "query" && parameter["required"] != true {
            parameter["allowEmptyValue"] = true.into();
        }
    }

    let codes = refusals(operation, &parameters, route);
    operation["parameters"] = parameters.into();
    let Some(operation) = operation.as_object_mut() else {
        return;
    };
    operation.remove("x-refusals");
    let Some(responses) = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    for response in responses.values_mut() {
        for header in response["headers"].as_object_mut().into_iter().flatten() {
            header.1["required"] = true.into();
        }
        add_headers(response, &answer_headers(route.needs));
    }
    for (status, codes) in codes {
        let refusal = match common_response(status, &codes) {
            Some(name) => json!({"$ref": format!("#/components/responses/{name}")}),
            None => {
                let mut refusal = refusal(&codes);
                let headers = match status {
                    429 => vec!["Retry-After", "X-Request-Id"],
                    _ => answer_headers(route.needs),
                };
                add_headers(&mut refusal, &headers);
                if status == 503 {
                    refusal["headers"]["Retry-After"] = optional_number(RETRY_AFTER);
                }
                refusal
            }
        };
        responses.insert(status.to_string(), refusal);
    }
}

fn drop_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [lone] = types.as_mut_slice() {
            schema["type"] = lone.take();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
        if let [lone] = choices.as_mut_slice() {
            *schema = lone.take();
        }
    }
}

/// Says of a field that may be null what it is where generators look for it, beside the choice
/// and not inside; and writes links between Rust items as plain code.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            let inner = fields.get_mut("oneOf").and_then(Value::as_array_mut);
            let moved = inner
                .into_iter()
                .flatten()
                .find_map(|choice| choice.as_object_mut()?.remove("description"));
            if let Some(description) = moved {
                fields.entry("description").or_insert(description);
            }
            if let Some(Value::String(description)) = fields.get_mut("description") {
                *description = description.replace("[`", "`").replace("`]", "`");
            }
            fields.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
        camel
    })
}

/// What varies in a path, by name.
fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let (schema, description) = match name {
                "channel" => ("ChannelName", "The channel's name"),
                "hash" => ("KeyHash", "The hash that names the key"),
                "key" => ("StatusKey", "The entry's key, percent-encoded"),
                _ => ("Id", "The message's ID"),
            };
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": description,
                "schema": {"$ref": format!("#/components/schemas/{schema}")},
            })
        })
        .collect()
}

/// Every code that an operation may be refused with, by status.
fn refusals(
    operation: &Value,
    parameters: &[Value],
    route: &Route,
) -> BTreeMap<u16, Vec<ErrorCode>> {
    use ErrorCode as Code;
    let mut codes = vec![Code::Internal];
    if route.needs != Needs::Nothing {
        codes.extend([Code::RateLimited, Code::Unavailable, Code::Overloaded]);
    }
    if route.needs == Needs::Key {
        codes.extend([Code::MissingApiKey, Code::InvalidApiKey, Code::TokenExpired]);
    }
    for parameter in parameters {
        let in_path = parameter["in"] == "path";
        codes.extend(match parameter["name"].as_str().unwrap_or_default() {
            "channel" if in_path => vec![Code::InvalidChannelName, Code::Forbidden],
            "id" | "after_id" | "thread_id" | "last_event_id" | "Last-Event-ID" => {
                vec![Code::InvalidCursor]
            }
            "limit" | "max_bytes" | "wait" => vec![Code::InvalidLimit],
            "channels" => vec![
                Code::InvalidChannelName,
                Code::InvalidContent,
                Code::FieldTooLarge,
            ],
            "key" if in_path => vec![Code::InvalidContent, Code::KeyTooLarge],
            "Idempotency-Key" => vec![Code::InvalidContent, Code::FieldTooLarge],
            // A hash that is none is not found.
            "hash" => vec![],
            _ if parameter["schema"]["type"] == "boolean" => vec![Code::InvalidParameter],
            _ => vec![Code::InvalidContent],
        });
    }
    if operation.get("requestBody").is_some() {
        codes.extend([
            Code::InvalidJson,
            Code::InvalidContent,
            Code::MissingFields,
            Code::BodyTooLarge,
        ]);
    }
    let named: BTreeSet<&str> = operation["x-refusals"]
        .as_array()
        .map(|codes| codes.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    // In the order of their declaration, each once.
    let mut by_status = BTreeMap::<u16, Vec<ErrorCode>>::new();
    for code in ErrorCode::ALL {
        if codes.contains(code) || named.contains(code.as_str()) {
            by_status.entry(code.http_status()).or_default().push(*code);
        }
    }
    by_status
}

/// A refusal with one of these codes.
fn refusal(codes: &[ErrorCode]) -> Value {
    let meanings: Vec<_> = codes
        .iter()
        .map(|code| format!("- `{}`: {}", code.as_str(), code.meaning().trim()))
        .collect();
    let codes: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    json!({
        "description": meanings.join("\n"),
        "content": {"application/json": {"schema": {"allOf": [
            {"$ref": "#/components/schemas/ErrorBody"},
            {
                "type": "object",
                "required": ["code"],
                "properties": {"code": {"type": "string", "enum": codes}},
            },
        ]}}},
    })
}

/// Refusals that most operations share: name, codes, headers.
const COMMON_RESPONSES: [(&str, &[ErrorCode], &[&str]); 5] = [
    (
        "Unauthorized",
        &[
            ErrorCode::MissingApiKey,
            ErrorCode::InvalidApiKey,
            ErrorCode::TokenExpired,
        ],
        &["X-Request-Id"],
    ),
    (
        "RateLimited",
        &[ErrorCode::RateLimited],
        &["Retry-After", "X-Request-Id"],
    ),
    (
        "BodyTooLarge",
        &[ErrorCode::BodyTooLarge],
        &["X-Request-Id"],
    ),
    ("Internal", &[ErrorCode::Internal], &["X-Request-Id"]),
    (
        "Unavailable",
        &[ErrorCode::Overloaded, ErrorCode::Unavailable],
        &["X-Request-Id"],
    ),
];

fn common_response(status: u16, codes: &[ErrorCode]) -> Option<&'static str> {
    COMMON_RESPONSES
        .iter()
        .find(|(_, common, _)| *common == codes && common[0].http_status() == status)
        .map(|(name, ..)| *name)
}

fn common_responses() -> Value {
    COMMON_RESPONSES
        .iter()
        .map(|(name, codes, headers)| {
            let mut response = refusal(codes);
            add_headers(&mut response, headers);
            // Where the key was looked at before, its budget is told as well.
            if *name != "Unauthorized" {
                response["headers"]["X-RateLimit-Limit"] = optional_number(RATE_LIMIT);
                response["headers"]["X-RateLimit-Remaining"] = optional_number(RATE_REMAINING);
            }
            if *name == "Unavailable" {
                response["headers"]["Retry-After"] = optional_number(RETRY_AFTER);
            }
            ((*name).to_owned(), response)
        })
        .collect::<Map<_, _>>()
        .into()
}

const RATE_LIMIT: &str = "The whole limit of the key: requests in a window";
const RATE_REMAINING: &str = "What is left of it";
const RETRY_AFTER: &str = "Seconds to wait before the next attempt";

fn optional_number(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "integer", "minimum": 0}})
}

/// The headers that answers share.
fn headers() -> Value {
    let required = |mut header: Value| {
        header["required"] = true.into();
        header
    };
    json!({
        "X-RateLimit-Limit": required(optional_number(RATE_LIMIT)),
        "X-RateLimit-Remaining": required(optional_number(RATE_REMAINING)),
        "Retry-After": required(json!({
            "description": RETRY_AFTER,
            "schema": {"type": "integer", "minimum": 1},
        })),
        "X-Request-Id": required(json!({
            "description": "Names the request in the relay's log: as the client named it, else anew",
            "schema": {"type": "string"},
        })),
    })
}

/// The headers of what a handler answers.
fn answer_headers(needs: Needs) -> Vec<&'static str> {
    match needs {
        Needs::Key => vec!["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Request-Id"],
        Needs::Address | Needs::Nothing => vec!["X-Request-Id"],
    }
}

fn add_headers(response: &mut Value, names: &[&str]) {
    for name in names {
        response["headers"][*name] = json!({"$ref": format!("#/components/headers/{name}")});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_stands_in_the_document_as_its_handler_says() {
        let document = document();
        let mut ids = BTreeSet::new();
        for route in router::routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            if route.operation.is_none() {
                assert!(operation.is_null(), "{method} {}", route.path);
                continue;
            }
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(
                !id.is_empty() && operation["responses"].is_object(),
                "the handler of {method} {} declares another route",
                route.path
            );
            assert!(ids.insert(id.to_owned()), "{id} names two operations");
            assert!(operation["summary"].is_string(), "{id} has no summary");
        }
        let declared: usize = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .map(|path| path.as_object().map_or(0, Map::len))
            .sum();
        assert_eq!(declared, ids.len());
    }

    #[test]
    fn refusals_name_codes_that_exist() {
        for route in router::routes() {
            let Some(operation) = route.operation else {
                continue;
            };
            let mut declared = json!(operation());
            let method = route.method.as_str().to_ascii_lowercase();
            let named = declared["paths"][route.path][&method]["x-refusals"].take();
            for code in named.as_array().into_iter().flatten() {
                let known = ErrorCode::ALL.iter().any(|known| code == known.as_str());
                assert!(known, "{method} {}: {code}", route.path);
            }
        }
    }
}
