use expect_test::{Expect, expect, expect_file};

use super::table::SETTINGS;
use super::*;

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sources {
        host_json: None,
        file: Some(("dalsegno.toml".into(), file.into())),
        environment: environment.iter().map(pair).collect(),
        flags: flags
            .iter()
            .map(pair)
            .map(|(key, value)| ("--set".into(), key, value))
            .collect(),
    }
}

fn refused(file: &str, environment: &[(&str, &str)], wanted: &Expect) {
    let refused = Config::load(&sources(file, environment, &[]))
        .map(|_| ())
        .unwrap_err();
    wanted.assert_eq(&refused.to_string());
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_code() {
    let config = Config::load(&Sources::default()).unwrap().config;
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.partitions, dalsegno_core::limits::HUB_PARTITIONS);
    assert_eq!(
        format!("{:?}", config.http),
        format!("{:?}", HttpSettings::default())
    );
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    let app = config.resolve(Program::App).unwrap();
    assert!(!app.access.needs_keys());
}

#[test]
fn the_later_source_wins_and_origins_are_told() {
    let file = "listen = \"127.0.0.1:1\"\n\n[http]\npage_max = 2_000\nhosts = [\"hub.test\"]\n\n[limiter.github]\nrate = \"5000/1h\"\nburst = 100\n";
    let environment = [
        ("DALSEGNO__HTTP__PAGE_MAX", "300"),
        ("DALSEGNO__LIMITS__TAGS_MAX", "7"),
        ("DALSEGNO_SERVER", "x"),
    ];
    let loaded = Config::load(&sources(file, &environment, &[("limits.tags_max", "8")])).unwrap();
    assert_eq!(loaded.config.http.page_max, 300);
    assert_eq!(loaded.config.limits.tags_max, 8);
    assert_eq!(loaded.config.hosts, ["hub.test"]);
    let github = LimiterDefinition {
        rate: Some((5000, Duration::from_secs(3600))),
        burst: Some(100),
        concurrency: None,
    };
    assert_eq!(loaded.config.limiters, [("github".to_owned(), github)]);
    let told: Vec<String> = loaded
        .values
        .iter()
        .filter(|(_, _, origin)| *origin != Origin::Default)
        .map(|(key, value, origin)| format!("{key} = {value} ({origin})"))
        .collect();
    expect![[r#"
        listen = 127.0.0.1:1 (dalsegno.toml:1:1)
        http.hosts = hub.test (dalsegno.toml:5:1)
        http.page_max = 300 (environment DALSEGNO__HTTP__PAGE_MAX)
        limits.tags_max = 8 (flag --set)
        limiter.github.burst = 100 (dalsegno.toml:9:1)
        limiter.github.rate = 5000/1h (dalsegno.toml:8:1)"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    refused(
        "lisen = \"x\"\nlisten = \"localhost\"\n[http]\npage_max = 0\nuse_forwarded_host = \"yes\"\nheader_timeout = 10\n[htpp]\na = 1\n[limiter.x]\nrat = \"1/1s\"\nburst = 5\n",
        &[
            ("DALSEGNO__HTTP__PAGEMAX", "5"),
            ("DALSEGNO__LIMITS__TAGS_MAX", "many"),
        ],
        &expect![[r#"
            dalsegno.toml:1:1: lisen: unknown key: did you mean listen?
            dalsegno.toml:2:1: listen: got "localhost", expected an address with port, like 127.0.0.1:8080
            dalsegno.toml:4:1: http.page_max: got 0, expected a whole number, 1 to 10000
            dalsegno.toml:5:1: http.use_forwarded_host: got "yes", expected true or false
            dalsegno.toml:6:1: http.header_timeout: got 10, expected a duration like 30s, 5m, 12h, 30d
            dalsegno.toml:7:2: htpp: unknown key: see docs/config.md
            dalsegno.toml:10:1: limiter.x.rat: unknown key: did you mean limiter.x.rate?
            dalsegno.toml:11:1: limiter.x.burst: a burst needs a rate
            environment DALSEGNO__HTTP__PAGEMAX: http.pagemax: unknown key: did you mean http.page_max?
            environment DALSEGNO__LIMITS__TAGS_MAX: limits.tags_max: got "many", expected a whole number, 1 to 9223372036854775807"#]],
    );
}

#[test]
fn what_is_no_toml_or_said_twice_is_refused_with_its_place() {
    refused(
        "listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n",
        &[],
        &expect!["dalsegno.toml:2:1: duplicate key"],
    );
    refused(
        "[http\n",
        &[],
        &expect!["dalsegno.toml:1:6: unclosed table, expected `]`"],
    );
}

#[test]
fn what_fits_alone_and_not_together_is_refused() {
    refused(
        "[http]\nbody_bytes_max = 10\nroute_prefix = \"runtime\"\n[auth]\nrequired = \"always\"\n",
        &[],
        &expect![[r#"
            dalsegno.toml:2:1: http.body_bytes_max: is smaller than limits.payload_bytes_max: raise it
            dalsegno.toml:3:1: http.route_prefix: is reserved for the host: choose another
            dalsegno.toml:5:1: auth.required: is always, and auth.keys_file names no file"#]],
    );
}

#[test]
fn a_listener_beyond_loopback_needs_keys() {
    for program in [Program::App, Program::Serve] {
        let refused = resolved("listen = \"0.0.0.0:8080\"", program).unwrap_err();
        assert!(refused.to_string().contains("auth.keys_file"), "{refused}");
        // And it does not let them travel unencrypted: both mistakes at once.
        assert!(refused.to_string().contains("tls.certificate_file"), "{refused}");
    }
    let never = "listen = \"0.0.0.0:8080\"\n[auth]\nrequired = \"never\"\n[tls]\nallow_plaintext = true";
    assert!(resolved(never, Program::Serve).is_err());
}

fn resolved(file: &str, program: Program) -> Result<Resolved, Refused> {
    let loaded = Config::load(&sources(file, &[], &[])).unwrap();
    loaded.config.resolve(program)
}

/// A key file, as a line of `[auth]`.
fn keys_line(folder: &std::path::Path) -> String {
    let path = folder.join("keys.json");
    crate::keys::KeyRing::new().unwrap().save(&path).unwrap();
    format!("[auth]\nkeys_file = \"{}\"\n", path.display())
}

#[test]
fn a_configured_key_file_is_enforced_on_loopback_too() {
    // A host behind nginx on the same machine was open to the internet: its listener is on loopback.
    let folder = tempfile::tempdir().unwrap();
    let keys = keys_line(folder.path());
    for program in [Program::App, Program::Serve] {
        for required in ["", "required = \"auto\"", "required = \"always\""] {
            let resolved = resolved(&format!("{keys}{required}"), program).unwrap();
            assert!(resolved.access.needs_keys(), "{program:?} {required}");
        }
    }
    refused(
        &format!("{keys}required = \"never\""),
        &[],
        &expect![[r#"
            dalsegno.toml:3:1: auth.required: is never, and auth.keys_file names a file: remove one of the two"#]],
    );
}

#[test]
fn serve_without_keys_has_to_be_spelled_out() {
    let refused = resolved("", Program::Serve).unwrap_err();
    assert!(
        refused.to_string().contains("auth.required = \"never\""),
        "{refused}"
    );
    let never = resolved("[auth]\nrequired = \"never\"", Program::Serve).unwrap();
    assert!(!never.access.needs_keys());
    assert!(!resolved("", Program::App).unwrap().access.needs_keys());
}

#[test]
fn half_of_tls_is_refused() {
    // The listener spoke plaintext, and nothing said so.
    for (set, missing) in [("certificate_file", "key_file"), ("key_file", "certificate_file")] {
        let file = format!("[tls]\n{set} = \"x.pem\"");
        let refused = Config::load(&sources(&file, &[], &[])).unwrap_err().to_string();
        assert!(refused.contains(&format!("tls.{missing} is not")), "{refused}");
    }
}

#[test]
fn every_file_that_is_named_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let path = missing.display();
    for (file, key) in [
        (format!("[auth]\nkeys_file = \"{path}\""), "auth.keys_file"),
        (
            format!("[tls]\ncertificate_file = \"{path}\"\nkey_file = \"{path}\""),
            "tls.certificate_file",
        ),
        (
            format!("[webhooks]\nsecret_file = \"{path}\""),
            "webhooks.secret_file",
        ),
        (
            format!("[traces]\nendpoint = \"http://127.0.0.1:4317\"\nheaders_file = \"{path}\""),
            "traces.headers_file",
        ),
        (format!("[audit]\nfile = \"{path}/audit.jsonl\""), "audit.file"),
    ] {
        let refused = resolved(&file, Program::App).unwrap_err().to_string();
        assert!(
            refused.contains(key) && refused.contains("missing"),
            "{key}: {refused}"
        );
    }
    assert!(!missing.exists(), "a check creates nothing");
}

#[cfg(target_os = "linux")]
#[test]
fn an_audit_file_in_a_folder_that_cannot_be_written_is_refused() {
    // It was accepted, and the host then did not start. Nobody creates files there, root neither.
    let refused = resolved("[audit]\nfile = \"/proc/audit.jsonl\"", Program::App).unwrap_err();
    assert!(refused.to_string().contains("audit.file"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let good = format!("[audit]\nfile = {file:?}");
    assert!(resolved(&good, Program::App).is_ok());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "a check leaves nothing");
    std::fs::write(&file, "records").unwrap();
    assert!(resolved(&good, Program::App).is_ok());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "records");
}

#[test]
fn the_reference_is_up_to_date() {
    expect_file!["../../../../docs/config.md"].assert_eq(&reference());
}

#[test]
fn webhooks_have_sections_and_their_secrets_are_read_from_files() {
    use crate::webhooks::WebhookSecret;
    use dalsegno_core::query::Status;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "a-secret-that-is-long-enough\n").unwrap();
    let text = "[webhooks]\nallowed_hosts = [\"h.test\"]\n[webhook.audit]\nurl = \"https://a.test/x\"\nstatuses = [\"Failed\"]\nname_prefix = \"Order\"\n";
    let environment = [("DALSEGNO__WEBHOOKS__SECRET_FILE", file.to_str().unwrap())];
    let config = Config::load(&sources(text, &environment, &[])).unwrap().config;
    let settings = config.webhooks.settings("default").unwrap();
    assert_eq!(
        settings.secret,
        WebhookSecret::parse("a-secret-that-is-long-enough").ok()
    );
    let hook = &settings.hooks[0];
    assert_eq!(
        (hook.name.as_str(), hook.url.as_str()),
        ("audit", "https://a.test/x")
    );
    assert_eq!(
        (hook.statuses.as_slice(), hook.name_prefix.as_str()),
        (&[Status::Failed][..], "Order")
    );
    assert_eq!(settings.allowed_hosts, ["h.test"]);

    let told = |text: &str| {
        let config = Config::load(&sources(text, &[], &[])).unwrap().config;
        config.webhooks.settings("default").unwrap_err().to_string()
    };
    assert!(told("[webhook.audit]\nurl = \"https://a.test\"").contains("webhook.audit: there is no secret"));
    assert!(told("[webhook.audit]\nname_prefix = \"x\"").contains("webhook.audit: the URL cannot be read"));
    assert!(
        told("[webhooks]\nsecret_file = \"/nowhere/x\"")
            .contains("webhooks.secret_file: /nowhere/x cannot be read")
    );
    refused(
        "[webhook.audit]\nstatuses = [\"Done\"]\nurls = \"x\"\n",
        &[],
        &expect![[r#"
            dalsegno.toml:2:1: webhook.audit.statuses: got ["Done"], expected a list of statuses, like Completed,Failed
            dalsegno.toml:3:1: webhook.audit.urls: unknown key: did you mean webhook.audit.url?"#]],
    );
}

#[test]
fn the_file_to_begin_with_sets_nothing_and_all_of_it_can_be_set() {
    let text = template();
    let defaults = Config::load(&sources("", &[], &[])).unwrap().values;
    assert_eq!(Config::load(&sources(&text, &[], &[])).unwrap().values, defaults);
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let own = text.split("\n#[").next().unwrap();
    assert_eq!(own.lines().filter(is_key).count(), SETTINGS.len());
    // What is only shown is read as its default when it is set.
    let set: Vec<&str> = own
        .lines()
        .map(|line| match is_key(&line) {
            true => &line[1..],
            false => line,
        })
        .collect();
    let loaded = Config::load(&sources(&set.join("\n"), &[], &[])).unwrap().values;
    for (known, set) in defaults.iter().zip(&loaded) {
        assert_eq!((&known.0, &known.1), (&set.0, &set.1));
    }
}

#[test]
fn traces_are_told_where_to_go_by_the_file_and_by_the_variables_of_opentelemetry() {
    use crate::traces::{Sampler, TraceProtocol};
    let traces = |file: &str, environment: &[(&str, &str)]| {
        let config = Config::load(&sources(file, environment, &[])).unwrap().config;
        config.traces.settings().unwrap()
    };
    assert_eq!(traces("", &[]), None);
    assert_eq!(traces("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
    let file = "[traces]\nendpoint = \"http://a:1\"\nprotocol = \"grpc\"\ntimeout = \"3s\"\n";
    let own = traces(file, &[]).unwrap();
    assert_eq!(
        (own.endpoint.as_str(), own.protocol),
        ("http://a:1", TraceProtocol::Grpc)
    );
    assert_eq!(own.timeout, Duration::from_secs(3));
    assert_eq!(
        (own.service_name.as_str(), own.sampler),
        ("dalsegno", Sampler::ParentBased(1.0))
    );
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318/below/"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary"),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("DALSEGNO__TRACES__SERVICE_NAME", "mine"),
    ];
    let theirs = traces(file, &environment).unwrap();
    assert_eq!(theirs.endpoint, "https://c:4318/below/v1/traces");
    assert_eq!(theirs.protocol, TraceProtocol::Http);
    assert_eq!(theirs.timeout, Duration::from_millis(2500));
    assert_eq!(theirs.service_name, "mine", "ours are stronger");
    assert_eq!(theirs.sampler, Sampler::Share(0.25));
    let loaded = Config::load(&sources(file, &environment, &[])).unwrap();
    assert!(
        !format!("{loaded:?}").contains("canary"),
        "headers are never shown"
    );
    for off in [
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("DALSEGNO__TRACES__ENABLED", "false"),
    ] {
        assert_eq!(traces(file, &[off]), None, "{off:?}");
    }
    assert!(traces(file, &[("OTEL_SDK_DISABLED", "false")]).is_some());
    refused(
        "[traces]\nendpoint = \"collector:4318\"\nsampler_ratio = 2\n",
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ],
        &expect![[r#"
            dalsegno.toml:2:1: traces.endpoint: got "collector:4318", expected a URL like https://hub.example.com, or nothing
            dalsegno.toml:3:1: traces.sampler_ratio: got 2, expected a number from 0 to 1, like "0.25"
            environment OTEL_EXPORTER_OTLP_PROTOCOL: traces.protocol: got "http/json", expected http/protobuf, grpc
            environment OTEL_EXPORTER_OTLP_TIMEOUT: traces.timeout: got "soon", expected a duration like 30s, 5m, 12h, 30d"#]],
    );
}

#[test]
fn headers_of_traces_are_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    std::fs::write(&file, "api-key=canary=1\n\n x-team = a\n").unwrap();
    let text = format!("[traces]\nendpoint = \"http://a:1\"\nheaders_file = {file:?}\n");
    let config = || Config::load(&sources(&text, &[], &[])).unwrap().config;
    let settings = config().traces.settings().unwrap().unwrap();
    let wanted = [("api-key", "canary=1"), ("x-team", "a")];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(settings.headers, wanted);
    std::fs::write(&file, "api-key: canary\n").unwrap();
    let refused = config().traces.settings().unwrap_err().to_string();
    assert!(
        refused.contains("has no = in line 1") && !refused.contains("canary"),
        "{refused}"
    );
    std::fs::remove_file(&file).unwrap();
    let refused = config().traces.settings().unwrap_err().to_string();
    assert!(refused.contains("cannot be read"), "{refused}");
}
