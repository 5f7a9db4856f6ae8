//! `execctl ls`.

use harness::{Client, Error, PathUri};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    args::{Global, Ls},
    exit::Failure,
    output::{Printer, time},
    session,
    target::Target,
};

/// One line of a listing.
struct Entry {
    name: String,
    kind: &'static str,
    /// Size and time of change, when asked for.
    details: Option<(u64, i64)>,
}

/// Runs the subcommand.
pub(crate) async fn ls(global: &Global, args: Ls, printer: Printer) -> Result<u8, Failure> {
    let (environment, path) = Target::remote(&args.path);
    session::within(global, environment.as_deref(), async |client| {
        let uri = client.resolve(&path)?;
        let entries = list(client, &uri, &args).await;
        for entry in entries.map_err(|error| Failure::from(error).context(&path))? {
            printer.result(&object(&entry), &text(&entry))?;
        }
        Ok(0)
    })
    .await
}

async fn list(client: &Client, uri: &PathUri, args: &Ls) -> Result<Vec<Entry>, Error> {
    let fs = client.filesystem();
    let itself = fs.metadata(uri).await?;
    let native = uri
        .to_native()
        .map_err(|error| Error::Misuse(error.to_string()))?;
    if !itself.is_directory {
        let name = native.to_string_lossy().into_owned();
        let details = args.long.then_some((itself.size, itself.modified_at_ms));
        return Ok(vec![Entry {
            name,
            kind: kind(false, itself.is_file),
            details,
        }]);
    }
    let mut entries: Vec<Entry> = fs
        .list(uri)
        .await?
        .into_iter()
        .filter(|entry| args.all || !entry.file_name.starts_with('.'))
        .map(|entry| Entry {
            kind: kind(entry.is_directory, entry.is_file),
            name: entry.file_name,
            details: None,
        })
        .collect();
    if args.long {
        // The client bounds how many requests are on the way.
        let mut looks = JoinSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let (fs, child) = (fs.clone(), PathUri::from_native(&native.join(&entry.name)));
            looks.spawn(async move {
                let metadata = match child {
                    Some(child) => fs.metadata(&child).await,
                    None => Err(Error::Misuse("a path cannot be expressed".into())),
                };
                (index, metadata)
            });
        }
        while let Some(look) = looks.join_next().await {
            // What has vanished meanwhile, or has a name that is not text, keeps its bare line.
            if let Ok((index, Ok(metadata))) = look
                && let Some(entry) = entries.get_mut(index)
            {
                entry.details = Some((metadata.size, metadata.modified_at_ms));
            }
        }
    }
    Ok(entries)
}

fn kind(is_directory: bool, is_file: bool) -> &'static str {
    match (is_directory, is_file) {
        (true, _) => "directory",
        (false, true) => "file",
        (false, false) => "other",
    }
}

fn object(entry: &Entry) -> Value {
    let mut object = json!({ "type": "entry", "name": entry.name, "kind": entry.kind });
    if let (Some((size, modified)), Some(members)) = (entry.details, object.as_object_mut()) {
        members.insert("size".into(), size.into());
        members.insert("modified_at_ms".into(), modified.into());
    }
    object
}

fn text(entry: &Entry) -> String {
    let slash = if entry.kind == "directory" { "/" } else { "" };
    match entry.details {
        Some((size, modified)) => format!("{size:>12}  {}  {}{slash}", time(modified), entry.name),
        None => format!("{}{slash}", entry.name),
    }
}
