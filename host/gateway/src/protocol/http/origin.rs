use std::fmt;
use std::str::FromStr;

/// Pages of which origins may connect. It protects users whose browser carries their cookies along; it is no protection
/// against programs, which send any `Origin` they like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All of them.
    Any,
    /// Those whose host and port are the request's `Host`. The scheme may differ, since a proxy may do the TLS.
    Same,
    /// These, and no others.
    List(Vec<Origin>),
}

impl Origins {
    /// Whether an `Origin` header is allowed in a request with this `Host`.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        match (self, Parts::of_origin(origin)) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Same, Some(origin)) => {
                let host = host.and_then(|host| Parts::of_authority(origin.scheme, host));
                host.is_some_and(|host| host.is_same_as(&origin))
            }
            (Self::List(list), Some(origin)) => {
                list.iter().any(|allowed| allowed.parts().is_same_as(&origin))
            }
        }
    }
}

/// `scheme://host` or `scheme://host:port`. The scheme's own port (80, 443) is the same as none, case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl Origin {
    fn parts(&self) -> Parts<'_> {
        Parts { scheme: &self.scheme, host: &self.host, port: self.port }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        write!(f, "{scheme}://{host}")?;
        port.filter(|port| Some(*port) != default_port(scheme)).map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.chars().take(80).collect());
        let Parts { scheme, host, port } = Parts::of_origin(text).ok_or_else(invalid)?;
        Ok(Self { scheme: scheme.to_ascii_lowercase().into(), host: host.to_ascii_lowercase().into(), port })
    }
}

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin: write scheme://host or scheme://host:port, without a path, such as https://example.org"
)]
pub struct InvalidOrigin(String);

#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    // The scheme's own if none is named.
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    fn of_origin(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme_char = |c: u8| c.is_ascii_alphanumeric() || b"+-.".contains(&c);
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(is_scheme_char);
        if is_scheme { Self::of_authority(scheme, authority) } else { None }
    }

    fn of_authority(scheme: &'a str, authority: &'a str) -> Option<Self> {
        let named = match authority.rsplit_once(':') {
            // Not the colons within an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => Some((host, port)),
            _ => None,
        };
        let (host, port) = match named {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (authority, default_port(scheme)),
        };
        let is_host_char =
            |c: u8| c.is_ascii_graphic() && !matches!(c, b'/' | b'@' | b'?' | b'#' | b'\\' | b',' | b'*');
        let is_host = !host.is_empty() && host.bytes().all(is_host_char);
        is_host.then_some(Self { scheme, host, port })
    }

    fn is_same_as(&self, other: &Parts<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    match () {
        () if is("http") || is("ws") => Some(80),
        () if is("https") || is("wss") => Some(443),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(origins: &[&str]) -> Origins {
        Origins::List(origins.iter().map(|origin| origin.parse().unwrap()).collect())
    }

    #[test]
    fn a_list_allows_exactly_its_origins() {
        let origins = list(&["https://example.org", "http://localhost:8080", "capacitor://localhost"]);
        for yes in [
            "https://example.org",
            "https://EXAMPLE.org:443",
            "http://localhost:8080",
            "capacitor://localhost",
        ] {
            assert!(origins.allow(yes, None), "{yes}");
        }
        for no in [
            "http://example.org",
            "https://example.org:444",
            "https://example.org.evil.org",
            "https://evil-example.org",
            "https://www.example.org",
            "http://localhost",
            "https://user@example.org",
            "https://example.org/",
            "https://example.org https://evil.org",
            "null",
            "",
        ] {
            assert!(!origins.allow(no, Some("example.org")), "{no}");
        }
    }

    #[test]
    fn the_same_origin_has_the_host_and_port_of_the_request() {
        for (origin, host, allowed) in [
            ("http://example.org", "example.org", true),
            ("https://example.org", "example.org", true),
            ("https://example.org", "Example.org:443", true),
            ("http://example.org:7272", "example.org:7272", true),
            ("http://[::1]:7272", "[::1]:7272", true),
            ("http://[::1]", "[::1]", true),
            ("http://example.org", "example.org:7272", false),
            ("http://evil.org", "example.org", false),
            ("null", "null", false),
            ("http://", "", false),
        ] {
            assert_eq!(Origins::Same.allow(origin, Some(host)), allowed, "{origin} {host}");
        }
        assert!(!Origins::Same.allow("http://example.org", None));
    }

    #[test]
    fn any_allows_whatever_there_is() {
        assert!(Origins::Any.allow("null", None) && Origins::Any.allow("?", Some("x")));
    }

    #[test]
    fn what_is_no_origin_cannot_be_listed() {
        for bad in [
            "",
            "null",
            "*",
            "https://*.example.org",
            "example.org",
            "https://a/b",
            "https://a:99999",
            "://a",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        assert_eq!("HTTPS://Example.org".parse::<Origin>(), "https://example.org:443".parse());
    }
}
