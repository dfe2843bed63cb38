//! Money that must neither appear nor vanish.

use dalsegno::{Error, OrchestrationContext, Result, entity, orchestrator};
use serde::{Deserialize, Serialize};

/// The kind of failure of a withdrawal that the balance does not cover.
pub const OVERDRAWN: &str = "Overdrawn";

/// An account.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Account {
    cents: i64,
}

#[entity]
impl Account {
    /// Pays in; gives the new balance.
    pub fn deposit(&mut self, cents: i64) -> i64 {
        self.cents += cents;
        self.cents
    }

    /// Pays out; gives the new balance. An operation that fails leaves the state as it was.
    pub fn withdraw(&mut self, cents: i64) -> Result<i64> {
        self.cents -= cents;
        match self.cents < 0 {
            true => Err(Error::with_kind(
                OVERDRAWN,
                format!("{cents} cents are more than there are"),
            )),
            false => Ok(self.cents),
        }
    }

    /// The balance.
    pub fn balance(&self) -> i64 {
        self.cents
    }
}

/// From one account to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose money.
    pub from: String,
    /// Whose it becomes.
    pub to: String,
    /// How much.
    pub cents: i64,
}

/// Moves money; gives both balances. Nobody sees the moment between: both accounts are locked until
/// the guard is dropped, and two transfers in opposite directions cannot block each other.
#[orchestrator(name = "Transfer")]
pub async fn transfer(ctx: &OrchestrationContext, transfer: Transfer) -> Result<(i64, i64)> {
    let (from, to) = (
        ctx.entity::<Account>(&transfer.from),
        ctx.entity::<Account>(&transfer.to),
    );
    let _locked = ctx.lock([from.id(), to.id()]).await;
    let left = from.withdraw(transfer.cents).await?;
    let there = to.deposit(transfer.cents).await?;
    Ok((left, there))
}
