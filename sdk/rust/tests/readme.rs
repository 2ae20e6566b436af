//! The program that the README shows is the one that the tests of the whole system run.

use std::fs;
use std::path::Path;

#[test]
fn the_readme_shows_the_minimal_chat() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // A copy of the SDK outside of the repository has no fixtures.
    let Ok(program) = fs::read_to_string(root.join("../../tests/fixtures/minimal-chat/src/lib.rs")) else {
        return;
    };
    assert_eq!(shown, program);
}

#[test]
fn the_minimal_chat_greets_repeats_and_says_farewell() {
    use tidegate::*;

    #[derive(Default)]
    struct Chat;

    #[tidegate::plugin]
    impl Plugin for Chat {
        fn on_connect(&mut self, client: Client) -> Result {
            client.send(format!("hello {client}"));
            gateway::send_to_all(format!("{client} login"));
            Ok(())
        }

        fn on_message(&mut self, client: Client, message: Message) -> Result {
            gateway::send_to_all(format!("{client} said {message}"));
            Ok(())
        }

        fn on_close(&mut self, client: Client, _: CloseInfo) -> Result {
            gateway::send_to_all(format!("{client} logout"));
            Ok(())
        }
    }

    let mut t = testing::start::<Chat>();
    let ann = t.connect();
    let bob = t.connect();
    assert_eq!(t.received(ann), [format!("hello {ann}"), format!("{ann} login"), format!("{bob} login")]);
    t.text(bob, "hi");
    t.close(ann);
    assert_eq!(
        t.received(bob),
        [format!("hello {bob}"), format!("{bob} login"), format!("{bob} said hi"), format!("{ann} logout")]
    );
}
