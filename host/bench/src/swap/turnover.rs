//! Which code answers: the old or the new, per connection and swap.

/// A version word is at most so long, in bytes.
pub(crate) const WORD_BYTES_MAX: usize = 64;

/// Follows the version words of answers over one swap after the other.
///
/// Before the first swap, the first word seen is that of the running code. [`Turnover::begin`] makes the running word the
/// old one; the first other word seen, or the one that [`Turnover::expect`] names, is the new one. A connection has moved
/// once the new code has answered it, and must never be answered by the old one after that. Words may come again in a
/// later swap.
#[derive(Debug)]
pub(crate) struct Turnover {
    old: Option<Word>,
    new: Option<Word>,
    connections: Vec<Connection>,
    open: u32,
    moved: u32,
    facts: SwapFacts,
    /// Answers of old code on connections that new code had answered.
    pub(crate) backward: u64,
    /// Answers of code that is neither the old nor the new.
    pub(crate) strange: u64,
    /// The first strange word.
    pub(crate) first_strange: Option<String>,
}

/// When things were seen in the present swap, in nanoseconds on the caller's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SwapFacts {
    /// The command to swap.
    pub(crate) began_at: u64,
    /// The first answer of new code.
    pub(crate) first_new_at: Option<u64>,
    /// The last answer of old code.
    pub(crate) last_old_at: Option<u64>,
    /// The first answer of new code on the connection that got its own last.
    pub(crate) everyone_at: Option<u64>,
}

/// Why a deployment's word cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    #[error("the deployment says that version {said:?} runs, but {seen:?} answers")]
    Other { said: String, seen: String },
    #[error(
        "version {0:?} answered before the swap already, so nothing of it can be seen; swap to another word"
    )]
    Same(String),
    #[error("{0:?} is no version word: one to 64 bytes without spaces are")]
    Unusable(String),
}

type Word = Box<[u8]>;

#[derive(Clone, Copy, Debug)]
struct Connection {
    open: bool,
    moved: bool,
}

impl Turnover {
    pub(crate) fn new(connections: u32) -> Turnover {
        Turnover {
            old: None,
            new: None,
            connections: vec![Connection { open: true, moved: false }; connections as usize],
            open: connections,
            moved: 0,
            facts: SwapFacts::default(),
            backward: 0,
            strange: 0,
            first_strange: None,
        }
    }

    /// Splits an answer into its version word and the message; none if it has no such word.
    #[inline]
    pub(crate) fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
        let at = answer.iter().take(WORD_BYTES_MAX + 1).position(|byte| *byte == b' ')?;
        let (word, rest) = answer.split_at_checked(at)?;
        let message = rest.get(1..)?;
        (!word.is_empty()).then_some((word, message))
    }

    /// Notes an answer of code `word` to `client`.
    #[inline]
    pub(crate) fn answer(&mut self, client: usize, word: &[u8], now: u64) {
        let Some(connection) = self.connections.get_mut(client) else { return };
        let is = |known: &Option<Word>| known.as_deref() == Some(word);
        if is(&self.new) {
            self.facts.first_new_at.get_or_insert(now);
            if !connection.moved {
                connection.moved = true;
                self.moved += 1;
                if self.moved == self.open {
                    self.facts.everyone_at.get_or_insert(now);
                }
            }
        } else if is(&self.old) {
            self.facts.last_old_at = Some(now);
            self.backward += u64::from(connection.moved);
        } else if self.new.is_none() {
            // The first word ever, or the first of a swap.
            self.new = Some(word.into());
            self.answer(client, word, now);
        } else {
            self.strange += 1;
            self.first_strange.get_or_insert_with(|| String::from_utf8_lossy(word).into_owned());
        }
    }

    pub(crate) fn close(&mut self, client: usize) {
        let Some(connection) = self.connections.get_mut(client).filter(|one| one.open) else { return };
        connection.open = false;
        self.open -= 1;
        self.moved -= u32::from(std::mem::replace(&mut connection.moved, false));
    }

    /// Whether every open connection has had an answer of the new code (before the first swap: any answer).
    pub(crate) fn is_through(&self) -> bool {
        self.moved >= self.open
    }

    /// How many open connections have.
    pub(crate) fn moved(&self) -> u32 {
        self.moved
    }

    /// A swap begins: what answered last is the old code now.
    pub(crate) fn begin(&mut self, now: u64) {
        self.old = self.new.take();
        self.moved = 0;
        self.connections.iter_mut().for_each(|connection| connection.moved = false);
        self.facts = SwapFacts { began_at: now, ..SwapFacts::default() };
    }

    /// The deployment says which word its code answers with.
    ///
    /// # Errors
    /// [`WordError`] if that cannot be told from the old code's, or is not what is seen.
    pub(crate) fn expect(&mut self, word: &str) -> Result<(), WordError> {
        let bytes = word.as_bytes();
        if bytes.is_empty() || bytes.len() > WORD_BYTES_MAX || bytes.contains(&b' ') {
            return Err(WordError::Unusable(word.to_owned()));
        }
        if self.old.as_deref() == Some(bytes) {
            return Err(WordError::Same(word.to_owned()));
        }
        match &self.new {
            Some(seen) if **seen != *bytes => {
                Err(WordError::Other { said: word.to_owned(), seen: lossy(seen) })
            }
            Some(_) => Ok(()),
            None => {
                self.new = Some(bytes.into());
                Ok(())
            }
        }
    }

    /// What was seen of the present swap.
    pub(crate) fn facts(&self) -> SwapFacts {
        self.facts
    }

    /// The words of the old and the new code, as far as they are known.
    pub(crate) fn words(&self) -> (Option<String>, Option<String>) {
        (self.old.as_deref().map(lossy), self.new.as_deref().map(lossy))
    }
}

fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two connections that version "a" has answered.
    fn running() -> Turnover {
        let mut turnover = Turnover::new(2);
        assert!(!turnover.is_through());
        turnover.answer(0, b"a", 1);
        turnover.answer(1, b"a", 2);
        assert!(turnover.is_through());
        turnover
    }

    #[test]
    fn an_answer_is_a_word_and_a_message() {
        assert_eq!(Turnover::split(b"v2 tgb~ x"), Some((&b"v2"[..], &b"tgb~ x"[..])));
        assert_eq!(Turnover::split(b"v2 "), Some((&b"v2"[..], &b""[..])));
        assert_eq!(Turnover::split(b" v2"), None);
        assert_eq!(Turnover::split(b"tgb~0000"), None);
        assert_eq!(Turnover::split(&[&[b'x'; 65][..], b" m"].concat()), None);
        assert!(Turnover::split(&[&[b'x'; 64][..], b" m"].concat()).is_some());
    }

    #[test]
    fn a_swap_is_seen_from_its_first_new_answer_to_its_last_old_one() {
        let mut turnover = running();
        turnover.begin(10);
        turnover.answer(0, b"a", 11);
        turnover.answer(0, b"b", 20);
        turnover.answer(1, b"a", 21);
        assert!(!turnover.is_through());
        turnover.answer(1, b"b", 25);
        turnover.answer(1, b"b", 30);
        assert!(turnover.is_through());
        assert_eq!(turnover.expect("b"), Ok(()));
        let facts =
            SwapFacts { began_at: 10, first_new_at: Some(20), last_old_at: Some(21), everyone_at: Some(25) };
        assert_eq!(turnover.facts(), facts);
        assert_eq!((turnover.backward, turnover.strange), (0, 0));
        assert_eq!(turnover.words(), (Some("a".to_owned()), Some("b".to_owned())));
    }

    #[test]
    fn words_may_come_again_in_a_later_swap() {
        let mut turnover = running();
        for (at, word) in [(10, "b"), (20, "a"), (30, "b")] {
            turnover.begin(at);
            turnover.answer(0, word.as_bytes(), at + 1);
            turnover.answer(1, word.as_bytes(), at + 2);
            assert!(turnover.is_through());
        }
        assert_eq!((turnover.backward, turnover.strange), (0, 0));
    }

    #[test]
    fn old_code_after_new_is_seen_per_connection() {
        let mut turnover = running();
        turnover.begin(10);
        turnover.answer(0, b"b", 11);
        turnover.answer(1, b"a", 12);
        assert_eq!(turnover.backward, 0, "the other connection has not moved");
        turnover.answer(0, b"a", 13);
        assert_eq!(turnover.backward, 1);
    }

    #[test]
    fn a_third_word_is_strange() {
        let mut turnover = running();
        turnover.begin(10);
        turnover.answer(0, b"b", 11);
        turnover.answer(1, b"c", 12);
        turnover.answer(1, b"d", 13);
        assert_eq!((turnover.strange, turnover.first_strange.as_deref()), (2, Some("c")));
        assert!(!turnover.is_through());
    }

    #[test]
    fn what_the_deployment_says_is_compared_with_what_answers() {
        let mut turnover = running();
        turnover.begin(10);
        assert_eq!(turnover.expect("a"), Err(WordError::Same("a".to_owned())));
        assert!(matches!(turnover.expect("a b"), Err(WordError::Unusable(_))));
        assert_eq!(turnover.expect("b"), Ok(()));
        turnover.answer(0, b"c", 11);
        assert_eq!(turnover.strange, 1, "b was expected");
        turnover.answer(0, b"b", 12);
        let error = turnover.expect("c").unwrap_err().to_string();
        assert!(error.contains("\"c\"") && error.contains("\"b\" answers"), "{error}");
    }

    #[test]
    fn closed_connections_are_not_waited_for() {
        let mut turnover = running();
        turnover.begin(10);
        turnover.answer(0, b"b", 11);
        turnover.close(1);
        turnover.close(1);
        assert!(turnover.is_through());
        turnover.close(0);
        assert_eq!((turnover.is_through(), turnover.moved()), (true, 0));
    }

    proptest! {
        #[test]
        fn a_swap_is_through_when_each_open_connection_has_moved(
            steps in prop::collection::vec((0usize..4, 0u8..3), 0..60),
        ) {
            let mut turnover = Turnover::new(4);
            (0..4).for_each(|client| turnover.answer(client, b"a", 0));
            turnover.begin(1);
            let (mut open, mut moved, mut backward) = ([true; 4], [false; 4], 0);
            for (client, step) in steps {
                match step {
                    0 if open[client] => {
                        turnover.close(client);
                        (open[client], moved[client]) = (false, false);
                    }
                    1 if open[client] => {
                        turnover.answer(client, b"b", 2);
                        moved[client] = true;
                    }
                    2 if open[client] => {
                        turnover.answer(client, b"a", 2);
                        backward += u64::from(moved[client]);
                    }
                    _ => {}
                }
                prop_assert_eq!(turnover.is_through(), (0..4).all(|one| !open[one] || moved[one]));
                prop_assert_eq!(turnover.backward, backward);
            }
        }

        #[test]
        fn no_answer_makes_the_split_panic(answer in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some((word, message)) = Turnover::split(&answer) {
                prop_assert_eq!([word, b" ", message].concat(), answer);
            }
        }
    }
}
