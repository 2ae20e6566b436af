//! A bare WebSocket server to compare with: `yardstick --kind echo|broadcast|idle [ADDR]`.
//! It serves until standard input ends.

use std::net::SocketAddr;

use tidegate_bench::{Error, Result, yardstick};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (kind, addr) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--kind", kind] => (kind.parse()?, SocketAddr::from(([127, 0, 0, 1], 0))),
        ["--kind", kind, addr] => (kind.parse()?, parse(addr)?),
        _ => return Err(wrong("kind", "is missing; usage: yardstick --kind echo|broadcast|idle [ADDR]")),
    };
    yardstick::serve(kind, addr)
}

fn parse(addr: &str) -> Result<SocketAddr> {
    addr.parse().map_err(|_| wrong("addr", "must be such as 127.0.0.1:7272"))
}

fn wrong(name: &'static str, why: &str) -> Error {
    Error::Option { name, why: why.to_owned() }
}
