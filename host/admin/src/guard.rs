//! Whom the server listens to: by which names it may be called, and where a web page that asks may come from. A web page of
//! somebody else, opened in an operator's browser, reaches servers on loopback too; it cannot choose these two headers.
//! Pure.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::problem::{Kind, Problem};

/// The names by which this server may be called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    address: IpAddr,
    hosts: Vec<String>,
}

impl Names {
    pub fn new(address: SocketAddr, hosts: &[String]) -> Self {
        Self { address: address.ip(), hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Checks what the request says of itself.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = only(headers, &header::HOST)
            .map_err(|()| self.foreign("it has several Host headers"))?
            .ok_or_else(|| self.foreign("it has no Host header"))?;
        let named = uri.authority().map_or(host, |authority| authority.as_str());
        for name in [host, named] {
            if !self.is_own(name) {
                return Err(self.foreign(&format!("it is for {:?}", short(name))));
            }
        }
        let origin = only(headers, &header::ORIGIN).map_err(|()| foreign_origin("several origins"))?;
        match origin {
            Some(origin) if !is_of(origin, host) => Err(foreign_origin(&short(origin))),
            _ => Ok(()),
        }
    }

    fn is_own(&self, authority: &str) -> bool {
        let name = without_port(authority);
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return ip.is_loopback() || ip == self.address;
        }
        name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| name.eq_ignore_ascii_case(host))
    }

    fn foreign(&self, what: &str) -> Problem {
        let detail = format!(
            "the request is refused: {what}. This server goes by localhost and {}; name others as `hosts` in [admin]",
            self.address
        );
        Problem::new(Kind::ForeignHost, detail)
    }
}

fn foreign_origin(origin: &str) -> Problem {
    let detail = format!(
        "a web page of {origin} asks, and only pages of this server may: send the request from a server or a program, which \
         has no Origin header"
    );
    Problem::new(Kind::ForeignOrigin, detail)
}

/// The one value of a header; Err: there are several, or it is no text.
fn only<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    HeaderValue::to_str(first).map(Some).map_err(|_| ())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // An address in brackets, or several colons outside of them, which no parser takes for one.
        Some((name, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn is_of(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> Result<(), Kind> {
        let names = Names::new("10.0.0.5:7480".parse().unwrap(), &["Push.Example.com".to_owned()]);
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        names.check(&Uri::from_static("/v1"), &headers).map_err(|problem| problem.kind)
    }

    #[test]
    fn it_goes_by_loopback_its_address_and_the_names_of_its_settings() {
        for host in [
            "localhost",
            "LOCALHOST:7480",
            "127.0.0.1:7480",
            "127.9.9.9",
            "[::1]:7480",
            "10.0.0.5",
            "push.example.com:443",
        ] {
            assert_eq!(check(Some(host), None), Ok(()), "{host}");
        }
        for host in [
            "evil.example.com",
            "10.0.0.6",
            "localhost.evil.com",
            "push.example.com.evil",
            "",
            "localhost:80:80",
            "[::2]:1",
        ] {
            assert_eq!(check(Some(host), None), Err(Kind::ForeignHost), "{host}");
        }
        assert_eq!(check(None, None), Err(Kind::ForeignHost));
    }

    #[test]
    fn only_its_own_pages_may_ask() {
        let host = Some("localhost:7480");
        assert_eq!(check(host, Some("http://localhost:7480")), Ok(()));
        assert_eq!(check(Some("push.example.com"), Some("https://push.example.com")), Ok(()));
        for origin in
            ["null", "http://localhost:7481", "http://127.0.0.1:7480", "http://evil.example.com", ""]
        {
            assert_eq!(check(host, Some(origin)), Err(Kind::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn an_address_in_the_request_line_must_be_its_own_too() {
        let names = Names::new("127.0.0.1:1".parse().unwrap(), &[]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        let foreign = Uri::from_static("http://evil.example.com/v1");
        assert_eq!(names.check(&foreign, &headers).unwrap_err().kind, Kind::ForeignHost);
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(names.check(&Uri::from_static("/"), &headers).unwrap_err().kind, Kind::ForeignHost);
    }
}
