use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tidegate_base::Role;

use super::{Folder, dial, endpoint, identity, loopback, name};
use crate::certs::{Authority, Identity};
use crate::redial::Redial;
use crate::{Endpoint, Link, LinkError, LinkSettings, tls};

/// What each end says when a worker with one identity dials a node with another as a gateway.
async fn refusals(worker: &Identity, gateway: &Identity) -> (String, String) {
    let (dialed, accepted) = dial(&endpoint(worker), &endpoint(gateway), Role::Gateway).await;
    (dialed.unwrap_err().to_string(), accepted.unwrap_err().to_string())
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

fn expired(authority: &Authority, role: Role, text: &str) -> Identity {
    let valid = SystemTime::UNIX_EPOCH..SystemTime::now() - Duration::from_secs(3600);
    authority.issue_for(role, &name(text), &valid).unwrap()
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused_by_both_ends() {
    let (ours, theirs) = (Authority::create("prod").unwrap(), Authority::create("prod").unwrap());
    let gateway = identity(&ours, Role::Gateway, "g-1");
    let (dialed, accepted) = refusals(&identity(&theirs, Role::Worker, "w-1"), &gateway).await;
    // The dialer looks first: the other is foreign to it, too.
    assert_says(&dialed, &["tidegate://prod/gateway/g-1", "not issued by the CA", "tidegate cert node"]);
    assert_says(&accepted, &["tidegate://prod/gateway/g-1", "not of the CA that the peer trusts"]);
}

/// Trusts our CA as well as its own, so that only the accepting end has a reason to refuse.
fn trusting(ours: &Authority, theirs: &Authority, role: Role) -> Identity {
    let (foreign, trusted) = (Folder::new(), Folder::new());
    identity(theirs, role, "w-1").save(foreign.path()).unwrap();
    ours.save(trusted.path()).unwrap();
    let ca = foreign.path().join("ca.pem");
    let own = std::fs::read_to_string(&ca).unwrap();
    let other = std::fs::read_to_string(trusted.path().join("ca.pem")).unwrap();
    std::fs::write(&ca, own + &other).unwrap();
    Identity::load(foreign.path()).unwrap()
}

#[tokio::test]
async fn the_accepting_end_refuses_a_foreign_dialer_and_the_dial_fails_with_the_reason() {
    let (ours, theirs) = (Authority::create("prod").unwrap(), Authority::create("prod").unwrap());
    let worker = trusting(&ours, &theirs, Role::Worker);
    let (dialed, accepted) = refusals(&worker, &identity(&ours, Role::Gateway, "g-1")).await;
    assert_says(&accepted, &["refused 127.0.0.1", "tidegate://prod/worker/w-1", "not issued by the CA"]);
    assert_says(&dialed, &["refused this node", "tidegate://prod/worker/w-1", "tidegate cert node"]);
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_even_if_its_ca_is_trusted() {
    let (ours, theirs) = (Authority::create("prod").unwrap(), Authority::create("lab").unwrap());
    let worker = trusting(&ours, &theirs, Role::Worker);
    let (dialed, _) = refusals(&worker, &identity(&ours, Role::Gateway, "g-1")).await;
    assert_says(&dialed, &["tidegate://prod/gateway/g-1 is of another cluster", "tidegate://lab/worker/w-1"]);
}

#[tokio::test]
async fn a_node_of_another_role_than_the_dialed_one_is_refused() {
    let authority = Authority::create("prod").unwrap();
    let worker = identity(&authority, Role::Worker, "w-1");
    let (dialed, accepted) = refusals(&worker, &identity(&authority, Role::Register, "r-1")).await;
    assert_says(&dialed, &["a gateway was dialed", "tidegate://prod/register/r-1", "check the address"]);
    assert_says(&accepted, &["refused this node"]);
}

#[tokio::test]
async fn expired_certificates_are_refused_in_both_directions() {
    let authority = Authority::create("prod").unwrap();
    let (worker, gateway) =
        (identity(&authority, Role::Worker, "w-1"), identity(&authority, Role::Gateway, "g-1"));
    let (dialed, accepted) = refusals(&expired(&authority, Role::Worker, "w-1"), &gateway).await;
    assert_says(&accepted, &["tidegate://prod/worker/w-1 has expired", "tidegate cert node"]);
    assert_says(&dialed, &["tidegate://prod/worker/w-1", "out of its time"]);

    let (dialed, accepted) = refusals(&worker, &expired(&authority, Role::Gateway, "g-1")).await;
    assert_says(&dialed, &["tidegate://prod/gateway/g-1 has expired"]);
    assert_says(&accepted, &["out of its time"]);
}

/// A bare QUIC client of our CA, without a certificate or with another protocol version.
async fn bare_dial(gateway: &Endpoint, ca_folder: &Folder, alpn: &[u8]) -> LinkError {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_folder.path().join("ca.pem")).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let addr = gateway.local_addr().unwrap();
    let dialing = async {
        if let Ok(connection) = client.connect_with(config, addr, "gateway.tidegate.internal").unwrap().await
        {
            connection.closed().await;
        }
    };
    let accepting = async { gateway.accept().await.unwrap().accept().await };
    tokio::join!(dialing, accepting).1.unwrap_err()
}

#[tokio::test]
async fn a_node_without_a_certificate_or_of_another_protocol_is_refused() {
    let (authority, folder) = (Authority::create("prod").unwrap(), Folder::new());
    authority.save(folder.path()).unwrap();
    let gateway = endpoint(&identity(&authority, Role::Gateway, "g-1"));
    let refused = bare_dial(&gateway, &folder, b"tidegate/1").await;
    assert_says(&refused.to_string(), &["refused 127.0.0.1", "no certificate", "tidegate cert node"]);
    let refused = bare_dial(&gateway, &folder, b"h3").await;
    assert_says(&refused.to_string(), &["refused 127.0.0.1", "version of the protocol"]);
}

#[tokio::test]
async fn an_operator_dials_and_is_known_as_one() {
    let authority = Authority::create("prod").unwrap();
    let operator = endpoint(&identity(&authority, Role::Operator, "ada"));
    let register = endpoint(&identity(&authority, Role::Register, "r-1"));
    let (dialed, accepted) = dial(&operator, &register, Role::Register).await;
    assert_eq!(dialed.unwrap().peer().role, Role::Register);
    assert_eq!(accepted.unwrap().peer().role, Role::Operator);
}

#[tokio::test]
async fn a_reload_counts_for_the_next_handshake_and_leaves_links_alone() {
    let (authority, folder) = (Authority::create("prod").unwrap(), Folder::new());
    identity(&authority, Role::Worker, "w-1").save(folder.path()).unwrap();
    let reloadable = Identity::load(folder.path()).unwrap();
    let (worker, gateway) = (endpoint(&reloadable), endpoint(&identity(&authority, Role::Gateway, "g-1")));
    let (first, _accepted) = dial(&worker, &gateway, Role::Gateway).await;

    // The cluster changes to another CA.
    let next = Authority::create("prod").unwrap();
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    identity(&next, Role::Worker, "w-1").save(folder.path()).unwrap();
    reloadable.reload().unwrap();
    let (dialed, _) = dial(&worker, &gateway, Role::Gateway).await;
    assert!(matches!(dialed, Err(LinkError::Untrusted { .. })));
    let (dialed, accepted) =
        dial(&worker, &endpoint(&identity(&next, Role::Gateway, "g-2")), Role::Gateway).await;
    assert!(dialed.is_ok() && accepted.is_ok());
    assert_eq!(first.unwrap().close_error(), None);
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_named_with_what_was_expected_there() {
    let silent = UdpSocket::bind(loopback()).unwrap();
    let settings = LinkSettings { handshake_timeout: Duration::from_millis(20), ..LinkSettings::default() };
    let authority = Authority::create("prod").unwrap();
    let worker = Endpoint::bind(loopback(), &identity(&authority, Role::Worker, "w-1"), &settings).unwrap();
    let addr = silent.local_addr().unwrap();
    let error = worker.connect(addr, Role::Gateway).await.unwrap_err();
    assert_says(&error.to_string(), &[&addr.to_string(), "a gateway listens there"]);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let taken = UdpSocket::bind(loopback()).unwrap();
    let addr = taken.local_addr().unwrap();
    let authority = Authority::create("prod").unwrap();
    let bound = Endpoint::bind(addr, &identity(&authority, Role::Worker, "w-1"), &LinkSettings::default());
    assert_says(&bound.unwrap_err().to_string(), &[&addr.to_string()]);
}

#[test]
fn binding_outside_a_runtime_is_an_error() {
    let identity = Identity::ephemeral("prod", Role::Worker, &name("w-1")).unwrap();
    let bound = Endpoint::bind(loopback(), &identity, &LinkSettings::default());
    assert_eq!(bound.unwrap_err(), LinkError::NoRuntime);
}

#[tokio::test]
async fn a_redial_finds_a_node_that_comes_late_and_comes_back() {
    let authority = Authority::create("prod").unwrap();
    let settings = LinkSettings { handshake_timeout: Duration::from_millis(200), ..LinkSettings::default() };
    let worker = Endpoint::bind(loopback(), &identity(&authority, Role::Worker, "w-1"), &settings).unwrap();
    let gateway = identity(&authority, Role::Gateway, "g-1");
    let addr = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    let mut redial = Redial::new(worker, addr, Role::Gateway);

    let late = async {
        // The first dial goes to nobody.
        tokio::task::yield_now().await;
        serve_once(addr, &gateway).await
    };
    let (link, (endpoint, accepted)) = tokio::join!(redial.connected(), late);
    assert_eq!(link.peer().name, name("g-1"));
    drop(accepted);
    endpoint.close().await;
    link.closed().await;
    drop(endpoint);

    let (link, _kept) = tokio::join!(redial.connected(), serve_once(addr, &gateway));
    assert_eq!(link.close_error(), None);
}

/// Binds the address, which the last endpoint may still be about to give back, and accepts until one node is linked.
async fn serve_once(addr: std::net::SocketAddr, identity: &Identity) -> (Endpoint, Link) {
    let endpoint = loop {
        match Endpoint::bind(addr, identity, &LinkSettings::default()) {
            Ok(endpoint) => break endpoint,
            Err(LinkError::Bind { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    loop {
        if let Ok(link) = endpoint.accept().await.unwrap().accept().await {
            return (endpoint, link);
        }
    }
}
