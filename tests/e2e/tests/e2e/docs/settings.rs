//! Settings, and the commands of the lists.

use tidegate_harness::tidegate;
use tidegate_node::{Config, Overrides};

use super::{block, runs};
use crate::binary::{Node, wasm};
use crate::certified::certify;

const APP: &str = "[[app]]\nname = \"chat\"\nplugin = \"chat.wasm\"\nlisten = [\"ws://127.0.0.1:7272\"]\n";

/// Each with what it needs besides to be a whole file.
const SETTINGS: [(&str, &str, &str); 10] = [
    ("docs/guide/coming-from-gatewayworker.md", "[[bridge]]", APP),
    ("docs/guide/coming-from-gatewayworker.md", "[gateway]", APP),
    ("docs/guide/cluster.md", "# register.toml", ""),
    ("docs/guide/cluster.md", "# gateway.toml", ""),
    ("docs/guide/cluster.md", "# worker.toml", ""),
    ("docs/guide/density.md", "[[app]]", "plugin = \"chat.wasm\"\nlisten = [\"ws://127.0.0.1:7272\"]\n"),
    ("docs/guide/limits.md", "[[listener]]", ""),
    ("docs/guide/operations.md", "[metrics]", APP),
    ("docs/guide/push.md", "[admin]", APP),
    ("docs/guide/tenants.md", "[[tenant]]", APP),
];

#[test]
fn settings_that_the_documents_show_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    // What they name: the certificates of a cluster and of a server, a page, a plugin and a secret.
    runs(&block("docs/guide/cluster.md", "tidegate cert init"), folder.path(), &[]);
    certify(folder.path());
    let tls = folder.path().join("tls");
    std::fs::create_dir(&tls).unwrap();
    for (made, named) in [("api.pem", "push.pem"), ("api-key.pem", "push-key.pem")] {
        std::fs::rename(folder.path().join(made), tls.join(named)).unwrap();
    }
    std::fs::create_dir(folder.path().join("web")).unwrap();
    std::fs::write(folder.path().join("chat.wasm"), "").unwrap();
    std::fs::write(folder.path().join("bridge.secret"), "open, please\n").unwrap();
    for (page, first, more) in SETTINGS {
        let text = format!("{}{more}", block(page, first).text);
        let none: [(std::ffi::OsString, std::ffi::OsString); 0] = [];
        let taken = Config::parse(&text, &folder.path().join("tidegate.toml"), none, &Overrides::default());
        assert!(taken.is_ok(), "{page}: {first}: {}", taken.unwrap_err());
    }
}

#[test]
fn a_cluster_is_set_up_as_the_guide_says() {
    let folder = tempfile::tempdir().unwrap();
    runs(&block("docs/guide/cluster.md", "tidegate cert init"), folder.path(), &[]);
    for name in ["register-1", "gateway-1", "worker-1", "me"] {
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            assert!(folder.path().join("certs").join(name).join(file).is_file(), "{name}: {file}");
        }
    }
}

#[test]
fn what_the_guide_tells_scripts_of_top_is_so() {
    let folder = tempfile::tempdir().unwrap();
    let app = format!(
        "[[app]]\nname = \"chat\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(folder.path().join("tidegate.toml"), app).unwrap();
    let node = Node::start(folder.path(), &["up", "--json"]);
    runs(&block("docs/guide/operations.md", "tidegate top"), folder.path(), &[]);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn every_command_of_the_list_is_one() {
    let list = block("docs/guide/operations.md", "tidegate dev [PATH]");
    let folder = tempfile::tempdir().unwrap();
    let mut found = 0;
    for line in list.text.lines() {
        let line = line.strip_prefix("tidegate ").unwrap_or_else(|| panic!("{line}"));
        // `register | gateway | worker [-c FILE]`: what stands before the first word that is none of these.
        let words = line.split_ascii_whitespace();
        let commands = words.take_while(|word| *word == "|" || word.bytes().all(|b| b.is_ascii_lowercase()));
        let mut alternatives = vec![Vec::new()];
        for word in commands {
            if word == "|" {
                alternatives.push(Vec::new());
            } else if let Some(last) = alternatives.last_mut() {
                last.push(word);
            }
        }
        // `apps create | configure`: the same first word for all.
        let first = alternatives.first().filter(|first| first.len() > 1).map(|first| first[0]);
        for (number, words) in alternatives.iter().enumerate() {
            let first = first.filter(|_| number > 0);
            // Behind the command come words that say what it does.
            let is_one = (1..=words.len().min(3)).rev().any(|count| {
                let arguments = first.into_iter().chain(words[..count].iter().copied());
                let mut help = tidegate(folder.path());
                help.args(arguments).arg("--help").output().unwrap().status.success()
            });
            assert!(is_one, "{line}: {words:?}");
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}
