//! Everybody hears what anybody says.

use tidegate::*;

/// One value per slot; it lives from turn to turn.
#[derive(Default)]
struct Chat {
    said: u64,
}

#[tidegate::plugin]
impl Plugin for Chat {
    fn on_connect(&mut self, client: Client) -> Result {
        client.send(format!("Hello {client}, this is {{name}}."));
        gateway::all().except(client).send(format!("{client} came in."));
        Ok(())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        self.said += 1;
        gateway::all().send(format!("{client} said: {message} (message {})", self.said));
        Ok(())
    }

    fn on_close(&mut self, client: Client, _gone: CloseInfo) -> Result {
        gateway::all().send(format!("{client} left."));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_what_anybody_says() {
        let mut gateway = testing::start::<Chat>();
        let (ann, bob) = (gateway.connect(), gateway.connect());
        gateway.received(ann);
        gateway.received(bob);
        gateway.text(ann, "hi");
        let heard = [format!("{ann} said: hi (message 1)")];
        assert_eq!(gateway.received(ann), heard);
        assert_eq!(gateway.received(bob), heard);
    }
}
