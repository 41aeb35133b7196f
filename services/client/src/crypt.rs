//! What the client does with a keyring: texts are encrypted before they leave and decrypted where
//! they arrive, each for itself, so that one that can't be read spoils no page.

use crate::{
    Client, Result,
    e2ee::{Context, Kind, Opened},
    request::may_pass,
    types::{Encryption, Message, Status, StatusChange},
};

impl Client {
    /// A text as it leaves: encrypted where there is a key.
    pub(crate) async fn encrypt(
        &self,
        channel: &str,
        kind: Kind<'_>,
        text: String,
    ) -> Result<String> {
        let Some(keyring) = self.keyring() else {
            return Ok(text);
        };
        let me;
        let team_id = if keyring.writes_for_team() {
            me = self.me().await?;
            me.team.id.as_str()
        } else {
            ""
        };
        let context = Context {
            team_id,
            channel,
            kind,
        };
        Ok(keyring.encrypt(&context, &text)?)
    }

    /// Decrypts messages in place. Where a channel was asked for they must be of that one, whatever
    /// the relay says of them.
    pub(crate) async fn decrypt_messages(
        &self,
        asked: Option<&str>,
        messages: &mut [Message],
    ) -> Result<()> {
        for message in messages {
            message.encryption = self
                .decrypt(
                    asked.unwrap_or(&message.channel),
                    Kind::Message,
                    &mut message.content,
                )
                .await?;
        }
        Ok(())
    }

    /// Decrypts status entries in place.
    pub(crate) async fn decrypt_statuses(
        &self,
        asked: Option<&str>,
        statuses: &mut [Status],
    ) -> Result<()> {
        for status in statuses {
            let kind = Kind::Status { key: &status.key };
            status.encryption = self
                .decrypt(asked.unwrap_or(&status.channel), kind, &mut status.value)
                .await?;
        }
        Ok(())
    }

    /// Decrypts status changes in place.
    pub(crate) async fn decrypt_changes(
        &self,
        channel: &str,
        changes: &mut [StatusChange],
    ) -> Result<()> {
        // A deletion says nothing, so there is nothing to say of its encryption either.
        for change in changes.iter_mut().filter(|change| !change.deleted) {
            let kind = Kind::Status { key: &change.key };
            change.encryption = self.decrypt(channel, kind, &mut change.value).await?;
        }
        Ok(())
    }

    /// Decrypts a text in place. Fails only where a later try may go better.
    async fn decrypt(
        &self,
        channel: &str,
        kind: Kind<'_>,
        text: &mut String,
    ) -> Result<Encryption> {
        let Some(keyring) = self.keyring() else {
            return Ok(Encryption::Unknown);
        };
        let me;
        let team_id = if keyring.needs_team(text) {
            me = match self.me().await {
                Ok(me) => me,
                Err(error) if may_pass(&error) => return Err(error),
                Err(error) => {
                    let reason = format!("the relay does not tell which team this is: {error}");
                    return Ok(Encryption::Failed(reason));
                }
            };
            me.team.id.as_str()
        } else {
            ""
        };
        let context = Context {
            team_id,
            channel,
            kind,
        };
        Ok(match keyring.decrypt(&context, text) {
            Ok(Opened::Plain) => Encryption::Plain,
            Ok(Opened::Text(decrypted)) => {
                *text = decrypted;
                Encryption::Encrypted
            }
            Err(error) => Encryption::Failed(error.to_string()),
        })
    }
}
