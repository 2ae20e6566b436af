//! One or several: what can stand where clients or names are wanted.

use std::collections::{BTreeSet, HashSet};

use crate::{Client, ClientId};

/// One client or several: a [`ClientId`], a [`Client`], an `Option`, or a list, slice or set of ids.
pub trait IntoClients {
    /// The ids.
    fn into_clients(self) -> impl Iterator<Item = ClientId>;
}

/// One name or several, for uids and groups: a text or an integer, or a list, slice or set of texts.
///
/// Integers are names by their decimal form: uid `7` is uid `"7"`. `0` and `"0"` are as good as any other.
pub trait IntoNames {
    /// The names.
    fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>>;
}

pub(crate) fn owned(names: impl IntoNames) -> Vec<String> {
    names.into_names().map(Into::into).collect()
}

impl IntoClients for ClientId {
    fn into_clients(self) -> impl Iterator<Item = ClientId> {
        std::iter::once(self)
    }
}

impl IntoClients for Client {
    fn into_clients(self) -> impl Iterator<Item = ClientId> {
        std::iter::once(self.id())
    }
}

impl<I: IntoIterator<Item: Into<ClientId>>> IntoClients for I {
    fn into_clients(self) -> impl Iterator<Item = ClientId> {
        self.into_iter().map(Into::into)
    }
}

impl IntoNames for &str {
    fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>> {
        std::iter::once(self)
    }
}

impl IntoNames for String {
    fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>> {
        std::iter::once(self)
    }
}

impl IntoNames for &String {
    fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>> {
        std::iter::once(self.as_str())
    }
}

macro_rules! integers_are_names {
    ($($integer:ty)*) => {$(
        impl IntoNames for $integer {
            fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>> {
                std::iter::once(self.to_string())
            }
        }
    )*};
}

integers_are_names!(i32 i64 u32 u64 usize);

macro_rules! collections_of_names {
    ($([$($generics:tt)*] $collection:ty;)*) => {$(
        impl<S: AsRef<str>, $($generics)*> IntoNames for $collection {
            fn into_names(self) -> impl Iterator<Item = impl AsRef<str> + Into<String>> {
                self.into_iter().map(|name| name.as_ref().to_owned())
            }
        }
    )*};
}

collections_of_names! {
    [] Vec<S>;
    [] &Vec<S>;
    [] &[S];
    [const N: usize] [S; N];
    [const N: usize] &[S; N];
    [] BTreeSet<S>;
    [] &BTreeSet<S>;
    [H] HashSet<S, H>;
    [H] &HashSet<S, H>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_or_several_texts_or_an_integer() {
        assert_eq!(owned("a"), ["a"]);
        assert_eq!(owned(String::from("a")), ["a"]);
        assert_eq!(owned(0), ["0"]);
        assert_eq!(owned(["a", "b"]), ["a", "b"]);
        assert_eq!(owned([String::from("a")].as_slice()), ["a"]);
        assert_eq!(owned(BTreeSet::from(["b", "a"])), ["a", "b"]);
        assert_eq!(owned(HashSet::from(["x"])), ["x"]);
    }

    #[test]
    fn clients_are_one_or_several_ids() {
        let id = ClientId::trusted(1, 1);
        let ids = |clients: Vec<ClientId>| assert_eq!(clients, [id]);
        ids(id.into_clients().collect());
        ids(Some(id).into_clients().collect());
        ids([id].into_clients().collect());
        ids([id].as_slice().into_clients().collect());
        ids(BTreeSet::from([id]).into_clients().collect());
        ids(vec![Client::of_turn(id)].into_clients().collect());
    }
}
