use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tidegate_base::{NodeName, Role};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::{self, PemFile};
use super::identity::IdentityPem;
use super::uri::{cluster_uri, parse_cluster_uri};
use super::{DAYS_MAX, Identity, IdentityError, NodeUri, role_host};

/// A cluster's certificate authority. Whoever has its key can make nodes and operators, so it stays off the nodes.
pub struct Authority {
    cluster: NodeName,
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority of a new cluster, valid for ten years.
    ///
    /// # Errors
    /// The name is not a name (the rule is that of node names), or the system has no randomness.
    pub fn create(cluster: &str) -> Result<Self, IdentityError> {
        let cluster = NodeName::new(cluster)?;
        let key = KeyPair::generate().map_err(generate)?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, &from_now(AUTHORITY_DAYS)?);
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, format!("tidegate CA of {cluster}"));
        params.subject_alt_names = vec![SanType::URI(cluster_uri(&cluster).try_into().map_err(generate)?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(generate)?.pem();
        Ok(Self { cluster, cert_pem, issuer: Issuer::new(params, key) })
    }

    /// Loads an authority from the files that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file is missing, is no PEM, or does not belong to the other.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        let cert_pem = files::read(folder, CERT_FILE, false)?;
        let key_pem = files::read(folder, KEY_FILE, true)?;
        let broken = |name: &str, reason: String| IdentityError::Broken {
            origin: folder.join(name).display().to_string(),
            reason,
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|error| broken(KEY_FILE, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| broken(CERT_FILE, error.to_string()))?;
        let (_, cert) =
            X509Certificate::from_der(&der).map_err(|error| broken(CERT_FILE, error.to_string()))?;
        let cluster = cluster_of(&cert).ok_or_else(|| {
            broken(CERT_FILE, "it is not the CA of a cluster: make one with `tidegate cert`".into())
        })?;
        if cert.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(broken(KEY_FILE, format!("it is not the key of {CERT_FILE}: restore the pair")));
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| broken(CERT_FILE, error.to_string()))?;
        Ok(Self { cluster, cert_pem, issuer })
    }

    /// Writes `ca.pem` and `ca-key.pem` (0600) into a folder, which is made if need be.
    ///
    /// # Errors
    /// A file is there already, in which case nothing is written, or the system refuses.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        let key_pem = self.issuer.key().serialize_pem();
        files::write_new(
            folder,
            &[
                PemFile { name: CERT_FILE, text: &self.cert_pem, private: false },
                PemFile { name: KEY_FILE, text: &key_pem, private: true },
            ],
        )
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        self.cluster.as_str()
    }

    /// Makes the identity of a node or operator, valid from an hour ago (clocks differ) for `days` from now.
    ///
    /// # Errors
    /// `days` is not 1 to [`DAYS_MAX`], or the system has no randomness.
    pub fn issue(&self, role: Role, name: &NodeName, days: u32) -> Result<Identity, IdentityError> {
        self.issue_for(role, name, &from_now(days)?)
    }

    pub(crate) fn issue_for(
        &self,
        role: Role,
        name: &NodeName,
        valid: &Range<SystemTime>,
    ) -> Result<Identity, IdentityError> {
        let uri = NodeUri::new(self.cluster(), role, name.clone())?;
        let key = KeyPair::generate().map_err(generate)?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, valid);
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, format!("tidegate {role} {name}"));
        params.subject_alt_names = vec![
            SanType::URI(uri.to_string().try_into().map_err(generate)?),
            SanType::DnsName(role_host(role).try_into().map_err(generate)?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role != Role::Operator {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).map_err(generate)?;
        Identity::in_memory(IdentityPem {
            ca: self.cert_pem.clone(),
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

fn cluster_of(cert: &X509Certificate<'_>) -> Option<NodeName> {
    let names = cert.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => parse_cluster_uri(uri),
        _ => None,
    })
}

fn from_now(days: u32) -> Result<Range<SystemTime>, IdentityError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(IdentityError::Days(days));
    }
    let now = SystemTime::now();
    Ok(now - Duration::from_secs(3600)..now + Duration::from_secs(u64::from(days) * 86_400))
}

/// Times before 1970 count as 1970.
fn set_validity(params: &mut CertificateParams, valid: &Range<SystemTime>) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: SystemTime| epoch + time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = at(valid.start);
    params.not_after = at(valid.end);
}

fn generate(error: rcgen::Error) -> IdentityError {
    IdentityError::Generate(error.to_string())
}

const CERT_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";
const AUTHORITY_DAYS: u32 = 3650;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tests::Folder;

    #[test]
    fn an_authority_survives_its_files_and_overwrites_none() {
        let folder = Folder::new();
        let authority = Authority::create("prod").unwrap();
        authority.save(folder.path()).unwrap();
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY_FILE), mode(CERT_FILE) & 0o600), (0o600, 0o600));
        assert!(matches!(authority.save(folder.path()), Err(IdentityError::Exists { .. })));

        let loaded = Authority::load(folder.path()).unwrap();
        assert_eq!(loaded.cluster(), "prod");
        let name = NodeName::new("gw-1").unwrap();
        loaded.issue(Role::Gateway, &name, 1).unwrap().check_now().unwrap();
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (one, other) = (Folder::new(), Folder::new());
        Authority::create("prod").unwrap().save(one.path()).unwrap();
        Authority::create("prod").unwrap().save(other.path()).unwrap();
        std::fs::copy(other.path().join(KEY_FILE), one.path().join(KEY_FILE)).unwrap();
        let error = Authority::load(one.path()).unwrap_err().to_string();
        assert!(error.contains("is not the key of ca.pem"), "{error}");
    }

    #[test]
    fn names_and_days_are_checked() {
        assert!(matches!(Authority::create("Prod/1"), Err(IdentityError::Name(_))));
        let authority = Authority::create("prod").unwrap();
        for days in [0, DAYS_MAX + 1, u32::MAX] {
            let issued = authority.issue(Role::Worker, &NodeName::new("w").unwrap(), days);
            assert_eq!(issued.unwrap_err(), IdentityError::Days(days));
        }
    }
}
