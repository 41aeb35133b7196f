//! What the relay answers when it refuses: a stable code, its HTTP status, a human sentence.

use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

macro_rules! error_codes {
    ($($(#[doc = $meaning:literal])* $variant:ident = $code:literal, $status:literal;)*) => {
        /// A machine-readable reason; clients may branch on it, it never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[doc = $meaning])* $variant,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }

            /// What it says, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$variant => concat!($($meaning),*),)* }
            }
        }
    };
}

error_codes! {
    /// No API key was sent.
    MissingApiKey = "MISSING_API_KEY", 401;
    /// The key is unknown, malformed, expired or revoked.
    InvalidApiKey = "INVALID_API_KEY", 401;
    /// The delegated token is past its time: its maker can make another one.
    TokenExpired = "TOKEN_EXPIRED", 401;
    /// The key may not do this; recorded in the audit log.
    Forbidden = "FORBIDDEN", 403;
    /// No such route.
    NotFound = "NOT_FOUND", 404;
    /// The route exists, not with this method; `Allow` names those it has.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405;
    /// The key's (or, without one, the address's) budget of requests is spent.
    RateLimited = "RATE_LIMITED", 429;
    /// Too many teams were signed up from this address.
    SignupRateLimited = "SIGNUP_RATE_LIMITED", 429;
    /// The key has as many streams open as it may.
    SseLimitReached = "SSE_LIMIT_REACHED", 429;
    /// Not a legal channel name.
    InvalidChannelName = "INVALID_CHANNEL_NAME", 400;
    /// Not an ID.
    InvalidCursor = "INVALID_CURSOR", 400;
    /// Not a number from 1 to 100.
    InvalidLimit = "INVALID_LIMIT", 400;
    /// Another parameter of the query is not what it should be.
    InvalidParameter = "INVALID_PARAMETER", 400;
    /// Not one JSON object with fields of the right types.
    InvalidJson = "INVALID_JSON", 400;
    /// A required field is absent, null or empty.
    MissingFields = "MISSING_FIELDS", 400;
    /// Text that can't be kept: U+0000 or not UTF-8.
    InvalidContent = "INVALID_CONTENT", 400;
    /// A message's content is too long.
    ContentTooLarge = "CONTENT_TOO_LARGE", 400;
    /// A status value is too long.
    ValueTooLarge = "VALUE_TOO_LARGE", 400;
    /// A status key is too long.
    KeyTooLarge = "KEY_TOO_LARGE", 400;
    /// Another field is too long.
    FieldTooLarge = "FIELD_TOO_LARGE", 400;
    /// The whole body is too long.
    BodyTooLarge = "BODY_TOO_LARGE", 413;
    /// An unknown level or an impossible channel name in a map of permissions.
    InvalidPermissions = "INVALID_PERMISSIONS", 400;
    /// `expires_at` is no RFC 3339 time in the future, or `ttl_seconds` is out of range.
    InvalidExpiry = "INVALID_EXPIRY", 400;
    /// The team would be left without a key that has admin on `*`.
    LastAdmin = "LAST_ADMIN", 409;
    /// The team has as many keys as it may.
    KeyLimitReached = "KEY_LIMIT_REACHED", 403;
    /// The team has as many channels as it may.
    ChannelLimitReached = "CHANNEL_LIMIT_REACHED", 403;
    /// No such key in this team.
    KeyNotFound = "KEY_NOT_FOUND", 404;
    /// No such channel in this team.
    ChannelNotFound = "CHANNEL_NOT_FOUND", 404;
    /// No such message in this channel.
    MessageNotFound = "MESSAGE_NOT_FOUND", 404;
    /// The message replied to is unknown, deleted or in another channel.
    ThreadParentNotFound = "THREAD_PARENT_NOT_FOUND", 404;
    /// No such status entry in this channel.
    StatusNotFound = "STATUS_NOT_FOUND", 404;
    /// The idempotency key was used before with another body.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", 409;
    /// A queue is full; nothing was done, try again after `Retry-After`.
    Overloaded = "OVERLOADED", 503;
    /// Postgres is out of reach or too slow. A write happened once or not at all.
    Unavailable = "UNAVAILABLE", 503;
    /// Our fault; the log has the rest under the request id.
    Internal = "INTERNAL_ERROR", 500;
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(codes))
            .description(Some(
                "A machine-readable reason. A code never changes its meaning; new ones may be added.",
            ))
            .into()
    }
}

impl ToSchema for ErrorCode {}

/// The body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A sentence for people.
    pub error: String,
    /// One of [`ErrorCode`]'s texts; a client keeps one that it doesn't know as it is.
    #[schema(value_type = ErrorCode)]
    pub code: String,
    /// Names this request in the relay's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub request_id: Option<String>,
}

/// Input that can't be accepted: what is wrong with it, in a sentence that says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The reason.
    pub code: ErrorCode,
    /// The sentence.
    pub message: String,
}

impl Invalid {
    /// A refusal with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A required field is absent, null or empty.
    pub fn missing(fields: &str) -> Self {
        Self::new(ErrorCode::MissingFields, format!("Required: {fields}"))
    }
}
