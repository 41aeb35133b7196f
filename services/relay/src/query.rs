//! Query strings: unknown parameters are ignored, an empty one counts as absent, and of several
//! with one name the first counts.

use handoff_core::Result;
use handoff_protocol::{
    Cursor, ErrorCode, Id, Invalid,
    pages::{PageLimit, PageRequest},
    waits::parse_wait,
};
use percent_encoding::percent_decode_str;
use std::{borrow::Cow, time::Duration};

/// The query of a request.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a>(Option<&'a str>);

impl<'a> Query<'a> {
    pub(crate) fn new(query: Option<&'a str>) -> Self {
        Self(query)
    }

    /// A parameter's bytes.
    fn bytes(self, name: &str) -> Option<Vec<u8>> {
        self.0?
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(found, _)| decode(found).as_ref() == name.as_bytes())
            .map(|(_, value)| decode(value).into_owned())
            .find(|value| !value.is_empty())
    }

    /// A parameter that holds text.
    ///
    /// # Errors
    /// `INVALID_CONTENT` for what Postgres can't hold.
    pub(crate) fn text(self, name: &str) -> Result<Option<String>, Invalid> {
        let Some(bytes) = self.bytes(name) else {
            return Ok(None);
        };
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(Some(text)),
            _ => Err(Invalid::new(
                ErrorCode::InvalidContent,
                format!("The query parameter {name} must be UTF-8 without U+0000"),
            )),
        }
    }

    /// A parameter in which text that isn't UTF-8 is as wrong as any other.
    fn lossy(self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An API key.
    pub(crate) fn token(self) -> Option<String> {
        self.lossy("token")
    }

    /// A parameter that holds an ID.
    pub(crate) fn id(self, name: &str) -> Result<Option<Id>, Invalid> {
        self.lossy(name).map(|text| Id::parse(&text)).transpose()
    }

    /// A parameter that is `true` or `false`; absent means false.
    pub(crate) fn flag(self, name: &str) -> Result<bool, Invalid> {
        match self.lossy(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Invalid::new(
                ErrorCode::InvalidParameter,
                format!("{name} is true or false"),
            )),
        }
    }

    /// `limit`.
    pub(crate) fn limit(self) -> Result<PageLimit, Invalid> {
        let limit = self
            .lossy("limit")
            .map(|text| PageLimit::parse(&text))
            .transpose()?;
        Ok(limit.unwrap_or_default())
    }

    /// `wait`, in seconds; absent means not at all.
    pub(crate) fn wait(self) -> Result<Duration, Invalid> {
        let wait = self.lossy("wait").map(|text| parse_wait(&text));
        Ok(wait.transpose()?.unwrap_or_default())
    }

    /// `after_id` and `limit`.
    pub(crate) fn page(self) -> Result<PageRequest, Invalid> {
        let after: Option<Cursor> = self.id("after_id")?;
        Ok(PageRequest {
            after,
            limit: self.limit()?,
        })
    }
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        return percent_decode_str(&text.replace('+', " "))
            .collect::<Vec<u8>>()
            .into();
    }
    percent_decode_str(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_decoded() {
        let query = Query::new(Some(
            "a=&sender=J%C3%B6rg+Q&sender=x&%6Cimit=7&flag&nul=%00",
        ));
        assert_eq!(query.text("sender").unwrap().unwrap(), "Jörg Q");
        assert_eq!(query.limit().unwrap().get(), 7);
        assert!(query.text("a").unwrap().is_none());
        assert!(query.text("flag").unwrap().is_none());
        assert_eq!(
            query.text("nul").unwrap_err().code,
            ErrorCode::InvalidContent
        );
        assert!(Query::new(Some("s=%FF")).text("s").is_err());
        assert!(Query::new(Some("after_id=%FF")).page().is_err());
    }
}
