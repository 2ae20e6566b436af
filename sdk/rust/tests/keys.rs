//! The buckets of the fake gateway do as those of a worker.

use tidegate::keys::{KeyError, Swapped};
use tidegate::*;

#[derive(Default)]
struct Keeper;

#[tidegate::plugin]
impl Plugin for Keeper {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let bucket = keys::open("b")?;
        match message.as_text() {
            Some("values") => {
                assert_eq!((bucket.get("a")?, bucket.exists("a")?), (None, false));
                bucket.set("a", "1")?;
                bucket.set("a", [50])?;
                assert_eq!((bucket.get_text("a")?.as_deref(), bucket.exists("a")?), (Some("2"), true));
                assert_eq!(bucket.increment("a", 40)?, 42);
                bucket.set("a", "x")?;
                assert!(matches!(bucket.increment("a", 1), Err(KeyError::Other(_))));
                assert_eq!(
                    bucket.update("a", |before| [before.unwrap_or_default(), vec![121]].concat())?,
                    b"xy"
                );
                bucket.delete("a")?;
                bucket.delete("a")?;
                assert_eq!(bucket.keys().count(), 0);
            }
            Some("swaps") => {
                let swap = bucket.compare_and_swap("s")?;
                bucket.set("s", "1")?;
                let Swapped::Changed(again) = swap.swap("lost")? else { bail!("it was swapped") };
                bucket.set("s", "2")?;
                assert_eq!(again.current()?, Some(b"2".to_vec()));
                assert!(matches!(again.swap("3")?, Swapped::Done));
                assert_eq!(bucket.get_text("s")?.as_deref(), Some("3"));
            }
            Some("many") => {
                for n in 0..3 {
                    bucket.set_many((0..900).map(|m| (format!("{:04}", m * 3 + n), "v")))?;
                }
                let all = bucket.keys().collect::<Result<Vec<_>, _>>()?;
                assert!(all.len() == 2700 && all.is_sorted());
                assert_eq!(bucket.keys_after("2698").collect::<Result<Vec<_>, _>>()?, ["2699"]);
                bucket.delete_many(["0000", "none"])?;
                assert_eq!(bucket.get_many(["0000", "0001"])?, [None, Some(b"v".to_vec())]);
            }
            Some("limits") => {
                let refused = [
                    bucket.set("", "v"),
                    bucket.set(&"k".repeat(513), "v"),
                    bucket.set("k", vec![0; 1024 * 1024 + 1]),
                    bucket.set_many((0..1001).map(|n| (n.to_string(), ""))),
                    bucket.set_many((0..5).map(|n| (n.to_string(), vec![0; 1024 * 1024]))),
                    bucket.delete_many(vec!["k"; 1001]),
                ];
                assert!(refused.iter().all(|it| matches!(it, Err(KeyError::Other(_)))), "{refused:?}");
                assert_eq!(keys::open("other").err(), Some(KeyError::NoSuchBucket));
                assert_eq!(bucket.keys().count(), 0);
            }
            _ => bail!("what?"),
        }
        client.send("well");
        Ok(())
    }
}

#[test]
fn a_bucket_keeps_what_it_is_told_within_its_limits() {
    for what in ["values", "swaps", "many", "limits"] {
        let mut gateway = testing::Setup::new().bucket("b").start::<Keeper>();
        let client = gateway.connect();
        gateway.text(client, what);
        assert_eq!(gateway.received(client), ["well"], "{what}");
    }
}

#[test]
fn a_turn_that_fails_takes_no_key_back() {
    let mut gateway = testing::Setup::new().bucket("b").start::<Reader>();
    let client = gateway.connect();
    gateway.text(client, "fail");
    assert_eq!(gateway.failures().len(), 1);
    gateway.text(client, "read");
    assert_eq!(gateway.received(client), ["Some(\"yes\")"]);
}

#[derive(Default)]
struct Reader;

#[tidegate::plugin]
impl Plugin for Reader {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let bucket = keys::open("b")?;
        if message.as_text() == Some("fail") {
            bucket.set("kept", "yes")?;
            bail!("told to fail");
        }
        client.send(format!("{:?}", bucket.get_text("kept")?));
        Ok(())
    }
}
