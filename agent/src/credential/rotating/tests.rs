use std::io::{BufReader, Write as _, pipe};

use http::{HeaderMap, header::AUTHORIZATION};

use super::*;

fn environment() -> EnvironmentId {
    EnvironmentId::new("env1").unwrap()
}

fn line(token: &str, expires_at: i64) -> String {
    format!(
        "{{\"version\":1,\"environment_id\":\"env1\",\"token\":\"{token}\",\
         \"expires_at\":{expires_at}}}\n"
    )
}

fn outcome(text: &str) -> Result<i64, RotationError> {
    accept(text.as_bytes(), &environment(), 1_000).map(|timed| timed.expires_at)
}

fn bearer(credential: Credential) -> String {
    let mut headers = HeaderMap::new();
    credential.apply(&mut headers);
    headers[AUTHORIZATION].to_str().unwrap().to_owned()
}

/// Reads from a pipe of which this is the other end.
fn piped() -> (Rotating, io::PipeWriter, CancellationToken) {
    let (reader, writer) = pipe().unwrap();
    let end = CancellationToken::new();
    let rotating = Rotating::read(|| BufReader::new(reader), environment(), end.clone());
    (rotating.unwrap(), writer, end)
}

#[test]
fn a_line_has_four_members_and_no_others() {
    assert_eq!(outcome(line("t", 1_001).trim()).unwrap(), 1_001);
    for text in [
        "",
        " ",
        "null",
        "[]",
        "tok-1",
        r#"{"version":2,"environment_id":"env1","token":"t","expires_at":2000}"#,
        r#"{"version":"1","environment_id":"env1","token":"t","expires_at":2000}"#,
        r#"{"environment_id":"env1","token":"t","expires_at":2000}"#,
        r#"{"version":1,"token":"t","expires_at":2000}"#,
        r#"{"version":1,"environment_id":"env1","expires_at":2000}"#,
        r#"{"version":1,"environment_id":"env1","token":"t"}"#,
        r#"{"version":1,"environment_id":"env1","token":"t","expires_at":2000.5}"#,
        r#"{"version":1,"environment_id":"env1","token":"t","expires_at":"2000"}"#,
        r#"{"version":1,"environment_id":"env1","token":"t","expires_at":2000,"more":1}"#,
        r#"{"version":1,"environment_id":"env1","token":"","expires_at":2000}"#,
        r#"{"version":1,"environment_id":"env1","token":" t","expires_at":2000}"#,
        r#"{"version":1,"environment_id":"env1","token":"t t","expires_at":2000}"#,
        r#"{"version":1,"environment_id":"env1","token":"t\u0007","expires_at":2000}"#,
    ] {
        assert!(
            matches!(outcome(text), Err(RotationError::Invalid)),
            "{text}"
        );
    }
}

#[test]
fn what_is_foreign_or_too_old_is_told_apart() {
    let foreign = r#"{"version":1,"environment_id":"env2","token":"t","expires_at":2000}"#;
    assert!(matches!(outcome(foreign), Err(RotationError::Environment)));
    for expires_at in [-1, 0, 1_000] {
        let error = outcome(line("t", expires_at).trim()).unwrap_err();
        assert!(matches!(error, RotationError::Expired), "{expires_at}");
    }
}

#[test]
fn lines_have_a_limit_and_both_line_ends() {
    let read = |text: &[u8]| next_line(&mut BufReader::new(text));
    assert_eq!(**read(b"a\nb\n").unwrap().unwrap(), *b"a");
    assert_eq!(**read(b"a\r\n").unwrap().unwrap(), *b"a");
    assert!(read(b"").unwrap().is_none());
    assert!(read(b"incomplete").unwrap().is_none());
    let longest = [vec![b'x'; MAX_LINE_BYTES - 1], vec![b'\n']].concat();
    assert!(read(&longest).unwrap().is_some());
    let too_long = [vec![b'x'; MAX_LINE_BYTES], vec![b'\n']].concat();
    assert!(matches!(read(&too_long), Err(RotationError::TooLong)));
}

#[tokio::test]
async fn each_line_replaces_the_credential_and_the_end_ends_the_executor() {
    let (rotating, mut writer, end) = piped();
    writer
        .write_all(line("tok-1", i64::MAX).as_bytes())
        .unwrap();
    rotating.first().await.unwrap();
    assert_eq!(bearer(rotating.valid().await.unwrap()), "Bearer tok-1");
    let mut newest = rotating.newest.clone();
    newest.mark_unchanged();
    writer
        .write_all(line("tok-2", i64::MAX).as_bytes())
        .unwrap();
    newest.changed().await.unwrap();
    assert_eq!(bearer(rotating.valid().await.unwrap()), "Bearer tok-2");
    assert!(!end.is_cancelled());
    drop(writer);
    end.cancelled().await;
    assert!(rotating.failure().is_none());
}

#[tokio::test]
async fn a_bad_first_line_or_none_is_a_failure() {
    let (rotating, writer, _end) = piped();
    drop(writer);
    let error = rotating.first().await.unwrap_err();
    assert!(matches!(error, RotationError::Closed), "{error}");

    let (rotating, mut writer, _end) = piped();
    writer.write_all(b"s3cr3t\n").unwrap();
    let error = rotating.first().await.unwrap_err();
    assert!(matches!(error, RotationError::Invalid), "{error}");
    assert!(!format!("{error:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn a_bad_later_line_ends_the_executor_as_a_failure() {
    let (rotating, mut writer, end) = piped();
    let lines = line("tok-1", i64::MAX) + &line("tok-2", 1);
    writer.write_all(lines.as_bytes()).unwrap();
    end.cancelled().await;
    assert!(matches!(rotating.failure(), Some(RotationError::Expired)));
}

#[tokio::test(start_paused = true)]
async fn nothing_at_all_is_given_up_and_an_expired_credential_is_waited_for() {
    let (sender, newest) = watch::channel(None);
    let rotating = Rotating {
        newest,
        failure: Arc::default(),
    };
    let error = rotating.first().await.unwrap_err();
    assert!(matches!(error, RotationError::TimedOut), "{error}");

    let expired = accept(
        line("tok-1", 1_001).trim().as_bytes(),
        &environment(),
        1_000,
    );
    sender.send_replace(Some(expired.unwrap()));
    let error = rotating.valid().await.map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let renewed = accept(
        line("tok-2", i64::MAX).trim().as_bytes(),
        &environment(),
        1_000,
    );
    sender.send_replace(Some(renewed.unwrap()));
    assert_eq!(bearer(rotating.valid().await.unwrap()), "Bearer tok-2");
}
