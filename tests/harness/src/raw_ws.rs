use std::net::SocketAddr;

use crate::RawClient;

/// A WebSocket client that sends whatever it is told to, right or wrong.
#[derive(Debug)]
pub struct RawWs {
    raw: RawClient,
}

impl RawWs {
    /// Connects and upgrades.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut raw = RawClient::connect(address).await;
        raw.send(upgrade_request(address, "").as_bytes()).await;
        let mut ws = Self { raw };
        let head = ws.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        ws
    }

    /// Connects, upgrades and reads the connect event of a `callbacks` plugin.
    pub async fn of_callbacks(address: SocketAddr) -> Self {
        let mut ws = Self::connect(address).await;
        let (_, event) = ws.next().await;
        assert!(String::from_utf8_lossy(&event).contains("\"connect\""), "{event:?}");
        ws
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await;
    }

    /// Sends one masked frame with this first byte: 0x80 for the last fragment, and the opcode.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.raw.send(&masked(first, payload)).await;
    }

    /// The next frame: its first byte and payload.
    pub async fn next(&mut self) -> (u8, Vec<u8>) {
        let head = self.raw.take(2).await;
        let length = match head[1] {
            126 => u16::from_be_bytes(self.raw.take(2).await.try_into().expect("two bytes")).into(),
            127 => u64::from_be_bytes(self.raw.take(8).await.try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        (head[0], self.raw.take(usize::try_from(length).expect("a length")).await)
    }

    /// The code of the close frame, after which nothing comes. Frames before it are dropped.
    pub async fn close_code(mut self) -> u16 {
        loop {
            let (first, payload) = self.next().await;
            if first == 0x88 {
                let rest = self.raw.rest().await;
                assert!(rest.is_empty(), "after the close frame: {rest:?}");
                return payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            }
        }
    }

    async fn head(&mut self) -> String {
        String::from_utf8(self.raw.until(b"\r\n\r\n").await).expect("a head of text")
    }
}

/// A right request to upgrade, with further header lines, each ended by `\r\n`.
pub fn upgrade_request(address: SocketAddr, headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// One masked frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("it is short")),
        middle @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(middle).expect("it fits").to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
