//! What idle apps cost, as Markdown and as JSON.

use std::fmt;

use serde::Serialize;

use crate::procs::MemorySample;
use crate::stats::Latency;

const KIB: f64 = 1024.0;

/// The result of [`super::density`]. Its `Display` is Markdown.
#[derive(Clone, Debug, Serialize)]
pub struct DensityReport {
    /// Processor, cores, kernel.
    pub machine: String,
    /// How many apps there are. Each of them answered.
    pub apps: u32,
    /// Memory before anybody used them; without process ids unknown.
    pub idle: Option<Footprint>,
    /// Cores that the server used meanwhile, over the whole hold.
    pub idle_cores: Option<f64>,
    /// TCP and handshake with each app.
    pub connect: Option<Latency>,
    /// From the first message to its answer.
    pub message: Option<Latency>,
    /// From connecting to the answer of the first message.
    pub first: Option<Latency>,
    /// The second message on the same connection.
    pub again: Option<Latency>,
    /// CPU of the server for each app's connection and two messages, in microseconds.
    pub first_cpu_us: Option<f64>,
    /// Memory after each app was used once and its client has gone.
    pub used: Option<Footprint>,
}

/// Memory of a server with many apps, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// Heap, stacks, and memory of instances: what no file and no other process has, of all apps together.
    pub private_bytes: u64,
    /// The same of a server without apps, if it was measured or told.
    pub baseline_bytes: Option<u64>,
    /// Private memory of each app, less that of a server without apps.
    pub private_per_app: f64,
    /// Resident memory of each app, less the same of a server without apps if that was measured: with pages of files, such as
    /// compiled code, that others may share and that the system can drop.
    pub resident_per_app: f64,
    /// As the resident memory, but what is shared is split among those who share it.
    pub pss_per_app: f64,
}

impl Footprint {
    pub(super) fn new(sample: MemorySample, base: Option<MemorySample>, apps: u32) -> Footprint {
        let known = base.unwrap_or_default();
        let each = |all: u64, known: u64| (all as f64 - known as f64) / f64::from(apps.max(1));
        Footprint {
            private_bytes: sample.anonymous,
            baseline_bytes: base.map(|base| base.anonymous),
            private_per_app: each(sample.anonymous, known.anonymous),
            resident_per_app: each(sample.rss, known.rss),
            pss_per_app: each(sample.pss, known.pss),
        }
    }
}

impl DensityReport {
    /// The report as one JSON object with the names of the fields of [`DensityReport`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for DensityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} apps, on {}; all of them answered\n", self.apps, self.machine)?;
        if self.idle.is_some() || self.used.is_some() {
            writeln!(
                f,
                "| KiB of each app | private | resident | proportional |\n| --- | --- | --- | --- |"
            )?;
            row(f, "idle, before anybody used them", self.idle)?;
            row(f, "after each was used once", self.used)?;
            match self.idle.and_then(|idle| idle.baseline_bytes) {
                Some(base) => writeln!(
                    f,
                    "\nless {:.1} MiB (private) of a server without apps",
                    base as f64 / KIB / KIB
                )?,
                None => writeln!(f, "\nnothing is taken off for the server itself: there was no baseline")?,
            }
        }
        if let Some(cores) = self.idle_cores {
            writeln!(f, "CPU while they idle: {:.2} % of a core", cores * 100.0)?;
        }
        if let Some(us) = self.first_cpu_us {
            writeln!(f, "CPU for a connection and two messages: {us:.0} us")?;
        }
        writeln!(f, "\n| milliseconds | p50 | p90 | p99 | max |\n| --- | --- | --- | --- | --- |")?;
        for (what, latency) in [
            ("to connect", self.connect),
            ("first message", self.message),
            ("both", self.first),
            ("second message", self.again),
        ] {
            if let Some(Latency { p50_us, p90_us, p99_us, max_us, .. }) = latency {
                let [p50, p90, p99, max] = [p50_us, p90_us, p99_us, max_us].map(|us| us / 1e3);
                writeln!(f, "| {what} | {p50:.2} | {p90:.2} | {p99:.2} | {max:.2} |")?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, footprint: Option<Footprint>) -> fmt::Result {
    let Some(Footprint { private_per_app, resident_per_app, pss_per_app, .. }) = footprint else {
        return Ok(());
    };
    let [private, resident, pss] = [private_per_app, resident_per_app, pss_per_app].map(|bytes| bytes / KIB);
    writeln!(f, "| {what} | {private:.1} | {resident:.1} | {pss:.1} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_without_apps_has_is_not_charged_to_them() {
        let sample = |anonymous, rss, pss| MemorySample { anonymous, rss, pss };
        let footprint = Footprint::new(sample(3000, 9000, 5000), Some(sample(1000, 5000, 3000)), 10);
        assert_eq!((footprint.private_per_app, footprint.baseline_bytes), (200.0, Some(1000)));
        assert_eq!((footprint.resident_per_app, footprint.pss_per_app), (400.0, 200.0));
        let alone = Footprint::new(sample(3000, 9000, 5000), None, 10);
        assert_eq!((alone.private_per_app, alone.baseline_bytes), (300.0, None));
    }

    #[test]
    fn the_text_has_what_was_measured_and_the_json_the_names_of_the_fields() {
        let latency = |us: f64| Latency {
            mean_us: us,
            p50_us: us,
            p90_us: us,
            p99_us: us,
            p999_us: us,
            max_us: 2.0 * us,
        };
        let footprint = Footprint::new(
            MemorySample { anonymous: 3 << 20, rss: 4 << 20, pss: 4 << 20 },
            Some(MemorySample { anonymous: 2 << 20, rss: 2 << 20, pss: 2 << 20 }),
            32,
        );
        let report = DensityReport {
            machine: "X".to_owned(),
            apps: 32,
            idle: Some(footprint),
            idle_cores: Some(0.001),
            connect: Some(latency(500.0)),
            message: Some(latency(1500.0)),
            first: None,
            again: None,
            first_cpu_us: Some(123.4),
            used: None,
        };
        let text = report.to_string();
        for part in [
            "32 apps, on X; all of them answered",
            "| idle, before anybody used them | 32.0 | 64.0 | 64.0 |",
            "less 2.0 MiB (private) of a server without apps",
            "CPU while they idle: 0.10 % of a core",
            "| first message | 1.50 | 1.50 | 1.50 | 3.00 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("second message"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["idle"]["private_per_app"].as_f64(), Some(32.0 * 1024.0));
    }
}
