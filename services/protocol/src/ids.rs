//! IDs and cursors. On the wire they are opaque strings; ours hold a decimal serial.

use crate::{ErrorCode, Invalid};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use utoipa::ToSchema;

/// The ID of anything that a cursor walks past: a message, a status change, an audit entry.
///
/// IDs ascend in commit order and are unique within a team. On the wire `"42"`: ASCII digits
/// only, at most 2⁶³-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    value_type = String,
    // Up to 2^63-1, but for the last stretch before it, of which it has the end alone.
    pattern = "^([0-9]{1,18}|[1-8][0-9]{18}|9[01][0-9]{17}|92[01][0-9]{16}|9223372036854775807|0-0)$",
    example = "42"
)]
pub struct Id(i64);

/// A place in a team's order: everything up to and including this ID has been seen. 0 is the
/// beginning.
pub type Cursor = Id;

impl Id {
    /// The place before every ID.
    pub const BEGINNING: Id = Id(0);

    /// Wraps a serial as Postgres gave it.
    pub const fn from_serial(serial: i64) -> Self {
        Self(serial)
    }

    /// The serial.
    pub const fn serial(self) -> i64 {
        self.0
    }

    /// Reads an ID; `"0-0"`, which some clients send for the beginning, means 0.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text == "0-0" {
            return Ok(Self::BEGINNING);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(serial) if digits => Ok(Self(serial)),
            _ => Err(Invalid::new(
                ErrorCode::InvalidCursor,
                "An ID holds decimal digits only, at most 9223372036854775807",
            )),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Names a team inside the relay. Only authentication and signup make one (guarantee G6): a
/// statement that wants a `TeamId` can't be run for a team that the caller doesn't belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]+$", example = "7", description = "Names a team.")]
pub struct TeamId(i64);

impl TeamId {
    /// For the rows that authentication and signup read, and for nothing else.
    pub const fn from_row(id: i64) -> Self {
        Self(id)
    }

    /// The number in the table.
    pub const fn serial(self) -> i64 {
        self.0
    }

    /// The slot that orders this team's writes.
    pub const fn slot(self) -> Slot {
        Slot((self.0 % SLOTS as i64) as u8)
    }
}

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for TeamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many slots there are: a constant of the schema, as is `slot = team_id % 64`.
pub const SLOTS: usize = 64;

/// One of the 64 orders: teams share a slot's lock and its sequence of IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Every slot, ascending.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..SLOTS as u8).map(Slot)
    }

    /// The slot with this number; none at 64 and above.
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < SLOTS).then_some(Self(number))
    }

    /// Its number, 0 to 63.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn an_id_is_decimal_digits() {
        assert_eq!(Id::parse("42").unwrap().serial(), 42);
        assert_eq!(Id::parse("9223372036854775807").unwrap().serial(), i64::MAX);
        assert_eq!(Id::parse("0-0").unwrap(), Id::BEGINNING);
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1e3",
            "9223372036854775808",
            "٤",
            "0-1",
            "abc",
        ] {
            assert!(Id::parse(bad).is_err(), "{bad:?}");
        }
    }
}
