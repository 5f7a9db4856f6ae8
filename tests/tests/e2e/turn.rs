//! One turn of the reference client that uses everything an executor offers to the model.
//!
//! The expectations are what the reference executor gives, and they hold for every executor and
//! every route: the model must not be able to tell the difference. Session ids are drawn at
//! random by the client, so they are taken from the output itself; chunk ids and wall times are
//! normalized; everything else is compared to the letter.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use testkit::{
    model::{Call, Script, ScriptedModel, session_id},
    processes::{CodexClient, Route, Turn},
    workspace::{IMAGE, INSTRUCTIONS, Workspace},
};

/// A variable that only the executor has. Its value proves where a command ran.
pub(crate) const PLACE: (&str, &str) = ("E2E_PLACE", "the executor");

/// Runs the turn behind `route` and asserts everything that reached the model.
///
/// # Errors
///
/// When the client fails or does not follow the script.
pub(crate) async fn check(workspace: &Workspace, route: &Route) -> Result<()> {
    let model = ScriptedModel::start(script()).await?;
    let turn = CodexClient::turn(&model, workspace, route).await?;
    model
        .finished()
        .with_context(|| turn.finished.stderr.clone())?;
    assert!(turn.finished.status.success(), "{}", turn.finished.stderr);

    instructions_reach_the_model(&model, workspace);
    plain_commands(&model)?;
    terminal_session(&model)?;
    command_that_outlives_its_yield(&model)?;
    large_output(&model, &turn)?;
    images(&model, workspace)?;
    parallel_commands(&model)?;
    patch(&model, workspace)?;
    Ok(())
}

fn script() -> Script {
    Script::new()
        .call(Call::exec("plain", "echo \"out at $E2E_PLACE\""))
        .call(Call::exec("fails", "echo nope >&2; exit 3"))
        .call(Call::exec("unknown", "no-such-command-here"))
        .call(Call::exec_tty("tty", TTY_COMMAND).yield_after_ms(SHORT_YIELD_MS))
        .call(Call::write_stdin("typed", "tty", "hello\n"))
        .call(Call::exec("long", LONG_COMMAND).yield_after_ms(SHORT_YIELD_MS))
        .call(Call::exec("release", "touch go"))
        .call(Call::write_stdin("polled", "long", ""))
        .call(Call::exec("large", LARGE_COMMAND))
        .call(Call::view_image("image", "image.png"))
        .call(Call::view_image("no image", "absent.png"))
        .calls(PARALLEL.map(|(id, others)| Call::exec(id, &rendezvous_command(id, others))))
        .call(Call::exec("patch", PATCH_COMMAND))
        .call(Call::exec("patched", "cat sub/new.txt AGENTS.md"))
}

fn instructions_reach_the_model(model: &ScriptedModel, workspace: &Workspace) {
    let expected = format!(
        "# AGENTS.md instructions for {}\n\n<INSTRUCTIONS>\n{INSTRUCTIONS}\n</INSTRUCTIONS>",
        workspace.path().display()
    );
    let texts = model.user_texts();
    assert!(texts.contains(&expected), "{texts:#?}");
}

fn plain_commands(model: &ScriptedModel) -> Result<()> {
    let (_, place) = PLACE;
    assert_eq!(
        model.text_output("plain")?,
        exited(0, &format!("out at {place}\n"))
    );
    assert_eq!(model.text_output("fails")?, exited(3, "nope\n"));
    let message = "/bin/bash: line 1: no-such-command-here: command not found\n";
    assert_eq!(model.text_output("unknown")?, exited(127, message));
    Ok(())
}

fn terminal_session(model: &ScriptedModel) -> Result<()> {
    let tty = model.text_output("tty")?;
    assert_eq!(tty, running(&tty, "24 80\r\nterminal\r\n"));
    assert_eq!(
        model.text_output("typed")?,
        exited(0, "hello\r\ngot hello\r\n")
    );
    Ok(())
}

fn command_that_outlives_its_yield(model: &ScriptedModel) -> Result<()> {
    let long = model.text_output("long")?;
    assert_eq!(long, running(&long, "first\n"));
    assert_eq!(model.text_output("release")?, exited(0, ""));
    assert_eq!(model.text_output("polled")?, exited(5, "second\n"));
    Ok(())
}

/// The model sees both ends; the client's own event has all of it.
fn large_output(model: &ScriptedModel, turn: &Turn) -> Result<()> {
    let output = large_text();
    let ends = SHOWN_BYTES / 2;
    let shortened = format!(
        "Warning: truncated output (original token count: {})\nTotal output lines: {}\n\n\
         {}…{} chars truncated…{}",
        LARGE_BYTES / BYTES_PER_TOKEN,
        output.lines().count(),
        &output[..ends],
        LARGE_BYTES - SHOWN_BYTES,
        &output[LARGE_BYTES - ends..],
    );
    let header = header("Process exited with code 0", LARGE_BYTES / BYTES_PER_TOKEN);
    assert_eq!(model.text_output("large")?, format!("{header}{shortened}"));
    let (complete, code) = turn
        .command("seq -w")
        .context("no event of the large command")?;
    assert_eq!(code, Some(0));
    assert!(complete == output, "{} bytes that differ", complete.len());
    Ok(())
}

fn images(model: &ScriptedModel, workspace: &Workspace) -> Result<()> {
    let url = format!("data:image/png;base64,{}", STANDARD.encode(IMAGE));
    let expected = json!([{"type": "input_image", "image_url": url, "detail": "high"}]);
    assert_eq!(model.output("image")?, expected);
    let absent = format!(
        "unable to locate image at `{}`: No such file or directory (os error 2)",
        workspace.path().join("absent.png").display()
    );
    assert_eq!(model.output("no image")?, json!(absent));
    Ok(())
}

/// Each waits for the other two, so they end only if all three run at once.
fn parallel_commands(model: &ScriptedModel) -> Result<()> {
    for (id, _) in PARALLEL {
        assert_eq!(model.text_output(id)?, exited(0, &format!("{id}\n")));
    }
    Ok(())
}

/// The client turns this command into file operations instead of running it.
fn patch(model: &ScriptedModel, workspace: &Workspace) -> Result<()> {
    let output = model.text_output("patch")?;
    let head = "Wall time: <time>\nOutput:\nExit code: 0\nWall time: ";
    // The client measures the file operations apart, in tenths of a second.
    let (time, text) = output
        .strip_prefix(head)
        .and_then(|output| output.split_once(" seconds\n"))
        .with_context(|| output.clone())?;
    time.parse::<f64>().with_context(|| output.clone())?;
    let expected = "Output:\nSuccess. Updated the following files:\nA sub/new.txt\nM AGENTS.md\n";
    assert_eq!(text, expected);
    let content = format!(
        "one\ntwo\n{}",
        INSTRUCTIONS.replace("seventeen", "eighteen")
    );
    assert_eq!(model.text_output("patched")?, exited(0, &content));
    assert_eq!(
        std::fs::read_to_string(workspace.path().join("sub/new.txt"))?,
        "one\ntwo\n"
    );
    Ok(())
}

/// What the model sees of a command that ended with `code` after writing `output`.
pub(crate) fn exited(code: i32, output: &str) -> String {
    let tokens = output.len().div_ceil(BYTES_PER_TOKEN);
    format!(
        "{}{output}",
        header(&format!("Process exited with code {code}"), tokens)
    )
}

/// What the model sees of a command that still runs; `actual` supplies the session id.
fn running(actual: &str, output: &str) -> String {
    let id = session_id(actual).map_or_else(|| "<none>".to_owned(), |id| id.to_string());
    let tokens = output.len().div_ceil(BYTES_PER_TOKEN);
    format!(
        "{}{output}",
        header(&format!("Process running with session ID {id}"), tokens)
    )
}

fn header(state: &str, tokens: usize) -> String {
    format!("Chunk ID: <id>\nWall time: <time>\n{state}\nOriginal token count: {tokens}\nOutput:\n")
}

fn rendezvous_command(id: &str, others: [&str; 2]) -> String {
    let [one, two] = others;
    format!(
        "touch {id}.here; while [ ! -e {one}.here ] || [ ! -e {two}.here ]; do sleep 0.02; done; \
         echo {id}"
    )
}

/// The output of [`LARGE_COMMAND`].
fn large_text() -> String {
    let mut text = String::with_capacity(LARGE_BYTES + 7);
    for number in 0.. {
        if text.len() >= LARGE_BYTES {
            break;
        }
        text.push_str(&format!("{number:06}\n"));
    }
    text.truncate(LARGE_BYTES);
    text
}

const TTY_COMMAND: &str =
    "stty size; test -t 0 && test -t 1 && echo terminal; read line; echo \"got $line\"";

const LONG_COMMAND: &str =
    "echo first; while [ ! -e go ]; do sleep 0.02; done; echo second; exit 5";

const LARGE_COMMAND: &str = "seq -w 0 149796 | head -c 1048576";

const PATCH_COMMAND: &str = "apply_patch <<'EOF'
*** Begin Patch
*** Add File: sub/new.txt
+one
+two
*** Update File: AGENTS.md
@@
-Always count to seventeen first.
+Always count to eighteen first.
*** End Patch
EOF
";

const PARALLEL: [(&str, [&str; 2]); 3] = [("a", ["b", "c"]), ("b", ["a", "c"]), ("c", ["a", "b"])];

/// Long enough for a command to write its first words on a busy machine.
const SHORT_YIELD_MS: u32 = 2_500;

/// What [`LARGE_COMMAND`] writes: as much as the client keeps of one command.
const LARGE_BYTES: usize = 1 << 20;

/// What the client shows the model of a long output, half of it from each end.
const SHOWN_BYTES: usize = 10_000;

/// The client's estimate.
const BYTES_PER_TOKEN: usize = 4;
