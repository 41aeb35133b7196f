//! The one place that reads a database URL, for both drivers.
//!
//! tokio-postgres knows the `sslmode`s `disable`, `prefer` and `require` only; what the others
//! promise is kept by the TLS connector made here.

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use std::{str::FromStr, sync::Arc, time::Duration};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database URL that both drivers understand.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    text: SecretString,
    sslmode: SslMode,
    sslrootcert: Option<String>,
}

/// Why a database URL is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Not a URL of Postgres.
    #[error("it is no postgres:// URL: {0}")]
    Malformed(String),
    /// An `sslmode` that doesn't exist.
    #[error("sslmode={0} is unknown: use disable, prefer, require, verify-ca or verify-full")]
    UnknownSslMode(String),
    /// The root certificates can't be read.
    #[error("sslrootcert={path} can't be read: {reason}")]
    RootCertificate {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(DatabaseUrlError::Malformed(
                "it must begin with postgres://".into(),
            ));
        }
        let mut sslmode = SslMode::Prefer;
        let mut sslrootcert = None;
        let query = text.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "sslmode" | "ssl-mode" => {
                    sslmode = match value {
                        "disable" => SslMode::Disable,
                        "allow" | "prefer" => SslMode::Prefer,
                        "require" => SslMode::Require,
                        "verify-ca" => SslMode::VerifyCa,
                        "verify-full" => SslMode::VerifyFull,
                        other => return Err(DatabaseUrlError::UnknownSslMode(other.into())),
                    }
                }
                "sslrootcert" | "ssl-root-cert" => {
                    sslrootcert = Some(value.replace("%2F", "/").replace("%2f", "/"));
                }
                _ => {}
            }
        }
        let url = Self {
            text: text.to_owned().into(),
            sslmode,
            sslrootcert,
        };
        url.session_config("")?;
        url.control_options()?;
        url.tls()?;
        Ok(url)
    }
}

impl DatabaseUrl {
    /// For tokio-postgres: a session called `application`, which notices a peer that is gone.
    pub(crate) fn session_config(
        &self,
        application: &str,
    ) -> Result<tokio_postgres::Config, DatabaseUrlError> {
        let text = self.text.expose_secret();
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        // What the connector below takes care of, tokio-postgres doesn't know.
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter(|pair| !pair.starts_with("ssl"))
            .collect();
        let mut config = tokio_postgres::Config::from_str(&format!("{base}?{}", kept.join("&")))
            .map_err(|error| DatabaseUrlError::Malformed(describe(&error)))?;
        config.ssl_mode(match self.sslmode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                tokio_postgres::config::SslMode::Require
            }
        });
        config
            .application_name(application)
            .connect_timeout(Duration::from_secs(3))
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(10));
        Ok(config)
    }

    /// For sqlx.
    pub(crate) fn control_options(
        &self,
    ) -> Result<sqlx::postgres::PgConnectOptions, DatabaseUrlError> {
        sqlx::postgres::PgConnectOptions::from_str(self.text.expose_secret())
            .map(|options| options.application_name("handoff control"))
            .map_err(|error| DatabaseUrlError::Malformed(describe(&error)))
    }

    /// The TLS that tokio-postgres uses where the server and `sslmode` want it.
    pub(crate) fn tls(&self) -> Result<MakeRustlsConnect, DatabaseUrlError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| DatabaseUrlError::Malformed(error.to_string()))?;
        let config = match (self.sslmode, &self.sslrootcert) {
            (SslMode::Disable | SslMode::Prefer | SslMode::Require, None) => Self::unverified(
                builder,
                Unverified {
                    provider,
                    chain: None,
                },
            ),
            (SslMode::VerifyFull, _) => builder
                .with_root_certificates(self.roots()?)
                .with_no_client_auth(),
            // As libpq does: root certificates turn `require` into `verify-ca`.
            (_, _) => {
                let roots = Arc::new(self.roots()?);
                let chain = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| DatabaseUrlError::Malformed(error.to_string()))?;
                Self::unverified(
                    builder,
                    Unverified {
                        provider,
                        chain: Some(chain),
                    },
                )
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn unverified(
        builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
        verifier: Unverified,
    ) -> ClientConfig {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    }

    fn roots(&self) -> Result<RootCertStore, DatabaseUrlError> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.sslrootcert else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(roots);
        };
        let unreadable = |reason: String| DatabaseUrlError::RootCertificate {
            path: path.clone(),
            reason,
        };
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unreadable(error.to_string()))?;
        }
        Ok(roots)
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What `prefer`, `require` and `verify-ca` mean in libpq: encryption for any host name, with
/// the chain checked only where there are roots to check it against.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{CertificateError, Error};
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_read_the_same_url() {
        for good in [
            "postgres://handoff@localhost/handoff",
            "postgresql:///handoff?host=/tmp/x&user=handoff",
            "postgres://u:p%40ss@db.internal:5433/handoff?sslmode=verify-full",
            "postgres://u@db.internal/handoff?sslmode=require&application_name=x",
        ] {
            good.parse::<DatabaseUrl>()
                .unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [
            "mysql://localhost",
            "localhost",
            "postgres://localhost/x?sslmode=sometimes",
            "postgres://localhost/x?sslmode=verify-ca&sslrootcert=/does/not/exist",
        ] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl = "postgres://u:hunter2@localhost/handoff".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
