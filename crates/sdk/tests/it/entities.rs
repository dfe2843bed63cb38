//! Entities from both sides: called, signalled and locked by orchestrators, and run.

use dalsegno::{
    Entity, EntityContext, EntityId, Error, HOUR, OrchestrationContext, Registry, Result, SECOND, Timestamp,
    entity, orchestrator,
};
use dalsegno_engine::executor::{EntityEffect, Executor, OperationOutcome, OperationRequest, OperationRun};
use expect_test::expect;
use serde::{Deserialize, Serialize};

use crate::harness::{Play, answered, fired, granted, json, show};

#[derive(Default, Serialize, Deserialize)]
struct Account {
    cents: i64,
}

#[entity]
impl Account {
    fn deposit(&mut self, cents: i64) -> i64 {
        self.cents += cents;
        self.cents
    }

    fn withdraw(&mut self, cents: i64) -> Result<i64> {
        self.cents -= cents;
        match self.cents {
            0.. => Ok(self.cents),
            _ => Err(Error::with_kind("Overdrawn", "not enough money")),
        }
    }

    fn balance(&self) -> i64 {
        self.cents
    }

    fn close(&mut self, ctx: &EntityContext, heir: String) {
        ctx.entity::<Account>(heir)
            .deposit(std::mem::take(&mut self.cents));
        ctx.delete();
    }

    async fn audit(&mut self, ctx: &EntityContext) -> Result<String> {
        Ok(format!("{} has {}", ctx.key(), self.cents))
    }
}

#[orchestrator]
async fn transfer(ctx: &OrchestrationContext, (from, to, cents): (String, String, i64)) -> Result<i64> {
    let (from, to) = (ctx.entity::<Account>(from), ctx.entity::<Account>(to));
    let _lock = ctx.lock([from.id(), to.id()]).await;
    ctx.entity::<Account>("audit").deposit(cents).signal_after(HOUR);
    from.withdraw(cents).await?;
    Ok(to.deposit(cents).await?)
}

#[test]
fn a_guard_unlocks_when_the_code_ends_and_not_when_it_is_evicted() {
    let mut play = Play::new(transfer);
    expect!["0: lock [@account@ada, @account@bob]"].assert_eq(&show(&play.start(("bob", "ada", 5))));
    let actions = play.turn(vec![granted(0)]);
    expect![[r#"
        1: signal @account@audit deposit 5 Some(3600000002µs)
        2: call @account@bob withdraw 5"#]]
    .assert_eq(&show(&actions));
    play.evict();
    expect!["3: call @account@ada deposit 5"].assert_eq(&show(&play.turn(vec![answered(2, 1)])));
    play.evict();
    expect![[r#"
        unlock 0
        complete 7"#]]
    .assert_eq(&show(&play.turn(vec![answered(3, 7)])));
    play.evict();
}

#[orchestrator]
async fn gives_up(ctx: &OrchestrationContext) -> Result<()> {
    let account = ctx.entity::<Account>("ada");
    let locked = ctx.timeout(SECOND, ctx.lock([account.id()])).await;
    drop(locked);
    account.balance().await?;
    Ok(())
}

#[test]
fn a_lock_that_nobody_waits_for_any_more_is_released() {
    let mut play = Play::new(gives_up);
    play.start(());
    let actions = play.turn(vec![fired(1)]);
    expect![[r#"
        unlock 0
        2: call @account@ada balance null"#]]
    .assert_eq(&show(&actions));
    play.evict();
}

#[orchestrator]
async fn locks_twice(ctx: &OrchestrationContext) -> Result<()> {
    let account = ctx.entity::<Account>("ada");
    let _one = ctx.lock([account.id()]).await;
    let _two = ctx.lock([account.id()]).await;
    Ok(())
}

#[orchestrator]
async fn calls_outside(ctx: &OrchestrationContext) -> Result<()> {
    let account = ctx.entity::<Account>("ada");
    let _lock = ctx.lock([account.id()]).await;
    ctx.entity::<Account>("bob").balance().await?;
    Ok(())
}

#[test]
fn what_could_deadlock_is_a_fault() {
    let mut play = Play::new(locks_twice);
    play.start(());
    let fault = play.try_turn(vec![granted(0)]).expect_err("a lock in a lock");
    expect!["Panicked: the orchestrator panicked: a lock is asked for while another is held or asked for: two orchestrations could wait for each other for ever. Lock all entities at once, or drop the first guard before"]
        .assert_eq(without_place(&fault.to_string()));
    let mut play = Play::new(calls_outside);
    play.start(());
    let fault = play.try_turn(vec![granted(0)]).expect_err("a call out of a lock");
    expect![[r#"Panicked: the orchestrator panicked: operation "balance" of an entity is awaited while other entities are locked: two orchestrations could wait for each other for ever. Lock that entity too, signal it, or call it after the guard is dropped"#]]
        .assert_eq(without_place(&fault.to_string()));
}

/// A text without the source line at its end.
fn without_place(text: &str) -> &str {
    text.rsplit_once(" (").map_or(text, |(text, _)| text)
}

fn run(state: Option<i64>, operation: &str, input: impl Serialize) -> OperationOutcome {
    let mut registry = Registry::new();
    registry.register_entity::<Account>().expect("the only one");
    let id = EntityId::new(Account::NAME, "ada").expect("an id");
    let state = state.map(|cents| json(Account { cents }));
    let request = OperationRequest {
        operation: operation.into(),
        input: Some(json(input)),
        trace: None,
    };
    match registry.run_operation(&id, state.as_ref(), request, Timestamp::from_micros(0)) {
        Some(OperationRun::Done(outcome)) => outcome,
        Some(OperationRun::Later(future)) => futures::executor::block_on(future),
        None => panic!("the entity is registered"),
    }
}

#[test]
fn operations_move_the_state() {
    let outcome = run(None, "Deposit", 5);
    assert_eq!(outcome.outcome, Ok(Some(json(5))));
    assert_eq!(outcome.state, Some(json(Account { cents: 5 })));
    assert_eq!(run(Some(7), "audit", ()).outcome, Ok(Some(json("ada has 7"))));
}

#[test]
fn a_failed_operation_leaves_the_state() {
    let outcome = run(Some(3), "withdraw", 5);
    assert_eq!(outcome.outcome.expect_err("overdrawn").kind, "Overdrawn");
    assert_eq!(outcome.state, Some(json(Account { cents: 3 })));
    let unknown = run(Some(3), "steal", 5).outcome.expect_err("no such operation");
    expect![[r#"NotFound: entity "account" has no operation "steal"; it has audit, balance, close, deposit, withdraw"#]]
        .assert_eq(&unknown.to_string());
}

#[test]
fn entities_signal_and_go() {
    let outcome = run(Some(3), "close", "bob");
    assert_eq!(outcome.state, None);
    let heir = EntityId::new("account", "bob").expect("an id");
    let signal = EntityEffect::Signal {
        entity: heir,
        operation: "deposit".into(),
        input: Some(json(3)),
        at: None,
    };
    assert_eq!(outcome.effects, vec![signal]);
    assert_eq!(run(Some(3), "delete", ()).state, None);
}
