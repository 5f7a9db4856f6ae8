//! Turns of the reference client with a sandbox, through the relay and enforced by our executor.
//!
//! What the model sees is compared to the letter: the words are the shell's, the system's and the
//! client's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use testkit::{
    model::{Call, Script, ScriptedModel},
    processes::{Agent, Approval, Cloud, CodexClient, Route},
    workspace::{IMAGE, INSTRUCTIONS, Workspace},
};

use crate::turn::exited;

/// A workspace with a repository, and a directory beside it.
struct Place {
    workspace: Workspace,
    outside: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let workspace = Workspace::new()?;
        // Not in the temporary directory, which the client makes writable.
        let outside = tempfile::tempdir_in("/var/tmp")?;
        std::fs::create_dir(workspace.path().join(".git"))?;
        std::fs::write(workspace.path().join(CONFIG), "[core]\n")?;
        Ok(Self { workspace, outside })
    }

    fn path(&self) -> &Path {
        self.workspace.path()
    }

    fn escape(&self) -> PathBuf {
        self.outside.path().join("escaped")
    }

    /// What every sandbox of the client withholds.
    fn forbidden(&self) -> [Call; 3] {
        let escape = self.escape();
        [
            Call::exec("repository", "echo x >> .git/config"),
            Call::exec("hook", "echo x > .git/hooked"),
            Call::exec("outside", &format!("echo x > {}", escape.display())),
        ]
    }

    fn check_forbidden(&self, model: &ScriptedModel) -> Result<()> {
        for (id, path) in [
            ("repository", Path::new(CONFIG)),
            ("hook", Path::new(".git/hooked")),
            ("outside", &self.escape()),
        ] {
            assert_eq!(model.text_output(id)?, exited(1, &read_only(path)), "{id}");
        }
        let read = |name: &str| std::fs::read_to_string(self.path().join(name));
        assert_eq!(read(CONFIG)?, "[core]\n");
        assert!(!self.path().join(".git/hooked").exists());
        assert_eq!(std::fs::read_dir(self.outside.path())?.count(), 0);
        Ok(())
    }

    /// Runs a script with commands confined as the client asks.
    async fn turn(&self, script: Script, approval: Approval) -> Result<ScriptedModel> {
        let cloud = Cloud::start().await?;
        let executor = Agent::start(&cloud, &self.workspace, &[]).await?;
        let model = ScriptedModel::start(script).await?;
        let route = Route::through(&cloud);
        let turn = CodexClient::turn_with(&model, &self.workspace, &route, approval).await?;
        model
            .finished()
            .with_context(|| turn.finished.stderr.clone())?;
        assert!(turn.finished.status.success(), "{}", turn.finished.stderr);
        executor.never_panicked()?;
        Ok(model)
    }
}

#[tokio::test]
async fn workspace_write_turn_writes_the_workspace_and_nothing_else() -> Result<()> {
    let place = Place::new()?;
    let mut script = Script::new()
        .call(Call::exec(
            "inside",
            "echo in > inside.txt && cat inside.txt",
        ))
        .call(Call::exec("metadata", "echo x > .codex/config.toml"))
        .call(Call::exec("patch", PATCH))
        .call(Call::view_image("image", "image.png"));
    for call in place.forbidden() {
        script = script.call(call);
    }
    let model = place.turn(script, Approval::WorkspaceWrite).await?;
    assert_eq!(model.text_output("inside")?, exited(0, "in\n"));
    let refused = read_only(Path::new(".codex/config.toml"));
    assert_eq!(model.text_output("metadata")?, exited(1, &refused));
    // The client asks for this by file requests.
    assert!(model.text_output("patch")?.contains("Success"));
    let patched = std::fs::read_to_string(place.path().join("patched.txt"))?;
    assert_eq!(patched, "one\n");
    assert_eq!(model.output("image")?[0]["type"], "input_image");
    place.check_forbidden(&model)?;
    assert!(
        !place.path().join(".codex").exists(),
        "nothing is left behind"
    );
    Ok(())
}

#[tokio::test]
async fn read_only_turn_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let mut script = Script::new()
        .call(Call::exec("reads", "cat AGENTS.md"))
        .call(Call::exec("writes", "echo x > new.txt"))
        .call(Call::view_image("image", "image.png"));
    for call in place.forbidden() {
        script = script.call(call);
    }
    let model = place.turn(script, Approval::ReadOnly).await?;
    assert_eq!(model.text_output("reads")?, exited(0, INSTRUCTIONS));
    let refused = read_only(Path::new("new.txt"));
    assert_eq!(model.text_output("writes")?, exited(1, &refused));
    assert_eq!(model.output("image")?[0]["type"], "input_image");
    assert!(!place.path().join("new.txt").exists());
    place.check_forbidden(&model)
}

#[tokio::test]
async fn what_a_profile_denies_is_read_by_nothing_in_a_writable_workspace() -> Result<()> {
    what_is_denied(GUARDED_WORKSPACE, true).await
}

#[tokio::test]
async fn what_a_profile_denies_is_read_by_nothing_in_a_read_only_one() -> Result<()> {
    what_is_denied(GUARDED_READ_ONLY, false).await
}

/// What the user denies can be read neither by commands nor by the client's own file requests.
async fn what_is_denied(tables: &'static str, writes: bool) -> Result<()> {
    let place = Place::new()?;
    for directory in ["sub/deep", "private"] {
        std::fs::create_dir_all(place.path().join(directory))?;
    }
    for name in [".env", "sub/deep/image.env", "private/image.png"] {
        std::fs::write(place.path().join(name), IMAGE)?;
    }
    let mut script = Script::new()
        .call(Call::exec("allowed", "cat AGENTS.md"))
        .call(Call::exec("file", "cat .env"))
        .call(Call::exec("deep", "cat sub/deep/image.env"))
        .call(Call::exec("below", "cat private/image.png"))
        .call(Call::exec("overwritten", "echo x > private/image.png"))
        .call(Call::exec("writes", "echo x > new.txt"))
        .call(Call::view_image("image", "image.png"))
        .call(Call::view_image("denied image", "sub/deep/image.env"))
        .call(Call::view_image("hidden image", "private/image.png"));
    for call in place.forbidden() {
        script = script.call(call);
    }
    let model = place.turn(script, Approval::Profile(tables)).await?;
    assert_eq!(model.text_output("allowed")?, exited(0, INSTRUCTIONS));
    for (id, path) in [
        ("file", ".env"),
        ("deep", "sub/deep/image.env"),
        ("below", "private/image.png"),
    ] {
        let refused = format!("cat: {path}: Permission denied\n");
        assert_eq!(model.text_output(id)?, exited(1, &refused), "{id}");
    }
    let refused = "/bin/bash: line 1: private/image.png: Permission denied\n";
    assert_eq!(model.text_output("overwritten")?, exited(1, refused));
    let expected = match writes {
        true => exited(0, ""),
        false => exited(1, &read_only(Path::new("new.txt"))),
    };
    assert_eq!(model.text_output("writes")?, expected);
    assert_eq!(model.output("image")?[0]["type"], "input_image");
    for (id, step, path) in [
        ("denied image", "read", "sub/deep/image.env"),
        ("hidden image", "locate", "private/image.png"),
    ] {
        let path = place.path().join(path);
        let refused = format!(
            "unable to {step} image at `{}`: Permission denied (os error 13)",
            path.display()
        );
        assert_eq!(model.output(id)?, refused, "{id}");
    }
    place.check_forbidden(&model)
}

/// What the shell says when it may not write there.
fn read_only(path: &Path) -> String {
    format!(
        "/bin/bash: line 1: {}: Read-only file system\n",
        path.display()
    )
}

const CONFIG: &str = ".git/config";

const PATCH: &str = "apply_patch <<'EOF'
*** Begin Patch
*** Add File: patched.txt
+one
*** End Patch
EOF
";

const GUARDED_WORKSPACE: &str = "
[permissions.guarded]
extends = \":workspace\"
[permissions.guarded.filesystem.\":workspace_roots\"]
\"**/*.env\" = \"deny\"
\"private\" = \"deny\"
";

const GUARDED_READ_ONLY: &str = "
[permissions.guarded]
extends = \":read-only\"
[permissions.guarded.filesystem.\":workspace_roots\"]
\"**/*.env\" = \"deny\"
\"private\" = \"deny\"
";
