//! What an operator asks of a cluster, with a certificate and the address of a register.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_base::Role;
use tidegate_link::certs::Identity;
use tidegate_link::{ControlError, LaneClosed, Link, LinkError};
use tidegate_wire::control::{BadControl, Control};
use tokio::runtime::Handle;

use crate::endpoints::Endpoints;
use crate::requests::RequestError;
use crate::status::NodeEntry;

/// Why a register does not answer an operator.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The certificate is that of a node.
    #[error(
        "this is the certificate of a {0}, not of an operator: make one with `tidegate cert operator NAME`"
    )]
    NotAnOperator(Role),
    /// There is no link to the register, or no more.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The question was not sent.
    #[error(transparent)]
    Send(#[from] ControlError),
    /// No answer came.
    #[error("the register did not answer: {0}")]
    Receive(#[from] LaneClosed),
    /// The answer is none.
    #[error(transparent)]
    Broken(#[from] BadControl),
    /// The answer is none to the question.
    #[error("the register answered something else: is it of another version?")]
    Other,
    /// A question on a lane was not answered as hoped for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It takes too long.
    #[error("the register did not answer within {} s", ANSWER_WAIT.as_secs())]
    Late,
}

/// An operator's link to a register.
#[derive(Debug)]
pub struct Operator {
    endpoints: Endpoints,
    link: Link,
}

impl Operator {
    /// Dials a register. On a tokio runtime.
    ///
    /// # Errors
    /// The certificate is not an operator's, or the register cannot be reached or refuses it.
    pub async fn connect(register: SocketAddr, identity: Identity) -> Result<Self, OperatorError> {
        let role = identity.uri().role();
        if role != Role::Operator {
            return Err(OperatorError::NotAnOperator(role));
        }
        let endpoints = Endpoints::new(Handle::current(), identity);
        let link = endpoints.to_dial(register)?.connect(register, Role::Register).await?;
        Ok(Self { endpoints, link })
    }

    /// The link, for [`requests`](crate::requests).
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Everybody who is in the cluster. To be asked once.
    ///
    /// # Errors
    /// The register does not answer.
    pub async fn nodes(&self) -> Result<Vec<NodeEntry>, OperatorError> {
        let list = async {
            let (control, mut messages) = self.link.take_control().ok_or(OperatorError::Other)?;
            control.send(Control::ListNodes.to_bytes())?;
            match Control::from_bytes(&messages.recv().await?)? {
                Control::Directory { nodes, .. } => Ok(nodes.iter().map(NodeEntry::from).collect()),
                _ => Err(OperatorError::Other),
            }
        };
        tokio::time::timeout(ANSWER_WAIT, list).await.map_err(|_| OperatorError::Late)?
    }

    /// Closes the link.
    pub async fn close(self) {
        self.link.close(0, "done");
        self.endpoints.hang_up().await;
    }
}

/// Everybody who is in the cluster, as a register says. On a tokio runtime.
///
/// # Errors
/// The register cannot be reached, or refuses the certificate.
pub async fn nodes(register: SocketAddr, identity: Identity) -> Result<Vec<NodeEntry>, OperatorError> {
    let operator = Operator::connect(register, identity).await?;
    let nodes = operator.nodes().await;
    operator.close().await;
    nodes
}

const ANSWER_WAIT: Duration = Duration::from_secs(15);
