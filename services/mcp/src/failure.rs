//! What went wrong, in words that a model can act on.

use crate::{
    arguments::InvalidArgument,
    catalogue::{Effect, Needs, ToolSpec},
};
use handoff_client::{ApiError, Error};

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments don't fit the tool.
    Invalid(InvalidArgument),
    /// The relay refused, or could not be asked.
    Client(Error),
    /// The caller has no more use for it.
    Cancelled,
}

impl From<InvalidArgument> for Failure {
    fn from(error: InvalidArgument) -> Self {
        Self::Invalid(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    /// Whether the relay would answer a further question of this caller's.
    pub(crate) fn leaves_relay_usable(&self) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Client(Error::Api(error)) => {
                !matches!(error.status.as_u16(), 401 | 429 | 500..=599)
            }
            Self::Client(Error::Encryption(_) | Error::InvalidArgument(_)) => true,
            Self::Client(_) | Self::Cancelled => false,
        }
    }

    /// What to tell the model: what happened, and what to do.
    pub(crate) fn describe(&self, tool: &ToolSpec, channel: Option<&str>) -> String {
        match self {
            Self::Invalid(InvalidArgument(sentence)) => format!("INVALID_ARGUMENT: {sentence}."),
            Self::Client(Error::Api(error)) => {
                let mut text = format!("{}: {}", error.code, sentence(&error.message));
                if let Some(hint) = hint(error, tool, channel) {
                    text.push(' ');
                    text.push_str(&hint);
                }
                if error.status.is_server_error()
                    && let Some(request_id) = &error.request_id
                {
                    text.push_str(&format!(" (request {request_id})"));
                }
                text
            }
            Self::Client(Error::Transport(error)) => {
                let doubt = match tool.effect {
                    Effect::Adds => "It may have been carried out all the same: look first. ",
                    _ => "",
                };
                format!(
                    "UNREACHABLE: {} {doubt}Try again in a few seconds; if it stays so, tell your \
                     user that the relay is down or RELAY_API_URL is wrong.",
                    sentence(&error.to_string())
                )
            }
            Self::Client(Error::BadAnswer(_)) => {
                "BAD_ANSWER: What answered is no Handoff relay, or a much older one. Tell your \
                 user to look at RELAY_API_URL."
                    .to_owned()
            }
            Self::Client(Error::Encryption(error)) => format!(
                "ENCRYPTION: {} Nothing was sent. Tell your user to look at \
                 HANDOFF_ENCRYPTION_KEY.",
                sentence(&error.to_string())
            ),
            Self::Client(Error::InvalidArgument(error)) => {
                format!("INVALID_ARGUMENT: {}", sentence(error))
            }
            Self::Cancelled => "CANCELLED: The call was cancelled.".to_owned(),
        }
    }
}

/// With a full stop at its end.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    match text.chars().last() {
        Some('.' | '!' | '?') => text.to_owned(),
        _ => format!("{text}."),
    }
}

/// What to do about a refusal.
fn hint(error: &ApiError, tool: &ToolSpec, channel: Option<&str>) -> Option<String> {
    let hint = match error.code.as_str() {
        "FORBIDDEN" => return Some(forbidden(tool, channel)),
        "RATE_LIMITED" | "SIGNUP_RATE_LIMITED" => {
            let seconds = error
                .retry_after
                .map_or(1, |wait| wait.as_secs_f64().ceil().max(1.0) as u64);
            return Some(format!(
                "Wait {seconds} s before the next call; wait_for_messages costs far less than \
                 reading in a loop."
            ));
        }
        "MISSING_API_KEY" | "INVALID_API_KEY" => {
            "Tell your user: the key (RELAY_API_KEY, or the Authorization header) is missing, \
             mistyped or revoked."
        }
        "TOKEN_EXPIRED" => "Tell your user: the token that you were given is past its time.",
        "CHANNEL_NOT_FOUND" => "list_channels shows which there are.",
        "INVALID_CHANNEL_NAME" => {
            "A name has 1 to 128 letters, digits, `.`, `_` or `-` and starts with a letter or \
             digit."
        }
        "MESSAGE_NOT_FOUND" | "THREAD_PARENT_NOT_FOUND" => {
            "Look the ID up with read_messages in this channel: it may be wrong, deleted or of \
             another channel."
        }
        "STATUS_NOT_FOUND" => "get_status shows which keys there are.",
        "KEY_NOT_FOUND" => "list_keys shows each key's hash.",
        "INVALID_CURSOR" => "Pass an ID just as a result showed it, like 42.",
        "CONTENT_TOO_LARGE" => "Split it: each message holds 32768 bytes at most.",
        "VALUE_TOO_LARGE" => "A status value holds 32768 bytes at most; post a message instead.",
        "KEY_TOO_LARGE" => "A status key has 256 characters at most.",
        "INVALID_PERMISSIONS" => {
            r#"Permissions map a channel name or "*" to "read", "write" or "admin"."#
        }
        "LAST_ADMIN" => r#"Give another key admin on "*" first."#,
        "CHANNEL_LIMIT_REACHED" => "Use an existing channel (list_channels).",
        "KEY_LIMIT_REACHED" => "Tell your user: keys that are no longer used must be revoked.",
        "NOT_FOUND" => "This relay is older than this tool and does not know the request.",
        _ if error.status.is_server_error() => {
            "The relay is in trouble; try again in a few seconds."
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Which permission was missing, and who can give it.
fn forbidden(tool: &ToolSpec, channel: Option<&str>) -> String {
    let level = match tool.needs {
        Needs::Read | Needs::Nothing => "read",
        Needs::Write => "write",
        Needs::Admin | Needs::TeamAdmin => "admin",
    };
    let place = match (tool.needs, channel) {
        (Needs::TeamAdmin, _) => r#""*" (the whole team)"#.to_owned(),
        (_, Some(channel)) => format!("channel \"{channel}\""),
        (_, None) => "the channel".to_owned(),
    };
    format!(
        "{} needs {level} permission on {place}, which your key lacks (whoami shows what it has). \
         Don't try again: ask an admin of your team, who can grant it with set_key_permissions.",
        tool.name
    )
}
