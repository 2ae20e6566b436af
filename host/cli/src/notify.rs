//! What a service manager is told: systemd names a socket in `NOTIFY_SOCKET`, and each datagram to it is news of the service, as
//! sd_notify(3) has it. Without the variable nobody is told.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::output::note;

/// Whoever started the node and wants to know how it does.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Manager {
    /// The one that the environment names, if it names one.
    pub(crate) fn of_this_process() -> Self {
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Self { socket: None };
        };
        let socket = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A manager that reads nothing must not hold the node up.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        let socket = socket.inspect_err(|error| {
            note(format_args!("{VARIABLE} is {}, which cannot be told anything: {error}", name.display()));
        });
        Self { socket: socket.ok() }
    }

    /// It does what it is there for, or goes on trying.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// It reads its certificate again; [`Manager::ready`] says that it has.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}\n"));
    }

    /// It stops, and may take so long for it, whatever the unit says.
    pub(crate) fn stopping(&self, at_most: Duration) {
        let us = at_most.as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={us}\n"));
    }

    fn tell(&self, news: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(news.as_bytes(), address) {
            note(format_args!(
                "the service manager was not told that {}: {error}",
                news.trim_end().replace('\n', ", ")
            ));
        }
    }
}

/// A path, or with an @ before it a name that no file has.
fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(rest)
        }
        _ => SocketAddr::from_pathname(name),
    }
}

const VARIABLE: &str = "NOTIFY_SOCKET";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listening: &UnixDatagram) -> String {
        let mut news = [0; 512];
        listening.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = listening.recv(&mut news).unwrap();
        String::from_utf8(news[..length].to_vec()).unwrap()
    }

    fn manager(name: &OsStr) -> Manager {
        Manager { socket: Some((UnixDatagram::unbound().unwrap(), address(name).unwrap())) }
    }

    #[test]
    fn a_manager_is_told_by_a_path_and_by_a_name_without_a_file() {
        let path = std::env::temp_dir().join(format!("tidegate-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).unwrap();
        manager(path.as_os_str()).ready("all is well");
        assert_eq!(told(&by_path), "READY=1\nSTATUS=all is well\n");
        std::fs::remove_file(&path).unwrap();
        // Nobody reads there any more.
        manager(path.as_os_str()).ready("all is well");

        let name = format!("@tidegate-notify-test-{}", std::process::id());
        let without_file = UnixDatagram::bind_addr(&address(OsStr::new(&name)).unwrap()).unwrap();
        let manager = manager(OsStr::new(&name));
        manager.stopping(Duration::from_millis(1500));
        assert_eq!(told(&without_file), "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=1500000\n");
        manager.reloading();
        let news = told(&without_file);
        let us = news
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|us| us.trim_end().parse::<u64>().ok());
        assert!(us.is_some_and(|us| us > 0), "{news}");
    }

    #[test]
    fn a_manager_that_was_never_there_costs_nothing() {
        Manager { socket: None }.ready("x");
        assert!(address(OsStr::new(&"x".repeat(200))).is_err());
    }
}
