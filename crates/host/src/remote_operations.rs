//! Jobs, timer triggers and rates of a host elsewhere.

use std::time::Duration;

use dalsegno_core::Payload;
use dalsegno_engine::request::Answer;
use reqwest::Method;

use crate::remote::{RemoteHub, segment};
use crate::v1::operations::OperationBody;
use crate::v1::wire::{RateWire, json};
use crate::v1::{OperationFilter, OperationVerb, OperationWire, RatesWire, ScheduleWire};

/// One command to all that a filter finds.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// What is done to each.
    pub verb: OperationVerb,
    /// To which.
    pub filter: OperationFilter,
    /// Only look.
    pub dry_run: bool,
    /// Why.
    pub reason: Option<String>,
    /// The event to raise, and its data.
    pub event: Option<(String, Option<Payload>)>,
    /// Children too: terminate, purge.
    pub recursive: bool,
    /// No more than so many per time.
    pub rate: Option<(u32, Duration)>,
}

impl RemoteHub {
    /// Begins a job; it goes on when the client has left.
    ///
    /// # Errors
    /// `Invalid` for a filter that the verb does not fit, `Busy` when too many run, and as all
    /// requests.
    pub async fn begin_operation(&self, new: NewOperation) -> Answer<OperationWire> {
        let (event, input) = new.event.unzip();
        let body = OperationBody {
            verb: new.verb,
            r#where: new.filter,
            dry_run: new.dry_run,
            reason: new.reason,
            event,
            input: json(input.flatten().as_ref()),
            recursive: new.recursive,
            rate: new.rate.map(RateWire::from),
        };
        self.send(Method::POST, "/operations".into(), Some(&body)).await
    }

    /// Jobs that run, and the last that ran, newest first.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn operations(&self) -> Answer<Vec<OperationWire>> {
        self.get("/operations".into()).await
    }

    /// How far a job is.
    ///
    /// # Errors
    /// `NotFound` when the host has forgotten it, and as all requests.
    pub async fn operation(&self, id: &str) -> Answer<OperationWire> {
        self.get(format!("/operations/{}", segment(id)?)).await
    }

    /// Ends a job after the commands that are under way.
    ///
    /// # Errors
    /// As [`operation`](Self::operation).
    pub async fn cancel_operation(&self, id: &str) -> Answer<OperationWire> {
        let path = format!("/operations/{}", segment(id)?);
        self.send(Method::DELETE, path, None::<&()>).await
    }

    /// The app's timer triggers.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn schedules(&self) -> Answer<Vec<ScheduleWire>> {
        self.get("/schedules".into()).await
    }

    /// Runs a timer trigger now.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` while it runs.
    pub async fn run_schedule(&self, name: &str) -> Answer<()> {
        let path = format!("/schedules/{}/run", segment(name)?);
        self.done(self.request(Method::POST, &path)).await
    }

    /// What was started in the last hour, minute by minute, and what became of it.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn rates(&self) -> Answer<RatesWire> {
        self.get("/overview?buckets=60".into()).await
    }
}
