//! A service to watch: it answers as told, and counts how often it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use dalsegno::Result;

/// A health endpoint on a free port.
#[derive(Clone, Debug)]
pub struct Service {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Service {
    /// Answers by this plan, one entry a request; by the last one from then on.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(plan: Vec<StatusCode>) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let service = Self {
            address: listener.local_addr()?,
            asked: Arc::default(),
        };
        let asked = service.asked.clone();
        let health = move || async move {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            plan.get(number)
                .or(plan.last())
                .copied()
                .unwrap_or(StatusCode::OK)
        };
        let router = Router::new().route("/health", get(health));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(service)
    }

    /// Where it is asked for its health.
    pub fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
