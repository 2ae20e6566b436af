//! The HTTP/1.1 head at the start of a WebSocket listener's connection, sans-io.
//!
//! ```text
//!   parse_head(bytes read so far)
//!     Ok(None)        read more, at most `max_bytes` in all
//!     Ok(Some(head))  head.upgrade()  Some(accept): check_origin, ask the plugin with upgrade_request,
//!                                     then accept_response or refusal
//!                                     None: an ordinary request; a web server may get the socket and all bytes read
//!     Err(error)      error.respond(out), flush, close
//! ```

mod handshake;
mod head;
mod origin;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use handshake::{AcceptKey, InvalidSubprotocol, accept_response};
pub use head::{HEADERS_MAX, Head, HeadError, parse_head};
pub use origin::{InvalidOrigin, Origin, Origins};
pub use response::{REFUSAL_TEXT_BYTES_MAX, RETRY_AFTER_S, refusal, refusal_until};
