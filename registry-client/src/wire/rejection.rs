//! Why a rendezvous rejects a websocket request.

use std::fmt;

/// Value of the [`REJECTION_REASON_HEADER`](super::REJECTION_REASON_HEADER) header.
///
/// A closed set, for logs and metrics only: what to do next follows from the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The URL's expiry has passed.
    Expired,
    /// The query has no role.
    MissingRole,
    /// The query has no expiry.
    MissingExpiry,
    /// The query has no signature.
    MissingSignature,
    /// The query has no version.
    MissingVersion,
    /// The query of an executor has no registration id.
    MissingExecutorRegistrationId,
    /// The query of a harness has a registration id where none belongs, or a stale one is used.
    UnexpectedExecutorRegistrationId,
    /// The query cannot be parsed.
    MalformedQuery,
    /// The role is none of the known ones.
    InvalidRole,
    /// The expiry is not a time.
    InvalidExpiry,
    /// The signature does not fit.
    InvalidSignature,
    /// The rendezvous has no usable signing secret.
    InvalidSecret,
    /// The query has a parameter that is not part of the signed ones.
    ExtraQueryParam,
    /// The rendezvous is shutting down: come back, another one will answer.
    PodDraining,
    /// The rendezvous does not know the environment.
    UnknownRoute,
    /// The environment belongs to another rendezvous.
    WrongRendezvousCluster,
    /// The rendezvous knows the environment and cannot reach it now.
    RouteUnavailable,
    /// A text outside the closed set.
    Unknown,
}

impl RejectionReason {
    /// Every reason with a text of its own.
    pub const ALL: [Self; 17] = [
        Self::Expired,
        Self::MissingRole,
        Self::MissingExpiry,
        Self::MissingSignature,
        Self::MissingVersion,
        Self::MissingExecutorRegistrationId,
        Self::UnexpectedExecutorRegistrationId,
        Self::MalformedQuery,
        Self::InvalidRole,
        Self::InvalidExpiry,
        Self::InvalidSignature,
        Self::InvalidSecret,
        Self::ExtraQueryParam,
        Self::PodDraining,
        Self::UnknownRoute,
        Self::WrongRendezvousCluster,
        Self::RouteUnavailable,
    ];

    /// Returns the text of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MissingRole => "missing_role",
            Self::MissingExpiry => "missing_expiry",
            Self::MissingSignature => "missing_signature",
            Self::MissingVersion => "missing_version",
            Self::MissingExecutorRegistrationId => "missing_executor_registration_id",
            Self::UnexpectedExecutorRegistrationId => "unexpected_executor_registration_id",
            Self::MalformedQuery => "malformed_query",
            Self::InvalidRole => "invalid_role",
            Self::InvalidExpiry => "invalid_expiry",
            Self::InvalidSignature => "invalid_signature",
            Self::InvalidSecret => "invalid_secret",
            Self::ExtraQueryParam => "extra_query_param",
            Self::PodDraining => "pod_draining",
            Self::UnknownRoute => "unknown_route",
            Self::WrongRendezvousCluster => "wrong_rendezvous_cluster",
            Self::RouteUnavailable => "route_unavailable",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the reason with this text, or [`RejectionReason::Unknown`].
    pub fn parse(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
