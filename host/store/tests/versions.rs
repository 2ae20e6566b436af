//! Versions: numbers, the current one, what runs, what is dropped.

mod common;

use tidegate_base::Digest;
use tidegate_store::{
    BY_BYTES_MAX, NewVersion, Origin, Outcome, PROGRESS_BYTES_MAX, REASON_BYTES_MAX, REPORT_BYTES_MAX,
    Running, StoreError,
};

use common::{app, deploy, folder, new, open, rolled_back, says};

#[test]
fn deployments_are_numbered_and_the_newest_committed_one_is_current() {
    let folder = folder();
    let store = open(folder.path());
    let (chat, other) = (app("chat"), app("acme/chat"));
    let [a, b] = [b"a", b"b"].map(|bytes| store.put(bytes, 0).unwrap());
    assert_eq!(store.current(&chat).unwrap(), None);
    assert_eq!(store.history(&chat, 10).unwrap(), []);
    assert_eq!(store.apps().unwrap(), []);

    let first = deploy(&store, &chat, a, Outcome::Committed);
    assert_eq!((first.number, first.digest, first.by.as_str()), (1, a, "ada"));
    assert_eq!(deploy(&store, &chat, b, rolled_back()).number, 2);
    assert_eq!(store.current(&chat).unwrap(), Some(first));
    let mixed = deploy(&store, &chat, b, Outcome::Mixed { reason: "r".to_owned() });
    assert_eq!(store.current(&chat).unwrap().unwrap().number, 1);
    let again = NewVersion { again: Some(1), origin: Origin::Rollback, ..new(a) };
    let began = store.begin(&chat, again).unwrap();
    assert_eq!((began.number, began.again, began.outcome.as_ref()), (4, Some(1), None));
    assert_eq!(store.current(&chat).unwrap().unwrap().number, 1);
    let ended = store.finish(&chat, 4, Outcome::Committed, Some("{}")).unwrap();
    assert_eq!(ended.report.as_deref(), Some("{}"));
    assert_eq!(store.current(&chat).unwrap().as_ref(), Some(&ended));
    assert_eq!(deploy(&store, &other, b, Outcome::Committed).number, 1, "each app counts for itself");

    assert_eq!(store.apps().unwrap(), [other, chat.clone()]);
    let numbers = |limit| -> Vec<u32> {
        store.history(&chat, limit).unwrap().iter().map(|record| record.number).collect()
    };
    assert_eq!(numbers(10), [4, 3, 2, 1]);
    assert_eq!(numbers(2), [4, 3]);
    assert_eq!(numbers(0), [0; 0]);
    assert_eq!(store.history(&chat, 1).unwrap(), [ended]);
    assert_eq!(store.version(&chat, 3).unwrap(), Some(mixed));
    assert_eq!(store.version(&chat, 5).unwrap(), None);
}

#[test]
fn many_apps_are_committed_all_together_or_not_at_all() {
    let folder = folder();
    let store = open(folder.path());
    let (chat, other) = (app("chat"), app("other"));
    let [a, b] = [b"a", b"b"].map(|bytes| store.put(bytes, 0).unwrap());
    deploy(&store, &chat, a, Outcome::Committed);
    let of_file = |digest| NewVersion { origin: Origin::File, ..new(digest) };
    let all = || vec![(chat.clone(), of_file(b)), (other.clone(), of_file(b))];
    let records = store.commit_all(all()).unwrap();
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [2, 1]);
    for (app, record) in [(&chat, &records[0]), (&other, &records[1])] {
        assert_eq!(store.current(app).unwrap().as_ref(), Some(record));
        assert_eq!(store.file_digest(app).unwrap(), Some(b));
    }
    assert_eq!(store.running().unwrap(), []);

    store.begin(&other, new(a)).unwrap();
    says(store.commit_all(all()), &["version 2 of app default/other", "wait"]);
    assert_eq!(store.history(&chat, 10).unwrap().len(), 2, "the first one of them is not there either");
    assert_eq!(store.commit_all(Vec::new()).unwrap(), []);
}

#[test]
fn one_deployment_of_an_app_runs_at_a_time_and_is_found_after_a_restart() {
    let folder = folder();
    let store = open(folder.path());
    let (chat, other) = (app("chat"), app("other"));
    let digest = store.put(b"a", 0).unwrap();
    let record = store.begin(&chat, NewVersion { progress: vec![1], ..new(digest) }).unwrap();
    says(store.begin(&chat, new(digest)), &["version 1 of app default/chat", "wait"]);
    store.begin(&other, new(digest)).unwrap();
    store.finish(&other, 1, Outcome::Committed, None).unwrap();
    let running = |progress: &[u8]| {
        vec![Running { app: chat.clone(), record: record.clone(), progress: progress.to_vec() }]
    };
    assert_eq!(store.running().unwrap(), running(&[1]));
    store.set_progress(&chat, 1, &[2, 3]).unwrap();
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.running().unwrap(), running(&[2, 3]));
    says(store.set_progress(&chat, 2, &[]), &["version 2 of app default/chat", "is not being deployed"]);
    says(store.finish(&chat, 2, Outcome::Committed, None), &["is not being deployed"]);
    says(store.forget(&chat), &["version 1 of app default/chat"]);
    store.finish(&chat, 1, Outcome::Committed, None).unwrap();
    assert_eq!(store.running().unwrap(), []);
    says(store.finish(&chat, 1, rolled_back(), None), &["is not being deployed"]);
    assert_eq!(store.current(&chat).unwrap().unwrap().outcome, Some(Outcome::Committed));
}

#[test]
fn what_cannot_begin_changes_nothing() {
    let folder = folder();
    let store = open(folder.path());
    let chat = app("chat");
    let [a, b] = [b"a", b"b"].map(|bytes| store.put(bytes, 0).unwrap());
    let unknown = Digest::of(b"unknown");
    says(store.begin(&chat, new(unknown)), &[&unknown.to_string(), "upload it"]);
    deploy(&store, &chat, a, Outcome::Committed);
    for (number, digest) in [(1, b), (2, a), (0, a)] {
        let again = NewVersion { again: Some(number), ..new(digest) };
        says(store.begin(&chat, again), &["default/chat", &format!("version {number}"), "tidegate history"]);
    }
    let long = |bytes| "x".repeat(bytes);
    says(store.begin(&chat, NewVersion { by: long(BY_BYTES_MAX + 1), ..new(a) }), &["256", "255", "shorten"]);
    says(store.begin(&chat, NewVersion { note: long(4097), ..new(a) }), &["the note", "4097"]);
    let progress = vec![0; PROGRESS_BYTES_MAX + 1];
    says(store.set_progress(&chat, 1, &progress), &["progress"]);
    says(store.begin(&chat, NewVersion { progress, ..new(a) }), &["progress"]);
    assert_eq!(store.history(&chat, 10).unwrap().len(), 1);
    assert_eq!(store.begin(&chat, new(a)).unwrap().number, 2);
    let report = long(REPORT_BYTES_MAX + 1);
    says(store.finish(&chat, 2, Outcome::Committed, Some(&report)), &["report", "shorten"]);
    assert_eq!(store.running().unwrap().len(), 1);
}

#[test]
fn a_reason_that_is_too_long_is_cut_between_characters() {
    let folder = folder();
    let store = open(folder.path());
    let digest = store.put(b"a", 0).unwrap();
    let reason = format!("x{}", "ä".repeat(REASON_BYTES_MAX));
    let record = deploy(&store, &app("chat"), digest, Outcome::Mixed { reason });
    let Some(Outcome::Mixed { reason }) = record.outcome else { panic!("{record:?}") };
    assert_eq!(reason.len(), REASON_BYTES_MAX - 1);
}

#[test]
fn the_files_plugin_is_noted_with_its_deployment_or_by_itself() {
    let folder = folder();
    let store = open(folder.path());
    let chat = app("chat");
    let [a, b] = [b"a", b"b"].map(|bytes| store.put(bytes, 0).unwrap());
    assert_eq!(store.file_digest(&chat).unwrap(), None);
    store.begin(&chat, NewVersion { origin: Origin::File, ..new(a) }).unwrap();
    assert_eq!(store.file_digest(&chat).unwrap(), Some(a), "also if the deployment never ends");
    store.finish(&chat, 1, Outcome::Committed, None).unwrap();
    deploy(&store, &chat, b, Outcome::Committed);
    assert_eq!(store.file_digest(&chat).unwrap(), Some(a), "a deployment is not the file's");
    store.set_file_digest(&chat, b).unwrap();
    store.set_file_digest(&app("new"), Digest::of(b"c")).unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.file_digest(&chat).unwrap(), Some(b));
    assert_eq!(store.file_digest(&app("new")).unwrap(), Some(Digest::of(b"c")));
    assert_eq!(store.current(&chat).unwrap().unwrap().number, 2);
    assert_eq!(store.current(&app("new")).unwrap(), None);
}

#[test]
fn a_forgotten_app_is_as_new_and_its_neighbours_are_untouched() {
    let folder = folder();
    let store = open(folder.path());
    let digest = store.put(b"a", 0).unwrap();
    let apps = ["a", "aa", "b"].map(app);
    for app in &apps {
        deploy(&store, app, digest, Outcome::Committed);
    }
    store.forget(&apps[0]).unwrap();
    store.forget(&app("unknown")).unwrap();
    assert_eq!(store.apps().unwrap(), apps[1..]);
    assert_eq!(store.history(&apps[0], 10).unwrap(), []);
    assert_eq!(store.history(&apps[1], 10).unwrap().len(), 1);
    assert_eq!(deploy(&store, &apps[0], digest, Outcome::Committed).number, 1);
}

#[test]
fn a_record_is_plain_json_for_programs() {
    let folder = folder();
    let store = open(folder.path());
    let digest = store.put(b"a", 0).unwrap();
    let record = deploy(&store, &app("chat"), digest, rolled_back());
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["origin"], "deploy");
    assert_eq!(json["outcome"]["rolled-back"]["reason"], "it trapped");
    assert_eq!(json["digest"], digest.to_string());
}

#[test]
fn threads_share_a_store_and_only_one_of_them_begins() {
    let folder = folder();
    let store = open(folder.path());
    let chat = app("chat");
    let digest = store.put(b"a", 0).unwrap();
    let began = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| store.begin(&chat, new(digest)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let busy = began.iter().filter(|result| matches!(result, Err(StoreError::Busy { number: 1, .. })));
    assert_eq!(busy.count(), 3);
    assert_eq!(store.history(&chat, 10).unwrap().len(), 1);
}
