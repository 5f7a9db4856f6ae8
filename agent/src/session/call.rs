//! From a method's name and raw parameters to a typed call, and what each call is like.
//!
//! Decoding comes before every check of state, so a bad parameter is reported even before
//! `initialize`. A new method needs a variant, a line in each of the two matches here, and an arm in
//! [`dispatch`](super::dispatch).

use exec_proto::RpcError;
use exec_proto::rpc::Params;
use exec_proto::{capabilities, config, environment, fs, http, initialize, process, session, tcp};

use super::lanes::LaneKey;

/// A decoded request.
#[derive(Debug)]
pub(super) enum Call {
    Initialize(initialize::InitializeParams),
    EnvironmentInfo,
    EnvironmentStatus,
    ConfigRead(config::ConfigReadParams),
    ProcessStart(Box<process::StartParams>),
    ProcessRead(process::ReadParams),
    ProcessWrite(process::WriteParams),
    ProcessCloseStdin(process::CloseStdinParams),
    ProcessSignal(process::SignalParams),
    ProcessTerminate(process::TerminateParams),
    ReadFile(fs::ReadFileParams),
    WriteFile(fs::WriteFileParams),
    CreateDirectory(fs::CreateDirectoryParams),
    GetMetadata(fs::GetMetadataParams),
    Canonicalize(fs::CanonicalizeParams),
    ReadDirectory(fs::ReadDirectoryParams),
    Walk(fs::WalkParams),
    Remove(fs::RemoveParams),
    Copy(fs::CopyParams),
    Open(fs::OpenParams),
    ReadBlock(fs::ReadBlockParams),
    WriteBlock(fs::WriteBlockParams),
    Close(fs::CloseParams),
    WatchMissing(fs::WatchMissingParams),
    HttpRequest(http::RequestParams),
    DiscoverV1(capabilities::DiscoverV1Params),
    DiscoverV2(capabilities::DiscoverV2Params),
    // Extensions.
    ProcessResize(process::ResizeParams),
    ProcessSignalGroup(process::SignalGroupParams),
    ProcessList(process::ListParams),
    Append(fs::AppendParams),
    Rename(fs::RenameParams),
    Sync(fs::SyncParams),
    Batch(fs::BatchParams),
    UnwatchMissing(fs::UnwatchMissingParams),
    BodyChunk(http::BodyChunkParams),
    HttpCancel(http::CancelParams),
    TcpConnect(Box<tcp::ConnectParams>),
    TcpWrite(tcp::WriteParams),
    TcpShutdown(tcp::ShutdownParams),
    TcpWindow(tcp::WindowParams),
    TcpClose(tcp::CloseParams),
    SessionClose,
    SessionKeep(session::KeepParams),
    Cancel(session::CancelParams),
}

/// How a call is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Works on files; counts against the connection's concurrent requests.
    Work,
    /// Waits for a server that may never answer; counted apart, so that it holds up no files.
    Network,
    /// Mostly waits, for output, room, its turn or a shell; bounded by the pending requests.
    Wait,
}

impl Call {
    /// Decodes a request; `None` if there is no such method.
    pub(super) fn decode(method: &str, params: &Params) -> Option<Result<Self, RpcError>> {
        Some(match method {
            initialize::METHOD => params.decode().map(Self::Initialize),
            environment::INFO => params.decode_none().map(|()| Self::EnvironmentInfo),
            environment::STATUS => params.decode_none().map(|()| Self::EnvironmentStatus),
            config::READ => params.decode().map(Self::ConfigRead),
            process::START => params.decode().map(Self::ProcessStart),
            process::READ => params.decode().map(Self::ProcessRead),
            process::WRITE => params.decode().map(Self::ProcessWrite),
            process::CLOSE_STDIN => params.decode().map(Self::ProcessCloseStdin),
            process::SIGNAL => params.decode().map(Self::ProcessSignal),
            process::TERMINATE => params.decode().map(Self::ProcessTerminate),
            fs::READ_FILE => params.decode().map(Self::ReadFile),
            fs::WRITE_FILE => params.decode().map(Self::WriteFile),
            fs::CREATE_DIRECTORY => params.decode().map(Self::CreateDirectory),
            fs::GET_METADATA => params.decode().map(Self::GetMetadata),
            fs::CANONICALIZE => params.decode().map(Self::Canonicalize),
            fs::READ_DIRECTORY => params.decode().map(Self::ReadDirectory),
            fs::WALK => params.decode().map(Self::Walk),
            fs::REMOVE => params.decode().map(Self::Remove),
            fs::COPY => params.decode().map(Self::Copy),
            fs::OPEN => params.decode().map(Self::Open),
            fs::READ_BLOCK => params.decode().map(Self::ReadBlock),
            fs::WRITE_BLOCK => params.decode().map(Self::WriteBlock),
            fs::CLOSE => params.decode().map(Self::Close),
            fs::WATCH_MISSING => params.decode().map(Self::WatchMissing),
            http::REQUEST => params.decode().map(Self::HttpRequest),
            capabilities::DISCOVER_V1 => params.decode().map(Self::DiscoverV1),
            capabilities::DISCOVER_V2 => params.decode().map(Self::DiscoverV2),
            process::RESIZE => params.decode().map(Self::ProcessResize),
            process::SIGNAL_GROUP => params.decode().map(Self::ProcessSignalGroup),
            process::LIST => params
                .decode()
                .map(|params: Option<_>| Self::ProcessList(params.unwrap_or_default())),
            fs::APPEND => params.decode().map(Self::Append),
            fs::RENAME => params.decode().map(Self::Rename),
            fs::SYNC => params.decode().map(Self::Sync),
            fs::BATCH => params.decode().map(Self::Batch),
            fs::UNWATCH_MISSING => params.decode().map(Self::UnwatchMissing),
            http::BODY_CHUNK => params.decode().map(Self::BodyChunk),
            http::CANCEL => params.decode().map(Self::HttpCancel),
            tcp::CONNECT => params.decode().map(Self::TcpConnect),
            tcp::WRITE => params.decode().map(Self::TcpWrite),
            tcp::SHUTDOWN => params.decode().map(Self::TcpShutdown),
            tcp::WINDOW => params.decode().map(Self::TcpWindow),
            tcp::CLOSE => params.decode().map(Self::TcpClose),
            session::CLOSE => params.decode_none().map(|()| Self::SessionClose),
            session::KEEP => params.decode().map(Self::SessionKeep),
            session::CANCEL => params.decode().map(Self::Cancel),
            _ => return None,
        })
    }

    /// The family's name in handshake errors.
    pub(super) fn family(&self) -> &'static str {
        match self {
            Self::Initialize(_) => "initialize",
            Self::EnvironmentInfo => "environment info",
            Self::EnvironmentStatus => "environment status",
            Self::ConfigRead(_) => "environment config",
            Self::ProcessStart(_)
            | Self::ProcessRead(_)
            | Self::ProcessWrite(_)
            | Self::ProcessCloseStdin(_)
            | Self::ProcessSignal(_)
            | Self::ProcessTerminate(_)
            | Self::ProcessResize(_)
            | Self::ProcessSignalGroup(_)
            | Self::ProcessList(_) => "exec",
            Self::ReadFile(_)
            | Self::WriteFile(_)
            | Self::CreateDirectory(_)
            | Self::GetMetadata(_)
            | Self::Canonicalize(_)
            | Self::ReadDirectory(_)
            | Self::Walk(_)
            | Self::Remove(_)
            | Self::Copy(_)
            | Self::Open(_)
            | Self::ReadBlock(_)
            | Self::WriteBlock(_)
            | Self::Close(_)
            | Self::WatchMissing(_)
            | Self::Append(_)
            | Self::Rename(_)
            | Self::Sync(_)
            | Self::Batch(_)
            | Self::UnwatchMissing(_) => "filesystem",
            Self::HttpRequest(_) | Self::BodyChunk(_) | Self::HttpCancel(_) => "http",
            Self::TcpConnect(_)
            | Self::TcpWrite(_)
            | Self::TcpShutdown(_)
            | Self::TcpWindow(_)
            | Self::TcpClose(_) => "tcp",
            Self::DiscoverV1(_) | Self::DiscoverV2(_) => "capability discovery",
            Self::SessionClose | Self::SessionKeep(_) => "session",
            Self::Cancel(_) => "rpc",
        }
    }

    /// How the call is scheduled.
    pub(super) fn weight(&self) -> Weight {
        match self {
            // A close only gives something back; it waits for its own handle and nothing else.
            Self::ProcessStart(_)
            | Self::ProcessRead(_)
            | Self::ProcessWrite(_)
            | Self::ProcessCloseStdin(_)
            | Self::ProcessList(_)
            | Self::Close(_)
            | Self::UnwatchMissing(_)
            | Self::BodyChunk(_)
            | Self::HttpCancel(_)
            | Self::TcpConnect(_)
            | Self::TcpWrite(_)
            | Self::TcpShutdown(_)
            | Self::TcpWindow(_)
            | Self::TcpClose(_) => Weight::Wait,
            Self::HttpRequest(_) => Weight::Network,
            _ => Weight::Work,
        }
    }

    /// Whether `rpc/cancel` can give the call up.
    ///
    /// A start is ended by `process/terminate`, which is never lost. Calls on a handle are short,
    /// and one that is under way on another thread must not be overtaken by the next.
    pub(super) fn is_cancellable(&self) -> bool {
        match self {
            Self::ProcessStart(_)
            | Self::Open(_)
            | Self::ReadBlock(_)
            | Self::WriteBlock(_)
            | Self::Close(_)
            | Self::WatchMissing(_)
            | Self::UnwatchMissing(_) => false,
            Self::Sync(params) => params.handle_id.is_none(),
            _ => true,
        }
    }

    /// The lane that the call enters, and the lanes that it waits for without entering them.
    pub(super) fn lanes(&self) -> (Option<LaneKey>, Vec<LaneKey>) {
        let start = |id: &str| LaneKey::Start(id.to_owned());
        let input = |id: &str| LaneKey::Input(id.to_owned());
        let tcp_open = |id: &str| LaneKey::TcpOpen(id.to_owned());
        let tcp_output = |id: &str| {
            let output = LaneKey::TcpOutput(id.to_owned());
            (Some(output), vec![tcp_open(id)])
        };
        let handle = |id: &str| (Some(LaneKey::Handle(id.to_owned())), Vec::new());
        match self {
            Self::ProcessStart(params) => (Some(start(&params.process_id)), Vec::new()),
            // A read may follow a start closely, but never stands behind a write that is stuck.
            Self::ProcessRead(params) => (None, vec![start(&params.process_id)]),
            Self::ProcessWrite(params) => (
                Some(input(&params.process_id)),
                vec![start(&params.process_id)],
            ),
            Self::ProcessCloseStdin(params) => (
                Some(input(&params.process_id)),
                vec![start(&params.process_id)],
            ),
            Self::Open(params) => handle(&params.handle_id),
            Self::ReadBlock(params) => handle(&params.handle_id),
            Self::WriteBlock(params) => handle(&params.handle_id),
            Self::Close(params) => handle(&params.handle_id),
            Self::Sync(params) => match &params.handle_id {
                Some(id) => handle(id),
                None => (None, Vec::new()),
            },
            // Watch ids have to grow, so their order is what the client sent.
            Self::WatchMissing(_) | Self::UnwatchMissing(_) => (Some(LaneKey::Watch), Vec::new()),
            Self::BodyChunk(params) => {
                let body = LaneKey::Body(params.request_id.clone());
                (Some(body), Vec::new())
            }
            // A close never stands behind a write that is stuck.
            Self::TcpConnect(params) => (Some(tcp_open(&params.stream_id)), Vec::new()),
            Self::TcpClose(params) => (Some(tcp_open(&params.stream_id)), Vec::new()),
            Self::TcpWindow(params) => (None, vec![tcp_open(&params.stream_id)]),
            Self::TcpWrite(params) => tcp_output(&params.stream_id),
            Self::TcpShutdown(params) => tcp_output(&params.stream_id),
            _ => (None, Vec::new()),
        }
    }
}
