//! What a failure is told as: a sentence and what to do on standard error, and an exit code that a
//! script can tell apart.

use crate::output::{ERROR, Output};
use handoff_client::Error;
use serde_json::json;
use std::{io, process::ExitCode};

const FAILED: u8 = 1;
const USED_WRONGLY: u8 = 2;
const NOT_ALLOWED: u8 = 3;
const NOT_FOUND: u8 = 4;

/// A failure that no request is the cause of.
#[derive(Debug)]
pub(crate) struct Failure {
    exit_code: u8,
    message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Arguments or settings that can't be.
    pub(crate) fn usage(message: String) -> anyhow::Error {
        let exit_code = USED_WRONGLY;
        Self { exit_code, message }.into()
    }

    /// No key at all.
    pub(crate) fn no_key() -> anyhow::Error {
        let message = "there is no key: set RELAY_API_KEY, or get one with `handoff signup --save`";
        Self {
            exit_code: NOT_ALLOWED,
            message: message.to_owned(),
        }
        .into()
    }
}

/// Tells what failed, and says how the program should exit.
pub(crate) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    // Whoever read the output has seen enough.
    if let Some(io) = error.downcast_ref::<io::Error>()
        && io.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let exit_code = exit_code(error);
    let sentence = sentence(error);
    if output.json {
        let api = match error.downcast_ref::<Error>() {
            Some(Error::Api(api)) => Some(api),
            _ => None,
        };
        let line = json!({
            "error": sentence,
            "code": api.map(|api| api.code.as_str()),
            "status": api.map(|api| api.status.as_u16()),
            "request_id": api.and_then(|api| api.request_id.as_deref()),
            "exit_code": exit_code,
        });
        anstream::eprintln!("{line}");
    } else {
        anstream::eprintln!("{ERROR}error:{ERROR:#} {}", crate::output::text(&sentence));
        if let Some(advice) = advice(error) {
            anstream::eprintln!("  {advice}");
        }
    }
    ExitCode::from(exit_code)
}

/// The error and its causes; a cause that an error tells in its own words is not told again.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit_code;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::Api(api)) => match api.status.as_u16() {
            401 | 403 => NOT_ALLOWED,
            404 => NOT_FOUND,
            400 => USED_WRONGLY,
            _ => FAILED,
        },
        Some(Error::InvalidArgument(_)) => USED_WRONGLY,
        _ => FAILED,
    }
}

/// What to do about it, where that is clear.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref::<Error>()? {
        Error::Transport(_) => Some(
            "Is the relay running, and is RELAY_API_URL right? `handoff config` shows what is used.",
        ),
        Error::BadAnswer(_) => Some("Is RELAY_API_URL a Handoff relay? `handoff config` shows it."),
        Error::Encryption(_) => Some("Look at HANDOFF_ENCRYPTION_KEY; `handoff keygen` makes one."),
        Error::Api(api) => match api.code.as_str() {
            "INVALID_API_KEY" | "MISSING_API_KEY" => {
                Some("Look at RELAY_API_KEY; `handoff config` shows where the key comes from.")
            }
            "TOKEN_EXPIRED" => Some("Make another one with the key: `handoff token create`."),
            "FORBIDDEN" => Some(
                "`handoff whoami` shows what this key may do; an admin can change it with \
                 `handoff keys permissions`.",
            ),
            "CHANNEL_NOT_FOUND" => Some("`handoff channels` lists the channels."),
            "INVALID_CURSOR" => Some("IDs are the numbers that `handoff read` shows."),
            _ => None,
        },
        Error::InvalidArgument(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow!("refused")
            .context("no answer: refused")
            .context("it failed");
        assert_eq!(sentence(&error), "it failed: no answer: refused");
    }

    #[test]
    fn an_exit_code_is_found_below_what_was_said_about_it() {
        let error = Failure::no_key().context("it failed");
        assert_eq!(exit_code(&error), NOT_ALLOWED);
        let error = anyhow::Error::from(Error::InvalidArgument("no".to_owned())).context("well");
        assert_eq!(exit_code(&error), USED_WRONGLY);
    }
}
