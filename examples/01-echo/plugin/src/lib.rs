//! Sends every message back to who sent it: text as text, bytes as bytes.

use tidegate::*;

/// The plugin. It remembers nothing.
#[derive(Default)]
pub struct Echo;

#[tidegate::plugin]
impl Plugin for Echo {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        client.send(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_come_back_as_they_were_and_to_nobody_else() {
        let mut gateway = testing::start::<Echo>();
        let ann = gateway.connect();
        let bob = gateway.connect();
        gateway.text(ann, "hé");
        gateway.binary(ann, [0, 255]);
        assert_eq!(gateway.received(ann), [Message::Text("hé".into()), Message::Binary(vec![0, 255])]);
        assert!(gateway.received(bob).is_empty());
    }
}
