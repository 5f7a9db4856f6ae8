//! `execctl info`.

use serde_json::{Value, json};

use crate::{args::Global, exit::Failure, output::Printer, session};

/// Runs the subcommand.
pub(crate) async fn info(global: &Global, printer: Printer) -> Result<u8, Failure> {
    session::within(global, None, async |client| {
        let status = client.status().await?;
        let info = client.info();
        let mut object = serde_json::to_value(&info).map_err(|error| {
            Failure::other(format!("the description does not serialize: {error}"))
        })?;
        if let Some(members) = object.as_object_mut() {
            members.insert("type".into(), json!("info"));
            members.insert("status".into(), json!(status));
        }
        let native = |uri: &Option<harness::PathUri>| {
            let path = uri.as_ref().and_then(|uri| uri.to_native().ok());
            path.map_or_else(
                || "unknown".to_owned(),
                |path| path.to_string_lossy().into_owned(),
            )
        };
        let capabilities = object.get("capabilities").and_then(Value::as_object);
        let capabilities: Vec<&str> = capabilities
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.as_bool() == Some(true))
            .map(|(name, _)| name.as_str())
            .collect();
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        let text = format!(
            "status:        {status}\nversion:       {}\nplatform:      {}\nshell:         {}\n\
         directory:     {}\nhome:          {}\ntemporary:     {}\ncapabilities:  {}",
            or_unknown(&info.executor_version),
            or_unknown(&info.platform_os),
            info.shell.path,
            native(&info.cwd),
            native(&info.user_home_dir),
            native(&info.temp_dir),
            if capabilities.is_empty() {
                "none".to_owned()
            } else {
                capabilities.join(" ")
            },
        );
        printer.result(&object, &text)?;
        Ok(0)
    })
    .await
}
