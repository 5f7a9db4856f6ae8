//! Who is calling, and what they may do.
//!
//! Every registry call carries a bearer token. One of the server's own has a role and may be tied to one
//! environment; to one of an identity provider rules give roles, see [`crate::oidc`]. Development mode
//! takes any text for a token that may do everything.

use http::{HeaderMap, header};
use relay_proto::ids::EnvironmentId;

use crate::clock::Timestamp;
use crate::oidc::{self, Bearer, Identity, Oidc, OidcError, Pattern, TokenError};
use crate::store::{Store, StoreError, TokenId};

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Register and validate.
    Executor,
    /// Connect.
    Harness,
    /// All of it.
    Admin,
}

impl Role {
    /// The name on the command line and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Harness => "harness",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Executor, Self::Harness, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// Which tokens are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Those in the store.
    Tokens,
    /// Any text that is not empty, for every call.
    Anyone,
}

/// One of the registry's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// An executor announces itself.
    Register,
    /// A harness asks for a bundle.
    Connect,
    /// An executor asks about a harness key.
    Validate,
}

impl Call {
    /// The last segment of the path.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Connect => "connect",
            Self::Validate => "validate",
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Register | Self::Validate => Role::Executor,
            Self::Connect => Role::Harness,
        }
    }
}

/// A role in some environments.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) role: Role,
    pub(crate) environments: Environments,
}

/// Some environments.
#[derive(Clone, Debug)]
pub(crate) enum Environments {
    /// All.
    All,
    /// One.
    One(EnvironmentId),
    /// Those whose id fits.
    Matching(Pattern),
    /// Those with these ids.
    Named(Vec<String>),
}

impl Environments {
    /// Whether `environment` is one of them.
    pub(crate) fn include(&self, environment: &EnvironmentId) -> bool {
        match self {
            Self::All => true,
            Self::One(own) => own == environment,
            Self::Matching(pattern) => pattern.fits(environment.as_str()),
            Self::Named(names) => names.iter().any(|name| name == environment.as_str()),
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    who: Who,
    grants: Vec<Grant>,
}

#[derive(Clone, Debug)]
enum Who {
    /// Development mode does not ask.
    Anyone,
    /// The bearer of one of the server's own tokens.
    Bearer(TokenId),
    /// The bearer of a token of an identity provider.
    Identity(Box<Identity>),
}

impl Principal {
    /// The token used; absent in development mode.
    pub(crate) fn token(&self) -> Option<&TokenId> {
        match &self.who {
            Who::Anyone => None,
            Who::Bearer(id) => Some(id),
            Who::Identity(identity) => Some(&identity.id),
        }
    }

    /// Whom calls are counted for: an identity has many tokens.
    pub(crate) fn account(&self) -> Option<&TokenId> {
        match &self.who {
            Who::Identity(identity) => Some(&identity.account),
            _ => self.token(),
        }
    }

    /// The identity behind the token, if it is an identity provider's.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.who {
            Who::Identity(identity) => Some(identity),
            _ => None,
        }
    }

    /// Checks that the caller may make `call` for `environment`.
    pub(crate) fn authorize(
        &self,
        call: Call,
        environment: &EnvironmentId,
    ) -> Result<(), AuthError> {
        let Some(first) = self.grants.first() else {
            return Err(AuthError::NoRole);
        };
        let opens = |grant: &&Grant| grant.role == Role::Admin || grant.role == call.role();
        let mut with_role = self.grants.iter().filter(opens).peekable();
        if with_role.peek().is_none() {
            // There are two roles that are not the administrator's, so all are the same one.
            return Err(AuthError::WrongRole {
                role: first.role,
                call,
            });
        }
        if with_role.any(|grant| grant.environments.include(environment)) {
            Ok(())
        } else {
            Err(AuthError::WrongEnvironment)
        }
    }
}

/// Finds out who is calling.
pub(crate) async fn authenticate(
    store: &Store,
    access: Access,
    oidc: Option<&Oidc>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Principal, AuthError> {
    let text = bearer(headers).ok_or(AuthError::MissingToken)?;
    if access == Access::Anyone {
        return Ok(Principal {
            who: Who::Anyone,
            grants: vec![Grant {
                role: Role::Admin,
                environments: Environments::All,
            }],
        });
    }
    if let Some(oidc) = oidc.filter(|_| oidc::looks_like_one(text)) {
        return authenticate_identity(store, oidc, text, now).await;
    }
    let record = store
        .find_token(text)
        .await?
        .ok_or(AuthError::InvalidToken(Unusable::Unknown))?;
    if record.revoked_at.is_some() {
        return Err(AuthError::InvalidToken(Unusable::Revoked(record.id)));
    }
    if !record.is_valid(now) {
        return Err(AuthError::InvalidToken(Unusable::Expired(record.id)));
    }
    Ok(Principal {
        who: Who::Bearer(record.id),
        grants: vec![Grant {
            role: record.role,
            environments: record
                .environment
                .map_or(Environments::All, Environments::One),
        }],
    })
}

async fn authenticate_identity(
    store: &Store,
    oidc: &Oidc,
    text: &str,
    now: Timestamp,
) -> Result<Principal, AuthError> {
    let mut identity = match oidc.authenticate(text, now).await {
        Ok(identity) => identity,
        Err(OidcError::KeysUnavailable) => return Err(AuthError::NoKeys),
        Err(OidcError::Token { error, bearer }) => {
            return Err(AuthError::IdentityToken {
                error,
                bearer: bearer.map(Box::new),
            });
        }
    };
    if store.is_token_revoked(&identity.id).await? {
        return Err(AuthError::InvalidToken(Unusable::Revoked(identity.id)));
    }
    Ok(Principal {
        grants: std::mem::take(&mut identity.grants),
        who: Who::Identity(Box::new(identity)),
    })
}

/// Why a caller is turned away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// No bearer token.
    #[error("a bearer token is required")]
    MissingToken,
    /// Unknown, revoked or expired: which of them is nobody's business but the operator's.
    #[error("the bearer token is not valid")]
    InvalidToken(Unusable),
    /// There is something wrong with a token of the identity provider.
    #[error("{error}")]
    IdentityToken {
        /// What.
        error: TokenError,
        /// Whose it is, if its signature is good.
        bearer: Option<Box<Bearer>>,
    },
    /// There are no keys to check a token with.
    #[error(
        "the keys of the identity provider are not there, so the bearer token cannot be checked"
    )]
    NoKeys,
    /// The identity provider knows the bearer, and no rule does.
    #[error("no rule gives the bearer of this token a role")]
    NoRole,
    /// The token is for other calls.
    #[error("a token of role {} may not {}", role.as_str(), call.as_str())]
    WrongRole {
        /// The token's role.
        role: Role,
        /// The call it tried.
        call: Call,
    },
    /// The token is for another environment.
    #[error("the token is for another environment")]
    WrongEnvironment,
    /// The token could not be checked.
    #[error("the token cannot be checked")]
    Store(#[from] StoreError),
}

/// What is the matter with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// None of ours.
    Unknown,
    /// It was revoked.
    Revoked(TokenId),
    /// Its time is up.
    Expired(TokenId),
}

/// The text after `Bearer`, if it could be a token: printable, no blanks inside.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    let text = text.trim();
    let usable = scheme.eq_ignore_ascii_case("bearer")
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then_some(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    fn principal(role: Role, environments: Environments) -> Principal {
        Principal {
            who: Who::Anyone,
            grants: vec![Grant { role, environments }],
        }
    }

    #[test]
    fn bearer_scheme_is_found_in_any_case() {
        assert_eq!(bearer(&headers("Bearer abc")), Some("abc"));
        assert_eq!(bearer(&headers("bEARER  abc ")), Some("abc"));
    }

    #[test]
    fn other_schemes_and_empty_tokens_are_not_bearers() {
        for value in ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "abc"] {
            assert_eq!(bearer(&headers(value)), None, "{value:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn roles_open_their_own_calls_only() {
        let environment = EnvironmentId::new("env").unwrap();
        let allowed = |role, call| {
            principal(role, Environments::All)
                .authorize(call, &environment)
                .is_ok()
        };
        for (call, executor, harness) in [
            (Call::Register, true, false),
            (Call::Validate, true, false),
            (Call::Connect, false, true),
        ] {
            assert_eq!(allowed(Role::Executor, call), executor);
            assert_eq!(allowed(Role::Harness, call), harness);
            assert!(allowed(Role::Admin, call));
        }
    }

    #[test]
    fn bound_token_is_refused_for_another_environment() {
        let own = EnvironmentId::new("own").unwrap();
        for role in [Role::Executor, Role::Admin] {
            let principal = principal(role, Environments::One(own.clone()));
            assert!(principal.authorize(Call::Register, &own).is_ok());
            let other = EnvironmentId::new("other").unwrap();
            assert!(matches!(
                principal.authorize(Call::Register, &other),
                Err(AuthError::WrongEnvironment)
            ));
        }
    }

    #[test]
    fn one_of_several_grants_is_enough() {
        let named = |name: &str| Environments::Named(vec![name.to_owned()]);
        let mut principal = principal(Role::Executor, named("a"));
        principal.grants.push(Grant {
            role: Role::Harness,
            environments: named("b"),
        });
        let [a, b] = ["a", "b"].map(|id| EnvironmentId::new(id).unwrap());
        assert!(principal.authorize(Call::Register, &a).is_ok());
        assert!(principal.authorize(Call::Connect, &b).is_ok());
        for (call, environment) in [(Call::Register, &b), (Call::Connect, &a)] {
            let refused = principal.authorize(call, environment);
            assert!(matches!(refused, Err(AuthError::WrongEnvironment)));
        }
        principal.grants.clear();
        let refused = principal.authorize(Call::Connect, &a);
        assert!(matches!(refused, Err(AuthError::NoRole)));
    }
}
