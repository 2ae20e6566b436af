//! What concerns more than one app: for tokens of role `admin`, and for operators.

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::{Asked, escaped};
use crate::{AppInfo, Error, NodeInfo, Order, Status, TenantInfo, Tidegate};

/// A tenant. Made by [`Tidegate::tenant`]; costs nothing. All but [`info`](Self::info) needs an operator's token. An order whose
/// answer is lost is not given again.
#[derive(Debug, Clone)]
pub struct Tenant {
    tidegate: Tidegate,
    path: String,
}

#[derive(Deserialize)]
struct Apps {
    apps: Vec<AppInfo>,
}

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<TenantInfo>,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<NodeInfo>,
}

impl Tidegate {
    /// The apps that the token is for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apps(&self) -> Result<Vec<AppInfo>, Error> {
        Ok(self.read::<Apps>("/v1/apps").await?.apps)
    }

    /// A tenant.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Tenant {
        Tenant { tidegate: self.clone(), path: format!("/v1/tenants/{}", escaped(name)) }
    }

    /// What tenants may have and what they have: the token's, or all for an operator's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>, Error> {
        Ok(self.read::<Tenants>("/v1/tenants").await?.tenants)
    }

    /// The nodes of the cluster.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, Error> {
        Ok(self.read::<Nodes>("/v1/nodes").await?.nodes)
    }

    /// How the node does that answers, with the token's apps on it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        self.read("/v1/status").await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let path = path.to_owned();
        self.ask(Asked { method: Method::GET, path, body: None, key: None, harmless: true }).await
    }
}

impl Tenant {
    /// What it may have, and what it has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self) -> Result<TenantInfo, Error> {
        self.tidegate.read(&self.path).await
    }

    /// Makes it, with these quotas: an object with some of `apps_max`, `slots_max`, `memory_mib_max`, `connections_max` and
    /// `cpu_share_millis`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, quotas: impl Into<Value>) -> Result<Order, Error> {
        self.order(Method::POST, "", Some(quotas.into())).await
    }

    /// Changes these quotas; null is no limit, the others stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn configure(&self, quotas: impl Into<Value>) -> Result<Order, Error> {
        self.order(Method::PATCH, "", Some(quotas.into())).await
    }

    /// Takes clients and slots from its apps until it is resumed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn suspend(&self) -> Result<Order, Error> {
        self.order(Method::POST, "/suspend", None).await
    }

    /// Lets its apps run again, but for those that are suspended themselves.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self) -> Result<Order, Error> {
        self.order(Method::POST, "/resume", None).await
    }

    /// Removes it and its apps, with all that is theirs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self) -> Result<Order, Error> {
        self.order(Method::DELETE, "", None).await
    }

    async fn order(&self, method: Method, path: &str, body: Option<Value>) -> Result<Order, Error> {
        let path = format!("{}{path}", self.path);
        self.tidegate.ask(Asked { method, path, body, key: None, harmless: false }).await
    }
}
