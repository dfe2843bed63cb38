//! Every code of a refusal, in one table: what it means, when it comes, what to do.
//!
//! Titles of answers come from here, `dalsegno help CODE` prints it, and `docs/error-codes.md` is
//! made from it.

/// A code, as HTTP and the command line give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The code: stable.
    pub code: &'static str,
    /// What it means, in one sentence.
    pub title: &'static str,
    /// When it comes.
    pub when: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// The entry of a code.
pub fn error_code(code: &str) -> Option<&'static ErrorCode> {
    ERROR_CODES.iter().find(|entry| entry.code == code)
}

impl ErrorCode {
    /// A page for people.
    pub fn page(&self) -> String {
        format!(
            "{}: {}\n\nWhen: {}\n\nWhat to do: {}",
            self.code, self.title, self.when, self.remedy
        )
    }
}

/// All of them as the page of the documentation.
#[cfg(test)]
fn error_code_reference() -> String {
    let mut page = String::from(
        "# Error codes\n\nThe `code` of an answer over HTTP and the word in brackets of the command line.\n`dalsegno help CODE` prints the same.\n",
    );
    for entry in ERROR_CODES {
        page += &format!(
            "\n## `{}`\n\n{}\n\n- When: {}\n- What to do: {}\n",
            entry.code, entry.title, entry.when, entry.remedy
        );
    }
    page + "\nThis page is generated from the code.\n"
}

const fn entry(
    code: &'static str,
    title: &'static str,
    when: &'static str,
    remedy: &'static str,
) -> ErrorCode {
    ErrorCode {
        code,
        title,
        when,
        remedy,
    }
}

/// By subject: instances, the host, requests, the command line.
pub const ERROR_CODES: &[ErrorCode] = &[
    entry(
        "not_found",
        "Nothing of that name is here.",
        "The instance, entity, limiter, schedule or job does not exist, was purged, or belongs to another hub of the host; or the path is none of the API.",
        "`dalsegno list` shows what there is; `--hub NAME` asks another hub.",
    ),
    entry(
        "orchestrator_not_found",
        "No orchestrator of that name is registered.",
        "A start names an orchestrator that neither the host nor a worker offers.",
        "Look at the spelling: the answer lists what is known. Start the worker that offers it.",
    ),
    entry(
        "entity_not_found",
        "No entity of that name is registered.",
        "A signal or call names an entity that nobody offers.",
        "Look at the spelling, or start the worker that offers it.",
    ),
    entry(
        "instance_exists",
        "The instance id is in use.",
        "A start gives an id of an instance that is not finished, or of any when it says `reject`.",
        "Take another id, or say `--if-exists return`, `terminate` or `replace`.",
    ),
    entry(
        "instance_running",
        "The instance is not finished.",
        "A purge or a restart of what still lives.",
        "Wait for it, terminate it, or purge with `--force`.",
    ),
    entry(
        "finished",
        "The instance is finished.",
        "An event or a command for an instance that has ended.",
        "`dalsegno get ID` shows how it ended, `dalsegno restart ID` starts it again.",
    ),
    entry(
        "wrong_state",
        "The command does not fit the instance's state.",
        "Such as a rewind of what has not failed, or a run of a schedule that runs.",
        "`dalsegno get ID` shows its state, `dalsegno explain ID` what moves it.",
    ),
    entry(
        "idempotency_conflict",
        "The idempotency key was used with other data.",
        "A start repeats a key of an earlier one that asked for something else.",
        "Use a new key for a new request, and the same request with an old key.",
    ),
    entry(
        "event_id_reused",
        "The idempotency key came with another event.",
        "An event repeats a key of another event of that instance.",
        "Use a new key for each event.",
    ),
    entry(
        "over_limit",
        "Something is larger than a limit allows.",
        "A payload, a name, tags, headers or a number beyond a limit, which the answer names.",
        "Make it smaller, keep large data elsewhere and pass a reference, or raise the limit (`docs/config.md`).",
    ),
    entry(
        "invalid",
        "The request cannot be understood.",
        "A value that the hub refuses: the answer says which and why.",
        "Correct it.",
    ),
    entry(
        "timed_out",
        "The time is over; the instance goes on.",
        "A wait ended before the instance did, or `--timeout` passed.",
        "Wait again: `dalsegno wait ID`. `dalsegno explain ID` says what holds it.",
    ),
    entry(
        "busy",
        "Too many wait already.",
        "A key has `limits.waiters_per_key_max` requests that wait, or four bulk operations run in the hub.",
        "Try again after `Retry-After`; wait less, or use webhooks.",
    ),
    entry(
        "insufficient_storage",
        "The hub's disk has too little room.",
        "Less is free than `limits.disk_free_bytes_min`. Starts, restarts, events and signals are refused; what runs goes on.",
        "Purge old instances, or give the disk room.",
    ),
    entry(
        "unavailable",
        "The hub is starting or going down.",
        "Before recovery is done, while a host drains, or while its store takes no commits.",
        "Try again in a moment; `/healthz` says what is wrong.",
    ),
    entry(
        "internal",
        "The server failed.",
        "Internal error: please report it. The log of the host has the details.",
        "Look into the log of the host, and report it.",
    ),
    entry(
        "hub_damaged",
        "What is stored in the hub is damaged.",
        "A row or a value of an instance or entity cannot be read, or a page of `hub.db`, which fails every list that meets it. The answer says which.",
        "Stop the host; `dalsegno verify FOLDER` says what is damaged. `dalsegno repair FOLDER` moves damaged rows aside; when `hub.db` is malformed, restore the hub from a backup.",
    ),
    entry(
        "unauthorized",
        "The host does not let this key do that.",
        "The request has no key, or an unknown, expired or revoked one; or the key is in `?code=`, and `auth.keys_in_query` is off. HTTP answers with an empty 401.",
        "Send a key with `--key` or DALSEGNO_TOKEN, over HTTP as `x-functions-key`; `dalsegno key create NAME --scope SCOPE` creates one.",
    ),
    entry(
        "forbidden",
        "The key does not allow that.",
        "The key is valid and lacks the scope, or one of the two scopes, that the request needs, or opens one hub and the request changes the whole host; or a link is used for another operation, for a later instance of its id, or after it expired. HTTP answers with an empty 403.",
        "Use a key with that scope; `dalsegno key create NAME --scope SCOPE` creates one.",
    ),
    entry(
        "key_of_another_hub",
        "The key opens another hub.",
        "The request names no hub, so it is about the default hub, and the key was created for another one.",
        "Name the hub of the key: `taskHub`, `--hub`, or the metadata `taskhub` over gRPC.",
    ),
    entry(
        "forwarded_without_keys",
        "A proxy forwarded the request, and the host has no keys.",
        "Without keys every caller may do anything, so the host serves programs on its own machine only. `Forwarded`, `Via` or an `X-Forwarded-` header says that a proxy forwarded the request.",
        "Create keys with `dalsegno key create`, and set `auth.keys_file`.",
    ),
    entry(
        "read_only",
        "This host changes nothing.",
        "The host was started read-only, and the request would change the hub.",
        "Ask a host that is not read-only.",
    ),
    entry(
        "too_many_bad_keys",
        "This address sent too many invalid keys.",
        "Somebody guesses keys, or a client has an old key: more than 20 within a minute. Valid keys from the same address keep working.",
        "Stop sending the wrong key; `Retry-After` says when it is looked at again.",
    ),
    entry(
        "foreign_host",
        "This listener answers to its own names only.",
        "The `Host` of a request is none of the listener's, as when a page elsewhere points its name here.",
        "Use the listener's own name, or add the name to `http.hosts`.",
    ),
    entry(
        "unknown_hub",
        "No task hub of that name is served here.",
        "`taskHub`, `hub` or `--hub` names a hub that this host has not.",
        "`dalsegno hub list` shows those that it has, `dalsegno hub create NAME` makes another.",
    ),
    entry(
        "invalid_hub_name",
        "This is no name of a task hub.",
        "A hub that is to be made has a name that is empty, too long, or has other letters in it than A to Z, digits, `-` and `_`.",
        "Choose another name.",
    ),
    entry(
        "hub_is_fixed",
        "This task hub is not made or deleted by a request.",
        "It is the host's own, which goes with the host; or the host serves its own hub alone.",
        "For the host's own: stop the host and remove its folder, or `dalsegno purge` what is in it. To have others: `grpc.workers = \"any-hub\"`.",
    ),
    entry(
        "too_many_hubs",
        "The host has as many task hubs as it may have.",
        "A hub is to be created and the host has a hundred, those that could not be opened included.",
        "`dalsegno hub delete` one that is not needed, or start another host.",
    ),
    entry(
        "not_on_disk",
        "This task hub is not kept on a disk.",
        "A backup is asked for of a hub that is kept in memory.",
        "Ask a host whose hub is in a folder.",
    ),
    entry(
        "unknown_parameter",
        "A query parameter is unknown.",
        "A parameter that this route has not; nothing mistyped is passed over.",
        "Look at the spelling: the answer names the nearest.",
    ),
    entry(
        "repeated_parameter",
        "A query parameter is given twice.",
        "A parameter or a header that can be there once comes twice.",
        "Give it once.",
    ),
    entry(
        "invalid_parameter",
        "A query parameter cannot be read.",
        "A parameter, a header or a member of the body has a value of another kind.",
        "The answer has `got` and `expected`.",
    ),
    entry(
        "missing_parameter",
        "A query parameter is missing.",
        "A parameter or a member of the body that has to be there is not.",
        "Give it; a job over everything says so by `all`.",
    ),
    entry(
        "out_of_range",
        "A value is out of range.",
        "A number that is too small or too large.",
        "The answer has the range.",
    ),
    entry(
        "invalid_time",
        "A time cannot be read.",
        "A time that is not RFC 3339.",
        "Write it like 2026-03-01T09:30:00Z.",
    ),
    entry(
        "zone_required",
        "A time has no zone.",
        "A time without `Z` or an offset, where one is needed.",
        "Add `Z`, or an offset such as `+01:00`.",
    ),
    entry(
        "invalid_instance_id",
        "The instance id is not valid.",
        "It is empty, too long, begins with `@`, or has letters that ids do not have.",
        "Take another id: the answer says what is wrong.",
    ),
    entry(
        "invalid_entity_id",
        "The entity id is not valid.",
        "The name or key of an entity is empty, too long, or has letters that they do not have.",
        "Write it like `counter` and `a`, or `@counter@a`.",
    ),
    entry(
        "invalid_event_name",
        "The event name is not valid.",
        "The name of an event is empty or too long.",
        "Take another name.",
    ),
    entry(
        "invalid_name",
        "The name is not valid.",
        "The name of an orchestrator, a limiter or a version is empty or too long.",
        "Take another name.",
    ),
    entry(
        "invalid_path",
        "The path cannot be read.",
        "A segment of the path is not UTF-8 when it is decoded.",
        "Encode names with percent signs, as UTF-8.",
    ),
    entry(
        "invalid_json",
        "The body is not JSON.",
        "The body does not parse; the answer has line and column.",
        "Correct it; a text needs quotes of its own: '\"Ada\"'.",
    ),
    entry(
        "invalid_utf8",
        "The body is not UTF-8.",
        "The body has bytes that are no UTF-8.",
        "Send UTF-8.",
    ),
    entry(
        "invalid_body",
        "The body does not fit.",
        "A member is unknown, missing or of another kind.",
        "The answer names it; `docs/http-api.md` has the bodies.",
    ),
    entry(
        "invalid_token",
        "The continuation token is not valid.",
        "The token or `after` is not what a page before gave.",
        "Begin with the first page, and give the token unchanged.",
    ),
    entry(
        "too_deep",
        "The JSON is nested too deep.",
        "More levels than the host reads.",
        "Flatten it, or pass it as a text.",
    ),
    entry(
        "body_too_large",
        "The body is too large.",
        "More bytes than `http.body_bytes_max`.",
        "Keep large data elsewhere and pass a reference, or raise the limit.",
    ),
    entry(
        "unknown_encoding",
        "The body's encoding is not supported.",
        "The body comes with a `Content-Encoding`; bodies are taken plain.",
        "Send it without.",
    ),
    entry(
        "content_type",
        "The content type is not application/json.",
        "A browser's form or another type.",
        "Send `Content-Type: application/json`.",
    ),
    entry(
        "reason_too_long",
        "The reason is too long.",
        "More bytes than `limits.reason_bytes_max`.",
        "Shorten it.",
    ),
    entry(
        "usage",
        "What was typed cannot be done.",
        "An unknown command or flag, a value that does not fit, or many instances without `--yes` where nobody can be asked. Exit code 2.",
        "`dalsegno help COMMAND` shows what it takes.",
    ),
    entry(
        "configuration",
        "The configuration is refused.",
        "`dalsegno.toml`, the environment, a profile, a key file or a folder, such as one that holds a damaged hub. All mistakes are told at once, and nothing was touched. Exit code 78.",
        "Correct it; `dalsegno config show --origin` says where each value comes from.",
    ),
    entry(
        "io",
        "The disk or the system failed.",
        "An I/O error, a full disk or no free file descriptors while a hub was opened or read. Nothing that was acknowledged is lost. Exit code 75.",
        "Start it again, as the systemd unit does; if it fails again, look into the log of the kernel and at the room on the disk.",
    ),
    entry(
        "in_use",
        "Another process has the folder open.",
        "A hub is open in one process only. Exit code 4.",
        "End the host that has it, or work with a copy.",
    ),
    entry(
        "unreachable",
        "No host answers there.",
        "The name is not known, the port is closed, or something between stops it. Exit code 5.",
        "`dalsegno doctor` says which; start the host, or say where it is with `--server`.",
    ),
    entry(
        "unexpected",
        "Something that nobody thought of.",
        "A failure of this machine or of dalsegno. Exit code 1.",
        "Report it.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use dalsegno_engine::request::RequestErrorKind;

    use super::*;

    #[test]
    fn codes_are_told_once_and_wholly() {
        let codes: BTreeSet<&str> = ERROR_CODES.iter().map(|entry| entry.code).collect();
        assert_eq!(codes.len(), ERROR_CODES.len());
        for entry in ERROR_CODES {
            for text in [entry.title, entry.when, entry.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", entry.code);
            }
        }
    }

    #[test]
    fn the_page_is_that_of_the_documentation() {
        expect_test::expect_file!["../../../docs/error-codes.md"].assert_eq(&error_code_reference());
    }

    /// Reads the code of this crate: what stands where a code is given.
    #[test]
    fn every_code_that_a_host_gives_is_in_the_table() {
        let mut found = BTreeSet::new();
        gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 20, "the search finds too few: {found:?}");
        for code in found {
            assert!(error_code(&code).is_some(), "{code} is not in the table");
        }
    }

    #[test]
    fn every_kind_of_a_refused_request_is_in_the_table() {
        let kinds = ERROR_CODES
            .iter()
            .filter_map(|entry| RequestErrorKind::from_code(entry.code));
        // As many as the enum has: `from_code` lists them.
        assert_eq!(kinds.count(), 18);
    }

    fn gather(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("error_codes.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                // Tests may make codes up.
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                found.extend(codes_in(text));
            }
        }
    }

    /// The first text behind the opening bracket of what makes a problem.
    fn codes_in(text: &str) -> Vec<String> {
        let mut codes = Vec::new();
        for mark in ["Problem::new(", "bad_request(", "fn refuse("] {
            for (place, _) in text.match_indices(mark) {
                let rest = &text[place + mark.len()..];
                let arguments = &rest[..rest.find(';').unwrap_or(rest.len())];
                let first = arguments.split('"').nth(1).unwrap_or_default();
                let is_code = |letter: char| letter.is_ascii_lowercase() || letter == '_' || letter == '8';
                if !first.is_empty() && first.chars().all(is_code) {
                    codes.push(first.to_owned());
                }
            }
        }
        codes
    }
}
