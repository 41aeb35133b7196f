//! Times on the wire: RFC 3339, UTC, whole microseconds (what Postgres keeps).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    value_type = String,
    format = DateTime,
    description = "RFC 3339, UTC, in whole microseconds.",
    example = "2026-09-21T14:13:20.000042Z"
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment that lies `micros` microseconds after the epoch.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment that lies `seconds` seconds after the epoch.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This machine's clock.
    pub fn now() -> Self {
        Self::from(OffsetDateTime::now_utc())
    }

    /// Reads an RFC 3339 time with any offset; digits beyond the microsecond are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(Self::from)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        // A year of four digits lies far inside 64 bits of microseconds.
        Self((time.unix_timestamp_nanos() / 1_000) as i64)
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(timestamp: Timestamp) -> Self {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(timestamp.0) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(UtcOffset::UTC)
    }
}

/// `2026-09-21T14:13:20.000042Z`, written digit by digit: a page of messages has fifty of them.
pub(crate) struct Rfc3339Text([u8; 27]);

impl Rfc3339Text {
    pub(crate) fn new(timestamp: Timestamp) -> Self {
        let time = OffsetDateTime::from_unix_timestamp(timestamp.as_seconds())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        let micros = timestamp.0.rem_euclid(1_000_000) as u32;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        // Years of four digits, as of RFC 3339.
        write_digits(&mut text[0..4], year.unsigned_abs().min(9_999));
        write_digits(&mut text[5..7], u8::from(month).into());
        write_digits(&mut text[8..10], day.into());
        write_digits(&mut text[11..13], hour.into());
        write_digits(&mut text[14..16], minute.into());
        write_digits(&mut text[17..19], second.into());
        write_digits(&mut text[20..26], micros);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        // ASCII throughout.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn write_digits(places: &mut [u8], mut number: u32) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Rfc3339Text::new(*self).as_str())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Rfc3339Text::new(*self).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn writes_and_reads_microseconds() {
        let timestamp = Timestamp::from_micros(1_790_000_000_000_042);
        assert_eq!(timestamp.to_string(), "2026-09-21T14:13:20.000042Z");
        assert_eq!(Timestamp::parse(&timestamp.to_string()), Some(timestamp));
    }

    #[test]
    fn reads_any_offset() {
        assert_eq!(
            Timestamp::parse("2026-09-21T16:13:20+02:00"),
            Some(Timestamp::from_micros(1_790_000_000_000_000))
        );
    }
}
