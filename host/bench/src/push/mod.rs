//! Pushes through the HTTP API: keep-alive connections on which one request is under way at a time.

mod report;
mod requests;

use std::time::Duration;

pub use self::report::{PushReport, PushRow};
use self::requests::{Request, Requests};
use crate::fleet::Clock;
use crate::limits::ensure_open_files;
use crate::measure::{Meter, Metered, Raw};
use crate::options::within;
use crate::procs::Probe;
use crate::report::Measured;
use crate::url::Url;
use crate::{Error, Result};

const SPAN_MAX: Duration = Duration::from_secs(3600);
const BODY_BYTES_MAX: usize = 1 << 20;

/// A run of [`push`]. [`PushOptions::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// `http://host:port` of the node with the HTTP API.
    pub url: String,
    /// What it asks for: `tenant/app/send`, `tenant/app/count`, ...
    pub path: String,
    /// The token, without `Bearer`.
    pub token: String,
    /// The JSON of each request, at most 1 MiB.
    pub body: String,
    /// Processes whose CPU is told for each push: the node's, and those of the gateways.
    pub pids: Vec<u32>,
    /// Connections of each measurement, each 1 to 10,000; 1 and 64 usually.
    pub connections: Vec<u32>,
    /// How often each is measured, 1 to 1000; 5 usually.
    pub rounds: u32,
    /// Load before each measurement, at most 1 hour; 1 s usually.
    pub warm_up: Duration,
    /// How long each measures, 10 ms to 1 hour; 5 s usually.
    pub span: Duration,
}

impl PushOptions {
    /// One, and 64 at a time.
    pub fn new(url: String, path: String, token: String, body: String) -> PushOptions {
        PushOptions {
            url,
            path,
            token,
            body,
            pids: Vec::new(),
            connections: vec![1, 64],
            rounds: 5,
            warm_up: Duration::from_secs(1),
            span: Duration::from_secs(5),
        }
    }

    /// Checks every range and resolves the address.
    fn check(&self) -> Result<Url> {
        for connections in &self.connections {
            within("connections", *connections, 1, 10_000)?;
        }
        within("rounds", self.rounds, 1, 1000)?;
        if self.warm_up > SPAN_MAX {
            return Err(Error::option("warm-up", "must be at most 3600 seconds"));
        }
        if !(Duration::from_millis(10)..=SPAN_MAX).contains(&self.span) {
            return Err(Error::option("seconds", "must be 0.01 to 3600"));
        }
        if self.body.len() > BODY_BYTES_MAX {
            return Err(Error::option("body", "must have at most 1 MiB"));
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(&self.path) || !is_plain(&self.token) {
            return Err(Error::option("token", "and path are printable ASCII without spaces"));
        }
        Url::parse_http(&self.url)
    }
}

/// Measures each number of connections in turn, in rounds. Blocks for about rounds x (warm-up + span) for each of them.
///
/// # Errors
/// Options out of range; a server that cannot be reached, closes or stalls; an answer other than 200, with its text.
pub fn push(options: &PushOptions, mut progress: impl FnMut(&str)) -> Result<PushReport> {
    let url = options.check()?;
    ensure_open_files(options.connections.iter().copied().max().unwrap_or(0))?;
    let (probe, request) = (Probe::new(&options.pids), Request::new(&url, options));
    let mut rows: Vec<PushRow> = options.connections.iter().map(|count| PushRow::new(*count)).collect();
    for _ in 0..options.rounds {
        for row in &mut rows {
            let raw = once(&url, &request, row.connections, options, &probe)?;
            row.rounds.push(Measured::new(raw, None));
            progress(&row.last());
        }
    }
    Ok(PushReport::new(options, rows))
}

fn once(url: &Url, request: &Request, count: u32, options: &PushOptions, probe: &Probe) -> Result<Raw> {
    let clock = Clock::start();
    let mut requests = Requests::open(url, request, count, clock)?;
    requests.run(options.warm_up)?;
    requests.open_window();
    let meter = Meter::start(probe, clock)?;
    requests.run(options.span)?;
    let Metered { seconds, server_cpu_ns, own_cpu_ns } = meter.stop()?;
    let tally = requests.end();
    Ok(Raw {
        counted: tally.counted,
        seconds,
        latency: tally.latency,
        lateness: tally.lateness,
        faults: tally.faults,
        server_cpu_ns,
        own_cpu_ns,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn usual(url: String) -> PushOptions {
        let quick = PushOptions {
            connections: vec![1, 3],
            rounds: 2,
            warm_up: Duration::ZERO,
            span: Duration::from_millis(20),
            ..PushOptions::new(url, "acme/chat/send".into(), "secret".into(), "{\"to\":\"all\"}".into())
        };
        quick.check().unwrap();
        quick
    }

    /// Answers each request on every connection with this.
    fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        request.extend_from_slice(&buffer[..read]);
                        if request.ends_with(b"{\"to\":\"all\"}") {
                            assert!(request.starts_with(b"POST /v1/apps/acme/chat/send HTTP/1.1\r\n"));
                            request.clear();
                            // In two pieces: the client must put them together.
                            let (front, back) = answer.split_at(answer.len() / 2);
                            if stream.write_all(front).and_then(|()| stream.write_all(back)).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        url
    }

    #[test]
    fn pushes_are_counted_for_each_number_of_connections() {
        let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n{\"reached\":3,\"missing\":[]}");
        let report = push(&usual(url), |_| {}).unwrap();
        assert_eq!(report.rows.iter().map(|row| row.connections).collect::<Vec<_>>(), [1, 3]);
        assert!(report.rows.iter().all(|row| row.rounds.len() == 2 && row.rounds[0].count > 0));
        assert!(report.to_string().contains("\n| 3 | "), "{report}");
    }

    #[test]
    fn another_answer_ends_the_run_with_its_text() {
        let url = server(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 8\r\n\r\nno token");
        let error = push(&usual(url), |_| {}).unwrap_err().to_string();
        assert!(error.contains("401") && error.contains("no token"), "{error}");
    }

    #[test]
    fn a_server_that_hangs_up_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let error = push(&usual(url), |_| {}).unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }

    #[test]
    fn each_option_out_of_range_is_named() {
        let usual = || usual("http://127.0.0.1:1".to_owned());
        for (options, name) in [
            (PushOptions { connections: vec![1, 0], ..usual() }, "`connections`"),
            (PushOptions { rounds: 0, ..usual() }, "`rounds`"),
            (PushOptions { warm_up: Duration::MAX, ..usual() }, "`warm-up`"),
            (PushOptions { span: Duration::ZERO, ..usual() }, "`seconds`"),
            (PushOptions { body: "x".repeat(BODY_BYTES_MAX + 1), ..usual() }, "`body`"),
            (PushOptions { token: "a\r\nb".into(), ..usual() }, "`token`"),
            (PushOptions { url: "ws://127.0.0.1:1".into(), ..usual() }, "http://"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
