//! Which path means what. Registry and rendezvous are found below any base path.

use crate::auth::Call;

/// What a path names. Environment ids are still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// Is the process alive?
    Health,
    /// Does it take requests?
    Ready,
    /// A call of the registry.
    Registry {
        /// The environment.
        environment: &'a str,
        /// The call.
        call: Call,
    },
    /// The websocket of an environment.
    Rendezvous {
        /// The environment.
        environment: &'a str,
    },
    /// Nothing.
    Unknown,
}

/// Finds out what a path names.
pub(crate) fn parse(path: &str) -> Route<'_> {
    match path {
        "/healthz" | "/livez" => return Route::Health,
        "/readyz" => return Route::Ready,
        _ => {}
    }
    // From the end, since a base path may stand in front.
    let mut segments = path.rsplit('/');
    let (Some(last), Some(second), Some(third)) =
        (segments.next(), segments.next(), segments.next())
    else {
        return Route::Unknown;
    };
    let fourth = segments.next();
    let call = [Call::Register, Call::Connect, Call::Validate]
        .into_iter()
        .find(|call| call.as_str() == last);
    let rest = [segments.next(), segments.next()];
    match (fourth, third, call) {
        (Some("cloud"), "environment", Some(call)) if rest[0].is_some() => Route::Registry {
            environment: second,
            call,
        },
        (Some("default"), "ws", _)
            if second == "environment" && rest[0] == Some("cloud-agent") && rest[1].is_some() =>
        {
            Route::Rendezvous { environment: last }
        }
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_calls_are_found_below_any_base_path() {
        for (path, environment, call) in [
            ("/cloud/environment/env1/register", "env1", Call::Register),
            ("/cloud/environment/env1/connect", "env1", Call::Connect),
            ("/cloud/environment/env1/validate", "env1", Call::Validate),
            (
                "/api/v2/cloud/environment/a%20b/register",
                "a%20b",
                Call::Register,
            ),
            (
                "/cloud/environment/register/register",
                "register",
                Call::Register,
            ),
            ("//cloud/environment//connect", "", Call::Connect),
        ] {
            assert_eq!(parse(path), Route::Registry { environment, call }, "{path}");
        }
    }

    #[test]
    fn rendezvous_is_found_below_any_base_path() {
        for path in [
            "/cloud-agent/default/ws/environment/env1",
            "/base/cloud-agent/default/ws/environment/env1",
        ] {
            assert_eq!(
                parse(path),
                Route::Rendezvous {
                    environment: "env1"
                },
                "{path}"
            );
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in [
            "",
            "/",
            "*",
            "/healthz/",
            "/base/healthz",
            "cloud/environment/env1/register",
            "/cloud/environment/env1/register/",
            "/cloud/environment/env1",
            "/cloud/environment/env1/Register",
            "/cloud/environment/env1/remove",
            "/cloud/environments/env1/register",
            "/cloud-agent/default/ws/environment",
            "/cloud-agent/default/ws/environment/env1/x",
            "cloud-agent/default/ws/environment/env1",
            "/cloud-agent/other/ws/environment/env1",
        ] {
            assert_eq!(parse(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn health_routes_are_at_the_root() {
        assert_eq!(parse("/healthz"), Route::Health);
        assert_eq!(parse("/livez"), Route::Health);
        assert_eq!(parse("/readyz"), Route::Ready);
    }
}
