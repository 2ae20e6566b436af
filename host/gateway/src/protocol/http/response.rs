/// Longest text of a refusal, in bytes; the rest is cut.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 4096;

/// When a client may come again that is refused since nobody can serve it now: in so many seconds.
pub const RETRY_AFTER_S: u32 = 10;

/// Appends a whole response that refuses a request: a plain text body, and the connection closes after it.
///
/// `text` goes into the body only, so it cannot add headers; browsers are told not to see HTML in it. A status outside
/// 400 to 599 becomes 500. 405 says that `GET` is allowed, 426 that WebSocket 13 is wanted.
pub fn refusal(status: u16, text: &str, out: &mut Vec<u8>) {
    refusal_until(status, text, None, out);
}

/// As [`refusal`], which says in how many seconds it may be worth another try.
pub fn refusal_until(status: u16, text: &str, retry_after_s: Option<u32>, out: &mut Vec<u8>) {
    let status = if (400..600).contains(&status) { status } else { 500 };
    let extra = match status {
        405 => "Allow: GET\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    let retry = retry_after_s.map(|after_s| format!("Retry-After: {after_s}\r\n")).unwrap_or_default();
    let connection = if status == 426 { "Upgrade, close" } else { "close" };
    let (text, _) = text.split_at(text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX));
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\n{extra}{retry}Connection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n",
        reason = reason(status),
        length = text.len(),
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        ..500 => "Client Error",
        _ => "Server Error",
    }
}
