//! What an instance hands over to the next version.

use std::any::type_name;
use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;

/// How a state begins: three letters and the version of what follows, then the schema (u32, little-endian). The rest is
/// the value in postcard's encoding.
const MAGIC: [u8; 4] = *b"tgs\x01";
const HEAD_BYTES: usize = MAGIC.len() + size_of::<u32>();

/// State that outlives the version of the plugin that made it: any serde type with a schema number.
///
/// ```
/// use tidegate::serde::{Deserialize, Serialize};
/// use tidegate::*;
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(crate = "tidegate::serde")]
/// struct Chat {
///     said: u64,
/// }
///
/// impl State for Chat {}
///
/// #[tidegate::plugin]
/// impl Plugin for Chat {
///     fn on_message(&mut self, client: Client, _: Message) -> Result {
///         self.said += 1;
///         client.send(format!("message {}", self.said));
///         Ok(())
///     }
///
///     fn save(&self) -> Result<Saved> {
///         Saved::of(self)
///     }
///
///     fn restore(&mut self, saved: Saved) -> Result {
///         *self = saved.into_state()?;
///         Ok(())
///     }
/// }
///
/// let mut gateway = testing::start::<Chat>();
/// let ann = gateway.connect();
/// gateway.text(ann, "hi");
/// let mut gateway = gateway.swap::<Chat>(); // to the next version
/// gateway.text(ann, "hi");
/// assert_eq!(gateway.received(ann), ["message 1", "message 2"]);
/// ```
///
/// # When the type changes
/// The encoding is compact and holds no names: **whatever changes in the type, fields and their order included, needs
/// another `SCHEMA`**, and a `migrate` that reads the old type:
///
/// ```
/// # use tidegate::serde::{Deserialize, Serialize};
/// # use tidegate::*;
/// #[derive(Serialize, Deserialize)]
/// #[serde(crate = "tidegate::serde")]
/// struct Chat {
///     said: u64,
///     topic: String,
/// }
///
/// impl State for Chat {
///     const SCHEMA: u32 = 2;
///
///     fn migrate(old: Saved) -> Result<Self> {
///         /// Schema 1.
///         #[derive(Deserialize)]
///         #[serde(crate = "tidegate::serde")]
///         struct OldChat {
///             said: u64,
///         }
///
///         match old.schema() {
///             1 => Ok(Self { said: old.read::<OldChat>()?.said, topic: "anything".into() }),
///             other => bail!("there never was a schema {other}"),
///         }
///     }
/// }
/// # assert_eq!(Saved::new(1, &7_u64).unwrap().into_state::<Chat>().unwrap().said, 7);
/// ```
///
/// A rollback is a swap to an earlier version: without a migration back it is refused, and the newer version stays.
///
/// # What cannot be read back
/// Types whose serde form depends on field names or on looking ahead: `#[serde(flatten)]`, `untagged` and internally
/// tagged enums, `skip_serializing_if`, `serde_json::Value`. A test with
/// [`FakeGateway::swap`](crate::testing::FakeGateway::swap) finds them.
pub trait State: Serialize + DeserializeOwned {
    /// The number of this shape of the state.
    const SCHEMA: u32 = 1;

    /// Makes the state out of one of another schema. Without it, such a state is refused.
    ///
    /// # Errors
    /// Of the plugin's own choice; `restore` passes them on, and the swap is taken back.
    fn migrate(old: Saved) -> Result<Self> {
        Err(StateError::Schema { found: old.schema(), wanted: Self::SCHEMA, of: type_name::<Self>() }.into())
    }
}

/// What [`Plugin::save`](crate::Plugin::save) returns and [`Plugin::restore`](crate::Plugin::restore) gets: a value in
/// its compact binary form, and the number of its schema.
#[derive(Clone, PartialEq, Eq)]
pub struct Saved {
    /// Head and value, and never shorter than the head.
    bytes: Vec<u8>,
    schema: u32,
}

impl Saved {
    /// Any value, with the number of its schema.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn new(schema: u32, state: &impl Serialize) -> Result<Self> {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&schema.to_le_bytes());
        match postcard::serialize_with_flavor(state, Appended(head)) {
            Ok(bytes) => Ok(Self { bytes, schema }),
            Err(error) => Err(unwritable(state, &error).into()),
        }
    }

    /// A [`State`], with its own schema.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn of<S: State>(state: &S) -> Result<Self> {
        Self::new(S::SCHEMA, state)
    }

    /// The number of its schema.
    #[must_use]
    pub const fn schema(&self) -> u32 {
        self.schema
    }

    /// The value as a `T`, which must be of the type that was saved.
    ///
    /// # Errors
    /// [`StateError::Unreadable`]: it is of another type, or cut.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let unreadable = |reason: String| StateError::Unreadable {
            schema: self.schema,
            of: type_name::<T>(),
            bytes: self.size(),
            reason,
        };
        let value = self.bytes.get(HEAD_BYTES..).unwrap_or_default();
        match postcard::take_from_bytes(value) {
            Ok((state, [])) => Ok(state),
            Ok((_, rest)) => Err(unreadable(format!("{} bytes are left over", rest.len())).into()),
            Err(error) => Err(unreadable(error.to_string()).into()),
        }
    }

    /// The value as a [`State`]; [migrated](State::migrate) if it has another schema.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) and of the migration.
    pub fn into_state<S: State>(self) -> Result<S> {
        if self.schema == S::SCHEMA { self.read() } else { S::migrate(self) }
    }

    /// Bytes that the host hands over: those of the value, and 8 more.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What the host hands over.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What the host handed over.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Result<Self> {
        let schema = match bytes.split_first_chunk() {
            Some((magic, rest)) if *magic == MAGIC => rest.first_chunk(),
            _ => None,
        };
        match schema.copied().map(u32::from_le_bytes) {
            Some(schema) => Ok(Self { bytes, schema }),
            None => Err(StateError::Foreign { bytes: bytes.len() }.into()),
        }
    }
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("schema", &self.schema).field("size", &self.size()).finish()
    }
}

/// Why a state cannot be handed over. It comes inside of an [`Error`](crate::Error):
/// `error.downcast_ref::<StateError>()`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StateError {
    /// The old version saved something that this SDK did not write.
    Foreign {
        /// How much of it there is.
        bytes: usize,
    },
    /// The state has another schema than the type, which does not migrate it.
    Schema {
        /// That of the state.
        found: u32,
        /// That of the type.
        wanted: u32,
        /// The type.
        of: &'static str,
    },
    /// The state is of another type, or cut.
    Unreadable {
        /// Its schema.
        schema: u32,
        /// The type that it was read as.
        of: &'static str,
        /// Its size, head included.
        bytes: usize,
        /// What is wrong.
        reason: String,
    },
    /// The value cannot be written.
    Unwritable {
        /// Its type.
        of: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { bytes } => write!(
                f,
                "the old version saved {bytes} bytes that are no state of this SDK: it was written with another SDK, \
                 or the state is damaged"
            ),
            Self::Schema { found, wanted, of } => write!(
                f,
                "the saved state has schema {found}, `{of}` is schema {wanted}: write State::migrate for it, which \
                 reads the old type and makes the new one"
            ),
            Self::Unreadable { schema, of, bytes, reason } => write!(
                f,
                "the saved state (schema {schema}, {bytes} bytes) cannot be read as `{of}`: {reason}; if the type has \
                 changed, give it another State::SCHEMA and a migrate, and leave out what cannot be read back \
                 (flatten, untagged, skip_serializing_if)"
            ),
            Self::Unwritable { of, reason } => write!(f, "the state `{of}` cannot be written: {reason}"),
        }
    }
}

impl std::error::Error for StateError {}

fn unwritable<T>(_: &T, error: &postcard::Error) -> StateError {
    StateError::Unwritable { of: type_name::<T>(), reason: error.to_string() }
}

/// Appends what postcard writes.
struct Appended(Vec<u8>);

impl Flavor for Appended {
    type Output = Vec<u8>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{ClientId, bail};

    #[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
    struct Rooms {
        said: u64,
        topics: BTreeMap<String, Vec<Option<i32>>>,
        owner: Option<ClientId>,
    }

    impl State for Rooms {
        const SCHEMA: u32 = 3;

        fn migrate(old: Saved) -> Result<Self> {
            match old.schema() {
                2 => Ok(Self { said: old.read()?, ..Self::default() }),
                other => bail!("no schema {other}"),
            }
        }
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Plain(String);

    impl State for Plain {}

    fn rooms() -> impl Strategy<Value = Rooms> {
        let topics = proptest::collection::btree_map(
            ".{0,8}",
            proptest::collection::vec(any::<Option<i32>>(), 0..4),
            0..4,
        );
        (any::<u64>(), topics, proptest::option::of((0..1_u64 << 48, any::<u32>()))).prop_map(
            |(said, topics, owner)| {
                let owner = owner.and_then(|(gateway, connection)| ClientId::new(gateway, connection));
                Rooms { said, topics, owner }
            },
        )
    }

    fn handed_over(saved: Saved) -> Saved {
        Saved::of_bytes(saved.into_bytes()).unwrap()
    }

    fn kind<T: fmt::Debug>(result: Result<T>) -> StateError {
        result.unwrap_err().downcast_ref::<StateError>().unwrap().clone()
    }

    proptest! {
        #[test]
        fn a_state_survives_the_way_through_the_host(state in rooms()) {
            let saved = handed_over(Saved::of(&state).unwrap());
            prop_assert_eq!(saved.schema(), 3);
            prop_assert_eq!(saved.into_state::<Rooms>().unwrap(), state);
        }

        #[test]
        fn a_cut_or_longer_state_is_an_error_wherever_it_is_cut(state in rooms(), at: prop::sample::Index) {
            let mut bytes = Saved::of(&state).unwrap().into_bytes();
            let cut = bytes[..at.index(bytes.len())].to_vec();
            if let Ok(saved) = Saved::of_bytes(cut) {
                let unreadable = matches!(kind(saved.into_state::<Rooms>()), StateError::Unreadable { schema: 3, .. });
                prop_assert!(unreadable);
            }
            bytes.push(0);
            let error = Saved::of_bytes(bytes).unwrap().into_state::<Rooms>().unwrap_err();
            prop_assert!(error.to_string().contains("1 bytes are left over"));
        }

        #[test]
        fn any_bytes_are_a_state_or_an_error_and_never_a_panic(tail: Vec<u8>, good_head: bool) {
            let head: &[u8] = if good_head { b"tgs\x01\x03\0\0\0" } else { b"" };
            if let Ok(saved) = Saved::of_bytes([head, &tail].concat()) {
                let _ = saved.into_state::<Rooms>();
            }
        }
    }

    #[test]
    fn the_bytes_of_a_state_do_not_change_from_version_to_version() {
        let id = ClientId::new(1, 300);
        let state = Rooms { said: 300, topics: [("a".into(), vec![Some(-1), None])].into(), owner: id };
        let bytes = Saved::of(&state).unwrap().into_bytes();
        let value = [0xac, 2, 1, 1, b'a', 2, 1, 1, 0, 1, 1, 0xac, 2];
        assert_eq!(bytes, [b"tgs\x01\x03\0\0\0".as_slice(), &value].concat());
    }

    #[test]
    fn an_older_schema_is_migrated_and_one_that_nobody_knows_is_refused() {
        let migrated: Rooms = handed_over(Saved::new(2, &7_u64).unwrap()).into_state().unwrap();
        assert_eq!(migrated, Rooms { said: 7, ..Rooms::default() });
        let error = Saved::new(9, &7_u64).unwrap().into_state::<Rooms>().unwrap_err();
        assert_eq!(error.to_string(), "no schema 9");
    }

    #[test]
    fn without_a_migration_another_schema_is_refused_with_both_numbers() {
        let error = Saved::new(2, &"x").unwrap().into_state::<Plain>();
        let error = kind(error);
        assert!(matches!(error, StateError::Schema { found: 2, wanted: 1, .. }), "{error:?}");
        let says = error.to_string();
        assert!(
            says.contains("schema 2") && says.contains("Plain` is schema 1") && says.contains("migrate"),
            "{says}"
        );
    }

    #[test]
    fn a_state_of_another_type_or_of_somebody_else_says_so() {
        let error = kind(Saved::of(&Plain("text".into())).unwrap().read::<(u64, u64, u64, u64, u64, u64)>());
        assert!(error.to_string().contains("another State::SCHEMA"), "{error}");
        for bytes in [&b""[..], b"tgs", b"tgs\x01\x01\0\0", b"tgs\x02\x01\0\0\0", b"{\"said\": 1}"] {
            let error = kind(Saved::of_bytes(bytes.to_vec()));
            assert_eq!(error, StateError::Foreign { bytes: bytes.len() });
            assert!(error.to_string().contains("no state of this SDK"), "{error}");
        }
    }

    #[test]
    fn a_value_that_has_no_binary_form_is_refused_when_it_is_saved() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..3).filter(|n| n % 2 == 0))
            }
        }
        assert!(matches!(kind(Saved::new(1, &Endless)), StateError::Unwritable { .. }));
    }
}
