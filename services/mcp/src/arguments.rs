//! A call's arguments: loose JSON comes in, checked values go out. Models write a number for an ID
//! or a text for a number now and then: what can be meant in one way only is taken that way.

use crate::catalogue::{Kind, Parameter, ToolSpec};
use handoff_client::types::Permissions;
use rmcp::model::JsonObject;
use serde_json::Value;

/// Why arguments can't be used, in a sentence that names the argument.
#[derive(Debug)]
pub(crate) struct InvalidArgument(pub(crate) String);

/// Arguments that fit their tool.
#[derive(Debug)]
pub(crate) struct Arguments(JsonObject);

impl Arguments {
    /// Holds what was given against what the tool takes.
    pub(crate) fn check(
        tool: &ToolSpec,
        given: Option<JsonObject>,
    ) -> Result<Self, InvalidArgument> {
        let mut given = given.unwrap_or_default();
        let mut checked = JsonObject::new();
        for parameter in tool.parameters {
            let value = match given.remove(parameter.name) {
                None | Some(Value::Null) => None,
                // Models fill in what they don't need with an empty text.
                Some(Value::String(text)) if text.is_empty() && !parameter.required => None,
                Some(value) => Some(value),
            };
            match value {
                Some(value) => {
                    checked.insert(parameter.name.to_owned(), normalise(parameter, value)?);
                }
                None if parameter.required => {
                    return Err(InvalidArgument(format!(
                        "argument `{}` is missing; {}",
                        parameter.name,
                        taken(tool)
                    )));
                }
                None => {}
            }
        }
        if let Some(unknown) = given.keys().next() {
            return Err(InvalidArgument(format!(
                "there is no argument `{unknown}`; {}",
                taken(tool)
            )));
        }
        Ok(Self(checked))
    }

    /// A text or an ID.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A text or an ID that its tool requires: `check` has seen to it that it is there.
    pub(crate) fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// The same, to keep.
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.0
            .get(name)
            .and_then(Value::as_u64)
            .map(|number| number as u32)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let names = self.0.get(name).and_then(Value::as_array);
        names
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    }

    pub(crate) fn permissions(&self, name: &str) -> Option<Permissions> {
        let map = self.0.get(name)?.as_object()?;
        Some(
            map.iter()
                .filter_map(|(channel, level)| Some((channel.clone(), level.as_str()?.to_owned())))
                .collect(),
        )
    }
}

/// Which arguments a tool takes, in words.
fn taken(tool: &ToolSpec) -> String {
    if tool.parameters.is_empty() {
        return format!("{} takes none", tool.name);
    }
    let names: Vec<String> = tool
        .parameters
        .iter()
        .map(|parameter| {
            let required = if parameter.required {
                " (required)"
            } else {
                ""
            };
            format!("{}{required}", parameter.name)
        })
        .collect();
    format!("{} takes {}", tool.name, names.join(", "))
}

/// The value as its kind wants it.
fn normalise(parameter: &Parameter, value: Value) -> Result<Value, InvalidArgument> {
    let wrong = |wanted: &str| {
        Err(InvalidArgument(format!(
            "argument `{}` must be {wanted}",
            parameter.name
        )))
    };
    match (parameter.kind, value) {
        (Kind::AnyText, value @ Value::String(_)) => Ok(value),
        (Kind::Text | Kind::Channel | Kind::Id, Value::String(text)) if text.is_empty() => {
            wrong("a text that is not empty")
        }
        (Kind::Text, value @ Value::String(_)) => Ok(value),
        (Kind::Text | Kind::AnyText, _) => wrong("a text"),

        // People write `#build` and `#42`; neither can begin with that sign.
        (Kind::Channel, Value::String(name)) => Ok(unmarked(&name).into()),
        (Kind::Channel, _) => wrong("a channel's name"),
        (Kind::Id, Value::String(id)) => Ok(unmarked(&id).into()),
        (Kind::Id, Value::Number(id)) if id.is_u64() => Ok(id.to_string().into()),
        (Kind::Id, _) => wrong("an ID, as text"),

        (Kind::Number(from, to), value) => {
            let number = match &value {
                Value::Number(number) => number.as_u64(),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            match number.filter(|number| (u64::from(from)..=u64::from(to)).contains(number)) {
                Some(number) => Ok(number.into()),
                None => wrong(&format!("a whole number from {from} to {to}")),
            }
        }

        (Kind::Flag, value @ Value::Bool(_)) => Ok(value),
        (Kind::Flag, Value::String(text)) if text == "true" => Ok(true.into()),
        (Kind::Flag, Value::String(text)) if text == "false" => Ok(false.into()),
        (Kind::Flag, _) => wrong("true or false"),

        (Kind::Channels, Value::String(name)) => Ok(vec![unmarked(&name)].into()),
        (Kind::Channels, Value::Array(names)) => names
            .iter()
            .map(|name| name.as_str().map(|name| Value::from(unmarked(name))))
            .collect::<Option<Vec<_>>>()
            .map_or_else(
                || wrong("a list of channel names"),
                |names| Ok(names.into()),
            ),
        (Kind::Channels, _) => wrong("a list of channel names"),

        (Kind::Permissions, Value::String(text)) => match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => normalise(parameter, value),
            _ => wrong(PERMISSIONS),
        },
        (Kind::Permissions, Value::Object(map)) if map.values().all(Value::is_string) => {
            Ok(map.into())
        }
        (Kind::Permissions, _) => wrong(PERMISSIONS),
    }
}

const PERMISSIONS: &str = r#"an object like {"build": "write", "*": "read"}"#;

fn unmarked(name: &str) -> &str {
    name.strip_prefix('#').unwrap_or(name)
}
