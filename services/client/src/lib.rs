//! A typed client of the Handoff relay: requests with retries, streams that resume where they were
//! cut, and end-to-end encryption.
//!
//! ```no_run
//! # async fn example() -> handoff_client::Result<()> {
//! use handoff_client::{Client, StreamQuery, e2ee::Keyring, types::NewMessage};
//!
//! let client = Client::connect("http://127.0.0.1:3000", Some("relay_…"))?
//!     .with_keyring(Keyring::parse("the team's secret")?);
//! let mut stream = client.stream(StreamQuery {
//!     channels: vec!["ops".into()],
//!     after_id: None,
//! });
//! stream.opened().await?;
//! let question = NewMessage {
//!     content: "Who deploys?".into(),
//!     mention: Some("deployer".into()),
//!     thread_id: None,
//! };
//! client.post_message("ops", question).await?;
//! while let Some(message) = stream.next().await {
//!     let message = message?;
//!     println!("{}: {}", message.sender, message.content);
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod crypt;
pub mod e2ee;
mod error;
#[cfg(feature = "http-transport")]
mod http_transport;
mod request;
mod stream;
pub mod transport;
pub mod types;

pub use client::{Client, Posted};
pub use error::{ApiError, Error, Result};
#[cfg(feature = "http-transport")]
pub use http_transport::HttpTransport;
pub use stream::{MessageStream, StreamQuery};
