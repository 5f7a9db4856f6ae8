//! `execctl http`: a request made from where the executor is.

use std::time::Duration;

use exec_proto::http::RedirectPolicy;
use harness::{HttpRequest, HttpResponse};
use serde_json::json;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
};

use crate::{
    args::{Global, Http},
    exit::{self, Failure},
    output::Printer,
    session,
    sink::{Out, Sink},
};

/// A file up to this size is sent as a whole, which is known when a redirect asks for it again.
const GIVEN_BYTES: u64 = 1 << 20;

/// Runs the subcommand.
pub(crate) async fn http(global: &Global, args: Http, printer: Printer) -> Result<u8, Failure> {
    let mut request = request(&args)?;
    let data = data(args.data.as_deref()).await?;
    session::within(global, None, async |client| {
        let response = match data {
            Data::None => client.http(request).await?,
            Data::Given(body) => client.http(request.body(body)).await?,
            Data::Read(body, size) => {
                if let Some(size) = size {
                    request = request.header("content-length", size.to_string());
                }
                client.http_upload(request, body).await?
            }
        };
        show(response, &args, printer).await
    })
    .await
}

async fn show(mut response: HttpResponse, args: &Http, printer: Printer) -> Result<u8, Failure> {
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
    Sink::with(async |sink| {
        while let Some(chunk) = response.next_chunk().await? {
            let bytes = if printer.is_json() {
                let data = exec_proto::base64::encode(&chunk);
                format!("{}\n", json!({ "type": "body", "data_base64": data })).into()
            } else {
                chunk
            };
            sink.write(Out::Results, bytes).await;
        }
        Ok(())
    })
    .await?;
    let failed = args.fail && response.status >= 400;
    if failed {
        printer.note(&format!(
            "the server answered with status {}",
            response.status
        ));
    }
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

/// The body of a request.
enum Data {
    None,
    Given(Vec<u8>),
    /// Too large to be held, or of unknown size.
    Read(Box<dyn AsyncRead + Send + Unpin>, Option<u64>),
}

async fn data(data: Option<&str>) -> Result<Data, Failure> {
    let Some(data) = data else {
        return Ok(Data::None);
    };
    let Some(source) = data.strip_prefix('@') else {
        return Ok(Data::Given(data.as_bytes().to_vec()));
    };
    if source == "-" {
        return Ok(Data::Read(Box::new(tokio::io::stdin()), None));
    }
    let failed =
        |error: std::io::Error| Failure::usage(format!("failed to read {source}: {error}"));
    let file = File::open(source).await.map_err(failed)?;
    let metadata = file.metadata().await.map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!(
            "failed to read {source}: it is a directory"
        )));
    }
    if !metadata.is_file() {
        return Ok(Data::Read(Box::new(file), None));
    }
    let size = metadata.len();
    if size > GIVEN_BYTES {
        return Ok(Data::Read(Box::new(file.take(size)), Some(size)));
    }
    let mut body = Vec::new();
    let read = file.take(GIVEN_BYTES).read_to_end(&mut body).await;
    read.map_err(failed)?;
    Ok(Data::Given(body))
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
