//! The file of keys: spaces come and go with their apps, and what they held goes piece by piece.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use tidegate_store::{KeyFile, Page, SpaceId};

use common::{app, folder};

fn fill(file: &KeyFile, space: SpaceId, count: usize) {
    let put = |writing: &mut tidegate_store::KeyWriting<'_>| {
        for n in 0..count {
            writing.put(space, "b", &format!("{n:05}"), b"value")?;
        }
        Ok(())
    };
    file.write(put).unwrap();
}

fn page(file: &KeyFile, space: SpaceId) -> Page {
    file.read(|reading| reading.page(space, "b", None, 10_000, 1 << 20)).unwrap()
}

#[test]
fn an_app_that_is_made_anew_has_another_space_and_the_old_one_is_swept_in_pieces() {
    let folder = folder();
    let file = KeyFile::open(folder.path()).unwrap();
    let (old, other) = (file.space(&app("chat"), 1).unwrap(), file.space(&app("other"), 1).unwrap());
    assert_eq!(file.space(&app("chat"), 1).unwrap(), old);
    fill(&file, old, 2500);
    fill(&file, other, 3);
    assert!(!file.sweep(1000).unwrap(), "nobody is gone");
    let new = file.space(&app("chat"), 2).unwrap();
    assert!(new != old && new != other);
    fill(&file, new, 2);
    let mut left = vec![page(&file, old).keys.len()];
    while file.sweep(1000).unwrap() {
        left.push(page(&file, old).keys.len());
    }
    assert_eq!(left, [2500, 1500, 500, 0]);
    let held = |space| (page(&file, space).keys.len(), file.usage(space).unwrap().keys);
    assert_eq!((held(old), held(other), held(new)), ((0, 0), (3, 3), (2, 2)));
}

#[test]
fn a_list_that_is_not_newer_than_the_last_one_gives_nothing_up() {
    let folder = folder();
    let file = KeyFile::open(folder.path()).unwrap();
    let of = |name: &str, born| file.space(&app(name), born).unwrap();
    let (made, fixed) = (of("made", 3), of("fixed", 0));
    assert_eq!(file.retain(5, |_| true).unwrap(), 0);
    assert_eq!(file.retain(5, |_| false).unwrap(), 0);
    assert_eq!(file.retain(4, |_| false).unwrap(), 0);
    assert_eq!(of("made", 3), made);
    assert_eq!(file.retain(6, |_| false).unwrap(), 1);
    assert_ne!(of("made", 3), made);
    // One of a settings file keeps its own, whatever is made under its name.
    let made = of("fixed", 7);
    assert_ne!(made, fixed);
    assert_eq!((of("fixed", 0), of("fixed", 7)), (fixed, made));
}
