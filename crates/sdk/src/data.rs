//! What an app gives its activities: values by type, and the client of the hub.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use tokio::sync::SetOnce;

use crate::client::Client;

#[derive(Default)]
pub(crate) struct Data {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// Empty again when the host has ended: the hub holds the app, which would hold the hub for ever.
    client: SetOnce<Mutex<Option<Client>>>,
    /// Whoever runs the app gives a client as soon as there is one.
    is_client_expected: bool,
}

impl Data {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    pub(crate) fn client(&self) -> Option<Client> {
        let client = self.client.get()?;
        client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn expect_client(&mut self) {
        self.is_client_expected = true;
    }

    /// Waits for what is expected: a hub that recovers runs activities before it is handed out.
    pub(crate) async fn complete(&self) {
        if self.is_client_expected {
            self.client.wait().await;
        }
    }

    /// The client of the hub that runs the app; the first one stays.
    pub(crate) fn set_client(&self, client: Client) {
        let _ = self.client.set(Mutex::new(Some(client)));
    }

    /// The hub has ended.
    pub(crate) fn forget_client(&self) {
        if let Some(client) = self.client.get() {
            *client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}
