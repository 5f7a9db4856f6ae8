//! The reference as client and as executor, in every combination with our programs.

use anyhow::{Context as _, Result};
use testkit::{
    model::{Call, Script, ScriptedModel},
    processes::{
        Agent, Cloud, CodexClient, CodexExecutor, CodexListener, Execctl, Listener, Route,
    },
    workspace::Workspace,
};

use crate::{
    session,
    turn::{self, PLACE},
};

/// The expectations of the turn are the reference's own: this test has none of our programs.
#[tokio::test]
async fn reference_client_with_reference_listener() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = CodexListener::start(&workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::Direct { url }).await?;
    executor.never_panicked()
}

#[tokio::test]
async fn reference_client_with_our_listener() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::Direct { url }).await?;
    executor.never_panicked()
}

#[tokio::test]
async fn reference_client_through_our_cloud_with_our_executor() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::through(&cloud)).await?;
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn reference_client_through_our_cloud_with_reference_executor() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let _executor = CodexExecutor::start(&cloud, &workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::through(&cloud)).await?;
    cloud.child().never_panicked()
}

/// One more way for the reference client: it starts our client, which carries the messages.
#[tokio::test]
async fn reference_client_with_our_client_as_its_program() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::Program(Execctl::new(&cloud))).await?;
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

/// Why `docs/codex.md` says `include_local = false`: what cannot run there does not run here.
#[tokio::test]
async fn reference_client_without_a_local_environment_runs_nothing_here() -> Result<()> {
    let workspace = Workspace::new()?;
    let data = tempfile::tempdir()?;
    let cloud = Cloud::start_guarded(data.path()).await?;
    let script = Script::new().call(Call::exec("there", "touch was-here"));
    let model = ScriptedModel::start(script).await?;
    let route = Route::Program(Execctl::new(&cloud).token("wrong"));
    let turn = CodexClient::turn(&model, &workspace, &route).await?;
    model.finished().with_context(|| turn.finished.stderr)?;
    let output = model.text_output("there")?;
    assert!(
        output.starts_with("No usable execution environment is available."),
        "{output}"
    );
    assert!(!workspace.path().join("was-here").exists());
    cloud.child().never_panicked()
}

#[tokio::test]
async fn execctl_through_our_cloud_with_our_executor() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[PLACE]).await?;
    session::check(&workspace, &Execctl::new(&cloud)).await?;
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn execctl_through_our_cloud_with_reference_executor() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let _executor = CodexExecutor::start(&cloud, &workspace, &[PLACE]).await?;
    session::check(&workspace, &Execctl::new(&cloud)).await?;
    cloud.child().never_panicked()
}
