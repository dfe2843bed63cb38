//! The app's own routes, under a prefix, each with its level.

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use crate::http::auth::{Access, Identity};
use crate::http::body::empty;
use crate::http::problem::Bodies;
use crate::keys::Scope;

/// Who may call an app route. On loopback listeners: everybody on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuthLevel {
    /// Everybody.
    Anonymous,
    /// Holders of a key with scope function. The default, as in Azure Functions.
    #[default]
    Function,
    /// Holders of a key with scope admin.
    Admin,
}

/// The app's routes. Paths are axum's (`/orders/{id}`), below the prefix.
#[derive(Clone, Debug, Default)]
pub struct AppRoutes {
    router: Router,
    described: Vec<RouteInfo>,
}

/// A route as banners show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Name of the function.
    pub name: String,
    /// Path below the prefix, beginning with `/`.
    pub path: String,
    /// Methods in upper case; empty means all.
    pub methods: Vec<String>,
    /// Who may call it.
    pub level: AuthLevel,
}

impl AppRoutes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    ///
    /// # Panics
    /// When the path is no path of axum's, or overlaps with one that is there.
    #[must_use]
    pub fn route(mut self, info: RouteInfo, methods: MethodRouter) -> Self {
        let guarded = methods.layer(from_fn_with_state(info.level, guard));
        self.router = self.router.route(&info.path, guarded);
        self.described.push(info);
        self
    }

    /// What is there, in order of registration.
    pub fn described(&self) -> &[RouteInfo] {
        &self.described
    }

    /// Everything below a prefix such as `api` (may be empty); the rest is 404, or 401 where keys are needed.
    pub(crate) fn into_router(self, prefix: &str, body_bytes_max: usize) -> Router {
        let routes = self
            .router
            .method_not_allowed_fallback(nothing)
            .layer(DefaultBodyLimit::max(body_bytes_max));
        let prefix = prefix.trim_matches('/');
        let router = if prefix.is_empty() {
            routes
        } else {
            Router::new().nest(&format!("/{prefix}"), routes)
        };
        router.fallback(nothing)
    }
}

async fn guard(State(level): State<AuthLevel>, request: Request, next: Next) -> Response {
    match check(level, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(Bodies::Classic),
    }
}

fn check(level: AuthLevel, request: &Request) -> Result<(), crate::http::problem::Problem> {
    let scope = match level {
        AuthLevel::Anonymous => return Ok(()),
        AuthLevel::Function => Scope::Function,
        AuthLevel::Admin => Scope::Admin,
    };
    let identity = request
        .extensions()
        .get::<Identity>()
        .unwrap_or(&Identity::Nobody);
    identity.permit(scope)?;
    match request.extensions().get::<Access>() {
        Some(access) => access.check_origin(request.method(), request.headers()),
        None => Ok(()),
    }
}

/// Whoever shows no key learns nothing about which routes there are.
async fn nothing(request: Request) -> Response<Body> {
    match request.extensions().get::<Identity>() {
        Some(identity) if identity.require().is_ok() => empty(StatusCode::NOT_FOUND),
        _ => empty(StatusCode::UNAUTHORIZED),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;

    fn info(path: &str, level: AuthLevel) -> RouteInfo {
        RouteInfo {
            name: path.into(),
            path: path.into(),
            methods: vec![],
            level,
        }
    }

    async fn check(identity: &Identity, method: &str, path: &str) -> u16 {
        let routes = AppRoutes::new()
            .route(info("/open", AuthLevel::Anonymous), get(|| async { "open" }))
            .route(info("/orders", AuthLevel::Function), post(|| async { "order" }))
            .route(info("/admin", AuthLevel::Admin), get(|| async { "admin" }));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(identity.clone());
        routes
            .into_router("api", 100)
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    #[tokio::test]
    async fn levels_decide_who_may_call() {
        let holder = |scopes: &[Scope]| Identity::Holder {
            id: "key".into(),
            scopes: scopes.to_vec(),
        };
        let caller = holder(&[Scope::Function]);
        let admin = holder(&[Scope::Admin, Scope::Function]);
        for (identity, method, path, wanted) in [
            (&Identity::Nobody, "GET", "/api/open", 200),
            (&Identity::Nobody, "POST", "/api/orders", 401),
            (&Identity::Stranger, "POST", "/api/orders", 401),
            (&caller, "POST", "/api/orders", 200),
            (&caller, "GET", "/api/admin", 403),
            (&admin, "GET", "/api/admin", 200),
            (&Identity::Local, "GET", "/api/admin", 200),
            (&Identity::Link("dsl1_x_y".into()), "POST", "/api/orders", 403),
            (&Identity::Nobody, "GET", "/api/nothing", 401),
            (&caller, "GET", "/api/nothing", 404),
            (&caller, "GET", "/orders", 404),
            (&caller, "GET", "/api/orders", 404),
        ] {
            assert_eq!(
                check(identity, method, path).await,
                wanted,
                "{identity:?} {method} {path}"
            );
        }
    }
}
