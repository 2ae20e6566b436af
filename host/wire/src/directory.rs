//! Who is in the cluster: the register's soft state.

use std::collections::BTreeMap;

use tidegate_base::{NodeName, Role};

use crate::control::{Control, NodeInfo};

/// A node's connection to the register; the newest of a name wins.
pub type Session = u64;

/// The nodes that are connected to a register. A change raises the revision and is published as the whole list.
#[derive(Debug, Default)]
pub struct Directory {
    revision: u64,
    nodes: BTreeMap<(Role, NodeName), (Session, NodeInfo)>,
}

impl Directory {
    /// A node says what it is. True: the directory changed.
    pub fn announce(&mut self, session: Session, info: NodeInfo) -> bool {
        let key = (info.role, info.name.clone());
        let entry = (session, info);
        if self.nodes.get(&key) == Some(&entry) {
            return false;
        }
        let same = self.nodes.get(&key).is_some_and(|(_, info)| *info == entry.1);
        self.nodes.insert(key, entry);
        self.revision += u64::from(!same);
        !same
    }

    /// A node's connection ended. True: the directory changed. A session that a newer one replaced changes nothing.
    pub fn gone(&mut self, session: Session) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|_, (of, _)| *of != session);
        let changed = self.nodes.len() != before;
        self.revision += u64::from(changed);
        changed
    }

    /// The nodes, each with its connection, in the order of the list.
    pub fn nodes(&self) -> impl Iterator<Item = (Session, &NodeInfo)> {
        self.nodes.values().map(|(session, info)| (*session, info))
    }

    /// The list as it is sent to every node.
    pub fn snapshot(&self) -> Control {
        Control::Directory {
            revision: self.revision,
            nodes: self.nodes.values().map(|(_, info)| info.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeInfo {
        NodeInfo { name: NodeName::new(name).unwrap(), role: Role::Gateway, address: None, gateway: None }
    }

    fn names(directory: &Directory) -> Vec<String> {
        let Control::Directory { nodes, .. } = directory.snapshot() else { panic!("not a directory") };
        nodes.iter().map(|n| n.name.to_string()).collect()
    }

    #[test]
    fn the_list_follows_announcements_and_losses() {
        let mut directory = Directory::default();
        assert!(directory.announce(1, node("a")));
        assert!(!directory.announce(1, node("a")));
        assert!(directory.announce(2, node("b")));
        assert_eq!(names(&directory), ["a", "b"]);
        assert!(directory.gone(1));
        assert!(!directory.gone(1));
        assert_eq!(names(&directory), ["b"]);
    }

    #[test]
    fn the_end_of_a_replaced_session_removes_nobody() {
        let mut directory = Directory::default();
        directory.announce(1, node("a"));
        directory.announce(2, node("a"));
        assert!(!directory.gone(1));
        assert_eq!(names(&directory), ["a"]);
    }
}
