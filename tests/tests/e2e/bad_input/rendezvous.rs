//! The rendezvous, faced with a harness that breaks the rules.

use anyhow::{Context as _, Result};
use testkit::{
    faults::{RawWebSocket, Refused, connect_bundle, post},
    processes::{Agent, Child, Cloud, ENVIRONMENT, Execctl},
    workspace::Workspace,
};

use super::{handshake_frame, oversize_message};

/// A cloud with an executor that must not notice what happens.
struct Fixture {
    cloud: Cloud,
    executor: Child,
    _workspace: Workspace,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let workspace = Workspace::new()?;
        let cloud = Cloud::start().await?;
        let executor = Agent::start(&cloud, &workspace, &[]).await?;
        Ok(Self {
            cloud,
            executor,
            _workspace: workspace,
        })
    }

    /// A fresh URL for a harness, as the registry signs it.
    async fn harness_url(&self) -> Result<String> {
        let bundle = connect_bundle(&self.cloud, self.cloud.harness_token()).await?;
        Ok(bundle["url"]
            .as_str()
            .context("a bundle has a URL")?
            .to_owned())
    }

    async fn open(&self) -> Result<RawWebSocket> {
        let url = self.harness_url().await?;
        RawWebSocket::open(&url)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))
    }

    /// The executor still serves a well-behaved harness, and nothing panicked.
    async fn unharmed(mut self) -> Result<()> {
        let finished = Execctl::new(&self.cloud)
            .run(["run", "--", "echo", "unharmed"])
            .await?;
        assert_eq!(
            String::from_utf8_lossy(&finished.stdout),
            "unharmed\n",
            "{}",
            finished.stderr
        );
        self.executor.still_runs()?;
        self.executor.never_panicked()?;
        self.cloud.child().never_panicked()
    }
}

#[tokio::test]
async fn malformed_frame_closes_the_socket() -> Result<()> {
    let fixture = Fixture::start().await?;
    for nonsense in [
        &b""[..],
        b"\x00",
        b"\xff\xff\xff\xff\xff\xff",
        b"{\"json\":true}",
    ] {
        let mut socket = fixture.open().await?;
        socket.send_binary(nonsense).await?;
        let closed = socket.ended().await?;
        assert_eq!(
            closed,
            Some((1002, "malformed_frame".to_owned())),
            "{nonsense:?}"
        );
    }
    fixture.unharmed().await
}

#[tokio::test]
async fn text_message_is_ignored() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut socket = fixture.open().await?;
    socket
        .send_text("{\"id\":1,\"method\":\"initialize\"}")
        .await?;
    // Had the text closed the socket, the reason would be another one.
    socket.send_binary(b"\x00").await?;
    assert_eq!(
        socket.ended().await?,
        Some((1002, "malformed_frame".to_owned()))
    );
    fixture.unharmed().await
}

#[tokio::test]
async fn message_over_the_limit_closes_the_socket() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut socket = fixture.open().await?;
    socket.send_binary(&oversize_message()).await?;
    assert_eq!(
        socket.ended().await?,
        Some((1009, "message_too_large".to_owned()))
    );
    fixture.unharmed().await
}

/// It is a frame, so the rendezvous passes it on; the executor refuses the stream.
#[tokio::test]
async fn handshake_of_random_bytes_gets_a_reset() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut socket = fixture.open().await?;
    socket
        .send_binary(&handshake_frame("stream-1", b"this is no handshake")?)
        .await?;
    let answer = socket.next_binary().await?;
    let frame = relay_proto::frame::Frame::decode(answer.into())?;
    assert_eq!(frame.stream_id.as_str(), "stream-1");
    assert!(
        matches!(frame.body, relay_proto::frame::Body::Reset { .. }),
        "{frame:?}"
    );
    fixture.unharmed().await
}

#[tokio::test]
async fn altered_url_is_refused() -> Result<()> {
    let fixture = Fixture::start().await?;
    let url = fixture.harness_url().await?;
    let swapped = |from: &str, to: &str| {
        assert!(url.contains(from), "the URL has no {from}");
        url.replacen(from, to, 1)
    };
    for (url, status, reason) in [
        (
            swapped("role=harness", "role=environment"),
            400,
            "extra_query_param",
        ),
        (swapped("role=harness", "role=admin"), 400, "invalid_role"),
        (swapped("version=1", "version=2"), 401, "invalid_signature"),
        (
            swapped("/environment/box", "/environment/other"),
            401,
            "invalid_signature",
        ),
        (swapped("expires=", "expires=9"), 401, "invalid_signature"),
        (swapped("nonce=", "nonce=0"), 401, "invalid_signature"),
        (swapped("sig=", "sig=A"), 401, "invalid_signature"),
        (
            url.split('?').next().unwrap_or_default().to_owned(),
            400,
            "missing_role",
        ),
    ] {
        let refused = RawWebSocket::open(&url)
            .await?
            .err()
            .context("an altered URL was accepted")?;
        let expected = Refused {
            status,
            reason: reason.to_owned(),
        };
        assert_eq!(
            refused,
            expected,
            "{}",
            url.split("&sig").next().unwrap_or_default()
        );
    }
    fixture.unharmed().await
}

#[tokio::test]
async fn url_is_good_for_one_websocket() -> Result<()> {
    let fixture = Fixture::start().await?;
    let url = fixture.harness_url().await?;
    let first = RawWebSocket::open(&url).await?;
    assert!(first.is_ok(), "{first:?}");
    let refused = RawWebSocket::open(&url)
        .await?
        .err()
        .context("the URL was accepted twice")?;
    assert_eq!(
        refused,
        Refused {
            status: 401,
            reason: "expired".to_owned()
        }
    );
    fixture.unharmed().await
}

/// A URL is worth no more than the token that it was issued for.
#[tokio::test]
async fn url_ends_with_the_token_behind_it() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let cloud = Cloud::start_guarded(data.path()).await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let token = Cloud::create_token(data.path(), &["--role", "harness", "--ttl", "3s"]).await?;
    let bundle = connect_bundle(&cloud, &token).await?;
    let url = bundle["url"].as_str().context("a bundle has a URL")?;
    // An empty body, because the token is looked at first and nothing is issued.
    let call = format!("{}/cloud/environment/{ENVIRONMENT}/connect", cloud.url());
    let refused = async || {
        let answer = post(&call, &token, &serde_json::json!({})).await;
        answer.is_ok_and(|answer| answer.status == 401)
    };
    testkit::until(refused).await?;
    let refused = RawWebSocket::open(url)
        .await?
        .err()
        .context("the URL was accepted")?;
    assert_eq!(
        refused,
        Refused {
            status: 401,
            reason: "expired".to_owned()
        }
    );
    Fixture {
        cloud,
        executor,
        _workspace: workspace,
    }
    .unharmed()
    .await
}
