//! Questions to the nodes of a cluster, as often as one likes over one link. It blocks, as `steer` does.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_base::{NodeName, Role};
use tidegate_wire::question::{
    ConnectionFilter, ConnectionList, Connections, LogFilter, LogPage, Logs, Missing, NodeAnswer,
    NodeQuestion,
};
use tokio::runtime::Handle;

use crate::control::{self, Response};
use crate::operator::{Operator, OperatorError};
use crate::requests::{self, RequestError};
use crate::shards::Shards;
use crate::status::Status;
use crate::steer::{Cluster, SteerError, accepted, not_an_answer};

/// What one node said; either it answered, or it is missing and that says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told<T> {
    /// What the node is; `register` if it is one besides.
    pub role: Role,
    /// Its name.
    pub node: NodeName,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub answer: Option<T>,
    /// Why it said nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<String>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Told<T> {
    /// What the node said, or who said nothing.
    fn parted(self) -> Result<T, Missing> {
        let Self { role, node, answer, missing } = self;
        answer.ok_or_else(|| Missing { role, node, reason: missing.unwrap_or_default() })
    }
}

/// Somebody who asks the nodes of a cluster. The link to a register is made at the first question and again after it was lost,
/// and lives between questions.
#[derive(Debug)]
pub struct Inquiry {
    cluster: Cluster,
    line: Option<Line>,
}

/// A link to a register, on a thread of its own.
#[derive(Debug)]
struct Line {
    operator: Operator,
    handle: Handle,
    /// Keeps the link alive between questions.
    _thread: Shards,
}

impl Inquiry {
    /// Asks nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, line: None }
    }

    /// How every node does, or the one of this name. A node that does not answer within some seconds is among them, and
    /// missing.
    ///
    /// # Errors
    /// There is no such node, or nobody answers.
    pub fn statuses(&mut self, of: Option<&NodeName>) -> Result<Vec<Told<Status>>, SteerError> {
        self.told(NodeQuestion::Status, of)
    }

    /// Connections of every gateway, as many as are asked for.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connections(&mut self, of: ConnectionFilter) -> Result<Connections, SteerError> {
        let limit = of.limit;
        Ok(connections(self.ask(NodeQuestion::Connections(of), None)?, limit))
    }

    /// Lines of an app's log, of every worker that has it.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn logs(&mut self, of: &LogFilter) -> Result<Logs, SteerError> {
        Ok(logs(self.ask(NodeQuestion::Logs(of.clone()), None)?, of))
    }

    /// What every node says to a question, or the one of this name.
    fn told<T: DeserializeOwned>(
        &mut self,
        question: NodeQuestion,
        of: Option<&NodeName>,
    ) -> Result<Vec<Told<T>>, SteerError> {
        Ok(self.ask(question, of.cloned())?.into_iter().map(told).collect())
    }

    fn ask(&mut self, question: NodeQuestion, of: Option<NodeName>) -> Result<Vec<NodeAnswer>, SteerError> {
        let (address, identity) = match &self.cluster {
            Cluster::Node { data_dir, .. } => {
                let request = control::Request::Ask { question, of };
                return match accepted(control::ask(data_dir, request)?)? {
                    Response::Answers(answers) => Ok(answers),
                    other => Err(not_an_answer(other)),
                };
            }
            Cluster::Register { address, identity } => (*address, identity),
        };
        let line = match self.line.take() {
            Some(line) => line,
            None => {
                let thread = Shards::start("tidegate-inquiry", 1).map_err(SteerError::System)?;
                let none = || SteerError::System(io::Error::other("no thread"));
                let handle = thread.handles().pop().ok_or_else(none)?;
                let operator = handle.block_on(Operator::connect(address, identity.clone()))?;
                Line { operator, handle, _thread: thread }
            }
        };
        let asking = requests::ask_nodes(line.operator.link(), question, of);
        let answered = line.handle.block_on(asking);
        // After anything else the link is made anew.
        if answered.as_ref().map_or_else(RequestError::is_final, |_| true) {
            self.line = Some(line);
        }
        Ok(answered.map_err(OperatorError::from)?)
    }

    /// Lets go of the link, if there is one.
    pub fn close(mut self) {
        if let Some(Line { operator, handle, _thread }) = self.line.take() {
            handle.block_on(operator.close());
        }
    }
}

/// What gateways said, put together.
pub(crate) fn connections(answers: Vec<NodeAnswer>, limit: u32) -> Connections {
    let mut all = Connections::default();
    for told in answers.into_iter().map(told::<ConnectionList>) {
        match told.parted() {
            Ok(list) => all.add(list, limit),
            Err(missing) => all.missing.push(missing),
        }
    }
    all
}

/// What workers said, put together.
pub(crate) fn logs(answers: Vec<NodeAnswer>, of: &LogFilter) -> Logs {
    let mut all = Logs::of(of);
    for told in answers.into_iter().map(told::<Option<LogPage>>) {
        let worker = told.node.clone();
        match told.parted() {
            Ok(Some(page)) => all.add(worker, page),
            // It does not have the app.
            Ok(None) => {}
            Err(missing) => all.missing.push(missing),
        }
    }
    all.end(of);
    all
}

fn told<T: DeserializeOwned>(it: NodeAnswer) -> Told<T> {
    let parsed = it.answer.map_err(|why| why.to_string()).and_then(|text| {
        serde_json::from_str(&text).map_err(|error| format!("its answer is of another version: {error}"))
    });
    let (answer, missing) = match parsed {
        Ok(answer) => (Some(answer), None),
        Err(why) => (None, Some(why)),
    };
    Told { role: it.node.role, node: it.node.name, answer, missing }
}
