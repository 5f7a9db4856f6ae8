use relay_proto::keys::{PublicKey, SUITE};
use serde_json::json;

use super::*;

fn key() -> PublicKey {
    PublicKey::from_parts(&[7; 32], &[9; 1184]).expect("right lengths")
}

#[test]
fn public_key_survives_the_round_trip_through_json() {
    let json = serde_json::to_value(PublicKeyText::from(&key())).expect("serializes");
    let members: Vec<_> = json.as_object().expect("object").keys().cloned().collect();
    assert_eq!(
        members,
        ["mlkem768_public_key", "suite", "x25519_public_key"]
    );
    assert_eq!(
        json["suite"],
        "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256"
    );
    assert_eq!(
        json["x25519_public_key"],
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
    );

    let text: PublicKeyText = serde_json::from_value(json).expect("deserializes");
    assert_eq!(PublicKey::try_from(&text).expect("valid"), key());
}

#[test]
fn public_key_must_have_exactly_three_members() {
    let mut json = serde_json::to_value(PublicKeyText::from(&key())).expect("serializes");
    json["extra"] = json!(1);
    assert!(serde_json::from_value::<PublicKeyText>(json.clone()).is_err());
    let members = json.as_object_mut().expect("object");
    members.remove("extra");
    members.remove("suite");
    assert!(serde_json::from_value::<PublicKeyText>(json).is_err());
}

#[test]
fn public_key_of_another_suite_length_or_alphabet_is_refused() {
    let good = PublicKeyText::from(&key());
    let cases = [
        (
            PublicKeyText {
                suite: "Noise_IK".to_owned(),
                ..good.clone()
            },
            PublicKeyTextError::UnknownSuite,
        ),
        (
            // The URL-safe alphabet, and no padding.
            PublicKeyText {
                x25519_public_key: "__".to_owned(),
                ..good.clone()
            },
            PublicKeyTextError::NotBase64 {
                member: "x25519_public_key",
            },
        ),
        (
            PublicKeyText {
                mlkem768_public_key: "AAAA".to_owned(),
                ..good.clone()
            },
            PublicKeyTextError::Invalid {
                x25519_bytes: 32,
                mlkem768_bytes: 3,
            },
        ),
        (
            PublicKeyText {
                x25519_public_key: String::new(),
                ..good
            },
            PublicKeyTextError::Invalid {
                x25519_bytes: 0,
                mlkem768_bytes: 1184,
            },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(PublicKey::try_from(&text).expect_err("refused"), expected);
    }
}

#[test]
fn request_bodies_have_exactly_the_members_of_the_contract() {
    let register = RegisterRequest {
        security_profile: SECURITY_PROFILE.to_owned(),
        executor_public_key: PublicKeyText::from(&key()),
    };
    let json = serde_json::to_value(&register).expect("serializes");
    assert_eq!(
        json.as_object().expect("object").keys().collect::<Vec<_>>(),
        ["executor_public_key", "security_profile"]
    );
    assert_eq!(json["security_profile"], "noise_hybrid_ik_v1");
    assert_eq!(json["executor_public_key"]["suite"], SUITE);

    let connect = ConnectRequest {
        harness_public_key: PublicKeyText::from(&key()),
    };
    let json = serde_json::to_value(&connect).expect("serializes");
    assert_eq!(
        json.as_object().expect("object").keys().collect::<Vec<_>>(),
        ["harness_public_key"]
    );

    let validate = ValidateRequest {
        executor_registration_id: "reg-1".to_owned(),
        harness_public_key: PublicKeyText::from(&key()),
        harness_key_authorization: "text".to_owned(),
    };
    let json = serde_json::to_value(&validate).expect("serializes");
    assert_eq!(
        json.as_object().expect("object").keys().collect::<Vec<_>>(),
        [
            "executor_registration_id",
            "harness_key_authorization",
            "harness_public_key"
        ]
    );
}

#[test]
fn unknown_members_of_responses_are_ignored_and_missing_ones_are_not() {
    let json = json!({"environment_id": "env1", "security_profile": SECURITY_PROFILE,
        "executor_registration_id": "reg-1", "url": "wss://host/", "later": {"more": 1}});
    let response: RegisterResponse = serde_json::from_value(json.clone()).expect("tolerant");
    assert_eq!(response.executor_registration_id, "reg-1");
    for member in [
        "environment_id",
        "security_profile",
        "executor_registration_id",
        "url",
    ] {
        let mut json = json.clone();
        json.as_object_mut().expect("object").remove(member);
        assert!(
            serde_json::from_value::<RegisterResponse>(json).is_err(),
            "{member}"
        );
    }
    assert!(serde_json::from_value::<ValidateResponse>(json!({})).is_err());
    assert!(serde_json::from_value::<ValidateResponse>(json!({"valid": "true"})).is_err());
}

#[test]
fn error_bodies_decode_in_both_forms_and_error_wins() {
    let detail = |text: &str| {
        serde_json::from_str::<ErrorBody>(text)
            .expect("an object")
            .into_detail()
    };
    let both = |code: &str, message: &str| {
        Some(ErrorDetail {
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
        })
    };
    assert_eq!(
        detail(r#"{"error":{"code":"a","message":"b"}}"#),
        both("a", "b")
    );
    assert_eq!(
        detail(r#"{"detail":{"code":"c","message":"d","x":1}}"#),
        both("c", "d")
    );
    assert_eq!(
        detail(r#"{"detail":{"code":"c","message":"d"},"error":{"code":"a","message":"b"}}"#),
        both("a", "b")
    );
    assert_eq!(detail(r#"{"error":{}}"#), Some(ErrorDetail::default()));
    assert_eq!(detail(r#"{"detail":"Not Found"}"#), None);
    assert_eq!(
        detail(r#"{"error":"x","detail":{"code":"c","message":"d"}}"#),
        both("c", "d")
    );
    assert_eq!(
        detail(r#"{"error":{"code":7,"message":"m"}}"#),
        Some(ErrorDetail {
            code: None,
            message: Some("m".to_owned())
        })
    );
    assert_eq!(detail("{}"), None);
    assert!(serde_json::from_str::<ErrorBody>("<html>").is_err());
}

#[test]
fn error_body_is_written_in_the_error_form() {
    let text = serde_json::to_string(&ErrorBody::new(code::ENVIRONMENT_OFFLINE, "no executor"));
    assert_eq!(
        text.expect("serializes"),
        r#"{"error":{"code":"environment_offline","message":"no executor"}}"#
    );
}

#[test]
fn rejection_reasons_parse_back_and_unknown_texts_are_kept_apart() {
    for reason in RejectionReason::ALL {
        assert_eq!(RejectionReason::parse(reason.as_str()), reason);
    }
    assert_eq!(RejectionReason::parse("meteor"), RejectionReason::Unknown);
    assert_eq!(RejectionReason::parse("Expired"), RejectionReason::Unknown);
}

#[test]
fn debug_output_shows_no_secret() {
    let secret = "s3cr3t";
    let register = RegisterResponse {
        environment_id: "env1".to_owned(),
        security_profile: SECURITY_PROFILE.to_owned(),
        executor_registration_id: "reg-1".to_owned(),
        url: format!("wss://host/?sig={secret}"),
    };
    let connect = ConnectResponse {
        environment_id: "env1".to_owned(),
        security_profile: SECURITY_PROFILE.to_owned(),
        executor_registration_id: "reg-1".to_owned(),
        executor_public_key: PublicKeyText::from(&key()),
        harness_key_authorization: secret.to_owned(),
        url: format!("wss://host/?sig={secret}"),
    };
    let validate = ValidateRequest {
        executor_registration_id: "reg-1".to_owned(),
        harness_public_key: PublicKeyText::from(&key()),
        harness_key_authorization: secret.to_owned(),
    };
    for text in [
        format!("{register:?}"),
        format!("{connect:#?}"),
        format!("{validate:?}"),
    ] {
        assert!(!text.contains(secret), "{text}");
        assert!(text.contains("reg-1"), "{text}");
    }
}
