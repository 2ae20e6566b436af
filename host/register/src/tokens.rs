//! The tokens of the HTTP API: made, listed and revoked by operators, looked up for every request. What is looked up is in
//! memory; what is made or revoked is written down first.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tidegate_base::{
    Digest, Label, NewToken, Secret, TOKEN_APPS_MAX, TOKEN_NOTE_BYTES_MAX, Token, TokenWish, token_id,
    token_secret,
};
use tidegate_store::{Store, StoreError};
use tidegate_wire::request::Refusal;

/// The tokens of a register. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Tokens {
    live: Arc<RwLock<HashMap<Digest, Arc<Token>>>>,
    loaded: Arc<AtomicBool>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.live.read().len()).finish()
    }
}

impl Tokens {
    /// The token whose secret has this digest.
    pub fn find(&self, secret: &Digest) -> Option<Arc<Token>> {
        self.live.read().get(secret).cloned()
    }

    /// A token that is written down nowhere and lives as long as the register.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn create_passing(&self, wish: TokenWish, now_ms: u64) -> Result<NewToken, Refusal> {
        let (digest, new) = make(wish, now_ms)?;
        self.live.write().insert(digest, Arc::new(new.token.clone()));
        Ok(new)
    }

    /// Whether those that are written down are here.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Takes those that are written down, once. Blocks.
    pub(crate) fn load(&self, store: &Store) -> Result<(), StoreError> {
        let mut live = self.live.write();
        if self.is_loaded() {
            // A later look might bring back what was revoked meanwhile.
            return Ok(());
        }
        let written = store.tokens()?;
        self.loaded.store(true, Ordering::Release);
        live.extend(written.into_iter().map(|(secret, token)| (secret, Arc::new(token))));
        Ok(())
    }

    /// Makes a token and writes it down. Blocks.
    pub(crate) fn create(&self, store: &Store, wish: TokenWish, now_ms: u64) -> Result<NewToken, Refusal> {
        check(&wish)?;
        let (digest, new) = make(wish, now_ms)?;
        store.add_token(digest, &new.token).map_err(crate::desk::of_store)?;
        self.live.write().insert(digest, Arc::new(new.token.clone()));
        Ok(new)
    }

    /// Those of one tenant, or all, by tenant and age.
    pub(crate) fn list(&self, tenant: Option<&Label>) -> Vec<Token> {
        let live = self.live.read();
        let its = live.values().filter(|token| tenant.is_none_or(|tenant| token.tenant.is(tenant)));
        let mut tokens: Vec<Token> = its.map(|token| Token::clone(token)).collect();
        tokens.sort_by(|a, b| (&a.tenant, a.created_ms, &a.id).cmp(&(&b.tenant, b.created_ms, &b.id)));
        tokens
    }

    /// Revokes the token of this name; from now on nobody gets in with it. Blocks.
    pub(crate) fn revoke(&self, store: &Store, id: &str) -> Result<Token, Refusal> {
        let found = self.live.read().iter().find(|(_, token)| token.id == id).map(|(secret, _)| *secret);
        let unknown = || Refusal::Wish {
            reason: format!("there is no token {id}: `tidegate tokens list` names those that there are"),
        };
        let secret = found.ok_or_else(unknown)?;
        // First: whatever becomes of the disk, it is of no use in this life.
        let token = self.live.write().remove(&secret).ok_or_else(unknown)?;
        store.remove_token(secret).map_err(crate::desk::of_store)?;
        Ok(Token::clone(&token))
    }

    /// A tenant goes, and its tokens with it.
    pub(crate) fn forget_tenant(&self, tenant: &Label) {
        self.live.write().retain(|_, token| !token.tenant.is(tenant));
    }
}

fn check(wish: &TokenWish) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::Wish { reason });
    if let Some(foreign) = wish.apps.iter().find(|app| !wish.tenant.covers(app.tenant())) {
        return refused(format!(
            "the token is to be of tenant {}, and {foreign} is an app of another one: make a token for each tenant",
            wish.tenant
        ));
    }
    if wish.apps.len() > TOKEN_APPS_MAX {
        return refused(format!(
            "a token names at most {TOKEN_APPS_MAX} apps, this one {}: leave them out, and it is for all of its tenant",
            wish.apps.len()
        ));
    }
    if wish.note.len() > TOKEN_NOTE_BYTES_MAX {
        return refused(format!("the note has more than {TOKEN_NOTE_BYTES_MAX} bytes: shorten it"));
    }
    Ok(())
}

fn make(wish: TokenWish, now_ms: u64) -> Result<(Digest, NewToken), Refusal> {
    let mut random = [0; 32];
    getrandom::getrandom(&mut random).map_err(|error| Refusal::Internal {
        reason: format!("the system has no random numbers: {error}"),
    })?;
    let secret: Secret = token_secret(random);
    let digest = Digest::of(secret.expose().as_bytes());
    let TokenWish { tenant, role, apps, note } = wish;
    let token = Token { id: token_id(&digest), tenant, role, apps, note, created_ms: now_ms };
    Ok((digest, NewToken { token, secret }))
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, TokenRole};
    use tidegate_store::StoreLimits;

    use super::*;

    fn wish(tenant: &str, apps: &[&str]) -> TokenWish {
        TokenWish {
            tenant: tenant.parse().unwrap(),
            role: TokenRole::Push,
            apps: apps.iter().map(|app| AppName::new(app).unwrap()).collect(),
            note: String::new(),
        }
    }

    fn find(tokens: &Tokens, new: &NewToken) -> Option<Arc<Token>> {
        tokens.find(&Digest::of(new.secret.expose().as_bytes()))
    }

    #[test]
    fn tokens_are_found_until_they_are_revoked_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreLimits::default()).unwrap();
        let tokens = Tokens::default();
        let one = tokens.create(&store, wish("acme", &["acme/chat"]), 5).unwrap();
        let two = tokens.create(&store, wish("acme", &[]), 6).unwrap();
        let passing = tokens.create_passing(wish("acme", &[]), 7).unwrap();
        assert_ne!(one.secret, two.secret);
        assert_eq!(find(&tokens, &one).as_deref(), Some(&one.token));
        let names = |tokens: &Tokens| tokens.list(None).into_iter().map(|token| token.id).collect::<Vec<_>>();
        assert_eq!(names(&tokens), [&*one.token.id, &*two.token.id, &*passing.token.id]);
        assert_eq!(tokens.revoke(&store, &two.token.id), Ok(two.token.clone()));
        assert!(find(&tokens, &two).is_none());
        assert!(matches!(tokens.revoke(&store, &two.token.id), Err(Refusal::Wish { .. })));
        let again = Tokens::default();
        again.load(&store).unwrap();
        assert_eq!(names(&again), [&*one.token.id]);
        assert!(find(&again, &one).is_some());
        again.forget_tenant(&Label::new("acme").unwrap());
        assert!(find(&again, &one).is_none());
    }

    #[test]
    fn a_token_is_for_apps_of_one_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreLimits::default()).unwrap();
        let refusal = Tokens::default().create(&store, wish("acme", &["other/chat"]), 0).unwrap_err();
        assert!(refusal.to_string().contains("other/chat"), "{refusal}");
        assert!(store.tokens().unwrap().is_empty());
    }
}
