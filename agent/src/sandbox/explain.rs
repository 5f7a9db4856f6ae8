//! What a policy comes to on this host, in words and as JSON. Nothing is started.

use std::path::Path;

use exec_proto::sandbox::NetworkAccess;
use serde_json::{Value, json};

use super::policy::{Access, Policy};
use super::steps::{Action, Base, MountPlan};

/// For people.
pub(super) fn text(policy: Option<&Policy>, plan: Option<&MountPlan>) -> String {
    let Some(policy) = policy else {
        return "no sandbox: the policy asks for nothing that has to be enforced\n".to_owned();
    };
    let network = match policy.network {
        NetworkAccess::Enabled => "as without a sandbox, less sockets in the abstract namespace",
        NetworkAccess::Restricted => "none: a namespace of its own, and no sockets but pairs",
    };
    let mut text = format!("network: {network}\n");
    let Some((rules, plan)) = policy.files.as_ref().zip(plan) else {
        text.push_str("files: as without a sandbox\n");
        return text;
    };
    text.push_str("files, by the longest path that fits:\n");
    for (path, rule) in &rules.by_path {
        let access = access(rule.access);
        let missing = match rule.first_missing {
            Some(_) => "   (does not exist)",
            None => "",
        };
        text.push_str(&format!("  {access:6} {}{missing}\n", path.display()));
    }
    for link in &rules.links {
        text.push_str(&format!("  link   {}\n", link.display()));
    }
    let base = match &plan.base {
        Base::Host { writable: true } => "the host's files, writable",
        Base::Host { writable: false } => "the host's files, read-only",
        Base::Empty { .. } => "an empty directory",
    };
    text.push_str(&format!(
        "mounts, in this order:\n  {base}\n  a /proc and a /dev of its own\n"
    ));
    for step in &plan.steps {
        let action = match &step.action {
            Action::Bind { writable: true } => "show, writable",
            Action::Bind { writable: false } => "show, read-only",
            Action::Cover { .. } => "cover by an empty directory",
            Action::Blank => "cover by an empty file",
            Action::Occupy { .. } => "keep the absent name from being made",
            Action::Pin => "keep in place",
        };
        text.push_str(&format!("  {action}: {}\n", step.path.display()));
    }
    text
}

/// For programs: one object in one line. Paths that are no text have replacement characters.
pub(super) fn json(policy: Option<&Policy>, plan: Option<&MountPlan>) -> String {
    let network = match policy.map(|policy| policy.network) {
        Some(NetworkAccess::Restricted) => "none",
        Some(NetworkAccess::Enabled) | None => "open",
    };
    let files = policy.and_then(|policy| policy.files.as_ref()).zip(plan);
    let files = files.map(|(rules, plan)| {
        let by_path = rules.by_path.iter().map(|(path, rule)| {
            let exists = rule.first_missing.is_none();
            json!({"path": shown(path), "access": access(rule.access), "exists": exists})
        });
        let links = rules.links.iter().map(|link| shown(link));
        let base = match &plan.base {
            Base::Host { writable: true } => "write",
            Base::Host { writable: false } => "read",
            Base::Empty { .. } => "empty",
        };
        let mounts = plan.steps.iter().map(|step| {
            let action = match &step.action {
                Action::Bind { writable: true } => "write",
                Action::Bind { writable: false } => "read",
                Action::Cover { .. } => "cover-directory",
                Action::Blank => "cover-file",
                Action::Occupy { .. } => "keep-absent",
                Action::Pin => "keep-in-place",
            };
            json!({"path": shown(&step.path), "action": action})
        });
        json!({
            "rules": by_path.collect::<Vec<_>>(), "links": links.collect::<Vec<_>>(),
            "root": base, "mounts": mounts.collect::<Vec<_>>(),
        })
    });
    let whole = json!({
        "sandbox": policy.is_some(), "network": network, "files": files.unwrap_or(Value::Null),
    });
    format!("{whole}\n")
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Hidden => "absent",
        Access::Read => "read",
        Access::Write => "write",
        Access::Deny => "deny",
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
