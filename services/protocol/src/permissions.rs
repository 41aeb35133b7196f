//! What a key may do: a map from channel to level, with `"*"` for every channel.

use crate::{ChannelName, ErrorCode, Invalid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, Ref, RefOr, Schema, Type},
};

/// Every channel that has no entry of its own.
pub const ANY_CHANNEL: &str = "*";

/// How much a key may do in a channel; each level holds the ones before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// See messages, threads, acks, status, streams.
    Read,
    /// Also post, ack, set status.
    Write,
    /// Also delete the channel, its messages and status entries; on `"*"`: team matters.
    Admin,
}

impl Level {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Read => "read",
            Level::Write => "write",
            Level::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Level::Read),
            "write" => Some(Level::Write),
            "admin" => Some(Level::Admin),
            _ => None,
        }
    }
}

/// A key's map. An exact name wins over `"*"`, even when it grants less; an empty map grants
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeMap<String, Level>);

impl PartialSchema for Permissions {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property_names(Some(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some(r"^(\*|[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})$")),
            ))
            .additional_properties(Some(Ref::from_schema_name(Level::name())))
            .description(Some(
                "What a key may do: a level by channel, with `*` for every channel that has no \
                 entry of its own. An empty map grants nothing.",
            ))
            .examples([serde_json::json!({"*": "read", "ops": "write"})])
            .into()
    }
}

impl ToSchema for Permissions {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Level::name().into(), Level::schema()));
    }
}

impl Permissions {
    /// `{"*": "admin"}`, what a key gets that names none.
    pub fn full() -> Self {
        Self(BTreeMap::from([(ANY_CHANNEL.to_owned(), Level::Admin)]))
    }

    /// Reads a map as it came in a body.
    ///
    /// # Errors
    /// `INVALID_PERMISSIONS` for an unknown level or an impossible channel name.
    pub fn parse(map: BTreeMap<String, String>) -> Result<Self, Invalid> {
        let invalid = |message| Invalid::new(ErrorCode::InvalidPermissions, message);
        map.into_iter()
            .map(|(channel, level)| {
                if channel != ANY_CHANNEL && ChannelName::parse(&channel).is_err() {
                    return Err(invalid(format!(
                        "permissions name the impossible channel {channel:?}; use a channel name \
                         or \"*\""
                    )));
                }
                let level = Level::parse(&level).ok_or_else(|| {
                    invalid(format!(
                        "{level:?} is no level; use \"read\", \"write\" or \"admin\""
                    ))
                })?;
                Ok((channel, level))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The level on one channel.
    pub fn level(&self, channel: &str) -> Option<Level> {
        self.0
            .get(channel)
            .or_else(|| self.0.get(ANY_CHANNEL))
            .copied()
    }

    /// The level on `"*"`, which team matters ask for.
    pub fn level_on_team(&self) -> Option<Level> {
        self.0.get(ANY_CHANNEL).copied()
    }

    /// The channels that the map names.
    pub fn named_channels(&self) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .map(String::as_str)
            .filter(|channel| *channel != ANY_CHANNEL)
    }

    /// The first entry that gives more than another map does, with its level. What the other map
    /// holds more narrowly of a channel that this one doesn't name counts in [`Self::cut_to`] only.
    pub fn entry_beyond(&self, other: &Self) -> Option<(&str, Level)> {
        let beyond = |(channel, level): &(&String, &Level)| other.level(channel) < Some(**level);
        let (channel, level) = self.0.iter().find(beyond)?;
        Some((channel, *level))
    }

    /// What both maps grant.
    pub fn cut_to(&self, other: &Self) -> Self {
        // Whatever a name is granted, `"*"` in the result never grants more: where both maps have
        // it, both have a level for every channel, and the lower one stands in the result.
        let names = self.0.keys().chain(other.0.keys());
        let both = names.filter_map(|name| {
            let level = self.level(name)?.min(other.level(name)?);
            Some((name.clone(), level))
        });
        Self(both.collect())
    }

    /// Whether the key manages the team.
    pub fn is_team_admin(&self) -> bool {
        self.level_on_team() == Some(Level::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Permissions, Invalid> {
        Permissions::parse(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn an_exact_name_wins_over_the_star() {
        let permissions = parse(r#"{"*":"admin","ops":"read"}"#).unwrap();
        assert_eq!(permissions.level("ops"), Some(Level::Read));
        assert_eq!(permissions.level("other"), Some(Level::Admin));
        assert!(permissions.is_team_admin());
        assert_eq!(parse("{}").unwrap().level("ops"), None);
    }

    #[test]
    fn a_cut_grants_what_both_maps_grant() {
        let maps = [
            "{}",
            r#"{"*":"read"}"#,
            r#"{"*":"admin"}"#,
            r#"{"a":"admin"}"#,
            r#"{"*":"admin","a":"read"}"#,
            r#"{"*":"write","a":"admin","b":"read"}"#,
            r#"{"a":"read","b":"write","c":"admin"}"#,
        ];
        for (one, other) in maps.iter().flat_map(|one| maps.map(|other| (*one, other))) {
            let (one, other) = (parse(one).unwrap(), parse(other).unwrap());
            let cut = one.cut_to(&other);
            for channel in ["a", "b", "c", "d", "*"] {
                let both = one.level(channel).min(other.level(channel));
                assert_eq!(cut.level(channel), both, "{one:?} {other:?} {channel}");
            }
            assert_eq!(cut, other.cut_to(&one));
            assert_eq!(cut.entry_beyond(&one), None);
        }
    }

    #[test]
    fn an_entry_is_beyond_what_the_other_map_grants() {
        let key = parse(r#"{"*":"write","ops":"read"}"#).unwrap();
        for (asked, beyond) in [
            ("{}", None),
            (r#"{"*":"write"}"#, None),
            (r#"{"dev":"write","ops":"read"}"#, None),
            (r#"{"*":"admin"}"#, Some(("*", Level::Admin))),
            (r#"{"ops":"write"}"#, Some(("ops", Level::Write))),
        ] {
            assert_eq!(parse(asked).unwrap().entry_beyond(&key), beyond, "{asked}");
        }
        let narrow = parse(r#"{"ops":"read"}"#).unwrap();
        let asked = parse(r#"{"*":"read"}"#).unwrap();
        assert_eq!(asked.entry_beyond(&narrow), Some(("*", Level::Read)));
    }

    #[test]
    fn unknown_levels_and_impossible_channels_are_refused() {
        for bad in [
            r#"{"ops":"Admin"}"#,
            r#"{"ops":""}"#,
            r#"{"":"read"}"#,
            r#"{"a b":"read"}"#,
        ] {
            assert_eq!(
                parse(bad).unwrap_err().code,
                ErrorCode::InvalidPermissions,
                "{bad}"
            );
        }
    }
}
