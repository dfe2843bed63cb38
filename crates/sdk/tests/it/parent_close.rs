//! What becomes of a child when its parent ends: by the child's policy and the parent's end, with
//! and without a crash in between.

use dalsegno::testing::{TestHub, TestInstance};
use dalsegno::{App, Error, ExternalEvent, OrchestrationContext, Result, Status, activity, orchestrator};
use serde::{Deserialize, Serialize};

const GO: ExternalEvent<String> = ExternalEvent::new("Go");

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Policy {
    Abandon,
    Terminate,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum End {
    Terminated,
    Completed,
    Failed,
    ContinuedAsNew,
    /// The execution after: it has no child.
    Childless,
}

#[orchestrator]
async fn child(ctx: &OrchestrationContext) -> Result<String> {
    Ok(ctx.wait_for_event(GO).await?)
}

/// Starts a child and ends in some way when it is told.
#[orchestrator]
async fn parent(ctx: &OrchestrationContext, (policy, end): (Policy, End)) -> Result<String> {
    if end == End::Childless {
        return Ok(ctx.wait_for_event(GO).await?);
    }
    let started = ctx.call(child, ()).instance_id("child");
    let _child = match policy {
        Policy::Abandon => started,
        Policy::Terminate => started.terminate_with_parent(),
    };
    let told = ctx.wait_for_event(GO).await?;
    match end {
        End::Failed => Err(Error::msg("it fails")),
        End::ContinuedAsNew => ctx.continue_as_new(parent, (policy, End::Childless)).await,
        End::Terminated | End::Completed | End::Childless => Ok(told),
    }
}

#[activity]
async fn brittle() -> Result<()> {
    Err(Error::msg("it breaks"))
}

/// Its activity fails while its child waits, and it with it.
#[orchestrator]
async fn brittle_parent(ctx: &OrchestrationContext) -> Result<String> {
    let waiting = ctx.call(child, ()).instance_id("child").terminate_with_parent();
    ctx.call(brittle, ()).await?;
    Ok(waiting.await?)
}

fn app() -> App {
    App::new()
        .register(child)
        .register(parent)
        .register(brittle)
        .register(brittle_parent)
}

/// When the host dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    Never,
    BeforeTheEnd,
    AfterTheEnd,
}

fn crash_at(hub: &TestHub, now: Crash, wanted: Crash) {
    if now == wanted {
        hub.crash();
    }
}

fn end_of(hub: &TestHub, policy: Policy, end: End, crash: Crash) -> TestInstance<String> {
    let instance = hub.start_as("parent", parent, (policy, end)).unwrap();
    hub.run();
    crash_at(hub, Crash::BeforeTheEnd, crash);
    match end {
        End::Terminated => instance.terminate("enough").unwrap(),
        _ => instance.raise_event(GO, "go".into()).unwrap(),
    }
    crash_at(hub, Crash::AfterTheEnd, crash);
    hub.run();
    instance
}

#[test]
fn a_child_follows_a_terminated_parent_if_it_shall_and_no_other_end() {
    for end in [End::Terminated, End::Completed, End::Failed] {
        for policy in [Policy::Abandon, Policy::Terminate] {
            for crash in [Crash::Never, Crash::BeforeTheEnd, Crash::AfterTheEnd] {
                let case = format!("{policy:?}, {end:?}, crash {crash:?}");
                let hub = TestHub::new(app());
                let ended = end_of(&hub, policy, end, crash);
                let status = match end {
                    End::Terminated => Status::Terminated,
                    End::Failed => Status::Failed,
                    _ => Status::Completed,
                };
                assert_eq!(ended.status(), status, "{case}");
                let child = hub.instance(child, "child").unwrap();
                if (end, policy) == (End::Terminated, Policy::Terminate) {
                    assert_eq!(child.status(), Status::Terminated, "{case}");
                    let reason = child.row().unwrap().output.unwrap();
                    assert_eq!(reason.as_str(), "\"the parent parent was terminated\"");
                } else {
                    assert_eq!(child.status(), Status::Running, "{case}");
                    child.raise_event(GO, "on its own".into()).unwrap();
                    hub.run();
                    assert_eq!(child.output().unwrap(), "on its own", "{case}");
                    assert_eq!(ended.status(), status, "{case}: the late outcome moves nothing");
                }
            }
        }
    }
}

#[test]
fn a_child_is_none_of_the_execution_that_follows() {
    for policy in [Policy::Abandon, Policy::Terminate] {
        for crash in [Crash::Never, Crash::BeforeTheEnd, Crash::AfterTheEnd] {
            let case = format!("{policy:?}, crash {crash:?}");
            let hub = TestHub::new(app());
            let goes_on = end_of(&hub, policy, End::ContinuedAsNew, crash);
            assert_eq!(goes_on.status(), Status::Running, "{case}");
            let child = hub.instance(child, "child").unwrap();
            assert_eq!(child.status(), Status::Running, "{case}");
            goes_on.terminate("enough").unwrap();
            hub.run();
            assert_eq!(child.status(), Status::Running, "{case}");
            child.raise_event(GO, "on its own".into()).unwrap();
            hub.run();
            assert_eq!(child.output().unwrap(), "on its own", "{case}");
        }
    }
}

#[test]
fn a_rewound_parent_still_takes_its_child_along() {
    // A rewound parent is a new execution: what its child was started with stood under the old one.
    for crash in [Crash::Never, Crash::BeforeTheEnd, Crash::AfterTheEnd] {
        let hub = TestHub::new(app());
        let rewound = hub.start_as("parent", brittle_parent, ()).unwrap();
        hub.run();
        assert_eq!(rewound.status(), Status::Failed, "{crash:?}");
        hub.stub(brittle, |()| Ok(()));
        rewound.rewind("repaired").unwrap();
        hub.run();
        assert_eq!(rewound.status(), Status::Running, "{crash:?}");
        crash_at(&hub, Crash::BeforeTheEnd, crash);
        rewound.terminate("enough").unwrap();
        crash_at(&hub, Crash::AfterTheEnd, crash);
        hub.run();
        let child = hub.instance(child, "child").unwrap();
        assert_eq!(child.status(), Status::Terminated, "{crash:?}");
    }
}
