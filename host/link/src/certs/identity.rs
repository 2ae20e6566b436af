use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use ring::hmac;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use tidegate_base::{NodeName, Role};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::{self, PemFile};
use super::{Authority, IdentityError, NodeUri};
use crate::refusal::explain;
use crate::tls;

/// Who this node is: its certificate, its key, and the CA that it trusts. Clones share it.
///
/// New handshakes use what the last [`reload`](Self::reload) found; links that are up stay as they are.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

impl Identity {
    /// Loads `ca.pem`, `cert.pem` and `key.pem` from a folder. `ca.pem` may hold several CAs, to change from one to the
    /// next.
    ///
    /// # Errors
    /// A file is missing or broken, the three do not belong together, or the certificate is out of its time.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        Ok(Self {
            inner: Arc::new(Inner {
                current: RwLock::new(Arc::new(read(folder)?)),
                folder: Some(folder.to_path_buf()),
            }),
        })
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` (0600) into a folder, which is made if need be.
    ///
    /// # Errors
    /// A file is there already, in which case nothing is written, or the system refuses.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        let IdentityPem { ca, cert, key } = &self.current().pem;
        files::write_new(
            folder,
            &[
                PemFile { name: CA_FILE, text: ca, private: false },
                PemFile { name: CERT_FILE, text: cert, private: false },
                PemFile { name: KEY_FILE, text: key, private: true },
            ],
        )
    }

    /// An identity of a CA that is made and thrown away with this call, so that no other node can link to it but those
    /// that share the identity: for a single process, on loopback. Valid for ten years.
    ///
    /// # Errors
    /// The cluster's name is not a name, or the system has no randomness.
    pub fn ephemeral(cluster: &str, role: Role, name: &NodeName) -> Result<Self, IdentityError> {
        Authority::create(cluster)?.issue(role, name, EPHEMERAL_DAYS)
    }

    /// Reads the folder again, for the handshakes to come.
    ///
    /// # Errors
    /// As in [`load`](Self::load), or the files hold another cluster, role or name. The identity then stays as it was.
    pub fn reload(&self) -> Result<(), IdentityError> {
        let folder = self.inner.folder.as_deref().ok_or(IdentityError::InMemory)?;
        let new = read(folder)?;
        let was = self.uri();
        if new.uri != was {
            return Err(IdentityError::Changed { folder: folder.to_path_buf(), was, now: new.uri });
        }
        *self.inner.current.write() = Arc::new(new);
        Ok(())
    }

    /// The cluster, role and name in the certificate.
    pub fn uri(&self) -> NodeUri {
        self.current().uri.clone()
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.current().not_after
    }

    pub(crate) fn in_memory(pem: IdentityPem) -> Result<Self, IdentityError> {
        let current = RwLock::new(Arc::new(Snapshot::new(pem, None)?));
        Ok(Self { inner: Arc::new(Inner { current, folder: None }) })
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.current.read())
    }

    #[cfg(test)]
    pub(crate) fn check_now(&self) -> Result<(), IdentityError> {
        self.current().check_now("memory")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.current().uri).finish()
    }
}

/// The three texts of an identity.
pub(crate) struct IdentityPem {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

/// One state of an identity, parsed and ready for handshakes.
pub(crate) struct Snapshot {
    pub uri: NodeUri,
    pub key: Arc<CertifiedKey>,
    pub servers: Arc<WebPkiServerVerifier>,
    pub clients: Arc<dyn ClientCertVerifier>,
    not_after: SystemTime,
    pem: IdentityPem,
}

impl Snapshot {
    fn new(pem: IdentityPem, folder: Option<&Path>) -> Result<Self, IdentityError> {
        let broken =
            |file: &str, reason: String| IdentityError::Broken { origin: origin(folder, file), reason };
        let chain = certificates(&pem.cert).map_err(|reason| broken(CERT_FILE, reason))?;
        let leaf = chain.first().ok_or_else(|| broken(CERT_FILE, NO_CERTIFICATE.into()))?;
        let (uri, not_after) = parse_leaf(leaf).map_err(|reason| broken(CERT_FILE, reason))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&pem.ca).map_err(|reason| broken(CA_FILE, reason))? {
            roots.add(root).map_err(|error| broken(CA_FILE, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = tls::provider();
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| broken(CA_FILE, error.to_string()))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| broken(CA_FILE, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| broken(KEY_FILE, format!("it holds no private key: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                broken(KEY_FILE, format!("it is not the key of {CERT_FILE}: restore the pair"))
            }
            other => broken(KEY_FILE, other.to_string()),
        })?;
        Ok(Self { uri, key: Arc::new(key), servers, clients, not_after, pem })
    }

    /// A secret for one purpose that this node alone has, and has again after a restart with the same key.
    pub fn derive(&self, purpose: &str) -> Result<[u8; 32], IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(self.pem.key.as_bytes()).map_err(|error| {
            let reason = format!("it holds no private key: {error}");
            IdentityError::Broken { origin: KEY_FILE.into(), reason }
        })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        Ok(secret)
    }

    /// Whether other nodes of the cluster would take the certificate now.
    fn check_now(&self, origin: &str) -> Result<(), IdentityError> {
        let Some((leaf, rest)) = self.key.cert.split_first() else { return Ok(()) };
        let checked = self.clients.verify_client_cert(leaf, rest, UnixTime::now());
        checked.map(|_| ()).map_err(|error| IdentityError::Broken {
            origin: origin.into(),
            reason: explain(&error, &self.uri.to_string()),
        })
    }
}

#[derive(Debug)]
struct Inner {
    current: RwLock<Arc<Snapshot>>,
    folder: Option<PathBuf>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("Snapshot").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// The URI and the end of a node's certificate.
pub(crate) fn parse_leaf(der: &CertificateDer<'_>) -> Result<(NodeUri, SystemTime), String> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let names = cert
        .subject_alternative_name()
        .map_err(|error| error.to_string())?
        .ok_or("the certificate names nobody: make one with `tidegate cert node`")?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(uri.parse::<NodeUri>()),
        _ => None,
    });
    let uri = match (uris.next(), uris.next()) {
        (Some(Ok(uri)), None) => uri,
        (Some(Err(error)), None) => return Err(error.to_string()),
        _ => {
            return Err(
                "the certificate has not exactly one URI tidegate://CLUSTER/ROLE/NAME: make one with \
                        `tidegate cert node`"
                    .into(),
            );
        }
    };
    let seconds = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
    Ok((uri, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

fn read(folder: &Path) -> Result<Snapshot, IdentityError> {
    let pem = IdentityPem {
        ca: files::read(folder, CA_FILE, false)?,
        cert: files::read(folder, CERT_FILE, false)?,
        key: files::read(folder, KEY_FILE, true)?,
    };
    let snapshot = Snapshot::new(pem, Some(folder))?;
    snapshot.check_now(&origin(Some(folder), CERT_FILE))?;
    Ok(snapshot)
}

fn origin(folder: Option<&Path>, file: &str) -> String {
    folder.map_or_else(|| "memory".into(), |folder| folder.join(file).display().to_string())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err(NO_CERTIFICATE.into()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

const CA_FILE: &str = "ca.pem";
const CERT_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
const NO_CERTIFICATE: &str = "it holds no certificate";
const EPHEMERAL_DAYS: u32 = 3650;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Folder, name};

    fn replace(from: &Identity, folder: &Folder) {
        for file in [CA_FILE, CERT_FILE, KEY_FILE] {
            std::fs::remove_file(folder.path().join(file)).unwrap();
        }
        from.save(folder.path()).unwrap();
    }

    #[test]
    fn an_identity_survives_its_files_and_overwrites_none() {
        let folder = Folder::new();
        let identity = Authority::create("prod").unwrap().issue(Role::Worker, &name("w-1"), 30).unwrap();
        identity.save(folder.path()).unwrap();
        assert!(matches!(identity.save(folder.path()), Err(IdentityError::Exists { .. })));
        let loaded = Identity::load(folder.path()).unwrap();
        assert_eq!(loaded.uri().to_string(), "tidegate://prod/worker/w-1");
        assert_eq!(loaded.not_after(), identity.not_after());
        assert!(!format!("{loaded:?}").contains("PRIVATE"));
    }

    #[test]
    fn files_that_do_not_belong_together_are_told_apart() {
        let folder = Folder::new();
        let authority = Authority::create("prod").unwrap();
        authority.issue(Role::Worker, &name("w-1"), 30).unwrap().save(folder.path()).unwrap();
        let other = Folder::new();
        Identity::ephemeral("prod", Role::Worker, &name("w-1")).unwrap().save(other.path()).unwrap();
        for (file, hint) in [(KEY_FILE, "is not the key of cert.pem"), (CA_FILE, "CA")] {
            let kept = std::fs::read(folder.path().join(file)).unwrap();
            std::fs::copy(other.path().join(file), folder.path().join(file)).unwrap();
            let error = Identity::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains(&folder.path().display().to_string()), "{error}");
            std::fs::write(folder.path().join(file), kept).unwrap();
        }
        assert!(Identity::load(folder.path()).is_ok());
        std::fs::write(folder.path().join(CERT_FILE), "nothing").unwrap();
        assert!(Identity::load(folder.path()).unwrap_err().to_string().contains(NO_CERTIFICATE));
        std::fs::remove_file(folder.path().join(CERT_FILE)).unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Read { .. })));
    }

    #[test]
    fn a_derived_secret_is_of_one_key_and_one_purpose() {
        let authority = Authority::create("prod").unwrap();
        let [one, other] = [(); 2].map(|()| authority.issue(Role::Worker, &name("w-1"), 1).unwrap());
        let of = |identity: &Identity, purpose| identity.current().derive(purpose).unwrap();
        assert_eq!(of(&one, "a"), of(&one, "a"));
        assert_ne!(of(&one, "a"), of(&one, "b"));
        assert_ne!(of(&one, "a"), of(&other, "a"));
    }

    #[test]
    fn an_expired_certificate_is_not_loaded() {
        let folder = Folder::new();
        let valid = SystemTime::UNIX_EPOCH..SystemTime::now() - Duration::from_secs(60);
        let authority = Authority::create("prod").unwrap();
        authority.issue_for(Role::Worker, &name("w-1"), &valid).unwrap().save(folder.path()).unwrap();
        let error = Identity::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("expired") && error.contains("tidegate cert node"), "{error}");
    }

    #[test]
    fn a_reload_takes_a_new_certificate_but_no_new_name() {
        let folder = Folder::new();
        let authority = Authority::create("prod").unwrap();
        authority.issue(Role::Worker, &name("w-1"), 1).unwrap().save(folder.path()).unwrap();
        let identity = Identity::load(folder.path()).unwrap();
        let renewed = authority.issue(Role::Worker, &name("w-1"), 100).unwrap();
        replace(&renewed, &folder);
        identity.reload().unwrap();
        assert_eq!(identity.not_after(), renewed.not_after());

        replace(&authority.issue(Role::Gateway, &name("w-1"), 100).unwrap(), &folder);
        assert!(matches!(identity.reload(), Err(IdentityError::Changed { .. })));
        assert_eq!(identity.uri().role(), Role::Worker);
        assert_eq!(renewed.reload(), Err(IdentityError::InMemory));
    }
}
