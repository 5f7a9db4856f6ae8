//! Turns of the reference client with a sandbox, enforced by our executor.

use anyhow::{Context as _, Result};
use testkit::{
    model::{Call, Script, ScriptedModel},
    processes::{Approval, CodexClient, Listener, Route, Turn},
    workspace::Workspace,
};

/// Runs a script with commands confined as the client asks.
async fn turn(
    workspace: &Workspace,
    script: Script,
    approval: Approval,
) -> Result<(ScriptedModel, Turn)> {
    let (executor, url) = Listener::start(workspace, &[]).await?;
    let model = ScriptedModel::start(script).await?;
    let route = Route::Direct { url };
    let turn = CodexClient::turn_with(&model, workspace, &route, approval).await?;
    model
        .finished()
        .with_context(|| turn.finished.stderr.clone())?;
    assert!(turn.finished.status.success(), "{}", turn.finished.stderr);
    executor.never_panicked()?;
    Ok((model, turn))
}

#[tokio::test]
async fn workspace_write_turn_writes_the_workspace_and_nothing_else() -> Result<()> {
    let workspace = Workspace::new()?;
    let outside = tempfile::tempdir_in("/var/tmp")?;
    let escape = format!("touch {}/escaped", outside.path().display());
    let script = Script::new()
        .call(Call::exec(
            "inside",
            "echo in > inside.txt && cat inside.txt",
        ))
        .call(Call::exec("outside", &escape))
        .call(Call::exec("metadata", "mkdir .codex"))
        .call(Call::exec("patch", PATCH));
    let (model, _) = turn(&workspace, script, Approval::WorkspaceWrite).await?;
    let inside = model.text_output("inside")?;
    assert!(
        inside.contains("exited with code 0") && inside.ends_with("in\n"),
        "{inside}"
    );
    let outside_output = model.text_output("outside")?;
    assert!(
        outside_output.contains("Read-only file system"),
        "{outside_output}"
    );
    assert!(!outside.path().join("escaped").exists());
    let metadata = model.text_output("metadata")?;
    assert!(metadata.contains("File exists"), "{metadata}");
    // The client asks for this by file requests.
    assert!(model.text_output("patch")?.contains("Success"));
    let patched = std::fs::read_to_string(workspace.path().join("patched.txt"))?;
    assert_eq!(patched, "one\n");
    assert!(
        !workspace.path().join(".codex").exists(),
        "nothing is left behind"
    );
    Ok(())
}

#[tokio::test]
async fn read_only_turn_changes_nothing() -> Result<()> {
    let workspace = Workspace::new()?;
    let script = Script::new()
        .call(Call::exec("reads", "cat AGENTS.md"))
        .call(Call::exec("writes", "echo x > new.txt"));
    let (model, _) = turn(&workspace, script, Approval::ReadOnly).await?;
    let reads = model.text_output("reads")?;
    assert!(
        reads.contains("Always count to seventeen first."),
        "{reads}"
    );
    let writes = model.text_output("writes")?;
    assert!(writes.contains("Read-only file system"), "{writes}");
    assert!(!workspace.path().join("new.txt").exists());
    Ok(())
}

const PATCH: &str = "apply_patch <<'EOF'
*** Begin Patch
*** Add File: patched.txt
+one
*** End Patch
EOF
";
