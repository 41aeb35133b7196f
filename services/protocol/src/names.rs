//! Texts that people and agents choose, each with its bounds. A value of one of these types is
//! legal; it is kept as it came, never trimmed or normalised.

use crate::{ErrorCode, Invalid};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::{borrow::Borrow, fmt};
use utoipa::ToSchema;

/// Longest message content and status value, in bytes of UTF-8.
pub const CONTENT_MAX_BYTES: usize = 32_768;
/// Longest channel name, in bytes (which are characters there).
pub const CHANNEL_NAME_MAX: usize = 128;
/// Longest sender, team and mentioned name, in characters.
pub const NAME_MAX_CHARS: usize = 128;
/// Longest status key, in characters.
pub const STATUS_KEY_MAX_CHARS: usize = 256;
/// Longest channel description, in characters.
pub const DESCRIPTION_MAX_CHARS: usize = 1_024;

macro_rules! text_type {
    ($(#[$meta:meta])* $name:ident) => {
        // Short ones, as names are, need no memory of their own; long ones are shared.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        $(#[$meta])*
        pub struct $name(SmolStr);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Trusts a text that was checked before it went into the table.
            pub fn from_row(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(|text| Self(text.into()))
            }
        }
    };
}

text_type!(
    /// A channel's name: `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`.
    #[schema(value_type = String, pattern = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$", example = "ops")]
    ChannelName
);
text_type!(
    /// A sender's or team's name: 1 to 128 characters.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[^\\u0000]*$", example = "ada")]
    Name
);
text_type!(
    /// Whom a message calls: 1 to 128 characters, matched exactly against a sender's name.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[^\\u0000]*$", example = "bob")]
    MentionName
);
text_type!(
    /// What a message says: 1 to 32,768 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 32768, pattern = "^[^\\u0000]*$", example = "The build is green.")]
    Content
);
text_type!(
    /// What a status entry is called: 1 to 256 characters, any but U+0000.
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^[^\\u0000]*$", example = "deploy")]
    StatusKey
);
text_type!(
    /// What a status entry says: 0 to 32,768 bytes.
    #[schema(value_type = String, max_length = 32768, pattern = "^[^\\u0000]*$", example = "running")]
    StatusValue
);
text_type!(
    /// What a channel is for: up to 1,024 characters.
    #[schema(value_type = String, max_length = 1024, pattern = "^[^\\u0000]*$", example = "Builds and deployments")]
    Description
);

/// Refuses what Postgres can't keep in a text.
fn storable(what: &str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::new(
            ErrorCode::InvalidContent,
            format!("{what} holds the character U+0000, which can't be stored"),
        ));
    }
    Ok(())
}

fn at_most_chars(what: &str, text: &str, max: usize, code: ErrorCode) -> Result<(), Invalid> {
    // Every character has at least one byte, so most texts need no counting.
    if text.len() > max && text.chars().count() > max {
        return Err(Invalid::new(
            code,
            format!("{what} is longer than {max} characters"),
        ));
    }
    Ok(())
}

impl ChannelName {
    /// Reads a channel name from a path or a body.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let bytes = text.as_bytes();
        let starts_well = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        if !starts_well || bytes.len() > CHANNEL_NAME_MAX || !bytes.iter().all(|b| legal(*b)) {
            return Err(Invalid::new(
                ErrorCode::InvalidChannelName,
                "A channel name has 1 to 128 letters, digits, dots, underscores or hyphens, and \
                 starts with a letter or digit",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl Name {
    /// Reads the name in `field` (`sender_name`, `team_name`).
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        storable(field, text)?;
        at_most_chars(field, text, NAME_MAX_CHARS, ErrorCode::FieldTooLarge)?;
        Ok(Self(text.into()))
    }
}

impl MentionName {
    /// Reads a mention; an empty one is none.
    pub fn parse(text: &str) -> Result<Option<Self>, Invalid> {
        storable("mention", text)?;
        at_most_chars("mention", text, NAME_MAX_CHARS, ErrorCode::FieldTooLarge)?;
        Ok((!text.is_empty()).then(|| Self(text.into())))
    }
}

impl Content {
    /// Reads a message's content.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        storable("content", &text)?;
        if text.len() > CONTENT_MAX_BYTES {
            return Err(Invalid::new(
                ErrorCode::ContentTooLarge,
                format!(
                    "content has {} bytes, at most {CONTENT_MAX_BYTES} fit",
                    text.len()
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl StatusKey {
    /// Reads a status key from a path, a query or a body.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        storable("key", text)?;
        at_most_chars("key", text, STATUS_KEY_MAX_CHARS, ErrorCode::KeyTooLarge)?;
        Ok(Self(text.into()))
    }
}

impl StatusValue {
    /// Reads a status value.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        storable("value", &text)?;
        if text.len() > CONTENT_MAX_BYTES {
            return Err(Invalid::new(
                ErrorCode::ValueTooLarge,
                format!(
                    "value has {} bytes, at most {CONTENT_MAX_BYTES} fit",
                    text.len()
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl Description {
    /// Reads a channel's description.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        storable("description", text)?;
        at_most_chars(
            "description",
            text,
            DESCRIPTION_MAX_CHARS,
            ErrorCode::FieldTooLarge,
        )?;
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names() {
        for good in ["a", "0", "build.2026_x-y", &"a".repeat(128)] {
            assert!(ChannelName::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ".a",
            "-a",
            "_a",
            "a b",
            "ä",
            "a/b",
            "*",
            "a\n",
            &"a".repeat(129),
        ] {
            assert!(ChannelName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_count_characters_and_contents_bytes() {
        assert!(Name::parse("sender_name", &"🦀".repeat(128)).is_ok());
        assert!(Name::parse("sender_name", &"a".repeat(129)).is_err());
        assert!(Content::parse("🦀".repeat(8_192)).is_ok());
        assert!(Content::parse("🦀".repeat(8_193)).is_err());
        assert_eq!(
            Content::parse("a\0".into()).unwrap_err().code,
            ErrorCode::InvalidContent
        );
    }
}
