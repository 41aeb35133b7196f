//! A stand-in until the crate is here: a server named by `TEST_DATABASE_URL` is the only one.
#![allow(unreachable_pub, dead_code, missing_docs, reason = "it goes away")]

pub struct Ephemeral;
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Fast,
    Immediate,
}

impl Ephemeral {
    pub fn start() -> Result<Ephemeral, std::io::Error> {
        Err(std::io::Error::other("set TEST_DATABASE_URL"))
    }
    pub fn url(&self, _database: &str) -> String {
        unreachable!()
    }
    pub fn stop(&self, _mode: Mode) -> Result<(), std::io::Error> {
        unreachable!()
    }
    pub fn start_again(&self) -> Result<(), std::io::Error> {
        unreachable!()
    }
}
