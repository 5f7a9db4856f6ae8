//! Registry calls made by hand.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::http_client;
use crate::processes::{Cloud, ENVIRONMENT};

/// What the registry said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body; null when it is not JSON.
    pub body: Value,
}

/// Posts `body` to `url` with `token` as bearer.
///
/// # Errors
///
/// When there is no HTTP answer.
pub async fn post(url: &str, token: &str, body: &Value) -> Result<Answer> {
    let response = http_client()?
        .post(url)
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    let status = response.status().as_u16();
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
    Ok(Answer { status, body })
}

/// Asks `cloud` for a connect bundle of its environment with `token` and a key that nobody holds.
///
/// # Errors
///
/// When the registry refuses.
pub async fn connect_bundle(cloud: &Cloud, token: &str) -> Result<Value> {
    let url = format!("{}/cloud/environment/{ENVIRONMENT}/connect", cloud.url());
    let body = json!({"harness_public_key": well_formed_key()});
    let answer = post(&url, token, &body).await?;
    ensure!(answer.status == 200, "connect was refused: {answer:?}");
    Ok(answer.body)
}

/// A public key of the right form, which is all that a registry can see. Nobody holds its secret.
pub fn well_formed_key() -> Value {
    // Base64 of 32 and of 1,184 bytes; all zero but for the first, which makes the point valid.
    let x25519 = format!("CQ{}=", "A".repeat(41));
    let mlkem768 = format!("{}=", "A".repeat(1_579));
    json!({
        "suite": "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256",
        "x25519_public_key": x25519,
        "mlkem768_public_key": mlkem768,
    })
}
