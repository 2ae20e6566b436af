//! Who may use whom: the map of ARCHITECTURE.md. A new arrow is a decision, made here in the open.

use crate::repo::{Dependency, Package};

/// A crate of `host/` and the crates of `host/` that it may use, bottom-up. What is not here does not exist.
const HOST: [(&str, &[&str]); 20] = [
    ("base", &[]),
    ("contract", &["base"]),
    ("wire", &["base"]),
    ("store", &["base"]),
    ("telemetry", &[]),
    ("keys", &["base", "store", "telemetry"]),
    ("http", &[]),
    ("exporter", &["telemetry", "http"]),
    ("link", &["base", "wire", "telemetry"]),
    ("runtime", &["base", "contract", "telemetry"]),
    ("register", &["base", "contract", "wire", "store", "telemetry", "link"]),
    ("gateway", &["base", "wire", "telemetry", "link"]),
    ("worker", &["base", "contract", "wire", "telemetry", "keys", "link", "runtime"]),
    ("push", &["base", "wire", "telemetry", "link"]),
    ("admin", &["base", "wire", "telemetry", "push", "http"]),
    ("bridge", &["base", "telemetry", "push"]),
    ("build", &["base", "contract"]),
    ("bench", &["base", "wire", "link"]),
    (
        "node",
        &[
            "base",
            "contract",
            "wire",
            "store",
            "telemetry",
            "keys",
            "exporter",
            "link",
            "runtime",
            "register",
            "gateway",
            "worker",
            "push",
            "admin",
            "bridge",
            "build",
        ],
    ),
    ("cli", &["base", "contract", "wire", "telemetry", "http", "link", "runtime", "build", "bench", "node"]),
];

/// Crates of `host/` that the tests of a crate may use besides.
const FOR_TESTS: [(&str, &str); 1] = [
    // Its guest is compiled as a user's plugin is.
    ("runtime", "build"),
];

/// An outside crate and the only crates of `host/` that may name it.
const WRAPPED: [(&str, &[&str]); 10] = [
    ("quinn", &["link"]),
    ("quinn-proto", &["link"]),
    // QUIC's and that of the HTTP API.
    ("rustls", &["link", "http"]),
    ("tokio-rustls", &["http"]),
    ("wasmtime", &["runtime"]),
    ("wasmtime-wasi", &["runtime"]),
    ("wasmparser", &["contract"]),
    ("redb", &["store"]),
    ("ratatui", &["cli"]),
    ("io-uring", &["gateway"]),
];

/// Crates that stay without I/O and without async.
const PURE: [&str; 3] = ["base", "contract", "wire"];

/// What brings I/O or async along.
const IMPURE: [&str; 8] = ["tokio", "mio", "socket2", "rustix", "hyper", "async-trait", "futures", "libc"];

/// What breaks the arrows among the workspace's members.
fn broken_arrows(members: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in members {
        let Some(name) = package.folder.strip_prefix("host/") else {
            if !package.folder.starts_with("tests/") {
                broken.push(format!("{} is neither in host/ nor in tests/", package.folder));
            }
            continue;
        };
        let Some((_, allowed)) = HOST.iter().find(|(host, _)| *host == name) else {
            broken.push(format!("host/{name} is new: give it its place in tests/tidy/src/arrows.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            broken.extend(broken_arrow(name, allowed, dependency));
        }
    }
    broken
}

fn broken_arrow(name: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let fine = match dependency.folder.as_deref().map(|folder| folder.strip_prefix("host/")) {
        Some(Some(host)) => allowed.contains(&host) || (dependency.dev && FOR_TESTS.contains(&(name, host))),
        Some(None) => false,
        None => may_name(name, &dependency.name),
    };
    (!fine).then(|| {
        let used = dependency.folder.as_ref().unwrap_or(&dependency.name);
        format!("host/{name} must not use {used}")
    })
}

fn may_name(name: &str, outside: &str) -> bool {
    let wrapped = WRAPPED.iter().find(|(wrapped, _)| *wrapped == outside);
    let impure = PURE.contains(&name) && IMPURE.contains(&outside);
    wrapped.is_none_or(|(_, wrappers)| wrappers.contains(&name)) && !impure
}

/// What breaks the arrows among guests: they know the SDK, never the host or the tests. A fixture of several crates is
/// one guest.
fn broken_guest_arrows(guests: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in guests {
        for folder in package.dependencies.iter().filter_map(|dependency| dependency.folder.as_deref()) {
            if !folder.starts_with("sdk/") && !of_one_fixture(&package.folder, folder) {
                broken.push(format!("{} must not use {folder}", package.folder));
            }
        }
    }
    broken
}

fn of_one_fixture(user: &str, used: &str) -> bool {
    let fixture = |folder: &str| folder.strip_prefix("tests/fixtures/")?.split('/').next().map(str::to_owned);
    fixture(user).is_some_and(|name| fixture(used) == Some(name))
}

mod tests {
    use super::*;
    use crate::repo::{guests, members, refuse};

    #[test]
    fn the_crates_use_each_other_only_downwards() {
        refuse("Arrows between crates (ARCHITECTURE.md, the map):", &broken_arrows(&members()));
    }

    #[test]
    fn every_crate_of_the_table_is_there() {
        let folders: Vec<_> = members().into_iter().map(|package| package.folder).collect();
        let gone: Vec<_> = HOST.iter().map(|(name, _)| format!("host/{name}")).collect();
        let gone: Vec<_> = gone.into_iter().filter(|folder| !folders.contains(folder)).collect();
        refuse("Crates that are in the table of arrows only:", &gone);
    }

    #[test]
    fn the_table_itself_has_no_circle_and_no_arrow_between_roles() {
        for (at, (name, allowed)) in HOST.iter().enumerate() {
            let above = |used: &&str| HOST[..at].iter().any(|(host, _)| host == used);
            assert!(allowed.iter().all(above), "{name} may use only crates above it");
            let roles = ["register", "gateway", "worker"];
            assert!(
                *name == "node" || !allowed.iter().any(|used| roles.contains(used)),
                "{name} uses a role"
            );
        }
    }

    #[test]
    fn guests_use_the_sdk_and_nothing_of_the_host() {
        let guests = guests();
        assert!(guests.iter().any(|guest| guest.folder == "sdk/rust"));
        refuse("Arrows from guests:", &broken_guest_arrows(&guests));
    }

    fn package(folder: &str, name: &str, path: Option<&str>) -> Vec<Package> {
        let dependency = Dependency { name: name.to_owned(), folder: path.map(str::to_owned), dev: false };
        vec![Package { folder: folder.to_owned(), dependencies: vec![dependency] }]
    }

    #[test]
    fn forbidden_arrows_are_found() {
        let inside = [
            ("host/gateway", "host/worker"),
            ("host/gateway", "host/runtime"),
            ("host/register", "host/runtime"),
            ("host/runtime", "host/wire"),
            ("host/base", "host/wire"),
            ("host/node", "tests/harness"),
            ("host/cli", "sdk/rust"),
        ];
        for (from, to) in inside {
            assert_eq!(broken_arrows(&package(from, "x", Some(to))), [format!("{from} must not use {to}")]);
        }
        let outside = [
            ("host/gateway", "quinn"),
            ("host/worker", "wasmtime"),
            ("host/wire", "tokio"),
            ("host/base", "tokio"),
            ("host/wire", "quinn"),
            ("host/contract", "wasmtime"),
            ("host/admin", "rustls"),
        ];
        for (from, to) in outside {
            assert_eq!(broken_arrows(&package(from, to, None)), [format!("{from} must not use {to}")]);
        }
        assert_eq!(broken_arrows(&package("host/new", "serde", None)).len(), 1);
        assert_eq!(broken_arrows(&package("elsewhere", "serde", None)).len(), 1);
        assert!(broken_arrows(&package("host/link", "quinn", None)).is_empty());
        let mut for_tests = package("host/runtime", "tidegate-build", Some("host/build"));
        assert_eq!(broken_arrows(&for_tests).len(), 1);
        for_tests[0].dependencies[0].dev = true;
        assert!(broken_arrows(&for_tests).is_empty());
        assert!(broken_arrows(&package("tests/e2e", "x", Some("host/node"))).is_empty());
    }

    #[test]
    fn a_guest_that_uses_the_host_is_found() {
        assert_eq!(broken_guest_arrows(&package("sdk/rust", "x", Some("host/base"))).len(), 1);
        assert_eq!(broken_guest_arrows(&package("tests/fixtures/a", "x", Some("tests/harness"))).len(), 1);
        let (one, part) = ("tests/fixtures/a/variants/x", Some("tests/fixtures/a/core"));
        assert!(broken_guest_arrows(&package(one, "x", part)).is_empty());
        assert_eq!(broken_guest_arrows(&package("tests/fixtures/b", "x", part)).len(), 1);
        assert!(broken_guest_arrows(&package("examples/01-echo/plugin", "x", Some("sdk/rust"))).is_empty());
    }
}
