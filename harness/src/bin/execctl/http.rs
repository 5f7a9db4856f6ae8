//! `execctl http`: a request made from where the executor is.

use std::{io::Read, time::Duration};

use exec_proto::http::RedirectPolicy;
use harness::HttpRequest;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    args::{Global, Http},
    connect::connect,
    exit::{self, Failure},
    output::Printer,
};

/// The largest body: it travels in one message.
const MAX_BODY_BYTES: u64 = 40 << 20;

/// Runs the subcommand.
pub(crate) async fn http(global: &Global, args: Http, printer: Printer) -> Result<u8, Failure> {
    let request = request(&args)?;
    let client = connect(global, None).await?;
    let mut response = client.http(request).await?;
    let mut stdout = tokio::io::stdout();
    let headers: Vec<_> = response
        .headers
        .iter()
        .map(|header| json!([header.name, header.value]))
        .collect();
    if printer.is_json() {
        let head = json!({ "type": "response", "status": response.status, "headers": headers });
        printer.result(&head, "")?;
    } else if args.include {
        let mut head = format!("HTTP {}\n", response.status);
        for header in &response.headers {
            head.push_str(&format!("{}: {}\n", header.name, header.value));
        }
        printer.result(&json!({}), &head)?;
    }
    while let Some(chunk) = response.next_chunk().await? {
        let line;
        let bytes: &[u8] = if printer.is_json() {
            let data = exec_proto::base64::encode(&chunk);
            line = format!("{}\n", json!({ "type": "body", "data_base64": data }));
            line.as_bytes()
        } else {
            &chunk
        };
        let written = async {
            stdout.write_all(bytes).await?;
            stdout.flush().await
        };
        written.await.map_err(|error| Failure::write(&error))?;
    }
    let failed = args.fail && response.status >= 400;
    if failed {
        printer.note(&format!(
            "the server answered with status {}",
            response.status
        ));
    }
    drop(response);
    client.close().await;
    Ok(if failed { exit::FAILURE } else { 0 })
}

fn request(args: &Http) -> Result<HttpRequest, Failure> {
    let default = if args.data.is_some() { "POST" } else { "GET" };
    let mut request = HttpRequest::new(
        args.request.as_deref().unwrap_or(default),
        args.target.as_str(),
    );
    for header in &args.header {
        let (name, value) = split_header(header)?;
        request = request.header(name, value);
    }
    for header in &args.header_from_env {
        let (name, value) = split_header(header)?;
        let (prefix, variable) = value
            .strip_suffix('}')
            .and_then(|value| value.rsplit_once('{'))
            .filter(|(_, variable)| !variable.is_empty())
            .ok_or_else(|| {
                Failure::usage("--header-from-env needs a value that ends with {VARIABLE}")
            })?;
        request = request.header_from_env(name, prefix, variable);
    }
    if let Some(data) = &args.data {
        request = request.body(read_data(data)?);
    }
    if let Some(secs) = args.timeout_secs {
        request = request.timeout(Duration::from_secs(secs));
    }
    if args.no_follow {
        request = request.redirects(RedirectPolicy::Stop);
    }
    Ok(request)
}

fn split_header(text: &str) -> Result<(&str, &str), Failure> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| Failure::usage("a header is written NAME: VALUE"))?;
    // A variable's value follows the text directly, so a blank at its end is meant.
    Ok((name.trim(), value.trim_start()))
}

fn read_data(data: &str) -> Result<Vec<u8>, Failure> {
    let Some(source) = data.strip_prefix('@') else {
        return Ok(data.as_bytes().to_vec());
    };
    let failed =
        |error: std::io::Error| Failure::usage(format!("failed to read {source}: {error}"));
    let mut body = Vec::new();
    let reader: Box<dyn Read> = match source {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    reader
        .take(MAX_BODY_BYTES + 1)
        .read_to_end(&mut body)
        .map_err(failed)?;
    if body.len() as u64 > MAX_BODY_BYTES {
        return Err(Failure::usage(format!(
            "the body exceeds the limit of {MAX_BODY_BYTES} bytes"
        )));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_split_at_the_first_colon() {
        assert_eq!(split_header("A:b:c").unwrap(), ("A", "b:c"));
        assert_eq!(
            split_header("Authorization: Bearer ").unwrap(),
            ("Authorization", "Bearer ")
        );
        assert!(split_header("none").is_err());
    }
}
