//! What operators and workers ask of the desk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_base::{AppName, Digest, Label, NewToken, Token, TokenTenant, TokenWish};
use tidegate_store::{HISTORY_MAX, Outcome, Store};
use tidegate_wire::report::SwapReport;
use tidegate_wire::request::{AppOverview, Effect, HistoryEntry, Order, Refusal, TenantOverview};

use super::manage::Ordered;
use super::{Desk, Input, disk, records, refusal};
use crate::deployer::{Answer, DeployOrder, Deployer, ModuleRef, RollbackOrder, Watcher, check_module};
use crate::deployment::DeployRequest;
use crate::tokens::Tokens;

impl Deployer for Desk {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        Box::pin(self.ask(|reply| Input::Apps { reply }))
    }

    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        Box::pin(async move {
            let of = app.clone();
            self.ask(|reply| Input::Find { app: of, reply }).await?;
            let of = app.clone();
            let versions = self.read(move |store| store.history(&of, limit).map_err(refusal::of_store));
            let versions = versions.await?;
            // Asked again, as it may have gone on, or ended, meanwhile.
            let running = self.ask(|reply| Input::Find { app, reply }).await?;
            let entry = |version| records::entry(version, running.as_ref());
            Ok(versions.into_iter().map(entry).collect())
        })
    }

    fn deploy(&self, order: DeployOrder, watcher: Watcher) -> Answer<'_, SwapReport> {
        Box::pin(async move {
            let DeployOrder { app, module, canary, note, by, asked } = order;
            let (digest, waited) = (Digest::from_bytes([0; 32]), Duration::ZERO);
            let mut request = DeployRequest { app, digest, again: None, canary, by, note, waited };
            // What is refused anyway is not stored first.
            request.check()?;
            let app = request.app.clone();
            if let Some(running) = self.ask(|reply| Input::Find { app, reply }).await? {
                return Err(refusal::busy(request.app, running, super::task::wall_ms()));
            }
            request.digest = self.keep(module).await?;
            self.ask(|end| Input::Deploy { request, asked, watcher, end }).await
        })
    }

    fn rollback(&self, order: RollbackOrder, watcher: Watcher) -> Answer<'_, SwapReport> {
        Box::pin(async move {
            let RollbackOrder { app, to, note, by, asked } = order;
            let of = app.clone();
            self.ask(|reply| Input::Find { app: of, reply }).await?;
            let of = app.clone();
            let (number, digest) = self.read(move |store| earlier(store, &of, to)).await?;
            let (again, canary, waited) = (Some(number), None, Duration::ZERO);
            let request = DeployRequest { app, digest, again, canary, by, note, waited };
            self.ask(|end| Input::Deploy { request, asked, watcher, end }).await
        })
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        Box::pin(self.ask(|reply| Input::Cancel { app, by, reply }))
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>> {
        Box::pin(self.ask(|reply| Input::Tenants { reply }))
    }

    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect> {
        Box::pin(self.ask(|reply| Input::Manage(Ordered { order, by, reply })))
    }

    fn tokens(&self, tenant: Option<Label>) -> Answer<'_, Vec<Token>> {
        Box::pin(async move { Ok(self.load_tokens().await?.list(tenant.as_ref())) })
    }

    fn create_token(&self, wish: TokenWish, by: String) -> Answer<'_, NewToken> {
        Box::pin(async move {
            if let TokenTenant::One(tenant) = &wish.tenant {
                self.has_tenant(tenant).await?;
            }
            let (tokens, now_ms) = (self.load_tokens().await?, super::task::wall_ms());
            let new = self.read(move |store| tokens.create(store, wish, now_ms)).await?;
            let Token { id, tenant, role, .. } = &new.token;
            tracing::info!(token = id, %tenant, %role, by, "a token is made");
            Ok(new)
        })
    }

    fn revoke_token(&self, id: String, by: String) -> Answer<'_, Token> {
        Box::pin(async move {
            let tokens = self.load_tokens().await?;
            let token = self.read(move |store| tokens.revoke(store, &id)).await?;
            tracing::info!(token = token.id, tenant = %token.tenant, by, "a token is revoked");
            Ok(token)
        })
    }

    fn module(&self, digest: Digest) -> Answer<'_, Option<Bytes>> {
        let module = move |store: &Store| store.get(digest).map_err(refusal::of_store);
        Box::pin(async move { Ok(self.read(module).await?.map(Bytes::from)) })
    }
}

impl Desk {
    /// The tokens, with those that are written down.
    pub(crate) async fn load_tokens(&self) -> Result<Tokens, Refusal> {
        let tokens = self.tokens.clone();
        if self.store.is_some() && !tokens.is_loaded() {
            let into = tokens.clone();
            self.read(move |store| into.load(store).map_err(refusal::of_store)).await?;
        }
        Ok(tokens)
    }

    /// Whether there is such a tenant. The one of apps that name none always is: who has apps of it may come yet.
    async fn has_tenant(&self, tenant: &Label) -> Result<(), Refusal> {
        if tenant.as_str() == AppName::DEFAULT_TENANT {
            return Ok(());
        }
        let tenants = self.ask(|reply| Input::Tenants { reply }).await?;
        let known: Vec<_> = tenants.into_iter().map(|overview| overview.tenant).collect();
        match known.contains(tenant) {
            true => Ok(()),
            false => Err(Refusal::UnknownTenant { tenant: tenant.clone(), known }),
        }
    }

    /// Puts a module into the store, if it is a plugin and is not there.
    async fn keep(&self, module: ModuleRef) -> Result<Digest, Refusal> {
        match module {
            ModuleRef::Bytes(bytes) => {
                if self.store.is_none() {
                    return Err(refusal::no_store());
                }
                check_module(bytes.clone()).await?;
                let now_ms = super::task::wall_ms();
                self.read(move |store| disk::put(store, &bytes, now_ms).map_err(refusal::of_store)).await
            }
            ModuleRef::Digest(digest) => {
                self.read(move |store| known(store, digest)).await?;
                Ok(digest)
            }
        }
    }

    /// Something that takes the store's time, on a thread that may wait.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.store.clone().ok_or_else(refusal::no_store)?;
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| refusal::stopping())?;
        let task = tokio::task::spawn_blocking(move || {
            // Given back by the thread, which goes on even if nobody waits for it any more.
            let _permit = permit;
            work(&store)
        });
        task.await.unwrap_or_else(|error| Err(Refusal::Internal { reason: error.to_string() }))
    }
}

/// The version to return to, and its module.
fn earlier(store: &Store, app: &AppName, to: Option<u32>) -> Result<(u32, Digest), Refusal> {
    let found = match to {
        Some(number) => {
            let version = store.version(app, number).map_err(refusal::of_store)?;
            version.ok_or_else(|| Refusal::UnknownVersion { app: app.clone(), number })?
        }
        None => {
            let none = || Refusal::NoEarlier { app: app.clone() };
            let current = store.current(app).map_err(refusal::of_store)?.ok_or_else(none)?.number;
            let history = store.history(app, HISTORY_MAX).map_err(refusal::of_store)?;
            let mut committed = history.into_iter().filter(|it| it.outcome == Some(Outcome::Committed));
            committed.find(|version| version.number < current).ok_or_else(none)?
        }
    };
    known(store, found.digest)?;
    Ok((found.number, found.digest))
}

fn known(store: &Store, digest: Digest) -> Result<(), Refusal> {
    match store.has(digest).map_err(refusal::of_store)? {
        true => Ok(()),
        false => Err(Refusal::UnknownModule { digest }),
    }
}
