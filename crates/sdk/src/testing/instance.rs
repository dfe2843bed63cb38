//! One instance in a test hub.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{Event, Fault, InstanceId, Message};
use dalsegno_engine::input::{Command, InMemory};
use dalsegno_engine::request::Answer;
use dalsegno_engine::turn::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hub::TestHub;
use crate::codec::{decode, encode};
use crate::error::{Error, Result};
use crate::event::ExternalEvent;
use crate::{Status, instance};

/// An instance in a [`TestHub`]. What it tells is what is durable; to look moves nothing.
///
/// Commands are answered when they are durable. They let other things happen meanwhile, but no time pass.
pub struct TestInstance<Out> {
    hub: TestHub,
    id: InstanceId,
    out: PhantomData<fn() -> Out>,
}

impl<Out> TestInstance<Out> {
    pub(super) fn new(hub: &TestHub, id: InstanceId) -> Self {
        Self {
            hub: hub.clone(),
            id,
            out: PhantomData,
        }
    }

    /// The id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Its row: all that is stored of it beside its history.
    ///
    /// # Errors
    /// `is_not_found()` when it was purged.
    pub fn row(&self) -> Result<InstanceRow> {
        let row = self.hub.world().row(&self.id)?;
        Ok(row.ok_or_else(|| instance::not_found(&self.id))?)
    }

    /// Its status. A parked instance is Running.
    ///
    /// # Panics
    /// When it was purged.
    pub fn status(&self) -> Status {
        self.row().expect("the instance exists").status
    }

    /// Why it does not move although it should: its code and its history do not fit.
    ///
    /// # Panics
    /// When it was purged.
    pub fn parked(&self) -> Option<Fault> {
        self.row().expect("the instance exists").parked
    }

    /// Its result.
    ///
    /// # Errors
    /// What it failed with; when it is not finished, a text that says where it is.
    pub fn output(&self) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        let row = self.row()?;
        if row.status.is_final() {
            return instance::output(&row);
        }
        let parked = row.parked.map(|fault| format!(" and parked: {}", fault.message));
        Err(Error::msg(format!(
            "instance {} is {}{}",
            self.id,
            row.status.as_str(),
            parked.unwrap_or_default()
        )))
    }

    /// What its code shows of its progress, if it fits the type.
    pub fn custom_status<T: DeserializeOwned>(&self) -> Option<T> {
        let shown = self.row().ok()?.custom_status?;
        decode(Some(&shown)).ok()
    }

    /// The history of its current execution.
    ///
    /// # Errors
    /// `is_not_found()` when it was purged.
    pub fn history(&self) -> Result<Vec<Event>> {
        let row = self.row()?;
        self.hub.world().history_of(&row)
    }

    /// Writes the history of its current execution to a file that [`replay_all`](super::replay_all) reads.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn export_history(&self, path: impl AsRef<Path>) -> Result<()> {
        let history = super::replay::to_json(&self.id, &self.history()?);
        Ok(std::fs::write(path, history)?)
    }

    /// Raises an external event.
    ///
    /// # Errors
    /// When the instance is finished.
    pub fn raise_event<T: Serialize>(&self, event: ExternalEvent<T>, data: T) -> Result<()> {
        let (name, input) = (event.name().into(), encode(&data)?);
        self.command(|id, reply| Command::Raise {
            id,
            message: Message::EventRaised {
                name,
                input,
                trace: None,
            },
            mark: None,
            reply,
        })
    }

    /// Asks it to end by its own code.
    ///
    /// # Errors
    /// When the instance is finished.
    pub fn cancel(&self, reason: impl Into<String>) -> Result<()> {
        let reason = instance::said(reason);
        self.command(|id, reply| Command::Cancel { id, reason, reply })
    }

    /// Why it does not move, in words: its open tasks, their attempts, what its code waits for. Unlike what
    /// the instance tells otherwise, this is asked of the hub; empty when it is not in memory.
    ///
    /// # Errors
    /// When the store ends the hub meanwhile.
    pub fn waits_for(&self) -> Result<Vec<String>> {
        let answer: Answer<InMemory> = self.hub.world().ask(self.id.as_str(), |reply| Command::Status {
            id: self.id.clone(),
            reply,
        });
        Ok(match answer? {
            InMemory::Resident(status) => status.waits_for,
            InMemory::Elsewhere => Vec::new(),
        })
    }

    /// Ends it, and cancels its activities.
    ///
    /// # Errors
    /// When the instance is finished.
    pub fn terminate(&self, reason: impl Into<String>) -> Result<()> {
        let reason = instance::said(reason);
        self.command(|id, reply| Command::Terminate {
            id,
            reason,
            output: None,
            children: ParentClosePolicy::Abandon,
            reply,
        })
    }

    /// Stops it from taking messages.
    ///
    /// # Errors
    /// When the instance is finished or suspended.
    pub fn suspend(&self, reason: impl Into<String>) -> Result<()> {
        let reason = instance::said(reason);
        self.command(|id, reply| Command::Suspend { id, reason, reply })
    }

    /// Lets it take messages again, also those that came meanwhile.
    ///
    /// # Errors
    /// When the instance is finished or not suspended.
    pub fn resume(&self, reason: impl Into<String>) -> Result<()> {
        let reason = instance::said(reason);
        self.command(|id, reply| Command::Resume { id, reason, reply })
    }

    /// Sets it going again after a failure: what failed is tried again.
    ///
    /// # Errors
    /// When the instance is neither failed nor parked.
    pub fn rewind(&self, reason: impl Into<String>) -> Result<()> {
        let reason = instance::said(reason);
        self.command(|id, reply| Command::Rewind { id, reason, reply })
    }

    /// Begins the next attempt now, of every activity that failed and waits for one. It counts like any
    /// other attempt.
    ///
    /// # Errors
    /// When nothing of it waits for an attempt.
    pub fn retry_now(&self) -> Result<()> {
        self.command(|id, reply| Command::RetryNow {
            id,
            task: None,
            reply,
        })
    }

    fn command(&self, command: impl FnOnce(InstanceId, Reply<()>) -> Command) -> Result<()> {
        let answer: Answer<()> = self
            .hub
            .world()
            .ask(self.id.as_str(), |reply| command(self.id.clone(), reply));
        Ok(answer?)
    }
}

impl<Out> Clone for TestInstance<Out> {
    fn clone(&self) -> Self {
        Self::new(&self.hub, self.id.clone())
    }
}

impl<Out> fmt::Debug for TestInstance<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestInstance").field(&self.id).finish()
    }
}
