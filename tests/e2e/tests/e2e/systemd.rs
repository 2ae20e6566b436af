//! A node under a service manager.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_harness::{DEADLINE, binary, tidegate};

const UNIT: &str = "examples/systemd/tidegate.service";

fn unit() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(UNIT)).unwrap()
}

/// Killed if the test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_manager_hears_when_a_node_is_ready_reloads_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut news = [0; 512];
        let length = manager.recv(&mut news).expect("news in time");
        String::from_utf8(news[..length].to_vec()).unwrap()
    };
    std::fs::write(folder.path().join("tidegate.toml"), "[node]\nstop_wait_ms = 7000\n").unwrap();
    let mut command = tidegate(folder.path());
    let command = command.args(["up"]).env("NOTIFY_SOCKET", &path).stdout(Stdio::null());
    let mut node = Killed(command.spawn().unwrap());
    let ready = told();
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    let pid = node.0.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-HUP");
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), ready);
    signal("-TERM");
    let stopping = told();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    let extended = stopping.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let extended = Duration::from_micros(extended.unwrap().parse().unwrap());
    assert!(extended > Duration::from_secs(7) && extended < Duration::from_secs(20), "{stopping}");
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let unit = unit();
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nExecStart=/usr/bin/tidegate up "));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.service");
    // It looks whether the program is there.
    let here = unit.replace("/usr/bin/tidegate", binary().to_str().unwrap());
    std::fs::write(&file, here).unwrap();
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() else {
        println!("skipped: no systemd-analyze on the PATH");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let of_the_unit: Vec<_> = said.lines().filter(|line| line.contains("tidegate")).collect();
    assert!(of_the_unit.is_empty(), "{said}");
}
