//! A stream on one replica, resumed there for ever.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::http::Http;

/// A stream that says nothing for so long, while the probes post many times a second, is opened
/// anew: its connection may be one that leads nowhere.
const SILENCE: Duration = Duration::from_secs(1);

/// How soon a stream is opened again that was lost or refused.
const AGAIN: Duration = Duration::from_millis(100);

/// A stream to be followed.
pub(crate) struct Follow {
    http: Http,
    key: String,
    channel: &'static str,
    cursor: Option<String>,
}

pub(crate) fn follow(http: Http, key: String, channel: &'static str) -> Follow {
    Follow {
        http,
        key,
        channel,
        cursor: None,
    }
}

impl Follow {
    /// Hands on the ID and the content of each message.
    pub(crate) async fn each(mut self, mut take: impl FnMut(u64, String)) {
        loop {
            // How it ended is of no interest: it is opened again.
            self.read(&mut take).await.ok();
            sleep(AGAIN).await;
        }
    }

    async fn read(&mut self, take: &mut impl FnMut(u64, String)) -> Result<()> {
        let path = format!("/api/channels/{}/stream", self.channel);
        let cursor = self.cursor.as_deref();
        let opening = self.http.open(Method::GET, &path, &self.key, None, cursor);
        let answer = timeout(SILENCE, opening).await??;
        if answer.status().as_u16() != 200 {
            bail!("refused");
        }
        let mut body = answer.into_body();
        let mut unread = BytesMut::new();
        while let Some(frame) = timeout(SILENCE, body.frame()).await? {
            if let Ok(bytes) = frame?.into_data() {
                unread.extend_from_slice(&bytes);
            }
            while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
                let block = unread.split_to(end + 2);
                let block = String::from_utf8_lossy(&block);
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let Some(id) = field("id: ") else { continue };
                self.cursor = Some(id.to_owned());
                let message: Value = match field("data: ") {
                    Some(data) => serde_json::from_str(data)?,
                    None => continue,
                };
                if let (Ok(id), Some(content)) = (id.parse(), message["content"].as_str()) {
                    take(id, content.to_owned());
                }
            }
        }
        Ok(())
    }
}
