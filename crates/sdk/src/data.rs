//! What an app gives its activities: values by type, and the client of the hub.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

use crate::client::Client;

#[derive(Default)]
pub(crate) struct Data {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// Until the host ends: the hub holds the app, which would hold the hub for ever.
    client: Mutex<Option<Client>>,
}

impl Data {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    pub(crate) fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client of the hub that runs the app; none when it has ended.
    pub(crate) fn set_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}
