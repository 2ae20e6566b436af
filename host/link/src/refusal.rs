//! Why one node refuses another, in words that say who, what and how to mend it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustls::{AlertDescription, CertificateError, Error};

use crate::certs::NodeUri;

/// What a TLS error means for the node that presented `who`.
pub(crate) fn explain(error: &Error, who: &str) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the certificate of {who} has expired: {MEND}")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => {
            format!("the certificate of {who} is not valid yet: compare the clocks of the two nodes")
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => {
            format!(
                "the certificate of {who} is not made for this end of a link: an operator dials, it is not dialed"
            )
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => foreign(who),
        // The name of our CA, but not its key.
        Error::InvalidCertificate(error) if *error == CertificateError::BadSignature => foreign(who),
        Error::NoCertificatesPresented => format!("{who} presented no certificate: {MEND}"),
        other => format!("the certificate of {who} is not accepted: {other}; {MEND}"),
    }
}

/// What an alert that the peer sent says about this node, `own`.
pub(crate) fn explain_alert(code: u8, own: &NodeUri) -> String {
    match AlertDescription::from(code) {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("the certificate of this node ({own}) is not of the CA that the peer trusts: {MEND}")
        }
        AlertDescription::CertificateExpired => format!(
            "the certificate of this node ({own}) is out of its time by the peer's clock: compare the clocks, or {MEND}"
        ),
        AlertDescription::AccessDenied => format!(
            "the certificate of this node ({own}) is not of the cluster and role that the peer expects: {MEND}"
        ),
        AlertDescription::CertificateRequired => format!("it got no certificate from this node: {MEND}"),
        AlertDescription::NoApplicationProtocol => {
            "it does not speak this version of the protocol: upgrade the older of the two nodes, and check that the \
             address is that of a Tidegate node"
                .into()
        }
        other => format!("the certificate of this node ({own}) is not accepted ({other:?}): {MEND}"),
    }
}

/// Says how often a refusal may be logged: at most once per address and [`QUIET`], for so many addresses as it remembers.
#[derive(Debug, Default)]
pub(crate) struct Muffler {
    last: HashMap<IpAddr, Instant>,
}

impl Muffler {
    pub(crate) fn may_log(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        }
        let fresh = self.last.get(&address).is_some_and(|at| now.saturating_duration_since(*at) < QUIET);
        if fresh || self.last.len() >= REMEMBERED {
            return false;
        }
        self.last.insert(address, now);
        true
    }
}

fn foreign(who: &str) -> String {
    format!("the certificate of {who} was not issued by the CA of this cluster: {MEND}")
}

const MEND: &str = "make a new one with `tidegate cert node` from the cluster's CA";
const QUIET: Duration = Duration::from_secs(10);
const REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_logged_once_in_a_while_and_memory_is_bounded() {
        let mut muffler = Muffler::default();
        let (now, one) = (Instant::now(), IpAddr::from([10, 0, 0, 1]));
        assert!(muffler.may_log(one, now));
        assert!(!muffler.may_log(one, now + QUIET / 2));
        assert!(muffler.may_log(one, now + QUIET));
        for n in 0..10_000_u32 {
            muffler.may_log(IpAddr::from(n.to_be_bytes()), now + QUIET);
        }
        assert!(muffler.last.len() <= REMEMBERED);
        assert!(muffler.may_log(IpAddr::from([9, 9, 9, 9]), now + 2 * QUIET), "old ones were forgotten");
    }
}
