//! What the activities work on: orders, a stock, a bank and an outbox, all in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The bank pays no order above this.
const CREDIT_CENTS: u64 = 100_000;

/// What a customer wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What.
    pub article: String,
    /// How many.
    pub quantity: u32,
    /// What one costs.
    pub cents: u64,
    /// Whom to tell.
    pub email: String,
}

impl Order {
    /// What it costs in all.
    pub fn price_cents(&self) -> u64 {
        self.cents.saturating_mul(u64::from(self.quantity))
    }
}

/// An order that was processed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderDetails {
    /// What is to be paid.
    pub cents: u64,
    /// Whom to tell.
    pub email: String,
}

/// An order that was charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentResult {
    /// Did the bank pay?
    pub paid: bool,
    /// How much.
    pub cents: u64,
    /// Whom to tell.
    pub email: String,
}

/// A shop with its bank and its post. Clones are the same shop.
#[derive(Clone, Debug, Default)]
pub struct Business(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    stock: BTreeMap<String, u32>,
    /// By idempotency key, so that what comes twice counts once.
    payments: BTreeMap<String, u64>,
    outbox: BTreeMap<String, String>,
}

impl Business {
    /// A shop with these articles.
    pub fn with_stock<'a>(stock: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let stock = stock
            .into_iter()
            .map(|(article, quantity)| (article.to_owned(), quantity))
            .collect();
        Self(Arc::new(Mutex::new(Books {
            stock,
            ..Books::default()
        })))
    }

    /// How many there are.
    pub fn in_stock(&self, article: &str) -> u32 {
        self.books().stock.get(article).copied().unwrap_or(0)
    }

    /// Lets the bank pay; says whether it did.
    pub fn charge(&self, key: &str, cents: u64) -> bool {
        let paid = cents <= CREDIT_CENTS;
        if paid {
            self.books().payments.insert(key.to_owned(), cents);
        }
        paid
    }

    /// Writes a message.
    pub fn send(&self, key: &str, text: String) {
        self.books().outbox.insert(key.to_owned(), text);
    }

    /// What was paid in all.
    pub fn paid_cents(&self) -> u64 {
        self.books().payments.values().sum()
    }

    /// The messages that were written.
    pub fn outbox(&self) -> Vec<String> {
        self.books().outbox.values().cloned().collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
