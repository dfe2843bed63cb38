//! The calls of gRPC, and the scopes that each demands. A call that is not in the table demands the
//! scope `admin`, and is counted as `other`.

use dalsegno_engine::request::SecondScope;

use crate::keys::Scope;

/// Each call with the scopes of which any is enough, in the hub that the call names.
const CALLS: [(&str, &[Scope]); 31] = [
    // Reveals whether a hub is there, and nothing else: every key of the hub is enough.
    ("Hello", &Scope::ALL),
    ("GetWorkItems", &[Scope::Worker]),
    ("AnswerWorkItems", &[Scope::Worker]),
    ("CompleteOrchestratorTask", &[Scope::Worker]),
    ("CompleteActivityTask", &[Scope::Worker]),
    ("CompleteEntityTask", &[Scope::Worker]),
    ("AbandonTaskOrchestratorWorkItem", &[Scope::Worker]),
    ("AbandonTaskActivityWorkItem", &[Scope::Worker]),
    ("AbandonTaskEntityWorkItem", &[Scope::Worker]),
    ("StartInstance", &[Scope::Start]),
    ("GetInstance", &[Scope::Read]),
    ("WaitForInstanceStart", &[Scope::Read]),
    ("WaitForInstanceCompletion", &[Scope::Read]),
    ("RaiseEvent", &[Scope::Signal]),
    ("TerminateInstance", &[Scope::Control]),
    ("SuspendInstance", &[Scope::Control]),
    ("ResumeInstance", &[Scope::Control]),
    ("RestartInstance", &[Scope::Control]),
    ("RewindInstance", &[Scope::Control]),
    ("SkipGracefulOrchestrationTerminations", &[Scope::Control]),
    ("PurgeInstances", &[Scope::Purge]),
    ("QueryInstances", &[Scope::Read]),
    ("ListInstanceIds", &[Scope::Read]),
    ("StreamInstanceHistory", &[Scope::Read, Scope::Worker]),
    ("SignalEntity", &[Scope::Entity]),
    ("GetEntity", &[Scope::Read]),
    ("QueryEntities", &[Scope::Read]),
    ("CleanEntityStorage", &[Scope::Entity]),
    ("CreateTaskHub", &[Scope::Admin]),
    ("DeleteTaskHub", &[Scope::Admin]),
    // Of the protocol for health checks.
    ("Check", &[Scope::Admin]),
];

/// The scopes that a call needs besides, when its message asks for more than the call is for. The
/// service reads the message, so the endpoint hands it which of these the caller has.
const SECOND_SCOPES: [(&str, SecondScope, &str); 2] = [
    (
        "StartInstance",
        SecondScope::Control,
        "a reuse policy that ends a running instance",
    ),
    ("PurgeInstances", SecondScope::Entity, "the id of an entity"),
];

/// The calls that respond with a stream.
const STREAMS: [&str; 3] = ["GetWorkItems", "AnswerWorkItems", "StreamInstanceHistory"];

/// What is known of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// By which it is counted.
    pub(super) name: &'static str,
    /// Any of these is enough.
    pub(super) scopes: &'static [Scope],
}

impl Call {
    /// The call of a path.
    pub(super) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        let known = CALLS.iter().find(|(known, _)| *known == name);
        let (name, scopes) = known.copied().unwrap_or(("other", &[Scope::Admin]));
        Self { name, scopes }
    }

    /// Whether a read-only host answers it: it reads, or it is what workers do to finish the work
    /// that there is.
    pub(super) fn only_shows(self) -> bool {
        let reads = |scope: &Scope| matches!(scope, Scope::Read | Scope::Worker);
        self.name == "Hello" || self.scopes.iter().all(reads)
    }

    /// Whether the response is a stream, which may last for days.
    pub(super) fn is_stream(self) -> bool {
        STREAMS.contains(&self.name)
    }

    /// The scopes that some messages of this call need besides.
    pub(super) fn second_scopes(self) -> impl Iterator<Item = SecondScope> {
        let own = SECOND_SCOPES.iter().filter(move |(name, ..)| *name == self.name);
        own.map(|(_, scope, _)| *scope)
    }

    /// Whether it is in the table and changes something.
    pub(super) fn is_change(self) -> bool {
        self.name != "other" && !self.only_shows()
    }
}

/// The calls of gRPC, each with the scopes of which a key needs one.
pub fn grpc_scopes() -> impl Iterator<Item = (&'static str, &'static [Scope])> {
    CALLS.iter().copied()
}

/// The calls of gRPC that need a second scope, which, and for what in their messages.
pub fn grpc_second_scopes() -> impl Iterator<Item = (&'static str, Scope, &'static str)> {
    SECOND_SCOPES.iter().map(|(name, scope, what)| {
        let scope = match scope {
            SecondScope::Control => Scope::Control,
            SecondScope::Entity => Scope::Entity,
        };
        (*name, scope, *what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../../../grpc/proto/durabletask.proto");

    fn of_the_protocol() -> impl Iterator<Item = &'static str> {
        let lines = PROTOCOL.lines().map(str::trim);
        lines.filter_map(|line| line.strip_prefix("rpc ")?.split('(').next())
    }

    #[test]
    fn every_call_of_the_protocol_is_in_the_table_and_no_other() {
        // They once stood in three lists, and a new call was easily forgotten in one.
        let mut calls: Vec<&str> = of_the_protocol().chain(["Check"]).collect();
        let mut known: Vec<&str> = CALLS.iter().map(|(name, _)| *name).collect();
        calls.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, calls);
    }

    #[test]
    fn the_streams_are_those_of_the_protocol() {
        let lines = PROTOCOL.lines().map(str::trim);
        let streams = lines.filter(|line| line.starts_with("rpc ") && line.contains("returns (stream "));
        let mut streams: Vec<&str> = streams
            .filter_map(|line| line.strip_prefix("rpc ")?.split('(').next())
            .collect();
        streams.sort_unstable();
        let mut known = STREAMS;
        known.sort_unstable();
        assert_eq!(streams, known);
    }

    #[test]
    fn a_call_that_nobody_knows_needs_the_most() {
        let unknown = Call::of("/Service/Nonsense");
        assert_eq!((unknown.name, unknown.scopes), ("other", &[Scope::Admin][..]));
        assert!(!unknown.only_shows() && !unknown.is_change());
        assert!(Call::of("/TaskHubSidecarService/Hello").only_shows());
        assert!(Call::of("/TaskHubSidecarService/DeleteTaskHub").is_change());
    }
}
