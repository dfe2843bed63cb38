//! Whatever reads text from outside meets seeded garbage: it never panics, and what it takes it
//! reads the same a second time.

use std::time::Duration;

use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_store_tests::Random;

use crate::config::{Config, Sources};
use crate::http::{query, time};
use crate::keys::{KeyRing, LinkOperation, LinkTarget};
use crate::schedule::Schedule;

/// Texts per parser.
const TEXTS: usize = 4_000;

/// Changes good texts and makes bad ones out of an alphabet; every text is checked, and so many of
/// them have to be taken for the test to mean something.
fn with_garbage(good: &[&str], alphabet: &str, taken_min: usize, check: impl Fn(&str) -> bool) {
    let mut random = Random::new(7);
    let mut taken = 0;
    for text in good {
        assert!(check(text), "{text:?} is not garbage");
    }
    for number in 0..TEXTS {
        let text = match number % 4 {
            0 => random.text(alphabet, 24),
            _ => {
                let original = good[number % good.len()];
                String::from_utf8_lossy(&random.mutate(original.as_bytes())).into_owned()
            }
        };
        taken += usize::from(check(&text));
    }
    assert!(taken >= taken_min, "only {taken} of {TEXTS} texts were taken");
    assert!(taken < TEXTS, "everything was taken");
}

#[test]
fn schedules_are_refused_or_go_forward() {
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    let good = [
        "0 0 7 * * *",
        "*/5 * * * * *",
        "0 30 9 1-5 1,6 1-5",
        "0 0 0 29 2 *",
    ];
    with_garbage(&good, "0123456789*/-,LW#? MONJAN", 100, |text| {
        let Ok(schedule) = Schedule::parse(text, None) else {
            return false;
        };
        let first = schedule.after(now);
        let second = first.and_then(|first| schedule.after(first));
        assert!(first.is_none_or(|first| first > now), "{text:?}");
        assert!(second.is_none_or(|second| Some(second) > first), "{text:?}");
        true
    });
}

#[test]
fn times_are_refused_or_read_the_same_again() {
    let good = [
        "2026-03-01T09:30:00Z",
        "2026-03-01T09:30:00.123456+02:00",
        "2026-03-01",
        "9999-12-31T23:59:59Z",
    ];
    with_garbage(&good, "0123456789-:.TZ+ ", 100, |text| {
        let Ok(at) = time::parse(text, time::ZoneRule::Utc) else {
            return false;
        };
        let written = time::exact(at);
        assert_eq!(
            time::parse(&written, time::ZoneRule::Required),
            Ok(at),
            "{text:?} is {written}"
        );
        true
    });
}

#[test]
fn query_strings_are_refused_with_a_reason_or_read() {
    let known = [
        "top",
        "createdTimeFrom",
        "createdTimeTo",
        "runtimeStatus",
        "showInput",
    ];
    let good = [
        "top=5&createdTimeFrom=2026-03-01",
        "runtimeStatus=Running&runtimeStatus=Failed",
        "showInput=true&createdTimeTo=2026-03-01T09%3A30%3A00Z",
    ];
    with_garbage(&good, "top=&%ruTimestamp0123456789\u{e9}", 100, |text| {
        let parsed = query::Query::parse(Some(text), &known);
        match parsed {
            Ok(query) => {
                let _ = query.integer("top", 100, 1_000);
                let _ = query.boolean("showInput", false);
                let _ = query.span("createdTimeFrom", "createdTimeTo");
                true
            }
            Err(problem) => {
                assert!(!problem.code.is_empty(), "{text:?}");
                false
            }
        }
    });
}

#[test]
fn percent_signs_are_refused_or_decoded() {
    with_garbage(&["a%20b", "%C3%BC", "100"], "%0123456789abcdefXG", 100, |text| {
        query::percent_decode(text).is_some()
    });
}

#[test]
fn configuration_files_are_refused_with_a_place_or_loaded() {
    let good = [
        "listen = \"127.0.0.1:1\"\n[http]\npage_max = 2_000\n",
        "[limits]\ntags_max = 7\n[limiter.github]\nrate = \"5000/1h\"\nburst = 100\n",
    ];
    with_garbage(&good, "=[]\"._\n #listenhttp0123456789", 20, |text| {
        let sources = Sources {
            file: Some(("dalsegno.toml".into(), text.into())),
            ..Sources::default()
        };
        match Config::load(&sources) {
            Ok(_) => true,
            Err(refused) => {
                assert!(!refused.to_string().is_empty(), "{text:?}");
                false
            }
        }
    });
}

#[test]
fn no_link_key_but_the_signed_one_is_good() {
    let signer = KeyRing::new().unwrap().link_signer();
    let id = InstanceId::trusted("order-7");
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    let later = now + Duration::from_secs(60);
    let target = LinkTarget {
        hub: "hub",
        operation: LinkOperation::Status,
        id: &id,
    };
    let code = signer.sign(target, now, later);
    let is_good = |code: &str| signer.verify(code, target, now).is_some();
    assert!(is_good(&code));
    let mut random = Random::new(7);
    for _ in 0..TEXTS {
        let altered = String::from_utf8_lossy(&random.mutate(code.as_bytes())).into_owned();
        // Hexadecimal digits say the same in either case.
        assert!(
            !is_good(&altered) || altered.eq_ignore_ascii_case(&code),
            "{altered}"
        );
        assert!(!is_good(&random.text("dsl2_0123456789abcdef", 80)));
    }
}
