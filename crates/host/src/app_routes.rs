//! The app's own routes, under a prefix, each with its level.

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use crate::http::auth::{
    Access, Credential, Ending, Principal, Revoked, UntilRevoked, forbidden, unauthorized,
};
use crate::http::body::empty;
use crate::http::problem::Bodies;
use crate::http::request::RequestLinks;
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

/// Marks a response of the app: the headers of it are the app's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfApp;

/// Runs the handler of a route for a caller of its level. The handler and its response end when the
/// key of the caller does, as when the caller disconnects; a route for everybody looks at no key.
async fn guard(State(level): State<AuthLevel>, request: Request, next: Next) -> Response {
    if let Err(problem) = check(level, &request) {
        return problem.into_response(Bodies::Classic);
    }
    let credential = match level {
        AuthLevel::Anonymous => None,
        AuthLevel::Function | AuthLevel::Admin => request.extensions().get::<Credential>().cloned(),
    };
    let Some(credential) = credential else {
        return of_app(next.run(request).await);
    };
    match credential.guard(next.run(request)).await {
        Ok(answer) => of_app(answer.map(|body| UntilRevoked::wrap(body, &credential, Ending::Cut))),
        Err(Revoked) => unauthorized().into_response(Bodies::Classic),
    }
}

fn of_app(mut response: Response) -> Response {
    response.extensions_mut().insert(OfApp);
    response
}

fn check(level: AuthLevel, request: &Request) -> Result<(), crate::http::problem::Problem> {
    let scope = match level {
        AuthLevel::Anonymous => return Ok(()),
        AuthLevel::Function => Scope::Function,
        AuthLevel::Admin => Scope::Admin,
    };
    let principal = request
        .extensions()
        .get::<Principal>()
        .unwrap_or(&Principal::Anonymous);
    principal.permit(&[scope])?;
    // The app is of the default hub.
    if let Some(own) = request.extensions().get::<RequestLinks>()
        && !principal.may_enter(own.hub.name(), own.hub.name())
    {
        return Err(forbidden());
    }
    match request.extensions().get::<Access>() {
        Some(access) => {
            let scheme = request
                .extensions()
                .get::<Scheme>()
                .map_or("http", |scheme| scheme.0);
            access.check_origin(scheme, request.method(), request.uri(), request.headers())
        }
        None => Ok(()),
    }
}

/// The scheme of the listener, for the guards of app routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme(pub(crate) &'static str);

/// A caller without a valid key learns nothing about which routes there are.
async fn nothing(request: Request) -> Response<Body> {
    match request.extensions().get::<Principal>() {
        Some(principal) if principal.is_known() => empty(StatusCode::NOT_FOUND),
        _ => empty(StatusCode::UNAUTHORIZED),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use dalsegno_core::Timestamp;
    use tower::ServiceExt;

    use super::*;
    use crate::keys::{KeyHubs, KeyRing};

    fn info(path: &str, level: AuthLevel) -> RouteInfo {
        RouteInfo {
            name: path.into(),
            path: path.into(),
            methods: vec![],
            level,
        }
    }

    async fn check(principal: &Principal, method: &str, path: &str) -> u16 {
        let routes = AppRoutes::new()
            .route(info("/open", AuthLevel::Anonymous), get(|| async { "open" }))
            .route(info("/orders", AuthLevel::Function), post(|| async { "order" }))
            .route(info("/admin", AuthLevel::Admin), get(|| async { "admin" }));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(principal.clone());
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
        let mut ring = KeyRing::new().unwrap();
        let mut holder = |scopes: &[Scope]| {
            let secret = ring.create("key", scopes, KeyHubs::All, None).unwrap();
            let key = ring.find(&secret, Timestamp::from_micros(0)).unwrap();
            Principal::Key(key.clone())
        };
        let caller = holder(&[Scope::Function]);
        let admin = holder(&[Scope::Admin, Scope::Function]);
        for (principal, method, path, wanted) in [
            (&Principal::Anonymous, "GET", "/api/open", 200),
            (&Principal::Anonymous, "POST", "/api/orders", 401),
            (&Principal::InvalidKey, "POST", "/api/orders", 401),
            (&caller, "POST", "/api/orders", 200),
            (&caller, "GET", "/api/admin", 403),
            (&admin, "GET", "/api/admin", 200),
            (&Principal::Loopback, "GET", "/api/admin", 200),
            (
                &Principal::LinkClaim("dsl1_x_y".into()),
                "POST",
                "/api/orders",
                403,
            ),
            (&Principal::Anonymous, "GET", "/api/nothing", 401),
            (&caller, "GET", "/api/nothing", 404),
            (&caller, "GET", "/orders", 404),
            (&caller, "GET", "/api/orders", 404),
        ] {
            assert_eq!(
                check(principal, method, path).await,
                wanted,
                "{principal:?} {method} {path}"
            );
        }
    }
}
