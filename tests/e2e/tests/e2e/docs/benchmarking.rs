//! `docs/guide/benchmarking.md`: its commands in short. What they measure is nobody's business here.

use std::path::Path;

use super::{Block, Here, block, here, runs};
use crate::binary::{Node, run, wasm};

const PAGE: &str = "docs/guide/benchmarking.md";

/// What keeps a command short, behind one of its flags.
const SHORT: &str = "--rounds 1 --warm-up 0.1 --seconds 0.5";

/// A node that runs these apps, each with its plugin and what else is in its settings.
fn node(at: &Path, apps: &[(&str, &str, &str)], more: &str) -> (Node, String) {
    let app = |(name, plugin, more): &(&str, &str, &str)| {
        format!(
            "[[app]]\nname = \"{name}\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n{more}\n",
            wasm(plugin)
        )
    };
    let settings: String = apps.iter().map(app).collect();
    std::fs::write(at.join("tidegate.toml"), format!("{more}{settings}")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let pid = node.process.id().to_string();
    (node, pid)
}

/// The commands of a block without the one that starts a node, in short, with a flag that they have replaced by itself and more.
fn in_short(block: &Block, at: &Path, flag: &str, short: &str, as_here: Here) {
    let commands: String = block
        .text
        .lines()
        .filter(|line| !line.starts_with("tidegate up"))
        .map(|line| format!("{line}\n"))
        .collect();
    let commands = here(&commands, as_here);
    assert!(commands.contains(flag), "{block}: no {flag}");
    let commands = commands.replace(flag, &format!("{short} {flag}"));
    runs(&Block { text: commands, ..block.clone() }, at, &[]);
}

#[test]
fn the_guide_to_benchmarking_measures_echoes_and_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, pid) = node(at, &[("chat", "echo", "")], "[admin]\nlisten = \"127.0.0.1:0\"\n");
    let echo = node.listener("ws").to_string();
    let first = block(PAGE, "tidegate up -c examples/01-echo");
    let table = format!("{SHORT} --idle-connections 50 --echo-pid {pid}");
    let as_here: &[(&str, &str)] =
        &[("127.0.0.1:7271", &echo), ("--echo-pid PID", &table), ("--pid PID", &format!("--pid {pid}"))];
    in_short(&first, at, "--yardstick", SHORT, as_here);

    let token = run(at, &["tokens", "create", "default"]).stdout;
    std::fs::write(at.join("data/admin.token"), token).unwrap();
    let api = node.admin().to_string();
    let push = block(PAGE, "tidegate bench push");
    in_short(&push, at, "--app", SHORT, &[("127.0.0.1:7480", &api), ("PID", &pid)]);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn the_guide_to_benchmarking_measures_swaps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, pid) = node(at, &[("chat", "versioned", "")], "");
    for (name, plugin) in [("one.wasm", "versioned"), ("two.wasm", "versioned-twin")] {
        std::fs::copy(wasm(plugin), at.join(name)).unwrap();
    }
    let url = node.listener("ws").to_string();
    let as_here: &[(&str, &str)] =
        &[("127.0.0.1:7272", &url), ("v2=", "twin="), ("--swaps 100", "--swaps 3"), ("PID", &pid)];
    in_short(
        &block(PAGE, "tidegate bench swap"),
        at,
        "--app",
        "--warm-up 100ms --pause 0ms --give-up 60s",
        as_here,
    );
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn the_guide_to_benchmarking_measures_a_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, pid) =
        node(at, &[("quiet", "hostile", ""), ("rogue", "hostile", "turn_cpu_ms = 200\ncpu_share = 0.2")], "");
    let listeners = crate::binary::said(&run(at, &["status", "--json"]))["addresses"]["listeners"].clone();
    let address = |app: &str| {
        let all = listeners.as_array().unwrap();
        all.iter().find(|listener| listener["app"] == app).unwrap()["address"].as_str().unwrap().to_owned()
    };
    let (quiet, rogue) = (address("default/quiet"), address("default/rogue"));
    let as_here: &[(&str, &str)] = &[("127.0.0.1:7272", &quiet), ("127.0.0.1:7273", &rogue), ("PID", &pid)];
    let short = format!("{SHORT} --rate 200 --connections 10 --neighbour-connections 2 --rest 600");
    in_short(&block(PAGE, "tidegate bench fairness"), at, "--neighbour ", &short, as_here);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn the_guide_to_benchmarking_measures_many_apps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::copy(wasm("echo"), at.join("echo.wasm")).unwrap();
    let density = block(PAGE, "tidegate bench density --write");
    let (write, measure) = density.text.split_once("tidegate up").unwrap();
    let of = |text: &str| Block { text: text.to_owned(), ..density.clone() };
    let few: (&str, &str) = ("--apps 1000", "--apps 8");
    runs(&of(write), at, &[few, ("--module", "--listen 127.0.0.1:0 --module")]);
    let server = Node::start(at, &["up", "-c", "many/tidegate.toml", "--json"]);
    let other = tempfile::tempdir().unwrap();
    let (without, baseline) = node(other.path(), &[("one", "echo", "")], "");
    let url = server.listener("ws").to_string();
    let pid = server.process.id().to_string();
    let as_here: &[(&str, &str)] = &[
        few,
        ("127.0.0.1:7272", &url),
        ("PID_OF_ONE_WITHOUT_APPS", &baseline),
        ("--pid PID", &format!("--seconds 0.5 --pid {pid}")),
    ];
    let (_, measure) = measure.split_once('\n').unwrap();
    runs(&of(measure), at, as_here);
    for node in [server, without] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}
