//! TLS on the listener: a certificate and its key from files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// What a listener shows of itself, and by what it proves it.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the certificate with its chain, and the key: both PEM. They are read once.
    ///
    /// # Errors
    /// When a file cannot be read, has nothing of its kind in it, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let about = |path: &Path, what: &str| format!("{}: {what}", path.display());
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| io::Error::other(about(certificate, &error.to_string())))?;
        if chain.is_empty() {
            return Err(io::Error::other(about(
                certificate,
                "there is no certificate in it",
            )));
        }
        let key_der = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| io::Error::other(about(key, &error.to_string())))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key_der)
            .map_err(|error| io::Error::other(about(certificate, &error.to_string())))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}
