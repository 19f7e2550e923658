//! rustls configurations from PEM files: whom a client trusts, what a server shows.
//!
//! Comes before the first connection and never on its way: a configuration is made once and
//! shared.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Where distributions keep what the machine trusts, after `SSL_CERT_FILE`.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Which servers a client believes.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// What the machine trusts.
    System,
    /// Certificates signed by one of this PEM file's.
    Roots(PathBuf),
    /// Anything: for measurements against self-signed servers.
    Anyone,
}

/// A client that offers `http/1.1` by ALPN.
///
/// # Errors
/// A PEM file that can't be read or holds no certificate: the user's to mend.
pub(crate) fn client_config(trust: &Trust) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous { provider }))
            .with_no_client_auth(),
        Trust::Roots(path) => {
            builder.with_root_certificates(read_roots(path)?).with_no_client_auth()
        }
        Trust::System => {
            builder.with_root_certificates(read_roots(&system_roots()?)?).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A server that speaks `http/1.1`.
///
/// # Errors
/// A PEM file that can't be read, or a key that isn't the certificate's: the user's to mend.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = read_certificates(certificate)?;
    let text = fs::read(key).with_context(|| format!("--tls-key {}", key.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&text)
        .with_context(|| format!("--tls-key {}: holds no private key in PEM", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .context("--tls-cert and --tls-key don't belong together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system_roots() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named
        .into_iter()
        .chain(SYSTEM_ROOTS.map(PathBuf::from))
        .find(|path| path.is_file())
        .context("this machine has no file of trusted certificates: use --ca FILE or --insecure")
}

fn read_roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (added, refused) = roots.add_parsable_certificates(read_certificates(path)?);
    if added == 0 {
        bail!("{}: none of its {refused} certificates can be used as a root", path.display());
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{}: not PEM", path.display()))?;
    if certificates.is_empty() {
        bail!("{}: holds no certificate in PEM", path.display());
    }
    Ok(certificates)
}

/// Believes every certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct Credulous {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
