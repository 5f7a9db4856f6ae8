//! The images of the agent.

use anyhow::{Context as _, Result};
use testkit::{
    processes::{Cloud, DEADLINE, Execctl, Route},
    workspace::Workspace,
};

use crate::{
    container::{AGENT, AGENT_STATIC, attach, container, stop, succeeded},
    turn::{self, PLACE},
};

/// Runs a script in the container and returns what it prints.
async fn shell(execctl: &Execctl, script: &str) -> Result<String> {
    let finished = execctl.run(["run", "--", "sh", "-c", script]).await?;
    succeeded(&finished).with_context(|| script.to_owned())
}

#[tokio::test]
async fn attaches_with_three_variables_and_no_privileges() -> Result<()> {
    let cloud = Cloud::start().await?;
    let agent = attach(&cloud, AGENT, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let who = shell(&execctl, "id -un; id -u; pwd").await?;
    assert_eq!(who, "executor\n10001\n/workspace\n");
    let capabilities = shell(&execctl, "grep Cap /proc/self/status").await?;
    assert_eq!(capabilities.lines().count(), 5, "{capabilities}");
    for line in capabilities.lines() {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let refused = execctl.run(["run", "--", "touch", "/etc/x"]).await?;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    stop(agent).await
}

/// The token came in the environment, and every process of the container has the same user.
#[tokio::test]
async fn commands_do_not_find_the_token() -> Result<()> {
    let cloud = Cloud::start().await?;
    let agent = attach(&cloud, AGENT, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let variables = "env; for file in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $file; done; true";
    let text = shell(&execctl, variables).await?;
    assert!(text.contains("HOME=/workspace"), "{text}");
    assert!(!text.contains("EXEC_SERVER_TOKEN"), "{text}");
    assert!(!text.contains(cloud.executor_token()), "{text}");
    stop(agent).await
}

/// What a command leaves behind becomes a child of process 1, which has to collect it.
#[tokio::test]
async fn as_process_one_it_collects_orphans() -> Result<()> {
    let cloud = Cloud::start().await?;
    let agent = attach(&cloud, AGENT, &[]).await?;
    let execctl = Execctl::new(&cloud);
    assert_eq!(shell(&execctl, "cat /proc/1/comm").await?, "exec-server\n");
    // Each waits until it is a child of process 1, leaves a mark, and then ends by itself.
    let orphan = "until read _ _ _ parent _ < /proc/$$/stat && [ $parent = 1 ]; do sleep 0.05; done; \
                  mkdir /tmp/orphan-$$";
    let five = format!("for n in 1 2 3 4 5; do setsid sh -c '{orphan}' & done");
    shell(&execctl, &five).await?;
    testkit::until(async || {
        let marks = shell(&execctl, "ls /tmp | grep -c orphan- || true").await;
        marks.is_ok_and(|count| count == "5\n")
    })
    .await
    .context("orphans were no children of process 1")?;
    testkit::until(async || {
        let zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true";
        let zombies = shell(&execctl, zombies).await;
        zombies.is_ok_and(|count| count == "0\n")
    })
    .await
    .context("zombies stay")?;
    stop(agent).await
}

/// A turn of the reference client, in a project that belongs to the user of the image.
#[tokio::test]
async fn reference_client_works_in_the_container() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let path = workspace.path().display();
    let (name, value) = PLACE;
    let options = [
        &format!("--volume={path}:{path}:U") as &str,
        &format!("--workdir={path}"),
        &format!("--env={name}={value}"),
    ];
    let agent = attach(&cloud, AGENT, &options).await?;
    turn::check(&workspace, &Route::through(&cloud)).await?;
    stop(agent).await
}

/// There is no shell in it, but there are files, and the program itself can be run.
#[tokio::test]
async fn static_image_needs_nothing_but_the_program() -> Result<()> {
    let cloud = Cloud::start().await?;
    let agent = attach(&cloud, AGENT_STATIC, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let version = execctl
        .run(["run", "--", "exec-server", "--version"])
        .await?;
    let version = succeeded(&version)?;
    assert!(version.starts_with("exec-server "), "{version}");
    let listed = execctl.run(["ls", "/usr/local/bin"]).await?;
    assert!(succeeded(&listed)?.contains("exec-server"));
    let absent = execctl.run(["run", "--", "sh", "-c", "true"]).await?;
    assert_eq!(absent.code(), Some(127), "{}", absent.stderr);
    stop(agent).await
}

/// The sandbox for commands is made of namespaces, which runtimes of containers withhold: without
/// them it refuses, and with two options it works.
#[tokio::test]
async fn sandbox_needs_namespaces_and_an_unmasked_proc() -> Result<()> {
    let options = [
        "--volume=/workspace",
        "--security-opt=seccomp=unconfined",
        "--security-opt=unmask=ALL",
    ];
    for (options, code) in [(&options[..1], 77), (&options, 0)] {
        let finished = container(options)?
            .args([AGENT, "sandbox", "--", "sh", "-c"])
            .arg("touch inside && ! touch /usr/outside 2>/dev/null")
            .finish(b"", DEADLINE)
            .await?;
        assert_eq!(finished.code(), Some(code), "{}", finished.stderr);
    }
    Ok(())
}
