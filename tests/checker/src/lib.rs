//! A history goes in, a verdict comes out: every way in which what a relay's clients were told
//! disagrees with its guarantees. Nothing here talks to a relay or looks at a clock, apart from the
//! [`Recorder`], with which a load writes its history down.
//!
//! The anomalies are those of Jepsen's analyses of ordered logs, and what a relay promises beyond
//! them. Their names are in [`Kind`], the rules for a history in [`history`].

mod checks;
mod facts;
pub mod history;
mod recorder;
mod verdict;

use std::io::BufRead;

pub use facts::Flaw;
pub use history::{History, Line};
pub use recorder::{Log, Recorder};
pub use verdict::{Anomaly, Counts, Failover, Kind, Options, Verdict};

use facts::Facts;

/// Why a history can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its file can't be read.
    #[error("the history can't be read")]
    Io(#[from] std::io::Error),
    /// A line is not of the format.
    #[error("line {line} is none of a history")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Judges a history that is read line by line.
///
/// # Errors
/// The file can't be read, or a line is not of the format.
pub fn check(mut history: impl BufRead, options: &Options) -> Result<Verdict, ReadError> {
    let mut facts = Facts::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if history.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let read =
            serde_json::from_slice(&text).map_err(|source| ReadError::Line { line, source })?;
        facts.take(read);
    }
    Ok(checks::judge(&facts.complete(), options))
}

impl History {
    /// Judges it.
    pub fn verdict(&self) -> Verdict {
        let mut facts = Facts::default();
        for line in &self.lines {
            facts.take(line.clone());
        }
        checks::judge(&facts.complete(), &Options::default())
    }

    /// Panics, with what the verdict says, unless it is sound.
    #[track_caller]
    pub fn assert_sound(&self) {
        let verdict = self.verdict();
        assert!(verdict.is_sound(), "{verdict}");
    }
}
