//! What a request of HTTP is to do, and to what: from its method and path alone.

use axum::http::Method;

/// Characters of a caller's text in a record.
const TEXT_CHARS_MAX: usize = 300;

/// The action and the subject of a request.
pub(crate) fn of(method: &Method, segments: &[String]) -> (String, Option<String>) {
    let at = |index: usize| segments.get(index).map(String::as_str);
    let (action, subject) = match (at(0), at(1), at(2)) {
        (Some("orchestrators"), Some(name), id) => (format!("start/{name}"), id.map(str::to_owned)),
        (Some("instances"), Some(id), None) if *method == Method::DELETE => {
            ("purge".to_owned(), Some(id.to_owned()))
        }
        (Some("instances"), Some(id), Some(verb)) => {
            let rest = at(3).map_or_else(String::new, |rest| format!("/{rest}"));
            (format!("{verb}{rest}"), Some(id.to_owned()))
        }
        (Some("entities"), Some(name), Some(key)) => {
            let verb = if *method == Method::DELETE {
                "delete"
            } else {
                // The management API has no word for it.
                at(3).unwrap_or("signal")
            };
            (verb.to_owned(), Some(format!("@{}@{key}", name.to_lowercase())))
        }
        (Some("instances"), ..) => ("purge".to_owned(), None),
        (Some(resource), Some(name), verb) => {
            let verb = verb.unwrap_or(if *method == Method::DELETE {
                "delete"
            } else {
                "set"
            });
            (format!("{resource}/{verb}"), Some(name.to_owned()))
        }
        (resource, ..) => (resource.unwrap_or_default().to_owned(), None),
    };
    (cut(&action), subject.as_deref().map(cut))
}

pub(crate) fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_what_is_done_to_what() {
        let of = |method: Method, path: &str| {
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let (action, subject) = super::of(&method, &segments);
            format!("{action} {}", subject.unwrap_or_default())
        };
        assert_eq!(of(Method::POST, "orchestrators/Order/o-1"), "start/Order o-1");
        assert_eq!(of(Method::POST, "instances/o-1/terminate"), "terminate o-1");
        assert_eq!(
            of(Method::POST, "instances/o-1/raiseEvent/ok"),
            "raiseEvent/ok o-1"
        );
        assert_eq!(of(Method::DELETE, "instances/o-1"), "purge o-1");
        assert_eq!(of(Method::DELETE, "instances"), "purge ");
        assert_eq!(of(Method::POST, "entities/Counter/a"), "signal @counter@a");
        assert_eq!(of(Method::DELETE, "entities/Counter/a"), "delete @counter@a");
        assert_eq!(of(Method::PUT, "limiters/api"), "limiters/set api");
        assert_eq!(of(Method::POST, "workers/w/drain"), "workers/drain w");
        assert_eq!(of(Method::POST, "entities/Counter/a/unlock"), "unlock @counter@a");
        assert_eq!(of(Method::POST, "schedules/nightly/run"), "schedules/run nightly");
        assert_eq!(of(Method::POST, "purge"), "purge ");
    }
}
