//! One instance, as a client sees and steers it.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use dalsegno_core::event::Event;
use dalsegno_core::query::Status;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{Failure, InstanceId, TraceContext};
use dalsegno_engine::hub::NewId;
use dalsegno_engine::request::{InstanceStatus, RaisedEvent, RequestError, RequestErrorKind, Scope};
use dalsegno_engine::seen::Seen;
use dalsegno_host::v1::ExplanationWire as Explanation;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::codec::{decode, encode};
use crate::error::{Error, Result, TaskError};
use crate::event::ExternalEvent;
use crate::watch::Watch;

/// An instance whose result has the type `Out`. Cloning is cheap.
pub struct Instance<Out> {
    client: Client,
    id: InstanceId,
    out: PhantomData<fn() -> Out>,
}

impl<Out> Instance<Out> {
    pub(crate) fn new(client: &Client, id: InstanceId) -> Self {
        Self {
            client: client.clone(),
            id,
            out: PhantomData,
        }
    }

    /// The id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Where it is.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance.
    pub async fn status(&self) -> Result<InstanceStatus> {
        let status = self.client.backend().status(&self.id).await?;
        Ok(status.ok_or_else(|| not_found(&self.id))?)
    }

    /// Why it does not move: what it waits for and since when, what holds that, and what would move
    /// it. Code that is not in memory is replayed for it.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance.
    pub async fn explain(&self) -> Result<Explanation> {
        let explanation = self.client.backend().explain(&self.id).await?;
        Ok(explanation.ok_or_else(|| not_found(&self.id))?)
    }

    /// What its code shows of its progress, if it has shown anything.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance; when the value does not fit the type.
    pub async fn custom_status<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let shown = self.status().await?.row.custom_status;
        Ok(shown.map(|shown| decode(Some(&shown))).transpose()?)
    }

    /// Waits for its result, as long as it takes.
    ///
    /// # Errors
    /// The instance's own failure (as [`TaskError`]), or why it cannot be waited for.
    pub async fn wait(&self) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.wait_at_most(None).await
    }

    /// Waits for its result; `is_timeout()` when the time is over. The instance goes on.
    ///
    /// # Errors
    /// The instance's own failure (as [`TaskError`]), or why it cannot be waited for.
    pub async fn wait_for(&self, limit: Duration) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.wait_at_most(Some(limit)).await
    }

    async fn wait_at_most(&self, limit: Option<Duration>) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        let status = self.client.backend().wait_for_completion(&self.id, limit).await?;
        output(&status.row)
    }

    /// Waits until it has left Pending; `is_timeout()` when the time is over.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance.
    pub async fn wait_for_start(&self, limit: Duration) -> Result<InstanceStatus> {
        Ok(self
            .client
            .backend()
            .wait_for_start(&self.id, Some(limit))
            .await?)
    }

    /// Raises an external event; options follow, then `.await`. Kept until the orchestrator waits
    /// for it.
    ///
    /// # Errors
    /// When the instance does not exist or is finished, or a limit refuses the event.
    pub fn raise_event<T: Serialize>(&self, event: ExternalEvent<T>, data: T) -> Raise {
        let event = encode(&data).map(|input| RaisedEvent {
            trace: self.client.trace().cloned(),
            ..RaisedEvent::new(event.name(), input)
        });
        Raise {
            client: self.client.clone(),
            id: self.id.clone(),
            event: event.map_err(Error::from),
        }
    }

    /// Stops it from taking messages.
    ///
    /// # Errors
    /// When the instance does not exist or is finished.
    pub async fn suspend(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self.client.backend().suspend(&self.id, said(reason)).await?)
    }

    /// Lets it take messages again, also those that came meanwhile.
    ///
    /// # Errors
    /// When the instance does not exist or is finished.
    pub async fn resume(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self.client.backend().resume(&self.id, said(reason)).await?)
    }

    /// Asks it to end by its own code, which may undo what it did first. Its activities are told, and
    /// its children by their policy. Asking again changes nothing.
    ///
    /// # Errors
    /// When the instance does not exist or is finished.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self.client.backend().cancel(&self.id, said(reason)).await?)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the instance does not exist or is finished.
    pub async fn terminate(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self
            .client
            .backend()
            .terminate(&self.id, said(reason), Scope::Instance)
            .await?)
    }

    /// Ends it with all its children.
    ///
    /// # Errors
    /// When the instance does not exist or is finished.
    pub async fn terminate_recursive(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self
            .client
            .backend()
            .terminate(&self.id, said(reason), Scope::Recursive)
            .await?)
    }

    /// Sets it going again after a failure: what failed is tried again.
    ///
    /// # Errors
    /// When the instance does not exist, or is neither failed nor parked.
    pub async fn rewind(&self, reason: impl Into<String>) -> Result<()> {
        Ok(self.client.backend().rewind(&self.id, said(reason)).await?)
    }

    /// Begins the next attempt now, of every activity that failed and waits for one. It counts like any
    /// other attempt.
    ///
    /// # Errors
    /// When the instance does not exist, is finished, or nothing of it waits for an attempt.
    pub async fn retry_now(&self) -> Result<()> {
        Ok(self.client.backend().retry_now(&self.id, None).await?)
    }

    /// Starts the finished orchestration again with the same input, under the same id or a new one.
    ///
    /// # Errors
    /// When the instance does not exist or lives.
    pub async fn restart(&self, new_id: NewId) -> Result<Self> {
        let started = self.client.backend().restart(&self.id, new_id).await?;
        Ok(Self::new(&self.client, started.id))
    }

    /// Deletes the finished instance; says how many went.
    ///
    /// # Errors
    /// When the instance does not exist or lives.
    pub async fn purge(&self) -> Result<u64> {
        Ok(self.client.backend().purge(&self.id, Scope::Instance).await?)
    }

    /// Deletes the finished instance with all its children; says how many went.
    ///
    /// # Errors
    /// When the instance does not exist or lives.
    pub async fn purge_recursive(&self) -> Result<u64> {
        Ok(self.client.backend().purge(&self.id, Scope::Recursive).await?)
    }

    /// Its changes as they become durable: history events, status and custom status; all there is,
    /// and then what comes, until it is finished.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance.
    pub async fn watch(&self) -> Result<Watch> {
        self.watch_from(None).await
    }

    /// Its changes behind one that was seen, such as [`Watch::seen`] of a reader that ended.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance; when it has not come so far.
    pub async fn watch_after(&self, seen: Seen) -> Result<Watch> {
        self.watch_from(Some(seen)).await
    }

    async fn watch_from(&self, seen: Option<Seen>) -> Result<Watch> {
        Ok(Watch::new(self.client.backend().watch(&self.id, seen).await?))
    }

    /// The history of its current execution.
    ///
    /// # Errors
    /// `is_not_found()` when there is no such instance.
    pub async fn history(&self) -> Result<Vec<Event>> {
        Ok(self.client.backend().history(&self.id).await?)
    }
}

impl<Out> Clone for Instance<Out> {
    fn clone(&self) -> Self {
        Self::new(&self.client, self.id.clone())
    }
}

impl<Out> fmt::Debug for Instance<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instance").field(&self.id).finish()
    }
}

/// An event that is not sent yet: set options, then `.await`.
#[must_use = "nothing is sent unless it is awaited"]
#[derive(Debug)]
pub struct Raise {
    client: Client,
    id: InstanceId,
    event: Result<RaisedEvent>,
}

impl Raise {
    /// A repeat with the same key, name and data gets the first answer again and is not delivered
    /// twice; with others it is refused.
    ///
    /// # Limits
    /// The instance remembers its last `event_keys_max` keys (default 100), over restarts,
    /// continue-as-new and rewind.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        if let Ok(event) = &mut self.event {
            event.idempotency_key = Some(key.into());
        }
        self
    }
}

impl Raise {
    /// It is part of this trace, as its history tells; with `None` of none.
    pub fn trace(mut self, trace: impl Into<Option<TraceContext>>) -> Self {
        if let Ok(event) = &mut self.event {
            event.trace = trace.into();
        }
        self
    }
}

impl IntoFuture for Raise {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let event = self.event?;
            Ok(self.client.backend().raise_event(&self.id, event).await?)
        })
    }
}

pub(crate) fn said(reason: impl Into<String>) -> Option<String> {
    Some(reason.into()).filter(|reason| !reason.is_empty())
}

pub(crate) fn not_found(id: &InstanceId) -> RequestError {
    RequestError::new(RequestErrorKind::NotFound, format!("there is no instance {id:?}")).about(id)
}

/// What a finished instance came to.
pub(crate) fn output<Out: DeserializeOwned>(row: &InstanceRow) -> Result<Out> {
    let failure = match row.status {
        Status::Completed => return Ok(decode(row.output.as_ref())?),
        Status::Terminated => Failure::new("Terminated", reason_of(row)),
        _ => row.failure.clone().unwrap_or_default(),
    };
    Err(TaskError::new(format!("orchestration {:?} ({})", &*row.name, row.id), failure).into())
}

fn reason_of(row: &InstanceRow) -> String {
    let reason: Option<String> = row.output.as_ref().and_then(|output| decode(Some(output)).ok());
    match reason {
        Some(reason) => format!("terminated: {reason}"),
        None => "terminated".into(),
    }
}
