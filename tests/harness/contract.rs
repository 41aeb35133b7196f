//! Every answer that a test gets is held against the relay's OpenAPI document: its status is named
//! there, its headers are there, and its body fits the schema.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hyper::header::HeaderMap;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::process::run;
use crate::programs::relay_binary;

/// What is wrong with the answer to a request like `GET /api/me`; nothing for a route that the
/// document doesn't hold.
pub(crate) fn violation(
    request: &str,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<String> {
    let (method, path) = request.split_once(' ')?;
    let document = document();
    let template = template(document, path.split('?').next()?)?;
    let operation = &document["paths"][template].get(method.to_ascii_lowercase())?;
    let Some(response) = operation["responses"].get(status.to_string()) else {
        return Some(format!("{status} is not among its answers"));
    };
    let response = resolve(document, response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let header = resolve(document, header);
        if header["required"] == true && !headers.contains_key(name.as_str()) {
            return Some(format!("it has no header {name}"));
        }
    }
    let content_type = headers.get("content-type").and_then(|t| t.to_str().ok());
    let Some(content) = response["content"].as_object() else {
        return (!body.is_empty()).then(|| "it has a body".to_owned());
    };
    let Some(media_type) = content_type.and_then(|content_type| content.get(content_type)) else {
        return Some(format!("its type is {content_type:?}"));
    };
    if content_type != Some("application/json") {
        return None;
    }
    let Ok(body) = serde_json::from_slice(body) else {
        return Some("it is not JSON".to_owned());
    };
    let key = format!("{method} {template} {status}");
    let validator = validator(document, key, &media_type["schema"]);
    let error = validator.iter_errors(&body).next()?;
    Some(format!("{error} at {}", error.instance_path()))
}

/// What is wrong with the data of a stream's event, which is a message.
pub(crate) fn message_violation(message: &Value) -> Option<String> {
    let schema = json!({"$ref": "#/components/schemas/Message"});
    let validator = validator(document(), "event".to_owned(), &schema);
    let error = validator.iter_errors(message).next()?;
    Some(format!("{error} at {}", error.instance_path()))
}

/// The document of the relay under test.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut print = Command::new(relay_binary());
        print.arg("openapi").env_clear();
        let printed = run(print).expect("the relay prints its document");
        serde_json::from_str(&printed.stdout).expect("the document is JSON")
    })
}

/// The template that a path belongs to: one without placeholders comes first.
fn template<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    let templates = || document["paths"].as_object().into_iter().flatten();
    let fits = |template: &str| {
        template.split('/').count() == path.split('/').count()
            && template
                .split('/')
                .zip(path.split('/'))
                .all(|(expected, found)| {
                    expected == found || (expected.starts_with('{') && !found.is_empty())
                })
    };
    templates()
        .map(|(template, _)| template.as_str())
        .filter(|template| fits(template))
        .min_by_key(|template| template.matches('{').count())
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(pointer) => document
            .pointer(pointer)
            .expect("a reference that leads somewhere"),
        None => value,
    }
}

fn validator(document: &Value, key: String, schema: &Value) -> Arc<Validator> {
    static VALIDATORS: OnceLock<Mutex<HashMap<String, Arc<Validator>>>> = OnceLock::new();
    let validators = VALIDATORS.get_or_init(Mutex::default);
    let mut validators = validators.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let whole = json!({"allOf": [schema], "components": document["components"]});
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&whole);
        Arc::new(validator.expect("the schemas of the document can be used"))
    };
    validators.entry(key).or_insert_with(make).clone()
}
