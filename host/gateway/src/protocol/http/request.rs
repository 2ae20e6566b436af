use std::borrow::Cow;

use tidegate_base::UpgradeRequest;

use super::Head;
use super::handshake::is_token;

/// The request as a plugin sees it.
pub(super) fn build(head: &Head<'_>) -> UpgradeRequest {
    let headers = head
        .headers()
        .filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase(), std::str::from_utf8(value).ok()?.trim().into()))
        })
        .collect();
    let cookies = head
        .values("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(parse_cookies)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    UpgradeRequest {
        path: head.path().into(),
        query: head.query().map(parse_query).unwrap_or_default(),
        headers,
        cookies,
        protocols: head
            .elements("sec-websocket-protocol")
            .filter(|name| is_token(name))
            .map(Into::into)
            .collect(),
    }
}

/// The parameters in order. One without `=` has an empty value; empty ones (`a&&b`) are left out.
fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// The cookies of one header, in order, as they are but for one pair of quotes. What has no `=` or no name is left out.
fn parse_cookies(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|cookie| {
        let (name, value) = cookie.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (!name.is_empty()).then_some((name, unquoted))
    })
}

/// `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte. A `%` without two digits stays as it is; what is
/// not UTF-8 in the end becomes U+FFFD, as browsers do it.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return text.into();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'+', tail @ ..] => {
                decoded.push(b' ');
                tail
            }
            [byte, tail @ ..] => {
                decoded.push(*byte);
                tail
            }
        };
    }
    match String::from_utf8_lossy(&decoded) {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text,
    }
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        parse_query(text)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn query_parameters_are_decoded_in_order() {
        assert_eq!(
            query("room=a+b&name=J%C3%bcrgen&room=&flag&&=x&p=a=b"),
            pairs(&[
                ("room", "a b"),
                ("name", "Jürgen"),
                ("room", ""),
                ("flag", ""),
                ("", "x"),
                ("p", "a=b")
            ])
        );
    }

    #[test]
    fn broken_percent_signs_stay_and_broken_utf8_is_replaced() {
        assert_eq!(
            query("a=100%&b=%zz&c=%4&d=%ff"),
            pairs(&[("a", "100%"), ("b", "%zz"), ("c", "%4"), ("d", "\u{fffd}")])
        );
    }

    #[test]
    fn cookies_keep_their_order_and_lose_their_quotes() {
        let cookies: Vec<_> = parse_cookies(r#"a=1; b="two" ;c=x=y;;d; =e;f=""#).collect();
        assert_eq!(cookies, [("a", "1"), ("b", "two"), ("c", "x=y"), ("f", "\"")]);
    }

    proptest! {
        #[test]
        fn any_text_survives_percent_encoding(text: String) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded), text);
        }

        #[test]
        fn any_text_can_be_decoded(text: String) {
            prop_assert!(decode(&text).len() <= text.len() * 3);
        }
    }
}
