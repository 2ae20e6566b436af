use proptest::prelude::*;

use super::*;

const MAX: usize = 8192;
/// The handshake of RFC 6455 section 1.3.
const RFC: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn whole(text: &str) -> Head<'_> {
    parse_head(text.as_bytes(), MAX).unwrap().unwrap()
}

fn error(text: &str) -> HeadError {
    parse_head(text.as_bytes(), MAX).unwrap_err()
}

/// The handshake with one line replaced.
fn with(old: &str, new: &str) -> String {
    assert!(RFC.contains(old), "{old}");
    RFC.replace(old, new)
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn the_handshake_of_rfc_6455_gets_its_answer() {
    let head = whole(RFC);
    let mut out = Vec::new();
    accept_response(&head.upgrade().unwrap(), Some("chat"), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    let mut out = Vec::new();
    accept_response(&head.upgrade().unwrap(), None, &mut out).unwrap();
    assert!(out.ends_with(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    assert_eq!((head.path(), head.query(), head.host()), ("/chat", None, Some("server.example.com")));
}

#[test]
fn a_subprotocol_cannot_add_headers() {
    for bad in ["", "a b", "chat\r\nSet-Cookie: x=1", "ü", "a,b"] {
        let mut out = Vec::new();
        assert!(accept_response(&AcceptKey::new(b"x"), Some(bad), &mut out).is_err(), "{bad:?}");
        assert_eq!(out, b"");
    }
}

#[test]
fn the_plugin_sees_the_whole_request() {
    let text = "GET /room/%C3%A4?name=J%C3%BC+x&empty= HTTP/1.1\r\nhost: a\r\nUPGRADE: h2c, WebSocket\r\n\
        Connection: keep-alive, UPGRADE\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\
        Cookie: sid=abc; theme=\"dark\"\r\nCookie: b=2\r\nX-Bad: \u{fffd}\r\nsec-websocket-protocol: v2.chat,, v1\r\n\
        Sec-WebSocket-Protocol: \"no\", v0\r\n\r\n";
    // A value that is not UTF-8.
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.windows(3).position(|three| three == "\u{fffd}".as_bytes()).unwrap();
    bytes[at] = 0xff;
    let head = parse_head(&bytes, MAX).unwrap().unwrap();
    assert!(head.upgrade().is_some());
    let request = head.upgrade_request();
    assert_eq!(request.path, "/room/%C3%A4");
    assert_eq!(request.query, owned(&[("name", "Jü x"), ("empty", "")]));
    assert_eq!(request.cookies, owned(&[("sid", "abc"), ("theme", "dark"), ("b", "2")]));
    assert_eq!(request.protocols, ["v2.chat", "v1", "v0"]);
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "host",
            "upgrade",
            "connection",
            "sec-websocket-version",
            "sec-websocket-key",
            "cookie",
            "cookie",
            "sec-websocket-protocol",
            "sec-websocket-protocol"
        ]
    );
    assert_eq!(head.header("X-Bad"), None);
    assert_eq!(request.headers[5].1, "sid=abc; theme=\"dark\"");
}

#[test]
fn an_ordinary_request_is_for_a_web_server() {
    let head = whole("HEAD /style.css?v=2 HTTP/1.0\r\n\r\nrest");
    assert_eq!(
        (head.upgrade(), head.method(), head.path(), head.query()),
        (None, "HEAD", "/style.css", Some("v=2"))
    );
    assert_eq!((head.bytes(), head.host()), (32, None));
    assert_eq!(whole("GET http://a.org HTTP/1.1\r\nHost: a.org\r\n\r\n").path(), "/");
    assert_eq!(whole("GET http://a.org/x?y HTTP/1.1\r\nHost: a.org\r\n\r\n").path(), "/x");
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(whole(h2c).upgrade(), None);
    // Upgrade counts only if Connection names it.
    assert_eq!(whole("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").upgrade(), None);
}

#[test]
fn every_wrong_handshake_is_refused_with_its_status() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let host = "Host: server.example.com\r\n";
    let version = "Sec-WebSocket-Version: 13";
    let cases = [
        (with("GET", "POST"), HeadError::NotGet, 405),
        (with("HTTP/1.1", "HTTP/1.0"), HeadError::OldHttp, 400),
        (with("/chat", "*"), HeadError::NoPath, 400),
        (with(host, ""), HeadError::Host, 400),
        (with(host, "Host: a\r\nHost: b\r\n"), HeadError::Host, 400),
        (with(host, "Host: a\r\nContent-Length: 5\r\n"), HeadError::Body, 400),
        (with(host, "Host: a\r\nTransfer-Encoding: chunked\r\n"), HeadError::Body, 400),
        (with("Connection: Upgrade", "Connection: close"), HeadError::NotPassedOn, 400),
        (with("Upgrade: websocket\r\n", ""), HeadError::NotPassedOn, 400),
        (with(version, "Sec-WebSocket-Version: 8"), HeadError::Version, 426),
        (with(version, "X: y"), HeadError::Version, 426),
        (with(key, ""), HeadError::Key, 400),
        (with(key, &key.repeat(2)), HeadError::Key, 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), HeadError::Key, 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSE="), HeadError::Key, 400),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!!=="), HeadError::Key, 400),
    ];
    for (text, expected, status) in cases {
        assert_eq!((error(&text), expected.status()), (expected, status), "{text}");
    }
    assert!(whole(&with("ZQ==", "ZR==")).upgrade().is_some(), "bits that nobody reads");
    assert!(whole(&with(host, "Host: a\r\nContent-Length: 0\r\n")).upgrade().is_some());
}

#[test]
fn what_is_not_http_or_too_large_is_refused() {
    // A TLS handshake on a plain port, and one byte of it.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"\x16",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
    ] {
        let refused = parse_head(bytes, MAX).unwrap_err();
        assert!(matches!(refused, HeadError::Malformed(_)) && refused.status() == 400, "{bytes:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!((error(&many), error(&many).status()), (HeadError::TooManyHeaders, 431));
    let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(MAX));
    assert_eq!((error(&long), error(&long).status()), (HeadError::TooLarge { limit: MAX }, 431));
    // Exactly at the limit is fine, with more behind it too.
    assert!(parse_head(RFC.as_bytes(), RFC.len()).unwrap().is_some());
    assert!(parse_head(format!("{RFC}frames").as_bytes(), RFC.len()).unwrap().is_some());
    assert_eq!(
        parse_head(RFC.as_bytes(), RFC.len() - 1).map(|_| ()),
        Err(HeadError::TooLarge { limit: RFC.len() - 1 })
    );
}

#[test]
fn the_origin_is_checked_if_there_is_one() {
    let list = Origins::List(vec!["http://example.com".parse().unwrap()]);
    let none = with("Origin: http://example.com\r\n", "");
    let two = with("Origin:", "Origin: http://example.com\r\nOrigin:");
    let own = with("http://example.com", "https://server.example.com");
    for (text, origins, allowed) in [
        (RFC, &Origins::Any, true),
        (RFC, &list, true),
        (RFC, &Origins::Same, false),
        (&own, &Origins::Same, true),
        (&own, &list, false),
        (&none, &list, true),
        (&none, &Origins::Same, true),
        (&two, &list, false),
        (&two, &Origins::Any, true),
    ] {
        let expected = if allowed { Ok(()) } else { Err(HeadError::OriginRefused) };
        assert_eq!(whole(text).check_origin(origins), expected, "{text} {origins:?}");
    }
    assert_eq!(HeadError::OriginRefused.status(), 403);
}

#[test]
fn a_refusal_is_one_whole_response() {
    let mut out = Vec::new();
    refusal(403, "no\r\nSet-Cookie: x=1\r\n\r\n", &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: 23\r\n\r\n\
         no\r\nSet-Cookie: x=1\r\n\r\n"
    );
    for (status, start) in [
        (200, "HTTP/1.1 500 Internal Server Error\r\n"),
        (600, "HTTP/1.1 500 Internal Server Error\r\n"),
        (418, "HTTP/1.1 418 Client Error\r\n"),
        (599, "HTTP/1.1 599 Server Error\r\n"),
        (405, "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\n"),
        (
            426,
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Connection: Upgrade, close\r\n",
        ),
    ] {
        let mut out = Vec::new();
        refusal(status, "", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(start) && text.ends_with("Content-Length: 0\r\n\r\n"), "{text}");
    }
    let mut out = Vec::new();
    refusal_until(503, "", Some(7), &mut out);
    let start = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nConnection: close\r\n";
    assert!(out.starts_with(start));
    let mut out = Vec::new();
    refusal(400, &"é".repeat(REFUSAL_TEXT_BYTES_MAX), &mut out);
    assert!(String::from_utf8(out).unwrap().contains("Content-Length: 4096\r\n"));
    let mut out = Vec::new();
    HeadError::Version.respond(&mut out);
    assert!(String::from_utf8(out).unwrap().ends_with("use this version"));
}

proptest! {
    #[test]
    fn a_head_is_incomplete_until_its_last_byte(cut in 0..RFC.len()) {
        prop_assert_eq!(parse_head(&RFC.as_bytes()[..cut], MAX).map(|head| head.is_some()), Ok(false));
    }

    #[test]
    fn noise_in_a_head_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        at in 0..RFC.len(),
        max in prop_oneof![Just(MAX), 0usize..400],
    ) {
        let mut text = RFC.as_bytes().to_vec();
        text.splice(at..at, bytes.iter().copied());
        for input in [&bytes, &text] {
            if let Ok(Some(head)) = parse_head(input, max) {
                prop_assert!(head.bytes() <= max);
                head.upgrade_request();
                let _ = head.check_origin(&Origins::Same);
            }
        }
    }

    #[test]
    fn any_refusal_is_one_response_of_the_stated_length(status: u16, text: String) {
        let mut out = Vec::new();
        refusal(status, &text, &mut out);
        let out = String::from_utf8(out).unwrap();
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        let length = format!("Content-Length: {}", body.len());
        prop_assert!(head.ends_with(&length));
        prop_assert_eq!(body, text);
    }
}
