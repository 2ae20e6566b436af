//! Announcing a node at the cluster's registers, and hearing from them who else is there. Registers that die are
//! redialed for ever; meanwhile the node goes on with what it knows.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::Role;
use tidegate_link::redial::Redial;
use tidegate_link::{Endpoint, Link};
use tidegate_wire::control::{Control, NodeInfo};
use tokio::sync::watch;

use crate::answers::Answers;
use crate::duty::Duty;

/// What a node knows of its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Everybody, as the registers say that answer; if none does, as was last heard.
    pub nodes: Arc<[NodeInfo]>,
    /// Whether a register answers.
    pub register_lives: bool,
}

/// Puts the lists of several registers together. Pure.
#[derive(Debug, Default)]
struct Merge {
    /// The list of each register that answers.
    lists: Vec<Option<Vec<NodeInfo>>>,
    last: Arc<[NodeInfo]>,
}

impl Merge {
    fn new(registers: usize) -> Self {
        Self { lists: vec![None; registers], last: Arc::default() }
    }

    fn heard(&mut self, register: usize, nodes: Option<Vec<NodeInfo>>) -> View {
        if let Some(list) = self.lists.get_mut(register) {
            *list = nodes;
        }
        let register_lives = self.lists.iter().any(Option::is_some);
        if register_lives {
            let mut all: Vec<NodeInfo> = Vec::new();
            for node in self.lists.iter().flatten().flatten() {
                if !all.contains(node) {
                    all.push(node.clone());
                }
            }
            self.last = all.into();
        }
        View { nodes: Arc::clone(&self.last), register_lives }
    }
}

/// A node's standing announcements. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: NodeInfo,
    duty: Duty,
    answers: Arc<Answers>,
    merge: Mutex<Merge>,
    view: watch::Sender<View>,
}

impl Membership {
    /// For a node that announces itself at so many registers.
    pub fn new(own: NodeInfo, duty: Duty, answers: Arc<Answers>, registers: usize) -> Self {
        let shared = Shared {
            own,
            duty,
            answers,
            merge: Mutex::new(Merge::new(registers)),
            view: watch::Sender::new(View::default()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is known now and whatever comes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.shared.view.subscribe()
    }

    /// Keeps the node announced at one register, for ever.
    pub async fn keep(self, register: usize, endpoint: Endpoint, address: SocketAddr) {
        let mut redial = Redial::new(endpoint, address, Role::Register);
        loop {
            let link = redial.connected().await;
            tracing::info!(register = %link.peer(), "announced");
            self.follow(register, &link).await;
            match link.close_error() {
                Some(error) => tracing::warn!(%address, "the link to a register ended: {error}"),
                None => link.close(0, "the register sent what this node does not understand"),
            }
        }
    }

    /// Announces the node on a link, and hears the register and answers its questions until the link ends.
    pub async fn follow(&self, register: usize, link: &Link) {
        let Some((control, mut messages)) = link.take_control() else { return };
        if control.send(Control::Announce(self.shared.own.clone()).to_bytes()).is_err() {
            return;
        }
        let mut duty = self.shared.duty.begin(register, link, &control);
        let mut questions = pin!(self.shared.answers.serve(link));
        loop {
            let message = tokio::select! {
                never = &mut questions => match never {},
                message = messages.recv() => message,
                news = duty.news() => match control.send(news.to_bytes()) {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            };
            let Ok(message) = message else { break };
            let answered = match Control::from_bytes(&message) {
                Ok(Control::Directory { nodes, .. }) => {
                    self.heard(register, Some(nodes));
                    continue;
                }
                Ok(other) => duty.on_message(other).await,
                Err(error) => {
                    tracing::warn!(%error, "a register sent what a node does not understand");
                    break;
                }
            };
            match answered {
                Ok(None) => {}
                Ok(Some(answer)) if control.send(answer.to_bytes()).is_ok() => {}
                Ok(Some(_)) => break,
                Err(other) => tracing::warn!(?other, "a register sent what a node does not understand"),
            }
        }
        self.heard(register, None);
    }

    fn heard(&self, register: usize, nodes: Option<Vec<NodeInfo>>) {
        // Under the lock, so that an older view never overwrites a newer one.
        let mut merge = self.shared.merge.lock();
        let view = merge.heard(register, nodes);
        self.shared.view.send_if_modified(|known| {
            let changed = *known != view;
            *known = view;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::NodeName;

    use super::*;

    fn nodes(names: &[&str]) -> Vec<NodeInfo> {
        let node = |name: &&str| NodeInfo {
            name: NodeName::new(name).unwrap(),
            role: Role::Worker,
            address: None,
            gateway: None,
        };
        names.iter().map(node).collect()
    }

    fn names(view: &View) -> Vec<&str> {
        view.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn lists_are_united_and_a_dead_registers_counts_only_when_all_are_dead() {
        let mut merge = Merge::new(2);
        assert_eq!(names(&merge.heard(0, Some(nodes(&["a", "b"])))), ["a", "b"]);
        assert_eq!(names(&merge.heard(1, Some(nodes(&["b", "c"])))), ["a", "b", "c"]);
        let view = merge.heard(0, None);
        assert_eq!((names(&view), view.register_lives), (vec!["b", "c"], true));
        let view = merge.heard(1, None);
        assert_eq!((names(&view), view.register_lives), (vec!["b", "c"], false));
        assert_eq!(names(&merge.heard(0, Some(nodes(&["d"])))), ["d"]);
    }
}
