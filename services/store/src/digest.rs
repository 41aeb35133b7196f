//! Hashes as rows keep them where 16 bytes are enough.

use bytes::BytesMut;
use std::error::Error;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// The first 16 bytes of a SHA-256.
///
/// A row keeps them as `uuid`, Postgres' type for 16 bytes: it is compared as a whole, and stands in
/// rows and indexes without a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Of the whole hash.
    pub fn of(hash: [u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(bytes)
    }
}

impl ToSql for Digest {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}
