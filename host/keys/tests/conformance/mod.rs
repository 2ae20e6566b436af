//! What every store of keys promises, whatever it is: [`check`] runs all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_base::limits::{KEY_BATCH_MAX, KEY_VALUE_BYTES_MAX};
use tidegate_base::{AppName, KeyAnswer, KeyError, KeyOp, KeyVersion};
use tidegate_keys::{Keys, Space};

type Outcome = Result<KeyAnswer, KeyError>;

/// A bucket of one app.
#[derive(Clone)]
pub struct Bucket {
    keys: Arc<dyn Keys>,
    space: Arc<Space>,
    name: Arc<str>,
}

impl Bucket {
    pub fn of(keys: &Arc<dyn Keys>, app: &str, born: u64, name: &str) -> Self {
        let space = keys.space(&AppName::new(app).unwrap(), born);
        Self { keys: Arc::clone(keys), space, name: name.into() }
    }

    pub async fn ask(&self, op: KeyOp) -> Outcome {
        self.keys.ask(&self.space, &self.name, op).await
    }

    pub async fn set(&self, key: &str, value: impl Into<Vec<u8>>) -> Outcome {
        self.ask(KeyOp::Set(vec![(key.to_owned(), value.into())])).await
    }

    /// By a question; what is at hand after it is nothing older.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.ask(KeyOp::Get(vec![key.to_owned()])).await.unwrap();
        let KeyAnswer::Values(values) = answer else { panic!("{answer:?}") };
        let [value] = &values[..] else { panic!("{values:?}") };
        if let (Some(Some(at_hand)), Some(value)) =
            (self.keys.peek(&self.space, &self.name, key), value.as_ref())
        {
            assert!(at_hand.version >= value.version, "{at_hand:?} is older than {value:?}");
        }
        value.as_ref().map(|value| value.bytes.to_vec())
    }

    pub async fn version(&self, key: &str) -> KeyVersion {
        let answer = self.ask(KeyOp::Version(key.to_owned())).await.unwrap();
        let KeyAnswer::Version(version) = answer else { panic!("{answer:?}") };
        version
    }

    pub async fn list(&self, after: Option<&str>) -> (Vec<String>, bool) {
        let answer = self.ask(KeyOp::List { after: after.map(str::to_owned) }).await.unwrap();
        let KeyAnswer::Keys { keys, more } = answer else { panic!("{answer:?}") };
        (keys, more)
    }

    async fn swap(&self, key: &str, expected: KeyVersion, value: &str) -> Result<(), KeyVersion> {
        let swap = KeyOp::Swap { key: key.to_owned(), expected, value: value.into() };
        let answer = self.ask(swap).await.unwrap();
        let KeyAnswer::Swapped(swapped) = answer else { panic!("{answer:?}") };
        swapped
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, KeyError> {
        match self.ask(KeyOp::Increment { key: key.to_owned(), by }).await? {
            KeyAnswer::Number(number) => Ok(number),
            answer => panic!("{answer:?}"),
        }
    }
}

/// All of it. Apps are called after the store's, so that several runs can share one.
pub async fn check(keys: &Arc<dyn Keys>, name: &str) {
    one_key(&Bucket::of(keys, &format!("{name}/a"), 1, "one")).await;
    numbers(&Bucket::of(keys, &format!("{name}/a"), 1, "numbers")).await;
    swaps(&Bucket::of(keys, &format!("{name}/a"), 1, "swaps")).await;
    batches(&Bucket::of(keys, &format!("{name}/a"), 1, "batches")).await;
    lists(&Bucket::of(keys, &format!("{name}/a"), 1, "lists")).await;
    apart(keys, name).await;
    full(&Bucket::of(keys, &format!("{name}/full"), 1, "full")).await;
    at_once(keys, name).await;
}

async fn one_key(bucket: &Bucket) {
    assert_eq!((bucket.get("a").await, bucket.version("a").await), (None, KeyVersion::ABSENT));
    assert_eq!(bucket.set("a", "1").await, Ok(KeyAnswer::Done));
    assert_eq!(bucket.get("a").await, Some(b"1".to_vec()));
    let first = bucket.version("a").await;
    // Any bytes, none and many.
    for value in [vec![], vec![0, 255, 10], vec![9; KEY_VALUE_BYTES_MAX]] {
        assert_eq!(bucket.set("a", value.clone()).await, Ok(KeyAnswer::Done));
        assert_eq!(bucket.get("a").await, Some(value));
    }
    assert!(bucket.version("a").await > first);
    // Any text is a key.
    for key in ["ü/\0\n", " ", &"k".repeat(512)] {
        bucket.set(key, key).await.unwrap();
        assert_eq!(bucket.get(key).await, Some(key.as_bytes().to_vec()), "{key:?}");
    }
    for _ in 0..2 {
        assert_eq!(bucket.ask(KeyOp::Delete(vec!["a".into()])).await, Ok(KeyAnswer::Done));
        assert_eq!((bucket.get("a").await, bucket.version("a").await), (None, KeyVersion::ABSENT));
    }
}

async fn numbers(bucket: &Bucket) {
    assert_eq!(bucket.increment("n", 5).await, Ok(5));
    assert_eq!(bucket.increment("n", -7).await, Ok(-2));
    assert_eq!(bucket.get("n").await, Some(b"-2".to_vec()));
    bucket.set("n", i64::MAX.to_string()).await.unwrap();
    assert_eq!(bucket.increment("n", 1).await, Err(KeyError::Overflow));
    assert_eq!(bucket.increment("n", 0).await, Ok(i64::MAX));
    for text in ["", "1.5", "0x1", "one"] {
        bucket.set("n", text).await.unwrap();
        assert_eq!(bucket.increment("n", 1).await, Err(KeyError::NoNumber), "{text}");
        assert_eq!(bucket.get("n").await, Some(text.into()));
    }
}

async fn swaps(bucket: &Bucket) {
    // Of nothing, and not twice.
    assert_eq!(bucket.swap("s", KeyVersion::ABSENT, "1").await, Ok(()));
    let version = bucket.version("s").await;
    assert_eq!(bucket.swap("s", KeyVersion::ABSENT, "2").await, Err(version));
    assert_eq!(bucket.get("s").await, Some(b"1".to_vec()));
    assert_eq!(bucket.swap("s", version, "1").await, Ok(()));
    // The same value, written again, is another version; so is that of a key that was gone meanwhile.
    let now = bucket.version("s").await;
    assert_eq!(bucket.swap("s", version, "3").await, Err(now));
    bucket.ask(KeyOp::Delete(vec!["s".into()])).await.unwrap();
    assert_eq!(bucket.swap("s", now, "3").await, Err(KeyVersion::ABSENT));
    bucket.set("s", "1").await.unwrap();
    assert!(bucket.version("s").await > now);
}

async fn batches(bucket: &Bucket) {
    let entry = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    let set = KeyOp::Set(vec![entry("a", "1"), entry("b", "2"), entry("a", "3")]);
    assert_eq!(bucket.ask(set).await, Ok(KeyAnswer::Done));
    let get = KeyOp::Get(["b", "none", "a", "b"].map(str::to_owned).to_vec());
    let Ok(KeyAnswer::Values(values)) = bucket.ask(get).await else { panic!() };
    let values: Vec<_> =
        values.iter().map(|value| value.as_ref().map(|value| value.bytes.to_vec())).collect();
    assert_eq!(values, [Some(b"2".to_vec()), None, Some(b"3".to_vec()), Some(b"2".to_vec())]);
    bucket.ask(KeyOp::Delete(["a", "none"].map(str::to_owned).to_vec())).await.unwrap();
    assert_eq!((bucket.get("a").await, bucket.get("b").await), (None, Some(b"2".to_vec())));
    for nothing in [KeyOp::Set(Vec::new()), KeyOp::Delete(Vec::new())] {
        assert_eq!(bucket.ask(nothing).await, Ok(KeyAnswer::Done));
    }
    assert_eq!(bucket.ask(KeyOp::Get(Vec::new())).await, Ok(KeyAnswer::Values(Vec::new())));
    // More than an answer holds.
    let large: Vec<_> = (0..5).map(|n| format!("large{n}")).collect();
    for key in &large {
        bucket.set(key, vec![1; KEY_VALUE_BYTES_MAX]).await.unwrap();
    }
    assert_eq!(bucket.ask(KeyOp::Get(large)).await, Err(KeyError::LongAnswer));
}

async fn lists(bucket: &Bucket) {
    assert_eq!(bucket.list(None).await, (Vec::new(), false));
    let mut names: Vec<_> = (0..2500).map(|n| format!("{:04}", n * 7 % 2500)).collect();
    for names in names.chunks(KEY_BATCH_MAX) {
        let entries = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        bucket.ask(KeyOp::Set(entries)).await.unwrap();
    }
    names.sort();
    let (mut listed, mut after) = (Vec::new(), None::<String>);
    loop {
        let (keys, more) = bucket.list(after.as_deref()).await;
        assert!(keys.len() <= KEY_BATCH_MAX && (!more || !keys.is_empty()));
        after = keys.last().cloned();
        listed.extend(keys);
        if !more {
            break;
        }
    }
    assert_eq!(listed, names);
    // Behind what is no key, and behind the last one.
    assert_eq!(bucket.list(Some("2497!")).await, (vec!["2498".into(), "2499".into()], false));
    assert_eq!(bucket.list(Some("2499")).await, (Vec::new(), false));
}

async fn apart(keys: &Arc<dyn Keys>, name: &str) {
    let (app, other) = (format!("{name}/apart"), format!("{name}/apart2"));
    let bucket = Bucket::of(keys, &app, 1, "b");
    bucket.set("k", "mine").await.unwrap();
    let others = [
        Bucket::of(keys, &app, 1, "b2"),
        Bucket::of(keys, &app, 1, "a"),
        Bucket::of(keys, &other, 1, "b"),
        Bucket::of(keys, &format!("{name}x/apart"), 1, "b"),
    ];
    for other in others {
        assert_eq!((other.get("k").await, other.list(None).await), (None, (Vec::new(), false)));
        other.set("k", "theirs").await.unwrap();
    }
    assert_eq!(bucket.get("k").await, Some(b"mine".to_vec()));
    // A later app of the same name begins with nothing.
    let later = Bucket::of(keys, &app, 2, "b");
    assert_eq!((later.get("k").await, later.list(None).await), (None, (Vec::new(), false)));
    later.set("k", "later").await.unwrap();
    assert_eq!(later.get("k").await, Some(b"later".to_vec()));
}

async fn full(bucket: &Bucket) {
    bucket.space.set_bytes_max(100);
    bucket.set("a", vec![1; 79]).await.unwrap();
    bucket.set("b", vec![1; 19]).await.unwrap();
    let refused = Err(KeyError::Full { bytes: 101, max: 100 });
    assert_eq!(bucket.set("c", "").await, refused);
    assert_eq!(bucket.set("b", vec![2; 20]).await, refused);
    assert_eq!(bucket.increment("c", 7).await, Err(KeyError::Full { bytes: 102, max: 100 }));
    let swap = KeyOp::Swap { key: "c".into(), expected: KeyVersion::ABSENT, value: Vec::new() };
    assert_eq!(bucket.ask(swap).await, refused);
    // As a whole or not at all.
    let both = KeyOp::Set(vec![("a".into(), vec![3; 1]), ("d".into(), vec![3; 200])]);
    assert!(matches!(bucket.ask(both).await, Err(KeyError::Full { .. })));
    assert_eq!(bucket.get("a").await, Some(vec![1; 79]));
    // What makes it smaller is always let in, also when the limit is below what is there.
    bucket.space.set_bytes_max(10);
    bucket.set("a", vec![4; 78]).await.unwrap();
    assert!(bucket.set("a", vec![4; 79]).await.is_err());
    bucket.ask(KeyOp::Delete(vec!["a".into(), "b".into()])).await.unwrap();
    bucket.set("c", vec![1; 9]).await.unwrap();
    assert_eq!((bucket.space.usage().keys, bucket.space.usage().bytes), (1, 10));
}

/// Many at once: no increment is lost, of swaps of one version one wins, and a reader never goes back in time.
async fn at_once(keys: &Arc<dyn Keys>, name: &str) {
    let bucket = Bucket::of(keys, &format!("{name}/at-once"), 1, "b");
    bucket.set("seen", "0").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let bucket = bucket.clone();
        tasks.spawn(async move {
            let mut won = 0;
            for _ in 0..50 {
                bucket.increment("sum", 1).await.unwrap();
                let expected = bucket.version("swapped").await;
                won += u64::from(bucket.swap("swapped", expected, "x").await.is_ok());
                bucket.increment("seen", 1).await.unwrap();
            }
            won
        });
    }
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let bucket = bucket.clone();
        readers.spawn(async move {
            let mut last = 0;
            while last < 800 {
                let now: i64 = String::from_utf8(bucket.get("seen").await.unwrap()).unwrap().parse().unwrap();
                assert!(now >= last, "{now} after {last}");
                last = now;
                tokio::task::yield_now().await;
            }
        });
    }
    let mut won = 0;
    while let Some(task) = tasks.join_next().await {
        won += task.unwrap();
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    assert_eq!(bucket.get("sum").await, Some(b"800".to_vec()));
    assert!((1..=800).contains(&won));
}

/// What is asked in any order ends as in a map.
pub async fn like_a_map(keys: &Arc<dyn Keys>, app: &str, steps: &[(u8, u8, u8)]) {
    let bucket = Bucket::of(keys, app, 1, "b");
    let mut map: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (what, key, value) in steps {
        let (key, value) = (format!("k{}", key % 8), vec![*value; usize::from(*value)]);
        match what % 4 {
            0 => drop(bucket.ask(KeyOp::Delete(vec![key.clone()])).await.map(|_| map.remove(&key)).unwrap()),
            1 => assert_eq!(bucket.get(&key).await.as_ref(), map.get(&key)),
            _ => drop(bucket.set(&key, value.clone()).await.map(|_| map.insert(key, value)).unwrap()),
        }
    }
    let names: BTreeSet<_> = bucket.list(None).await.0.into_iter().collect();
    assert_eq!(names, map.keys().cloned().collect());
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    let usage = bucket.space.usage();
    if map.is_empty() && usage.keys == 0 {
        return;
    }
    assert_eq!((usage.keys, usage.bytes), (map.len() as u64, bytes as u64));
}
