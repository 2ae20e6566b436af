//! Certificates of servers as an authority of one's own makes them, not that of a cluster.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The settings by which a node with an HTTP API finds what [`certify`] makes.
pub const SETTINGS: &str = "cert = \"api.pem\"\nkey = \"api-key.pem\"\n";

/// Makes an authority, `api-ca.pem` in this folder, and a certificate of it for localhost, `api.pem` and `api-key.pem`. What is
/// there is replaced.
pub fn certify(folder: &Path) {
    let (own, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "an authority of its own");
    let authority = params.self_signed(&own).unwrap();
    let issuer = Issuer::new(params, own);

    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, &issuer).unwrap();
    let files =
        [("api-ca.pem", authority.pem()), ("api.pem", cert.pem()), ("api-key.pem", key.serialize_pem())];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}
