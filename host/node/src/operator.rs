//! What an operator asks of a cluster, with a certificate and the address of a register.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_base::Role;
use tidegate_link::certs::Identity;
use tidegate_link::{ControlError, LaneClosed, LinkError};
use tidegate_wire::control::{BadControl, Control};
use tokio::runtime::Handle;

use crate::endpoints::Endpoints;
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
    /// It takes too long.
    #[error("the register did not answer within {} s", ANSWER_WAIT.as_secs())]
    Late,
}

/// Everybody who is in the cluster, as a register says. On a tokio runtime.
///
/// # Errors
/// The register cannot be reached, or refuses the certificate.
pub async fn nodes(register: SocketAddr, identity: Identity) -> Result<Vec<NodeEntry>, OperatorError> {
    let role = identity.uri().role();
    if role != Role::Operator {
        return Err(OperatorError::NotAnOperator(role));
    }
    let endpoints = Endpoints::new(Handle::current(), identity);
    let answer = tokio::time::timeout(ANSWER_WAIT, list(&endpoints, register)).await;
    endpoints.close().await;
    answer.map_err(|_| OperatorError::Late)?
}

async fn list(endpoints: &Endpoints, register: SocketAddr) -> Result<Vec<NodeEntry>, OperatorError> {
    let link = endpoints.to_dial(register)?.connect(register, Role::Register).await?;
    let (control, mut messages) = link.take_control().ok_or(OperatorError::Other)?;
    control.send(Control::ListNodes.to_bytes())?;
    match Control::from_bytes(&messages.recv().await?)? {
        Control::Directory { nodes, .. } => Ok(nodes.iter().map(NodeEntry::from).collect()),
        _ => Err(OperatorError::Other),
    }
}

const ANSWER_WAIT: Duration = Duration::from_secs(15);
