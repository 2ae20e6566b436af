//! The backend of 06-push, by the Python of this machine.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tidegate_harness::{Browser, Client, RawClient};

use super::{Example, root};
use crate::clients::is_there;

/// `shop.py`. It is killed when this is dropped.
pub struct Shop {
    child: Child,
    address: SocketAddr,
}

impl Shop {
    /// The shop in front of this API and these clients; None: there is no Python.
    pub fn start(api: SocketAddr, token: &str, ws: SocketAddr) -> Option<Self> {
        if !is_there("python3", "TIDEGATE_REQUIRE_PYTHON") {
            return None;
        }
        let mut child = Command::new("python3")
            .arg(root().join("examples/06-push/shop.py"))
            .env("TIDEGATE_API", format!("http://{api}"))
            .env("TIDEGATE_TOKEN", token)
            .env("SHOP_WS", format!("ws://{ws}/"))
            .env("SHOP_PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("The shop is open: http://").unwrap().trim_end_matches('/');
        Some(Self { address: address.parse().unwrap(), child })
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let body = body.to_string();
        let mut raw = RawClient::connect(self.address).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        raw.send((head + &body).as_bytes()).await;
        let answer = String::from_utf8(raw.until(b"}").await).unwrap();
        let (_, said) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(said).unwrap()
    }

    /// A device of this user that has logged in.
    async fn device(&self, ws: SocketAddr, user: &str) -> Client {
        let ticket = self.post("/tickets", json!({"user": user})).await;
        assert_eq!(ticket["ws"], format!("ws://{ws}/"));
        let mut device = Client::connect(ws).await;
        device.send(json!({"type": "login", "ticket": ticket["ticket"]}).to_string()).await;
        assert_eq!(device.json().await, json!({"type": "welcome", "user": user}));
        device
    }

    /// What the example promises.
    pub async fn tells_every_device(&self, ws: SocketAddr) {
        let mut anns = [self.device(ws, "ann").await, self.device(ws, "ann").await];
        let mut bobs = self.device(ws, "bob").await;
        let ship = |order: &str, parcel: &str| self.post("/ship", json!({"order": order, "parcel": parcel}));
        // The page asks twice for one parcel.
        for _ in 0..2 {
            assert_eq!(ship("1001", "a").await, json!({"reached": 2}));
        }
        assert_eq!(ship("1002", "b").await, json!({"reached": 1}));
        assert_eq!(ship("1003", "c").await, json!({"reached": 2}));
        for device in &mut anns {
            for (order, text) in
                [("1001", "A teapot is on its way to you."), ("1003", "A tide table is on its way to you.")]
            {
                assert_eq!(
                    device.json().await,
                    json!({"type": "parcel", "order": order, "text": text}),
                    "once, and nothing else"
                );
            }
        }
        assert_eq!(bobs.json().await["order"], "1002");
        let mut stranger = Client::connect(ws).await;
        stranger.send(r#"{"type":"login","ticket":"ann.4102444800.00"}"#).await;
        assert_eq!(stranger.json().await["type"], "error");
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example by `dev`, and its shop with the token that lies there.
fn with_shop() -> Option<(Example, Shop)> {
    let example = Example::start("06-push", &tidegate_artifacts::plugin("push"));
    let token = std::fs::read_to_string(example.folder.path().join("data/admin.token")).unwrap();
    let api = example.ready["admin"].as_str().unwrap().parse().unwrap();
    let shop = Shop::start(api, token.trim(), example.address("ws"))?;
    Some((example, shop))
}

#[tokio::test]
async fn the_shop_of_06_push_tells_every_device_of_a_user_once() {
    let Some((example, shop)) = with_shop() else { return };
    shop.tells_every_device(example.address("ws")).await;
    example.stop();
}

#[tokio::test]
async fn the_page_of_06_push_shows_a_parcel_on_both_devices_of_its_customer() {
    let Some(browser) = Browser::start().await else { return };
    let Some((example, shop)) = with_shop() else { return };
    let mut page = browser.open(&format!("http://{}/", shop.address)).await;
    page.until("document.querySelectorAll('.device[data-state=online]').length === 3").await;
    page.evaluate("document.querySelector('[data-order=\"1001\"]').click()").await;
    for device in ["Ann's phone", "Ann's laptop"] {
        let log = format!("document.querySelector(`[data-device=\"{device}\"] ol`).innerText");
        page.until(&format!("{log}.includes('A teapot is on its way')")).await;
    }
    page.until("document.querySelector('#told').innerText.includes('2 devices of Ann')").await;
    // One device leaves; the other still hears.
    page.evaluate("document.querySelector('.device input').click()").await;
    page.until("document.querySelectorAll('.device[data-state=offline]').length === 1").await;
    let again = "(async () => { document.querySelector('[data-order=\"1003\"]:enabled')?.click(); })()";
    page.evaluate(again).await;
    page.until("document.querySelectorAll('.device')[1].innerText.includes('A tide table')").await;
    page.evaluate("document.querySelector('[data-order=\"1002\"]').click()").await;
    page.until("document.querySelectorAll('.device')[2].innerText.includes('A bicycle bell')").await;
    let anns = page.evaluate("document.querySelectorAll('.device')[0].innerText").await;
    assert!(!anns.as_str().unwrap().contains("bicycle"), "{anns}");
    let pictures = root().join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    page.screenshot(&pictures.join("push.png")).await;
    drop(browser);
    drop(shop);
    example.stop();
}
