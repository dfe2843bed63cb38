//! Whether the caller of a request may use its route: the demand of the table, held against the
//! caller.

use std::sync::{Arc, PoisonError};

use axum::http::StatusCode;
use dalsegno_core::InstanceId;

use super::auth::{Credential, Principal, Revoked, forbidden};
use super::problem::Problem;
use super::query;
use super::request::{Call, State};
use super::route::{Reach, Route, When};
use crate::keys::{LinkOperation, LinkTarget, VerifiedLink};
use crate::v1;

/// The name by which paths capture an instance that a link may open.
const INSTANCE: &str = "{instanceId}";
/// The name by which paths capture a hub.
const HUB: &str = "{hub}";

/// Refuses a caller that may not use the route. A link that opens it becomes the credential of the
/// request.
pub(super) async fn authorize<T>(
    call: &mut Call,
    route: &Route<T>,
    segments: &[String],
) -> Result<(), Problem> {
    let Some(scope) = route.scope else {
        return Ok(());
    };
    if let (Principal::LinkClaim(code), Some(operation)) = (call.principal.clone(), route.link) {
        let id = captured(route.path, INSTANCE, segments).unwrap_or_default();
        return open_link(call, &code, operation, id).await;
    }
    call.principal.permit(&[scope])?;
    if captured(route.path, INSTANCE, segments).is_some_and(|id| id.starts_with('@')) {
        for also in route.also.iter().filter(|also| also.when == When::Entity) {
            call.principal.permit(&[also.scope])?;
        }
    }
    // Before anything else is checked, so that an answer does not tell hubs that exist from others.
    let named = query::hub_of(call.parts.uri.query()).filter(|name| !name.is_empty());
    if let Some(named) = named.filter(|name| call.state.hubs.find(name).is_none()) {
        return Err(call.unknown_hub(&named));
    }
    check_reach(call, route.reach, captured(route.path, HUB, segments))
}

/// Verifies a link for the operation of a route on the instance in its path. The body is read before
/// the instance is looked up, and the link is verified again behind it, so that a sender who takes
/// long chooses neither the instance nor the time at which the link has to be valid.
async fn open_link(
    call: &mut Call,
    code: &Arc<str>,
    operation: LinkOperation,
    id: &str,
) -> Result<(), Problem> {
    let state = Arc::clone(&call.state);
    let hub = call.hub().clone();
    let id = InstanceId::parse(id).map_err(|_| forbidden())?;
    let target = LinkTarget {
        hub: hub.name(),
        operation,
        id: &id,
    };
    // A link that is not valid does not get its body read.
    verify(&state, code, target)?;
    let credential = Credential::of_link(code, target, &state.access, &state.hub);
    let body = credential.guard(call.body()).await;
    let body = body.map_err(|Revoked| forbidden())??;
    *call.body.get_mut().unwrap_or_else(PoisonError::into_inner) = body.into();
    let status = hub.status(&id).await?;
    let link = verify(&state, code, target)?;
    let created = status.ok_or_else(Problem::not_found)?.row.created;
    if !link.covers(created) {
        return Err(forbidden());
    }
    call.credential = credential;
    call.link = Some(link);
    Ok(())
}

/// The link, if its MAC is valid and it has not expired by now.
fn verify(state: &State, code: &str, target: LinkTarget<'_>) -> Result<VerifiedLink, Problem> {
    let now = state.hub.now();
    let ring = state.access.keys().ok_or_else(forbidden)?.ring(now);
    let link = ring.link_signer().verify(code, target, now);
    link.ok_or_else(forbidden)
}

/// A key opens its hub. Of other hubs its holder learns no more than of hubs that are not there.
fn check_reach(call: &Call, reach: Reach, in_path: Option<&str>) -> Result<(), Problem> {
    let (state, principal) = (&call.state, &call.principal);
    let default = state.hub.name();
    match reach {
        Reach::AnyHub => Ok(()),
        Reach::Host if principal.may_enter_all() => Ok(()),
        Reach::DefaultHub if principal.may_enter(default, default) => Ok(()),
        Reach::NewHub if principal.may_enter(in_path.unwrap_or_default(), default) => Ok(()),
        Reach::Host | Reach::DefaultHub | Reach::NewHub => Err(forbidden()),
        Reach::NamedHub if principal.may_enter(call.hub().name(), default) => Ok(()),
        Reach::NamedHub => Err(
            match query::hub_of(call.parts.uri.query()).filter(|name| !name.is_empty()) {
                Some(named) => call.unknown_hub(&named),
                None => other_hub(call),
            },
        ),
        Reach::HubInPath => {
            let name = in_path.unwrap_or_default();
            let found = state.hubs.find(name);
            let exact = found.as_ref().map_or(name, |hub| hub.name());
            match principal.may_enter(exact, default) {
                true => Ok(()),
                false => Err(v1::hubs::unknown(call, name)),
            }
        }
    }
}

/// The request names no hub, and the key is not of the default hub.
fn other_hub(call: &Call) -> Problem {
    let opens = match &call.principal {
        Principal::Key(key) => key.hubs.to_string(),
        _ => return forbidden(),
    };
    Problem::new(
        StatusCode::FORBIDDEN,
        "key_of_another_hub",
        format!("this request is about the default hub, and the key opens {opens}: name it with taskHub"),
    )
}

/// What a path holds in the place of a name.
fn captured<'a>(path: &str, name: &str, segments: &'a [String]) -> Option<&'a str> {
    let place = path.split('/').position(|part| part == name)?;
    segments.get(place).map(String::as_str)
}
