//! How an instance hands its state over to another, with a real guest.

mod support;

use support::{Recorder, engine, start, text};
use tidegate_runtime::{Engine, Fault, Instance, Limits, SaveError};

const MIB: usize = 1 << 20;

/// An instance that keeps a state.
#[expect(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]
async fn keeping(engine: &Engine, host: &Recorder, state: &str) -> Instance<Recorder> {
    let mut plugin = start(engine, host.clone(), Limits { turn_cpu_ms: 500, ..Limits::default() }).await;
    text(&mut plugin, &format!("keep {state}")).await.unwrap();
    plugin
}

#[tokio::test]
async fn what_one_instance_saves_another_one_restores() {
    let (engine, host) = (engine(), Recorder::default());
    let mut old = keeping(&engine, &host, "three rooms").await;
    let mut new = keeping(&engine, &host, "nothing").await;
    let state = old.save(MIB).await.unwrap().unwrap();
    assert_eq!(state, b"three rooms");
    new.restore(&state).await.unwrap();
    text(&mut new, "kept").await.unwrap();
    // The old one goes on as if nothing had happened.
    text(&mut old, "kept").await.unwrap();
    assert_eq!(host.sent(), ["three rooms", "three rooms"]);
    assert!(host.failures().is_empty());
}

#[tokio::test]
async fn a_large_state_and_an_empty_one_arrive_whole() {
    let (engine, host) = (engine(), Recorder::default());
    for bytes in [0, 16 * MIB] {
        let mut old = keeping(&engine, &host, "").await;
        text(&mut old, &format!("keep-bytes {bytes}")).await.unwrap();
        let state = old.save(16 * MIB).await.unwrap().unwrap();
        assert_eq!(state, vec![7; bytes]);
        let mut new = keeping(&engine, &host, "something").await;
        new.restore(&state).await.unwrap();
        assert_eq!(new.save(16 * MIB).await.unwrap().unwrap(), state);
    }
}

#[tokio::test]
async fn a_state_over_the_limit_is_told_with_both_sizes_and_the_instance_lives_on() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = keeping(&engine, &host, "small").await;
    text(&mut plugin, "keep-bytes 1048577").await.unwrap();
    let error = plugin.save(MIB).await.unwrap_err();
    assert_eq!(error, SaveError::TooLarge { bytes: MIB + 1, bytes_max: MIB });
    let says = error.to_string();
    assert!(
        says.contains("1048577") && says.contains("1048576") && says.contains("state_bytes_max"),
        "{says}"
    );
    assert!(plugin.is_usable());
    assert_eq!(plugin.save(MIB + 1).await.unwrap().unwrap().len(), MIB + 1);
}

#[tokio::test]
async fn save_may_neither_change_nor_ask_anything() {
    let (engine, host) = (engine(), Recorder::default());
    for (word, says) in [
        ("send", "must change nothing"),
        ("join", "must change nothing"),
        ("timer", "must change nothing"),
        ("cancel", "must change nothing"),
        ("ask", "must not ask the gateways"),
        ("fail", "it does not fit"),
    ] {
        let mut plugin = keeping(&engine, &host, &format!("save {word}")).await;
        plugin.save(MIB).await.unwrap();
        let failures = host.failures();
        assert!(failures.len() == 1 && failures[0].contains(says), "{word}: {failures:?}");
        // Only that call was bound: the next one may again.
        text(&mut plugin, "timer after").await.unwrap();
        assert!(host.failures().is_empty() && plugin.is_usable());
    }
    let record = host.record.lock();
    assert!(record.queries.is_empty() && record.sent.is_empty());
    assert!(
        record.commands.iter().all(|command| command.starts_with("timer after")),
        "{:?}",
        record.commands
    );
}

#[tokio::test]
async fn restore_may_change_but_not_ask() {
    let (engine, host) = (engine(), Recorder::default());
    for word in ["send", "join", "timer", "cancel"] {
        let mut plugin = keeping(&engine, &host, "").await;
        plugin.restore(format!("restore {word}").as_bytes()).await.unwrap();
    }
    assert!(host.failures().is_empty());
    assert_eq!(host.record.lock().commands.len(), 4);
    for (word, says) in [("ask", "must not ask the gateways"), ("fail", "it does not fit")] {
        let mut plugin = keeping(&engine, &host, "").await;
        plugin.restore(format!("restore {word}").as_bytes()).await.unwrap();
        let failures = host.failures();
        assert!(failures.len() == 1 && failures[0].contains(says), "{word}: {failures:?}");
    }
    assert!(host.record.lock().queries.is_empty());
}

#[tokio::test]
async fn a_trap_or_an_endless_loop_ends_the_instance_as_in_any_turn() {
    let (engine, host) = (engine(), Recorder::default());
    for (word, label) in [("trap", "trap"), ("spin", "cpu-limit")] {
        let mut old = keeping(&engine, &host, &format!("save {word}")).await;
        let error = old.save(MIB).await.unwrap_err();
        assert!(matches!(&error, SaveError::Fault(fault) if fault.label() == label), "{error}");
        assert!(!old.is_usable());
        assert_eq!(old.save(MIB).await, Err(Fault::Unusable.into()));

        let mut new = keeping(&engine, &host, "").await;
        let fault = new.restore(format!("restore {word}").as_bytes()).await.unwrap_err();
        assert_eq!(fault.label(), label);
        assert!(!new.is_usable());
    }
}
