//! The names of counters are an API: dashboards depend on them.

use crate::source::Source;

/// Who counts: the second word of a name, and the crate that may use it.
const ROLES: [&str; 11] = [
    "gateway",
    "worker",
    "register",
    "push",
    "admin",
    "bridge",
    "link",
    "runtime",
    "keys",
    "node",
    "telemetry",
];

/// `tidegate_<role>_<noun…>_total`, with at least one word for the noun.
fn is_counter_name(name: &str, role: &str) -> bool {
    let words: Vec<_> = name.split('_').collect();
    let plain =
        |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    words.len() >= 4
        && words.iter().all(plain)
        && words.first() == Some(&"tidegate")
        && words.get(1) == Some(&role)
        && words.last() == Some(&"total")
}

/// The strings inside of `counters! { … }` and the first one behind `Counter::new(`.
fn counter_names(source: &Source) -> Vec<(usize, &str)> {
    let groups = source.words("counters!").into_iter().filter_map(|at| source.body(at));
    let single = source.words("Counter::new(").into_iter().map(|at| at..at + 80);
    let places: Vec<_> = groups.chain(single).collect();
    let named = source.strings.iter().filter(|(at, _)| places.iter().any(|place| place.contains(at)));
    named.map(|(at, name)| (*at, name.as_str())).collect()
}

fn broken_names(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        let Some(role) = source.path.strip_prefix("host/").and_then(|path| path.split('/').next()) else {
            continue;
        };
        for (at, name) in counter_names(source) {
            // Telemetry itself counts nothing but in its own test.
            let fine = role == "telemetry" || (ROLES.contains(&role) && is_counter_name(name, role));
            if !fine {
                broken.push(format!(
                    "{}:{}: {name}, not tidegate_{role}_<noun>_total",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    broken
}

mod tests {
    use super::*;
    use crate::repo::{refuse, sources};

    #[test]
    fn counters_are_named_by_role_and_noun() {
        let sources = sources();
        assert!(sources.iter().any(|source| !counter_names(source).is_empty()), "counters are found");
        refuse("Counters:", &broken_names(&sources));
    }

    #[test]
    fn no_two_counters_have_the_same_name() {
        let sources = sources();
        let mut names: Vec<_> = sources.iter().flat_map(counter_names).map(|(_, name)| name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn wrong_counter_names_are_found() {
        for name in [
            "tidegate_gateway_total",
            "tidegate_gateway_events",
            "gateway_events_total",
            "tidegate_worker_x_total",
            "tidegate_gateway_Events_total",
            "tidegate_gateway__total",
        ] {
            let text = format!("counters! {{\n /// E.\n E = \"{name}\";\n}}");
            assert_eq!(
                broken_names(&[Source::read("host/gateway/src/counters.rs", &text)]).len(),
                1,
                "{name}"
            );
        }
        assert!(is_counter_name("tidegate_gateway_events_lost_total", "gateway"));
        let text = "static E: Counter = Counter::new(\"events\");";
        assert_eq!(broken_names(&[Source::read("host/gateway/src/a.rs", text)]).len(), 1);
    }
}
