//! Every message of every connection by its number: sent, answered, lost, repeated, out of order.

use std::collections::{BTreeSet, VecDeque};

/// Messages of one connection between its oldest unanswered and its newest one. When a lost message holds back so many,
/// the connection waits until the lost one is given up.
const SPAN_MAX: usize = 1 << 17;

/// Given-up messages of one connection that are remembered by number; an answer to an older one counts as repeated.
const GIVEN_UP_MAX: usize = 1 << 14;

/// The book of all connections. Numbers begin at 1 and grow by one per connection.
///
/// Call [`Ledger::send`] only when [`Ledger::has_room`], [`Ledger::receive`] for each answer, [`Ledger::give_up`] every now
/// and then, and [`Ledger::close`] when a connection ends. A message ends in exactly one way: answered, or lost. At any time
///
/// ```text
///  sent = answered + lost() + under_way()
/// ```
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    window: u32,
    open: u32,
    counts: Counts,
}

/// What a ledger has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Messages that have an answer; a second answer to one counts as repeated only.
    pub(crate) answered: u64,
    /// Answered after they had been given up; these are in `answered` too.
    pub(crate) late: u64,
    /// Answers to what had its answer already.
    pub(crate) repeated: u64,
    /// First answers that came after the answer to a later message.
    pub(crate) reordered: u64,
    /// Answers to what was never sent.
    pub(crate) unknown: u64,
    /// Given up, and forgotten or their connection closed: no answer can come any more.
    gone: u64,
    /// Given up, but an answer would still be known.
    given_up: u64,
    under_way: u64,
}

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The first answer to a message under way.
    Answer {
        /// When the message was sent.
        sent_at: u64,
        /// When the oldest message then under way on the connection was sent.
        waiting_since: u64,
    },
    /// The first answer to a message that had been given up.
    Late,
    /// An answer that there was before.
    Repeated,
    /// An answer to nothing.
    Unknown,
}

/// One connection. The front of `entries` is message `base`, and it is under way.
#[derive(Debug)]
struct Account {
    open: bool,
    base: u64,
    entries: VecDeque<Entry>,
    under_way: u32,
    /// The highest number answered.
    highest: u64,
    given_up: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    under_way: bool,
}

impl Ledger {
    /// `connections` open ones, each with at most `window` messages under way.
    pub(crate) fn new(connections: u32, window: u32) -> Ledger {
        let accounts = (0..connections).map(|_| Account::new()).collect();
        Ledger { accounts, window: window.max(1), open: connections, counts: Counts::default() }
    }

    /// Connections still open.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    pub(crate) fn is_open(&self, client: usize) -> bool {
        self.accounts.get(client).is_some_and(|account| account.open)
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether `client` may send one more.
    #[inline]
    pub(crate) fn has_room(&self, client: usize) -> bool {
        let room = |account: &Account| {
            account.open && account.under_way < self.window && account.entries.len() < SPAN_MAX
        };
        self.accounts.get(client).is_some_and(room)
    }

    /// Notes a message of `client` sent at `at`; its number. Without such a client 0, which is no message's number.
    #[inline]
    pub(crate) fn send(&mut self, client: usize, at: u64) -> u64 {
        let Some(account) = self.accounts.get_mut(client) else { return 0 };
        let number = account.next();
        account.entries.push_back(Entry { at, under_way: true });
        account.under_way += 1;
        self.counts.sent += 1;
        self.counts.under_way += 1;
        number
    }

    /// Notes an answer to message `number` of `client`.
    #[inline]
    pub(crate) fn receive(&mut self, client: usize, number: u64) -> Receipt {
        let Some(account) = self.accounts.get_mut(client) else { return Receipt::Unknown };
        let receipt = account.receive(number);
        let counts = &mut self.counts;
        match receipt {
            Receipt::Answer { .. } => {
                counts.answered += 1;
                counts.under_way -= 1;
            }
            Receipt::Late => {
                counts.answered += 1;
                counts.late += 1;
                counts.given_up -= 1;
            }
            Receipt::Repeated => counts.repeated += 1,
            Receipt::Unknown => counts.unknown += 1,
        }
        if matches!(receipt, Receipt::Answer { .. } | Receipt::Late) {
            counts.reordered += u64::from(number < account.highest);
            account.highest = account.highest.max(number);
        }
        receipt
    }

    /// Gives up what was sent at `before` or earlier and is still under way: it counts as lost unless an answer comes
    /// after all, and makes room for another one.
    pub(crate) fn give_up(&mut self, before: u64) {
        for account in &mut self.accounts {
            while account.entries.front().is_some_and(|entry| entry.at <= before) {
                let number = account.base;
                account.finish_front();
                account.given_up.insert(number);
                self.counts.under_way -= 1;
                self.counts.given_up += 1;
            }
            while account.given_up.len() > GIVEN_UP_MAX && account.given_up.pop_first().is_some() {
                self.counts.given_up -= 1;
                self.counts.gone += 1;
            }
        }
    }

    /// The connection of `client` ended: what it had under way is lost.
    pub(crate) fn close(&mut self, client: usize) {
        let Some(account) = self.accounts.get_mut(client).filter(|account| account.open) else { return };
        account.open = false;
        let (under_way, given_up) = (u64::from(account.under_way), account.given_up.len() as u64);
        account.base = account.next();
        account.entries.clear();
        account.given_up.clear();
        account.under_way = 0;
        self.open -= 1;
        self.counts.under_way -= under_way;
        self.counts.given_up -= given_up;
        self.counts.gone += under_way + given_up;
    }

    /// Since when each open connection that has a message under way has had one: its number and the time.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (usize, u64)> {
        let waiting = |(client, account): (usize, &Account)| Some((client, account.entries.front()?.at));
        self.accounts.iter().enumerate().filter_map(waiting)
    }
}

impl Counts {
    /// Messages that have no answer and count as lost: given up, or their connection closed.
    pub(crate) fn lost(&self) -> u64 {
        self.gone + self.given_up
    }

    /// Messages whose answer may still come.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way
    }
}

impl Account {
    fn new() -> Account {
        Account {
            open: true,
            base: 1,
            entries: VecDeque::new(),
            under_way: 0,
            highest: 0,
            given_up: BTreeSet::new(),
        }
    }

    fn next(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    #[inline]
    fn receive(&mut self, number: u64) -> Receipt {
        if number == 0 || number >= self.next() {
            return Receipt::Unknown;
        }
        let waiting_since = self.entries.front().map_or(0, |entry| entry.at);
        let place = number.checked_sub(self.base).and_then(|place| self.entries.get_mut(place as usize));
        let Some(entry) = place.filter(|entry| entry.under_way) else {
            return if self.given_up.remove(&number) { Receipt::Late } else { Receipt::Repeated };
        };
        let sent_at = entry.at;
        if number == self.base {
            self.finish_front();
        } else {
            entry.under_way = false;
            self.under_way -= 1;
        }
        Receipt::Answer { sent_at, waiting_since }
    }

    /// The front is done; so is what stands behind it and is not under way any more.
    fn finish_front(&mut self) {
        self.under_way -= 1;
        self.entries.pop_front();
        self.base += 1;
        while self.entries.front().is_some_and(|entry| !entry.under_way) {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(sent_at: u64, waiting_since: u64) -> Receipt {
        Receipt::Answer { sent_at, waiting_since }
    }

    #[test]
    fn answers_in_order_leave_nothing_behind() {
        let mut ledger = Ledger::new(2, 2);
        assert_eq!((ledger.send(0, 10), ledger.send(0, 20), ledger.send(1, 30)), (1, 2, 1));
        assert!(!ledger.has_room(0) && ledger.has_room(1));
        assert_eq!(ledger.waiting().collect::<Vec<_>>(), [(0, 10), (1, 30)]);
        assert_eq!(ledger.receive(0, 1), answer(10, 10));
        assert_eq!(ledger.receive(0, 2), answer(20, 20));
        assert_eq!(ledger.receive(1, 1), answer(30, 30));
        let clean = Counts { sent: 3, answered: 3, ..Counts::default() };
        assert_eq!(ledger.counts(), clean);
    }

    #[test]
    fn a_repeated_a_reordered_and_an_unknown_answer_are_told_apart() {
        let mut ledger = Ledger::new(1, 8);
        (1..=3).for_each(|at| assert_eq!(ledger.send(0, at), at));
        assert_eq!(ledger.receive(0, 2), answer(2, 1));
        assert_eq!(ledger.receive(0, 2), Receipt::Repeated);
        assert_eq!(ledger.receive(0, 1), answer(1, 1));
        assert_eq!(ledger.receive(0, 1), Receipt::Repeated);
        assert_eq!(ledger.receive(0, 4), Receipt::Unknown);
        assert_eq!(ledger.receive(0, 0), Receipt::Unknown);
        assert_eq!(ledger.receive(7, 1), Receipt::Unknown);
        let counts = ledger.counts();
        assert_eq!((counts.answered, counts.repeated, counts.reordered, counts.unknown), (2, 2, 1, 2));
        assert_eq!((counts.lost(), counts.under_way()), (0, 1));
    }

    #[test]
    fn a_message_without_an_answer_is_given_up_and_makes_room() {
        let mut ledger = Ledger::new(1, 2);
        ledger.send(0, 10);
        ledger.send(0, 20);
        ledger.receive(0, 2);
        ledger.send(0, 30);
        assert!(!ledger.has_room(0));
        ledger.give_up(9);
        assert_eq!(ledger.counts().lost(), 0);
        ledger.give_up(10);
        assert_eq!((ledger.counts().lost(), ledger.counts().under_way()), (1, 1));
        assert!(ledger.has_room(0));
        assert_eq!(ledger.receive(0, 3), answer(30, 30));
        assert_eq!(ledger.receive(0, 1), Receipt::Late);
        let counts = ledger.counts();
        assert_eq!((counts.lost(), counts.late, counts.answered, counts.reordered), (0, 1, 3, 1));
    }

    #[test]
    fn a_closed_connection_loses_what_it_had_under_way() {
        let mut ledger = Ledger::new(2, 4);
        for at in 0..3 {
            ledger.send(0, at);
        }
        ledger.give_up(0);
        ledger.close(0);
        ledger.close(0);
        assert_eq!((ledger.open(), ledger.is_open(0), ledger.has_room(0)), (1, false, false));
        assert_eq!((ledger.counts().lost(), ledger.counts().under_way()), (3, 0));
        assert_eq!(ledger.receive(0, 2), Receipt::Repeated);
        assert_eq!(ledger.waiting().count(), 0);
    }

    #[test]
    fn a_server_that_swallows_everything_costs_bounded_memory() {
        let mut ledger = Ledger::new(1, u32::MAX);
        let total = (GIVEN_UP_MAX + 100) as u64;
        for at in 0..total {
            ledger.send(0, at);
            ledger.give_up(at);
        }
        assert_eq!(ledger.counts().lost(), total);
        assert_eq!(ledger.receive(0, 1), Receipt::Repeated, "forgotten");
        assert_eq!(ledger.receive(0, total), Receipt::Late);
        for at in total..total + 2 * SPAN_MAX as u64 {
            if ledger.has_room(0) {
                ledger.send(0, at);
            }
        }
        assert_eq!(ledger.counts().under_way(), SPAN_MAX as u64);
    }

    /// What becomes of a message between the server and the audit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Fine,
        Lost,
        Twice,
        /// Its answer comes right behind the next one's that comes at all.
        Behind,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let fate = prop_oneof![
            6 => Just(Fate::Fine), 1 => Just(Fate::Lost), 1 => Just(Fate::Twice), 1 => Just(Fate::Behind)
        ];
        prop::collection::vec(fate, 1..200)
    }

    /// The answers in the order in which they come, and how many of them were overtaken.
    fn answers(fates: &[Fate]) -> (Vec<u64>, u64) {
        let (mut order, mut held, mut overtaken) = (Vec::new(), Vec::new(), 0);
        for (number, fate) in (1u64..).zip(fates) {
            match fate {
                Fate::Lost => continue,
                Fate::Behind => {
                    held.push(number);
                    continue;
                }
                Fate::Fine => order.push(number),
                Fate::Twice => order.extend([number, number]),
            }
            overtaken += held.len() as u64;
            order.append(&mut held);
        }
        order.append(&mut held);
        (order, overtaken)
    }

    proptest! {
        #[test]
        fn every_fault_of_a_server_is_counted_exactly_once(fates in fates()) {
            let mut ledger = Ledger::new(1, u32::MAX);
            for _ in &fates {
                ledger.send(0, 1);
            }
            let (order, overtaken) = answers(&fates);
            for number in order {
                ledger.receive(0, number);
            }
            ledger.give_up(1);
            let of = |wanted| fates.iter().filter(|fate| **fate == wanted).count() as u64;
            let counts = ledger.counts();
            prop_assert_eq!(counts.lost(), of(Fate::Lost));
            prop_assert_eq!(counts.repeated, of(Fate::Twice));
            prop_assert_eq!(counts.reordered, overtaken);
            prop_assert_eq!(counts.answered, fates.len() as u64 - of(Fate::Lost));
            prop_assert_eq!((counts.unknown, counts.late), (0, 0));
        }

        #[test]
        fn whatever_happens_every_message_is_in_one_column(
            steps in prop::collection::vec((0u8..5, 0usize..3, 0u64..30), 0..300),
        ) {
            let mut ledger = Ledger::new(3, 4);
            for (now, (step, client, number)) in (0u64..).zip(steps) {
                match step {
                    0 | 1 if ledger.has_room(client) => assert!(ledger.send(client, now) > 0),
                    2 | 3 => assert!(ledger.receive(client, number) != Receipt::Late || number > 0),
                    4 if number == 0 => ledger.close(client),
                    4 => ledger.give_up(now.saturating_sub(number)),
                    _ => {}
                }
                let counts = ledger.counts();
                prop_assert_eq!(counts.sent, counts.answered + counts.lost() + counts.under_way());
                prop_assert!(counts.under_way() <= 4 * 3);
                prop_assert!(counts.reordered + counts.late <= 2 * counts.answered);
            }
        }
    }
}
