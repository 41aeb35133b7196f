//! What can go wrong with Postgres, in the few kinds that callers treat differently.

use tokio_postgres::error::SqlState;

/// A statement that gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres is out of reach, too slow or about to stop. A write happened once or not at all.
    #[error("Postgres is not available: {context}")]
    Unavailable {
        /// What was going on.
        context: &'static str,
        /// What the driver said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A queue is full; nothing was done.
    #[error("the queue of writes is full")]
    Overloaded,
    /// Postgres can't keep this value (SQLSTATE class 22 or 23).
    #[error("Postgres refused the value")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The schema is older than this program.
    #[error(
        "the database's schema is at version {found}, this program needs {needed}: run `handoff-relay migrate` first"
    )]
    SchemaTooOld {
        /// The newest migration applied.
        found: i64,
        /// The newest migration known.
        needed: i64,
    },
    /// Our mistake: a statement that Postgres doesn't accept.
    #[error("a statement failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The result of a statement.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Postgres didn't answer in time, or the answer was lost.
    pub(crate) fn unavailable(context: &'static str) -> Self {
        Self::Unavailable {
            context,
            source: None,
        }
    }

    fn from_code(code: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let lock_not_available = code == SqlState::LOCK_NOT_AVAILABLE.code();
        let takes_no_connections = code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE.code();
        match &code[..2.min(code.len())] {
            "22" | "23" => Self::Rejected(source),
            // Connections, rollbacks by the server, resources, operators, system errors.
            "08" | "25" | "40" | "53" | "57" | "58" => Self::Unavailable {
                context: "it refused the statement",
                source: Some(source),
            },
            // The database is being restored or renamed: nobody may connect, or it isn't there.
            "3D" => Self::Unavailable {
                context: "there is no such database now",
                source: Some(source),
            },
            _ if takes_no_connections => Self::Unavailable {
                context: "the database takes no connections",
                source: Some(source),
            },
            _ if lock_not_available => Self::Unavailable {
                context: "a lock was not free in time",
                source: Some(source),
            },
            _ => Self::Internal(source),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code().cloned() {
            Some(code) => Self::from_code(code.code(), Box::new(error)),
            None => Self::Unavailable {
                context: "the connection failed",
                source: Some(Box::new(error)),
            },
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(|error| error.code().map(String::from));
        match (code, &error) {
            (Some(code), _) => Self::from_code(&code, Box::new(error)),
            (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)) => {
                Self::Internal(Box::new(error))
            }
            (None, _) => Self::Unavailable {
                context: "the connection failed",
                source: Some(Box::new(error)),
            },
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable {
            context: "no connection was free",
            source: Some(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_being_restored_is_unavailable() {
        // It takes no connections; it has another name; its server is starting.
        for code in ["55000", "3D000", "57P03"] {
            let error = Error::from_code(code, "refused".into());
            assert!(
                matches!(error, Error::Unavailable { .. }),
                "{code}: {error:?}"
            );
        }
        let error = Error::from_code("42601", "a syntax error".into());
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
    }
}
