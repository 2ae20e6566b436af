//! Components that are none, or none for this host.

use tidegate_contract::{CONTRACT_VERSION, check};
use tidegate_harness::component;
use tidegate_wire::control::Step;

use super::{Siege, says};

/// Places in a component that are cut and changed.
const PLACES: usize = 64;

/// The component, built against another version of the contract: as many bytes, so it stays well formed.
pub(super) fn of_contract(component: &[u8], version: &str) -> Vec<u8> {
    let ours = format!("@{CONTRACT_VERSION}");
    assert_eq!(ours.len(), version.len() + 1);
    let prefix = b"tidegate:plugin/";
    let mut patched = component.to_vec();
    let mut at = 0;
    while let Some(found) = patched[at..].windows(prefix.len()).position(|bytes| bytes == prefix) {
        at += found + prefix.len();
        let name = &patched[at..patched.len().min(at + 64)];
        if let Some(end) = name.windows(ours.len()).position(|bytes| bytes == ours.as_bytes()) {
            patched[at + end + 1..at + end + ours.len()].copy_from_slice(version.as_bytes());
        }
    }
    assert_ne!(patched, component);
    patched
}

#[test]
fn a_component_that_is_cut_or_changed_anywhere_is_read_or_refused_with_a_reason() {
    let good = component("hostile");
    let whole = check(&good).unwrap();
    for place in 0..PLACES {
        let at = good.len() * place / PLACES;
        match check(&good[..at]) {
            // A cut between two sections may take away nothing but debug names.
            Ok(cut) => assert_eq!(cut, whole),
            Err(error) => assert!(error.to_string().len() > 20, "{error}"),
        }
        for mask in [0x01, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= mask;
            if let Err(error) = check(&changed) {
                assert!(error.to_string().len() > 20, "{error}");
            }
        }
    }
}

#[test]
fn a_component_of_another_contract_is_refused_with_both_versions() {
    let good = component("hostile");
    for version in ["0.0.9", "0.2.0", "1.0.0", "9.9.9"] {
        let error = check(&of_contract(&good, version)).unwrap_err().to_string();
        assert!(error.contains(version) || error.contains(&version[..3]), "{version}: {error}");
        assert!(error.contains(&CONTRACT_VERSION.to_string()) || error.contains("0.1"), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_worker_that_is_given_what_is_no_plugin_says_so_and_both_apps_go_on() {
    let mut siege = Siege::of("no-plugin").await;
    let mut client = siege.client().await;
    let good = component("hostile");
    let core = b"\0asm\x01\0\0\0".to_vec();
    let empty = b"\0asm\x0d\0\x01\0".to_vec();
    let mut cases = vec![Vec::new(), b"no wasm".to_vec(), core, empty, of_contract(&good, "0.2.0")];
    cases.extend((1..8).map(|part| good[..good.len() * part / 8].to_vec()));
    for bytes in cases {
        let length = bytes.len();
        let report = siege.cluster.swapper(0).swap(bytes).await;
        let failure = report.failure.unwrap_or_else(|| panic!("{length} bytes were taken"));
        assert!(failure.reason.len() > 20, "{length} bytes: {failure}");
        assert_eq!(report.step, Step::Back, "{length} bytes");
        says(&mut client, "still here", "still here").await;
    }
    assert_eq!(siege.status().version, 1);
    siege.end().await;
}
