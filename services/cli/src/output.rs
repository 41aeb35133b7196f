//! How things look: text for people, one line of JSON for scripts.
//!
//! Text of others is never passed to a terminal as it is: a control sequence in it could rewrite
//! what the terminal shows.

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use handoff_client::types::{Encryption, Message};
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write},
};

/// For what is worth less attention.
pub(crate) const DIM: Style = Style::new().dimmed();
/// For what is worth more.
pub(crate) const BOLD: Style = Style::new().bold();
/// For who speaks.
pub(crate) const SENDER: Style = AnsiColor::Cyan.on_default().bold();
/// For who is called.
pub(crate) const MENTION: Style = AnsiColor::Yellow.on_default();
/// For what went wrong.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// For what went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();

/// Standard output, for one of two readers.
pub(crate) struct Output {
    /// Whether a script reads it.
    pub(crate) json: bool,
}

impl Output {
    /// For a script, or for people.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A line, out at once. Colours are taken out unless a terminal shows them.
    pub(crate) fn line(&self, line: impl Display) -> io::Result<()> {
        let mut out = AutoStream::auto(io::stdout().lock());
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// What a script gets: the value on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(value)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    /// The value for a script, or these lines for people.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        lines: impl FnOnce(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.json(value);
        }
        let mut out = AutoStream::auto(io::stdout().lock());
        for line in lines(value) {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }

    /// A remark for people, beside the output.
    pub(crate) fn remark(&self, remark: impl Display) {
        if !self.json {
            anstream::eprintln!("{DIM}{remark}{DIM:#}");
        }
    }
}

/// Text of others, safe to show: line breaks and tabs stay, other control characters and those
/// that turn the direction of writing around are made visible.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && c != '\t' && is_unsafe(c))
}

/// A name of others, safe to show on one line.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    replaced(name, is_unsafe)
}

fn replaced(text: &str, unsafe_char: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&unsafe_char) {
        text.replace(unsafe_char, "\u{fffd}").into()
    } else {
        text.into()
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The first so many characters of a text on one line, with a sign if there is more.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut safe: String = name(&line).chars().take(limit + 1).collect();
    if let Some((end, _)) = safe.char_indices().nth(limit) {
        safe.truncate(end);
        safe.push('…');
    }
    safe
}

/// A time as people read it, in UTC to the second.
pub(crate) fn time(time: &str) -> String {
    let seconds = time.get(..19).unwrap_or(time);
    name(&seconds.replacen('T', " ", 1)).into_owned()
}

/// A message: a line about it, and its text below.
pub(crate) fn message(message: &Message) -> Vec<String> {
    let mut head = format!(
        "{BOLD}{}{BOLD:#} {DIM}{} {}{DIM:#} {SENDER}{}{SENDER:#}",
        message.id,
        name(&message.channel),
        time(&message.created_at),
        name(&message.sender),
    );
    if let Some(mention) = &message.mention {
        head += &format!(" {MENTION}@{}{MENTION:#}", name(mention));
    }
    if let Some(thread) = &message.thread_id {
        head += &format!(" {DIM}in thread {}{DIM:#}", name(thread));
    }
    if message.reply_count > 0 {
        let replies = counted(message.reply_count, "reply", "replies");
        head += &format!(" {DIM}({replies}){DIM:#}");
    }
    head += &encryption(&message.encryption);
    let safe = text(&message.content);
    let lines = safe.lines().map(|line| format!("    {line}"));
    std::iter::once(head).chain(lines).collect()
}

/// What there is to say about how a text travelled.
pub(crate) fn encryption(encryption: &Encryption) -> String {
    match encryption {
        Encryption::Unknown | Encryption::Encrypted => String::new(),
        Encryption::Plain => format!(" {DIM}(not encrypted){DIM:#}"),
        Encryption::Failed(why) => {
            format!(" {ERROR}(can't be decrypted: {}){ERROR:#}", name(why))
        }
    }
}

/// A number and its noun.
pub(crate) fn counted(number: impl Into<i64>, one: &str, many: &str) -> String {
    let number = number.into();
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A table: cells in columns, the first row its head.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let cell = name(cell);
            let padding = width(column).saturating_sub(cell.chars().count());
            format!("{cell}{:padding$}", "")
        });
        let line = cells.collect::<Vec<_>>().join("  ").trim_end().to_owned();
        if index == 0 {
            format!("{BOLD}{line}{BOLD:#}")
        } else {
            line
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_don_t_reach_the_terminal() {
        assert_eq!(text("a\u{1b}[2Jb\r\nc\td"), "a\u{fffd}[2Jb\u{fffd}\nc\td");
        assert_eq!(name("a\nb\u{202e}"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt("one\n two\u{7}", 20), "one two\u{fffd}");
        assert_eq!(excerpt("🦀🦀🦀", 2), "🦀🦀…");
        assert_eq!(excerpt("abc", 3), "abc");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = table(&rows);
        assert_eq!(lines[0], format!("{BOLD}a    bb{BOLD:#}"));
        assert_eq!(lines[1], "ccc  d");
    }
}
