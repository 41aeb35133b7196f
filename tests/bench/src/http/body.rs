//! Where a body ends: pieces of a chunked one come in, its parts go out.

use anyhow::{Result, ensure};

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(usize),
    Chunked,
    /// As long as the connection lasts.
    UntilEnd,
}

/// Takes the chunked encoding off a body, however it is cut into pieces.
#[derive(Default)]
pub(super) struct Chunks {
    at: Place,
    /// The size of the chunk at hand, or what is left of it.
    size: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// In a chunk's size.
    #[default]
    Size,
    /// In what may follow the size, to the end of its line.
    Extension,
    Data,
    /// In the line end after a chunk's data.
    DataEnd,
    /// In what follows the last chunk; the relay sends no trailers.
    LastLine,
    Ended,
}

impl Chunks {
    /// Hands what the chunks of a piece say to `part`, in order.
    pub(super) fn take(&mut self, mut piece: &[u8], mut part: impl FnMut(&[u8])) -> Result<()> {
        while let Some((&first, rest)) = piece.split_first() {
            match self.at {
                Place::Size => match (first as char).to_digit(16) {
                    Some(digit) => {
                        ensure!(self.size < 1 << 40, "a chunk without bounds");
                        self.size = self.size * 16 + digit as usize;
                    }
                    None if first == b'\n' => self.begin(),
                    None => self.at = Place::Extension,
                },
                Place::Extension if first == b'\n' => self.begin(),
                Place::Extension => {}
                Place::Data => {
                    let length = self.size.min(piece.len());
                    let (data, after) = piece.split_at(length);
                    part(data);
                    self.size -= length;
                    if self.size == 0 {
                        self.at = Place::DataEnd;
                    }
                    piece = after;
                    continue;
                }
                Place::DataEnd if first == b'\n' => self.at = Place::Size,
                Place::DataEnd => ensure!(first == b'\r', "a chunk longer than it says"),
                Place::LastLine if first == b'\n' => self.at = Place::Ended,
                Place::LastLine => ensure!(first == b'\r', "a chunked body with trailers"),
                Place::Ended => anyhow::bail!("a chunked body with something after it"),
            }
            piece = rest;
        }
        Ok(())
    }

    /// Whether the last chunk has come.
    pub(super) fn ended(&self) -> bool {
        self.at == Place::Ended
    }

    fn begin(&mut self) {
        self.at = if self.size == 0 {
            Place::LastLine
        } else {
            Place::Data
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::Chunks;

    const BODY: &[u8] =
        b"5\r\nhello\r\n1b;name=value\r\n, chunks of more than 16.\r\n\r\n0\r\n\r\n";

    #[test]
    fn a_body_may_be_cut_anywhere() {
        let whole = "hello, chunks of more than 16.\r\n";
        for cut in 0..=BODY.len() {
            let mut chunks = Chunks::default();
            let mut said = Vec::new();
            for piece in [&BODY[..cut], &BODY[cut..]] {
                assert!(!chunks.ended() || piece.is_empty());
                chunks
                    .take(piece, |part| said.extend_from_slice(part))
                    .unwrap();
            }
            assert!(chunks.ended(), "cut at {cut}");
            assert_eq!(String::from_utf8(said).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in ["1\r\nab\r\n", "0\r\n\r\nmore", "0\r\nx: y\r\n"] {
            let taken = Chunks::default().take(body.as_bytes(), |_| ());
            assert!(taken.is_err(), "{body:?}");
        }
    }
}
