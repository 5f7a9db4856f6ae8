//! Who is calling, and what they may do.
//!
//! Every registry call carries a bearer token. A token has a role and may be tied to one
//! environment. Development mode takes any text for a token that may do everything.

use http::{HeaderMap, header};
use relay_proto::ids::EnvironmentId;

use crate::clock::Timestamp;
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

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// The token used; absent in development mode.
    pub(crate) token: Option<TokenId>,
    role: Role,
    environment: Option<EnvironmentId>,
}

impl Principal {
    /// Checks that the caller may make `call` for `environment`.
    pub(crate) fn authorize(
        &self,
        call: Call,
        environment: &EnvironmentId,
    ) -> Result<(), AuthError> {
        if self.role != Role::Admin && self.role != call.role() {
            return Err(AuthError::WrongRole {
                role: self.role,
                call,
            });
        }
        if self
            .environment
            .as_ref()
            .is_some_and(|own| own != environment)
        {
            return Err(AuthError::WrongEnvironment);
        }
        Ok(())
    }
}

/// Finds out who is calling.
pub(crate) async fn authenticate(
    store: &Store,
    access: Access,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Principal, AuthError> {
    let text = bearer(headers).ok_or(AuthError::MissingToken)?;
    if access == Access::Anyone {
        return Ok(Principal {
            token: None,
            role: Role::Admin,
            environment: None,
        });
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
        token: Some(record.id),
        role: record.role,
        environment: record.environment,
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
            Principal {
                token: None,
                role,
                environment: None,
            }
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
            let principal = Principal {
                token: None,
                role,
                environment: Some(own.clone()),
            };
            assert!(principal.authorize(Call::Register, &own).is_ok());
            let other = EnvironmentId::new("other").unwrap();
            assert!(matches!(
                principal.authorize(Call::Register, &other),
                Err(AuthError::WrongEnvironment)
            ));
        }
    }
}
