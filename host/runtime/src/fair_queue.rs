use std::collections::VecDeque;

/// A queue in which each group has its own line and the lines take turns: whoever has many in it does not keep another's
/// one waiting.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// In the order in which they are served, none of them empty.
    lines: VecDeque<Line<T>>,
    len: usize,
}

#[derive(Debug)]
struct Line<T> {
    group: u64,
    items: VecDeque<T>,
}

impl<T> FairQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { lines: VecDeque::new(), len: 0 }
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many of a group are in it. Costs a look at each group that has some.
    pub(crate) fn len_of(&self, group: u64) -> usize {
        self.lines.iter().find(|line| line.group == group).map_or(0, |line| line.items.len())
    }

    /// To the end of the group's line; a new line is served last.
    pub(crate) fn push(&mut self, group: u64, item: T) {
        self.len += 1;
        match self.lines.iter_mut().find(|line| line.group == group) {
            Some(line) => line.items.push_back(item),
            None => self.lines.push_back(Line { group, items: VecDeque::from([item]) }),
        }
    }

    /// The first of the line whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let mut line = self.lines.pop_front()?;
        let item = line.items.pop_front();
        if !line.items.is_empty() {
            self.lines.push_back(line);
        }
        self.len -= usize::from(item.is_some());
        item
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_of_one_group_do_not_keep_one_of_another_waiting() {
        let mut queue = FairQueue::new();
        (0..1000).for_each(|n| queue.push(1, (1, n)));
        queue.push(2, (2, 0));
        assert_eq!((queue.len(), queue.len_of(1), queue.len_of(3)), (1001, 1000, 0));
        assert_eq!((queue.pop(), queue.pop()), (Some((1, 0)), Some((2, 0))));
        // As in the pool: who runs comes back to the end of its line.
        queue.push(2, (2, 1));
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some((1, 1)), Some((2, 1)), Some((1, 2))));
    }

    proptest! {
        #[test]
        fn each_line_is_served_in_order_and_as_often_as_any_other(
            steps in prop::collection::vec(prop::option::weighted(0.6, 0..5_u64), 1..300),
        ) {
            let (mut queue, mut pushed, mut popped) = (FairQueue::new(), [0_u32; 5], [0_u32; 5]);
            // How often others were served since a group that waits was served last.
            let mut passed = [[0_u32; 5]; 5];
            for step in steps {
                if let Some(group) = step {
                    let at = group as usize;
                    if pushed[at] == popped[at] {
                        passed[at] = [0; 5];
                    }
                    queue.push(group, (group, pushed[at]));
                    pushed[at] += 1;
                } else if let Some((group, number)) = queue.pop() {
                    let at = group as usize;
                    prop_assert_eq!(number, popped[at]);
                    popped[at] += 1;
                    (0..5).for_each(|other| passed[other][at] += 1);
                    passed[at] = [0; 5];
                    for (waits, passed) in passed.iter().enumerate() {
                        if pushed[waits] > popped[waits] {
                            prop_assert!(passed.iter().all(|times| *times <= 1), "{waits}: {passed:?}");
                        }
                    }
                }
                let waiting: u32 = pushed.iter().sum::<u32>() - popped.iter().sum::<u32>();
                prop_assert_eq!(queue.len(), waiting as usize);
            }
        }
    }
}
