//! The frames of the Postgres protocol, as far as the proxy has to understand them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first message of a client: a length, no type.
pub(super) async fn read_startup(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        if let Some(mut length) = buffer.get(..4) {
            let length = length.get_u32() as usize;
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
        }
        if from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Any later message: a type, and a length that counts itself.
pub(super) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        if let Some(mut length) = buffer.get(1..5) {
            let length = length.get_u32() as usize + 1;
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
        }
        if from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a client has run since its last commit, by the texts of the statements.
#[derive(Default)]
pub(super) struct Transaction {
    prepared: HashMap<Vec<u8>, Arc<str>>,
    statements: VecDeque<Arc<str>>,
}

/// How many statements of a transaction are remembered: a session that never commits, since it only
/// reads, would have no end of them.
const REMEMBERED: usize = 256;

impl Transaction {
    /// Takes note of a message; true if it carries a COMMIT.
    pub(super) fn sees_commit(&mut self, frame: &[u8]) -> bool {
        let mut fields = frame[5..].split(|byte| *byte == 0);
        let mut field = || fields.next().unwrap_or_default();
        let statement = match frame[0] {
            b'Q' => lower(field()),
            b'P' => {
                let name = field().to_vec();
                self.prepared.insert(name, lower(field()));
                return false;
            }
            b'B' => {
                field();
                let prepared = self.prepared.get(field());
                prepared.cloned().unwrap_or_else(|| "".into())
            }
            _ => return false,
        };
        let commits = statement
            .trim()
            .trim_end_matches(';')
            .rsplit(';')
            .next()
            .is_some_and(|last| last.trim() == "commit");
        if self.statements.len() == REMEMBERED {
            self.statements.pop_front();
        }
        self.statements.push_back(statement);
        commits
    }

    /// Begins anew after a commit.
    pub(super) fn forget(&mut self) {
        self.statements.clear();
    }

    /// Whether it has run a statement with this text.
    pub(super) fn has_run(&self, text: &str) -> bool {
        self.statements
            .iter()
            .any(|statement| statement.contains(text))
    }
}

/// Whether a client's message asks for notifications.
pub(super) fn listens(frame: &[u8]) -> bool {
    frame[0] == b'Q' && frame[5..].trim_ascii_start().starts_with(b"listen")
}

fn lower(text: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(text).to_lowercase().into()
}
