//! Where a message comes from in a distributed trace (W3C Trace Context).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A span of a sampled trace, as `traceparent` names it. Traces that nobody records are not passed
/// on, so the flags always say "sampled".
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
}

impl TraceParent {
    /// The span with these IDs; none where one of them is all zero, which names nothing.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8]) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id })
    }

    /// The trace.
    pub fn trace_id(self) -> [u8; 16] {
        self.trace_id
    }

    /// The span within the trace.
    pub fn span_id(self) -> [u8; 8] {
        self.span_id
    }

    /// The length of both IDs together.
    pub const ROW_BYTES: usize = 24;

    /// Both IDs, as Postgres keeps them.
    pub fn to_row(self) -> [u8; Self::ROW_BYTES] {
        let mut row = [0; Self::ROW_BYTES];
        row[..16].copy_from_slice(&self.trace_id);
        row[16..].copy_from_slice(&self.span_id);
        row
    }

    /// What [`TraceParent::to_row`] wrote; none if it is anything else.
    pub fn from_row(row: &[u8]) -> Option<Self> {
        let (trace_id, span_id) = row.split_at_checked(16)?;
        Self::new(trace_id.try_into().ok()?, span_id.try_into().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (_version, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        hex::decode_to_slice(trace_id, &mut trace).ok()?;
        hex::decode_to_slice(span_id, &mut span).ok()?;
        Self::new(trace, span)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (hex::encode(self.trace_id), hex::encode(self.span_id));
        write!(f, "00-{trace_id}-{span_id}-01")
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not a traceparent"))
    }
}

#[cfg(test)]
mod tests {
    use super::TraceParent;

    #[test]
    fn it_is_the_same_as_text_and_as_row() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceParent::parse(text).expect("a traceparent");
        assert_eq!(parsed.to_string(), text);
        assert_eq!(TraceParent::from_row(&parsed.to_row()), Some(parsed));
        assert_eq!(TraceParent::from_row(&[1; 23]), None);
        assert_eq!(TraceParent::from_row(&[0; 24]), None);
    }
}
