//! Who is asked: all nodes of a cluster by its register, or the one on this machine if it is no register.

use std::path::PathBuf;

use tidegate_base::Role;
use tidegate_node::control::{self, Request, Response};
use tidegate_node::inquiry::{Inquiry, Told};
use tidegate_node::status::Status;
use tidegate_node::steer::Cluster;

use super::figures::Heard;
use crate::args::Whom;
use crate::failure::Failure;
use crate::steer::cluster;

/// Where samples come from. It blocks.
#[derive(Debug)]
pub(crate) enum Source {
    /// Every node of a cluster.
    Cluster(Box<Inquiry>),
    /// A node that knows no others.
    Node(PathBuf),
}

impl Source {
    pub fn find(whom: &Whom) -> Result<Self, Failure> {
        let cluster = cluster(whom)?;
        if let Cluster::Node { data_dir, .. } = &cluster
            && !status(data_dir.clone())?.roles.contains(&Role::Register)
        {
            return Ok(Self::Node(data_dir.clone()));
        }
        Ok(Self::Cluster(Box::new(Inquiry::new(cluster))))
    }

    /// What each node says of itself now.
    pub fn hear(&mut self) -> Result<Vec<Heard>, Failure> {
        match self {
            Self::Cluster(inquiry) => Ok(inquiry.statuses(None)?.into_iter().map(heard).collect()),
            Self::Node(data_dir) => {
                let status = status(data_dir.clone())?;
                let (name, role) = (status.node.clone(), role_of(&status));
                Ok(vec![Heard { name, role, said: Ok(status) }])
            }
        }
    }
}

fn heard(told: Told<Status>) -> Heard {
    let Told { role, node, answer, missing } = told;
    let unknown = || "it said nothing".to_owned();
    let said = answer.map(Box::new).ok_or_else(|| missing.unwrap_or_else(unknown));
    let role = said.as_ref().map_or_else(|_| role.to_string(), |status| role_of(status));
    Heard { name: node.to_string(), role, said }
}

fn status(data_dir: PathBuf) -> Result<Box<Status>, Failure> {
    match control::ask(&data_dir, Request::Status).map_err(Failure::with(Failure::UNAVAILABLE))? {
        Response::Status(status) => Ok(status),
        _ => {
            let text = "the node answered another question: is it of another version?";
            Err(Failure::new(Failure::SOFTWARE, text))
        }
    }
}

fn role_of(status: &Status) -> String {
    match &*status.roles {
        [role] => role.to_string(),
        _ => "all".to_owned(),
    }
}
