//! Which relay, with which key: flags before environment before config file.

use crate::{
    args::Connection,
    failure::Failure,
    files::{variable, write_private, xdg_dir},
};
use anyhow::Context;
use handoff_client::{Client, e2ee::Keyring};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const DEFAULT_URL: &str = "http://localhost:3000";

/// A setting, and where it comes from.
#[derive(Clone)]
pub(crate) struct Setting {
    /// What it is.
    pub(crate) value: String,
    /// Where it comes from, in words.
    pub(crate) source: String,
}

/// The settings in force.
pub(crate) struct Settings {
    /// The relay's address.
    pub(crate) relay_url: Setting,
    /// The key to speak with.
    pub(crate) api_key: Option<Setting>,
    /// The team's secret for end-to-end encryption.
    pub(crate) encryption_key: Option<Setting>,
    /// Which version of the envelope to write.
    pub(crate) encryption_version: Option<Setting>,
    /// The config file, there or not.
    pub(crate) file: PathBuf,
}

/// What the config file may hold.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_version: Option<String>,
}

impl ConfigFile {
    fn path() -> anyhow::Result<PathBuf> {
        let folder = xdg_dir("XDG_CONFIG_HOME", ".config")?;
        Ok(folder.join("handoff").join("config.toml"))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", path.display()));
            }
        };
        // The message of the error shows the line it is about, which may hold a key.
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            Failure::usage(format!(
                "{}, line {line}: {}",
                path.display(),
                error.message()
            ))
        })
    }

    fn warn_if_others_can_read(&self, path: &Path) {
        let holds_secret = self.api_key.is_some() || self.encryption_key.is_some();
        if let Ok(metadata) = fs::metadata(path)
            && holds_secret
            && metadata.mode() & 0o077 != 0
        {
            anstream::eprintln!(
                "warning: other users can read the keys in {path}; run: chmod 600 {path}",
                path = path.display()
            );
        }
    }
}

impl Settings {
    /// Gathers the settings.
    pub(crate) fn load(flags: &Connection) -> anyhow::Result<Self> {
        let file = ConfigFile::path()?;
        let config = ConfigFile::read(&file)?;
        config.warn_if_others_can_read(&file);
        let pick = |flag: Option<(&str, &Option<String>)>, name: &str, kept: Option<String>| {
            let not_empty = |value: &String| !value.is_empty();
            let from = |source: &str| {
                let source = source.to_owned();
                move |value| Setting { value, source }
            };
            let flag = flag.and_then(|(name, value)| {
                let value = value.clone().filter(not_empty);
                value.map(from(&format!("the flag {name}")))
            });
            flag.or_else(|| variable(name).map(from(&format!("the environment, {name}"))))
                .or_else(|| kept.filter(not_empty).map(from("the config file")))
        };
        Ok(Self {
            relay_url: pick(
                Some(("--relay-url", &flags.relay_url)),
                "RELAY_API_URL",
                config.relay_url,
            )
            .unwrap_or_else(|| Setting {
                value: DEFAULT_URL.to_owned(),
                source: "the default".to_owned(),
            }),
            api_key: pick(
                Some(("--api-key", &flags.api_key)),
                "RELAY_API_KEY",
                config.api_key,
            ),
            encryption_key: pick(None, "HANDOFF_ENCRYPTION_KEY", config.encryption_key),
            encryption_version: pick(
                None,
                "HANDOFF_ENCRYPTION_VERSION",
                config.encryption_version,
            ),
            file,
        })
    }

    /// A client for the key. Without a key there is no point in asking.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let key = self.api_key.as_ref().ok_or_else(Failure::no_key)?;
        let client = Client::connect(&self.relay_url.value, Some(&key.value))
            .map_err(|error| self.unusable_url(&error))?;
        let Some(secret) = &self.encryption_key else {
            return Ok(client);
        };
        let mut keyring = Keyring::parse(&secret.value).map_err(|error| {
            Failure::usage(format!(
                "the encryption key from {} is none: {error}",
                secret.source
            ))
        })?;
        if let Some(version) = &self.encryption_version {
            let unknown = |error| Failure::usage(format!("from {}: {error}", version.source));
            keyring = keyring.writing_version(version.value.parse().map_err(unknown)?);
        }
        Ok(client.with_keyring(keyring))
    }

    /// A client that can only sign up.
    pub(crate) fn client_without_key(&self) -> anyhow::Result<Client> {
        Client::connect(&self.relay_url.value, None).map_err(|error| self.unusable_url(&error))
    }

    fn unusable_url(&self, error: &handoff_client::Error) -> anyhow::Error {
        Failure::usage(format!(
            "the relay's address {} (from {}) or its key can't be used: {error}",
            self.relay_url.value, self.relay_url.source
        ))
    }

    /// Keeps this address and key in the config file, beside what else is in it.
    pub(crate) fn save(&self, api_key: &str) -> anyhow::Result<()> {
        let mut config = ConfigFile::read(&self.file)?;
        config.relay_url = Some(self.relay_url.value.clone());
        config.api_key = Some(api_key.to_owned());
        write_private(&self.file, &toml::to_string(&config)?)
    }
}

/// A key, cut so that it can be told from others but not used.
pub(crate) fn redacted(secret: &str) -> String {
    if secret.is_ascii() && secret.len() >= 24 {
        format!("{}…", &secret[..10])
    } else {
        "…".to_owned()
    }
}
