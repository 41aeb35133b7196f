//! Statements over Postgres' Unix socket: in goes SQL, out comes success or Postgres' refusal.
//!
//! Just enough of the protocol for a cluster that trusts whoever reaches its socket, so that
//! neither `psql` (not every server package brings it) nor an async driver is needed. It reads no
//! rows and knows no passwords.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::{Error, error::Context};

/// Version 3.0 of the protocol, as every Postgres since 7.4 speaks it.
const PROTOCOL: u32 = 3 << 16;

/// Executes one or several statements.
pub(crate) fn execute(socket: &Path, user: &str, database: &str, sql: &str) -> Result<(), Error> {
    let reply = converse(socket, user, database, sql)
        .context(|| format!("talk to Postgres at {}", socket.display()))?;
    match reply {
        None => Ok(()),
        Some(fields) => {
            let field = |code: u8| {
                let found = fields
                    .split(|&b| b == 0)
                    .find(|field| field.first() == Some(&code));
                found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            };
            Err(Error::Refused {
                sqlstate: field(b'C').unwrap_or_default(),
                message: field(b'M').unwrap_or_default(),
            })
        }
    }
}

/// Gives the fields of the error that Postgres answered with, if it did.
fn converse(socket: &Path, user: &str, database: &str, sql: &str) -> io::Result<Option<Vec<u8>>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;

    let parameters = format!("user\0{user}\0database\0{database}\0\0");
    let mut request = Vec::new();
    request.extend((parameters.len() as u32 + 8).to_be_bytes());
    request.extend(PROTOCOL.to_be_bytes());
    request.extend(parameters.as_bytes());
    // Nothing that Postgres says in between changes what we ask, so the query goes along.
    for (kind, body) in [(b'Q', format!("{sql}\0")), (b'X', String::new())] {
        request.push(kind);
        request.extend((body.len() as u32 + 4).to_be_bytes());
        request.extend(body.as_bytes());
    }
    stream.write_all(&request)?;

    let mut ready = 0;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        stream.read_exact(&mut body)?;
        match kind {
            b'E' => return Ok(Some(body)),
            // Ready for a query: first after the log-in, then after ours.
            b'Z' if ready == 1 => return Ok(None),
            b'Z' => ready += 1,
            _ => {}
        }
    }
}
