//! What is in messages and their answers.

use crate::ids::SlotId;

/// What a turn says of itself in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The number of the client's message.
    pub message: u32,
    pub slot: SlotId,
    /// What the slot ran.
    pub version: u32,
    /// The number of the turn in its slot.
    pub turn: u64,
    /// How many of the client's messages the instance, or one whose state it has, has handled.
    pub count: u64,
}

impl Stamp {
    pub fn to_bytes(self) -> Vec<u8> {
        let SlotId { worker, life, app, slot } = self.slot;
        let fields = [
            self.message.into(),
            worker as u64,
            life,
            app as u64,
            slot.into(),
            self.version.into(),
            self.turn,
            self.count,
        ];
        fields.iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    /// None: it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fields, []) = bytes.as_chunks::<8>() else { return None };
        let fields: [u64; 8] =
            fields.iter().map(|field| u64::from_le_bytes(*field)).collect::<Vec<_>>().try_into().ok()?;
        let [message, worker, life, app, slot, version, turn, count] = fields;
        let slot = SlotId { worker: worker as usize, life, app: app as usize, slot: slot as u32 };
        Some(Self { message: message as u32, slot, version: version as u32, turn, count })
    }
}

/// The payload of a client's message: its number, and something to spend credit on.
pub(crate) fn message(number: u32, padding: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + padding, b'.');
    bytes
}

/// The number of a client's message.
pub(crate) fn number(payload: &[u8]) -> Result<u32, String> {
    payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or("a message without a number".into())
}
