//! Which app a request on a shared listener is for. Pure: a table of routes, a host and a path.
//!
//! ```text
//!   acme.example.com          this host, every path
//!   *.acme.example.com/chat   every host below acme.example.com, /chat and what is below it
//!   */chat                    every host
//! ```
//!
//! Of the routes that fit a request, the one with the most particular host is taken: the very host before the longest
//! `*.` pattern before `*`; among those the one with the longest path. Paths compare by whole segments, as sent: `/chat`
//! fits `/chat` and `/chat/x`, not `/chatter`. Hosts compare without case, port and the dot at the end.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rustc_hash::FxHashMap;

/// Longest host, in bytes: what DNS has room for.
const HOST_BYTES_MAX: usize = 253;
/// Longest path of a route, in bytes.
const PATH_BYTES_MAX: usize = 256;
/// Most segments of a route's path: as many prefixes of a request's path are looked up at most.
const SEGMENTS_MAX: usize = 16;

/// A host pattern and the beginning of a path: `HOST`, `*.HOST` or `*`, and `/PATH` behind it or nothing for every path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    host: HostPattern,
    /// Empty for every path; else it begins with a slash and does not end with one.
    path: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostPattern {
    Any,
    /// Every host that ends with a dot and this.
    Below(Box<str>),
    Exact(Box<str>),
}

/// The text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a route: {reason}")]
pub struct InvalidRoute {
    text: String,
    reason: &'static str,
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        parse(text).map_err(|reason| InvalidRoute { text: text.chars().take(80).collect(), reason })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Below(host) => write!(f, "*.{host}")?,
            HostPattern::Exact(host) => f.write_str(host)?,
        }
        f.write_str(&self.path)
    }
}

/// The host that a request names, without case, port and the dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, str>);

impl<'a> Host<'a> {
    /// Reads a `Host` header. None: it is not one.
    pub fn parse(header: &'a str) -> Option<Self> {
        let (host, port) = match header.strip_prefix('[').and_then(|rest| rest.find(']')) {
            Some(end) => header.split_at(end + 2),
            None => header.split_at(header.find(':').unwrap_or(header.len())),
        };
        let is_port = port.strip_prefix(':').map_or(port.is_empty(), |digits| {
            digits.len() <= 5 && digits.bytes().all(|digit| digit.is_ascii_digit())
        });
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_port || !is_host(host) {
            return None;
        }
        let has_capitals = host.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(Self(if has_capitals { host.to_ascii_lowercase().into() } else { host.into() }))
    }

    /// The host itself, as routes have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A table of routes, each of which leads to one `T`.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    exact: FxHashMap<Box<str>, Paths<T>>,
    below: FxHashMap<Box<str>, Paths<T>>,
    any: Paths<T>,
}

/// What a request's route leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a, T> {
    /// The path of the route: what the request's path begins with. Empty if the route is for every path.
    pub prefix: &'a str,
    /// Where it leads.
    pub to: &'a T,
}

#[derive(Debug, Clone)]
struct Paths<T> {
    by_path: FxHashMap<Box<str>, T>,
    /// Most segments that any of them has or had.
    segments: usize,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), below: FxHashMap::default(), any: Paths::default() }
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { by_path: FxHashMap::default(), segments: 0 }
    }
}

impl<T> Routes<T> {
    /// Adds a route.
    ///
    /// # Errors
    /// It is there already: where it leads. Nothing is changed then.
    pub fn insert(&mut self, route: &Route, to: T) -> Result<(), &T> {
        let paths = match &route.host {
            HostPattern::Any => &mut self.any,
            HostPattern::Below(host) => self.below.entry(host.clone()).or_default(),
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
        };
        paths.insert(&route.path, to)
    }

    /// Where this very route leads, if it is there.
    pub fn get(&self, route: &Route) -> Option<&T> {
        let paths = match &route.host {
            HostPattern::Any => &self.any,
            HostPattern::Below(host) => self.below.get(host)?,
            HostPattern::Exact(host) => self.exact.get(host)?,
        };
        paths.by_path.get(&route.path)
    }

    /// Takes a route out. Returns where it led, if it was there.
    pub fn remove(&mut self, route: &Route) -> Option<T> {
        let (hosts, host) = match &route.host {
            HostPattern::Any => return self.any.by_path.remove(&route.path),
            HostPattern::Below(host) => (&mut self.below, host),
            HostPattern::Exact(host) => (&mut self.exact, host),
        };
        let paths = hosts.get_mut(host)?;
        let led_to = paths.by_path.remove(&route.path);
        if paths.by_path.is_empty() {
            hosts.remove(host);
        }
        led_to
    }

    /// Where a request for this host and path goes. The path is as it was sent, without the query. Looks up a bounded
    /// number of names, however long the path is.
    pub fn find(&self, host: &Host<'_>, path: &str) -> Option<Found<'_, T>> {
        let host = host.as_str();
        let exact = self.exact.get(host).and_then(|paths| paths.find(path));
        let below = || {
            if self.below.is_empty() {
                return None;
            }
            // The longest first.
            let dots = host.match_indices('.').map(|(at, _)| host.get(at + 1..).unwrap_or_default());
            dots.filter_map(|suffix| self.below.get(suffix)).find_map(|paths| paths.find(path))
        };
        exact.or_else(below).or_else(|| self.any.find(path))
    }
}

impl<T> Paths<T> {
    fn insert(&mut self, path: &str, to: T) -> Result<(), &T> {
        use std::collections::hash_map::Entry;
        match self.by_path.entry(path.into()) {
            Entry::Occupied(there) => Err(there.into_mut()),
            Entry::Vacant(free) => {
                free.insert(to);
                self.segments = self.segments.max(path.matches('/').count());
                Ok(())
            }
        }
    }

    fn find(&self, path: &str) -> Option<Found<'_, T>> {
        let mut ends = [0; SEGMENTS_MAX];
        let mut count = 0;
        // Where the first segments end; what lies behind the longest path of any route need not be looked at.
        let bounds = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for (end, at) in ends.iter_mut().zip(bounds.take(self.segments)) {
            *end = at;
            count += 1;
        }
        let longest_first = ends.iter().take(count).rev().map(|end| path.get(..*end).unwrap_or_default());
        longest_first.chain([""]).find_map(|prefix| {
            let (prefix, to) = self.by_path.get_key_value(prefix)?;
            Some(Found { prefix, to })
        })
    }
}

fn parse(text: &str) -> Result<Route, &'static str> {
    let (host, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if host.is_empty() {
        return Err("it has no host: write `*` before the path for every host, such as */chat");
    }
    if path.starts_with("//") && host.ends_with(':') {
        return Err("write it without http:// or ws://, such as chat.example.com or */chat");
    }
    let host = match host.strip_prefix("*.") {
        _ if host == "*" => HostPattern::Any,
        Some(below) => HostPattern::Below(host_of_route(below)?),
        None => HostPattern::Exact(host_of_route(host)?),
    };
    Ok(Route { host, path: path_of_route(path)? })
}

fn host_of_route(host: &str) -> Result<Box<str>, &'static str> {
    if host.contains('*') {
        return Err("a `*` stands for a whole host, or with a dot at its beginning: *, or *.example.com");
    }
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !is_v6 {
        return Err("hosts are compared without their port: leave it out");
    }
    if !is_host(host) {
        return Err("write the host as names with dots between them: letters, digits, `-` and `_`");
    }
    Ok(host.to_ascii_lowercase().into())
}

fn path_of_route(path: &str) -> Result<Box<str>, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok("".into());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("its path is longer than 256 bytes: take a shorter one");
    }
    let segments = path.split('/').skip(1);
    if segments.clone().count() > SEGMENTS_MAX {
        return Err("its path has more than 16 segments: take fewer");
    }
    for segment in segments {
        if segment.is_empty() || segment == "." || segment == ".." {
            return Err("its path has an empty segment, `.` or `..`: write it as browsers send it");
        }
        if !segment.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#*\\".contains(&byte)) {
            return Err(
                "its path is to be as browsers send it: no spaces, `?`, `#`, `*`, and %XX for others",
            );
        }
    }
    Ok(path.into())
}

/// A name, an IPv4 address, or an IPv6 one in brackets.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_char)
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table<'a>(routes: &[&'a str]) -> Routes<&'a str> {
        let mut table = Routes::default();
        for route in routes {
            table.insert(&route.parse().unwrap(), *route).unwrap();
        }
        table
    }

    fn found<'a>(table: &Routes<&'a str>, host: &str, path: &str) -> Option<&'a str> {
        table.find(&Host::parse(host)?, path).map(|found| *found.to)
    }

    #[test]
    fn the_very_host_comes_before_the_longest_wildcard_before_any() {
        let table = table(&["a.example.com", "*.example.com", "*.b.example.com", "*/"]);
        for (host, to) in [
            ("a.example.com", "a.example.com"),
            ("A.Example.COM:8080", "a.example.com"),
            ("a.example.com.", "a.example.com"),
            ("c.example.com", "*.example.com"),
            ("x.a.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("b.example.com", "*.example.com"),
            ("example.com", "*/"),
            ("badexample.com", "*/"),
            ("[::1]:80", "*/"),
        ] {
            assert_eq!(found(&table, host, "/x"), Some(to), "{host}");
        }
    }

    #[test]
    fn the_longest_path_is_taken_by_whole_segments() {
        let table = table(&["*/chat", "*/chat/room", "h.example.com/chat"]);
        for (host, path, to) in [
            ("x", "/chat", Some("*/chat")),
            ("x", "/chat/", Some("*/chat")),
            ("x", "/chat/rooms", Some("*/chat")),
            ("x", "/chat/room/1/2/3", Some("*/chat/room")),
            ("x", "/chatter", None),
            ("x", "/", None),
            ("x", "//chat", None),
            ("x", "*", None),
            ("h.example.com", "/chat/room", Some("h.example.com/chat")),
            ("h.example.com", "/other", None),
        ] {
            assert_eq!(found(&table, host, path), to, "{host}{path}");
        }
    }

    #[test]
    fn a_host_whose_paths_do_not_fit_leaves_the_request_to_wider_routes() {
        let table = table(&["a.example.com/chat", "*.example.com/shop", "*"]);
        assert_eq!(found(&table, "a.example.com", "/shop/1"), Some("*.example.com/shop"));
        assert_eq!(found(&table, "a.example.com", "/"), Some("*"));
    }

    #[test]
    fn a_route_leads_to_one_place() {
        let mut table = table(&["*.example.com/chat"]);
        let again: Route = "*.EXAMPLE.com/chat/".parse().unwrap();
        assert_eq!(table.insert(&again, "other"), Err(&"*.example.com/chat"));
        assert_eq!(again.to_string(), "*.example.com/chat");
    }

    #[test]
    fn what_is_no_route_says_what_to_write() {
        let long = format!("*/{}", "x".repeat(300));
        let deep = format!("*{}", "/x".repeat(17));
        for (text, says) in [
            ("", "no host"),
            ("/chat", "*/chat"),
            ("http://example.com", "without http://"),
            ("example.com:80", "without their port"),
            ("exa mple.com", "letters, digits"),
            ("a..b", "letters, digits"),
            ("a.*.b", "whole host"),
            ("*a", "whole host"),
            ("*/a//b", "empty segment"),
            ("*/a/../b", "`..`"),
            ("*/a b", "no spaces"),
            ("*/a?b=c", "`?`"),
            (&long, "256 bytes"),
            (&deep, "16 segments"),
        ] {
            let error = text.parse::<Route>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for fine in ["*", "*/", "localhost", "127.0.0.1/a", "[::1]/a", "*.a_b-c.d/x/y%20z", "EXAMPLE.com"] {
            assert!(fine.parse::<Route>().is_ok(), "{fine}");
        }
    }

    #[test]
    fn what_is_no_host_is_not_taken_for_one() {
        for bad in ["", ":80", "a b", "a:b", "a:123456", "a/b", "[::1", "[::1]x", "[zz]", "a..b", "a@b", "é"]
        {
            assert_eq!(Host::parse(bad), None, "{bad}");
        }
        assert!(Host::parse(&"a.".repeat(200)).is_none());
    }

    /// Among all routes that fit, the one with the most particular host, and of those with the longest path.
    fn naive(routes: &[Route], host: &str, path: &str) -> Option<Route> {
        let fits = |route: &&Route| {
            let host_fits = match &route.host {
                HostPattern::Any => true,
                HostPattern::Below(below) => host.ends_with(&format!(".{below}")),
                HostPattern::Exact(exact) => **exact == *host,
            };
            let wanted: Vec<_> = route.path.split('/').collect();
            let sent: Vec<_> = path.split('/').collect();
            host_fits && sent.starts_with(&wanted)
        };
        let rank = |route: &&Route| {
            let host = match &route.host {
                HostPattern::Any => (0, 0),
                HostPattern::Below(below) => (1, below.len()),
                HostPattern::Exact(_) => (2, 0),
            };
            (host, route.path.len())
        };
        routes.iter().filter(fits).max_by_key(rank).cloned()
    }

    fn host() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{1,2}", 1..5).prop_map(|labels| labels.join("."))
    }

    fn path() -> impl Strategy<Value = String> {
        (prop::collection::vec("[xy]{1,2}", 0..5), any::<bool>()).prop_map(|(segments, slash)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            if slash || path.is_empty() { format!("{path}/") } else { path }
        })
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_look_at_every_route(
            routes in prop::collection::vec(("(\\*|(\\*\\.)?[ab]{1,2}(\\.[ab]{1,2}){0,3})", path()), 0..20),
            requests in prop::collection::vec((host(), path()), 1..20),
        ) {
            let mut routes: Vec<Route> =
                routes.iter().map(|(host, path)| format!("{host}{path}").parse().unwrap()).collect();
            routes.sort();
            routes.dedup();
            let mut table = Routes::default();
            for route in &routes {
                prop_assert_eq!(table.insert(route, route.clone()), Ok(()));
            }
            for (host, path) in requests {
                let found = table.find(&Host::parse(&host).unwrap(), &path);
                if let Some(found) = &found {
                    prop_assert!(path.starts_with(found.prefix));
                }
                prop_assert_eq!(found.map(|found| found.to.clone()), naive(&routes, &host, &path));
            }
        }

        #[test]
        fn a_table_of_routes_that_came_and_went_is_that_of_those_that_are_left(
            story in prop::collection::vec(("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2})", path(), any::<bool>()), 0..40),
            requests in prop::collection::vec((host(), path()), 1..20),
        ) {
            let (mut table, mut left) = (Routes::default(), Vec::new());
            for (host, path, comes) in story {
                let route: Route = format!("{host}{path}").parse().unwrap();
                let known = left.contains(&route);
                prop_assert_eq!(table.get(&route).is_some(), known);
                if comes {
                    prop_assert_eq!(table.insert(&route, route.clone()).is_ok(), !known);
                } else {
                    prop_assert_eq!(table.remove(&route).is_some(), known);
                }
                left.retain(|other| *other != route);
                left.extend(comes.then_some(route));
            }
            for (host, path) in requests {
                let found = table.find(&Host::parse(&host).unwrap(), &path).map(|found| found.to.clone());
                prop_assert_eq!(found, naive(&left, &host, &path));
            }
        }

        #[test]
        fn a_route_reads_as_it_is_written(text in "(\\*|(\\*\\.)?[a-c]{1,3}(\\.[a-c]{1,3}){0,3})(/[a-c%]{1,3}){0,4}") {
            let route: Route = text.parse().unwrap();
            prop_assert_eq!(route.to_string(), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", path in ".{0,40}") {
            if let Ok(route) = text.parse::<Route>() {
                prop_assert_eq!(route.to_string().parse::<Route>(), Ok(route));
            }
            let table = table(&["*/a/b", "*.b"]);
            if let Some(host) = Host::parse(&text) {
                let _ = table.find(&host, &path);
            }
        }
    }
}
