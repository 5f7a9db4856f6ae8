//! The parameters of every method and the params of every notification: nothing panics, refusals
//! have the code of bad parameters, and what was understood is understood the same when sent on.
//!
//! The first byte chooses the type, the rest is JSON.

#![no_main]

use std::fmt::Debug;

use exec_proto::rpc::{Params, code};
use exec_proto::{
    capabilities, config, environment, fs, http, initialize, network, process, session, tcp,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

fn check<T: DeserializeOwned + Serialize + Debug>(params: &Params) {
    match params.decode::<T>() {
        Ok(value) => {
            let _ = format!("{value:?}");
            let first = serde_json::to_string(&value).expect("types of the protocol serialize");
            let params = Params::encode(&value).unwrap();
            let again: T = params.decode().expect("what was sent on is understood");
            assert_eq!(first, serde_json::to_string(&again).unwrap());
        }
        Err(error) => assert_eq!(error.code, code::INVALID_PARAMS),
    }
}

type Check = fn(&Params);

const CHECKS: &[Check] = &[
    |params| drop(params.decode_none()),
    check::<initialize::InitializeParams>,
    check::<config::ConfigReadParams>,
    check::<process::StartParams>,
    check::<process::ReadParams>,
    check::<process::WriteParams>,
    check::<process::CloseStdinParams>,
    check::<process::SignalParams>,
    check::<process::TerminateParams>,
    check::<fs::ReadFileParams>,
    check::<fs::WriteFileParams>,
    check::<fs::CreateDirectoryParams>,
    check::<fs::GetMetadataParams>,
    check::<fs::CanonicalizeParams>,
    check::<fs::ReadDirectoryParams>,
    check::<fs::WalkParams>,
    check::<fs::RemoveParams>,
    check::<fs::CopyParams>,
    check::<fs::OpenParams>,
    check::<fs::ReadBlockParams>,
    check::<fs::WriteBlockParams>,
    check::<fs::CloseParams>,
    check::<fs::WatchMissingParams>,
    check::<http::RequestParams>,
    check::<capabilities::DiscoverV1Params>,
    check::<capabilities::DiscoverV2Params>,
    check::<network::PolicyRequestParams>,
    check::<process::ResizeParams>,
    check::<process::SignalGroupParams>,
    check::<process::ListParams>,
    check::<session::CancelParams>,
    check::<fs::AppendParams>,
    check::<fs::RenameParams>,
    check::<fs::SyncParams>,
    check::<fs::BatchParams>,
    // What the client decodes.
    check::<initialize::InitializeResult>,
    check::<environment::Info>,
    check::<process::ReadResult>,
    check::<process::OutputNotification>,
    check::<process::ExitedNotification>,
    check::<process::ClosedNotification>,
    check::<http::RequestResult>,
    check::<http::BodyDelta>,
    check::<fs::WalkResult>,
    check::<fs::ReadDirectoryResult>,
    check::<process::ListResult>,
    check::<fs::BatchResult>,
    // Later ones; the seeds choose by number.
    check::<session::KeepParams>,
    check::<session::KeepResult>,
    check::<fs::UnwatchMissingParams>,
    check::<fs::MissingChangedNotification>,
    check::<http::BodyChunkParams>,
    check::<http::CancelParams>,
    check::<tcp::ConnectParams>,
    check::<tcp::WriteParams>,
    check::<tcp::ShutdownParams>,
    check::<tcp::CloseParams>,
    check::<tcp::WindowParams>,
    check::<tcp::ConnectResult>,
    check::<tcp::DataNotification>,
    check::<tcp::ClosedNotification>,
    check::<process::StartResult>,
    check::<process::WriteResult>,
    check::<fs::GetMetadataResult>,
    check::<capabilities::DiscoverV1Result>,
    check::<capabilities::DiscoverV2Result>,
    check::<config::ConfigReadResult>,
    check::<network::PolicyRequestResult>,
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, json)) = data.split_first() else {
        return;
    };
    let Ok(json) = std::str::from_utf8(json) else {
        return;
    };
    let Ok(raw) = RawValue::from_string(json.to_owned()) else {
        return;
    };
    let choice = usize::from(*choice) % CHECKS.len();
    CHECKS[choice](&Params::from(Some(raw)));
});
