//! What shells offer: words of the program, and ids and names of the host.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::World;

/// What the program offers for the last word of a line.
fn offered(world: &World, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let index = (words.len() - 1).to_string();
    let environment = [
        ("DALSEGNO_COMPLETE", "bash"),
        ("_CLAP_COMPLETE_INDEX", index.as_str()),
        ("_CLAP_IFS", "\n"),
    ];
    let told = world.run_with(&[&["--"], words.as_slice()].concat(), &environment);
    let told = told.strip_suffix("exit 0").unwrap_or_else(|| panic!("{told}"));
    told.lines().map(|word| word.trim_end().to_owned()).collect()
}

#[test]
fn ids_and_names_are_those_of_the_host() {
    let world = World::new();
    for id in ["order-1", "order-2", "other"] {
        world.run(&format!("start Wait --id {id}"));
    }
    world.run("entity signal counter a add -d 5");
    world.run_until("entity get counter a -o id", "@counter@a\nexit 0");
    world.run_until(
        "list --waiting-for go --top 3 -o id",
        "other\norder-2\norder-1\nexit 0",
    );
    for (line, wanted) in [
        ("dalsegno get order-", &["order-2", "order-1"][..]),
        ("dalsegno terminate ot", &["other"]),
        ("dalsegno list --parent oth", &["other"]),
        ("dalsegno start E", &["Echo"]),
        ("dalsegno start F", &["Fail", "Family"]),
        ("dalsegno list --name He", &["Hello"]),
        ("dalsegno list --failed-activity S", &["SayHello"]),
        ("dalsegno raise order-1 g", &["go"]),
        ("dalsegno entity get c", &["counter"]),
        ("dalsegno entity get counter a", &["a"]),
        ("dalsegno limiter set g", &["github"]),
        ("dalsegno schedule run n", &["nightly"]),
        ("dalsegno get order- --hub d", &["default"]),
        ("dalsegno expl", &["explain"]),
        ("dalsegno list --status=Fa", &[]),
        ("dalsegno get nobody", &[]),
    ] {
        assert_eq!(offered(&world, line), wanted, "{line}");
    }
    // The line says where to ask.
    let elsewhere = World::new();
    let line = format!("dalsegno --server {} get o", elsewhere.url());
    assert!(offered(&world, &line).is_empty());
    let line = format!("dalsegno get -s {} o", world.url());
    assert_eq!(offered(&elsewhere, &line).len(), 3);
}

/// Whoever types is neither held up nor told of it.
#[test]
fn a_host_that_does_not_answer_offers_nothing_and_soon() {
    let world = World::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in [
        format!("http://{}", deaf.local_addr().unwrap()),
        "http://127.0.0.1:1".into(),
        "nonsense".into(),
    ] {
        let begun = Instant::now();
        assert!(
            offered(&world, &format!("dalsegno -s {url} get o")).is_empty(),
            "{url}"
        );
        // 200 ms for the host; the rest is for a machine that does much else.
        assert!(begun.elapsed() < Duration::from_secs(5), "{url}");
    }
}

/// Has a shell complete a word as it does at a prompt; `None` where it is not installed.
fn shell(world: &World, name: &str, script: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let registration = world.run(&format!("completions {name}"));
    let registration = registration.strip_suffix("exit 0").unwrap();
    let file = folder.path().join("_dalsegno");
    std::fs::write(&file, registration).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_dalsegno"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new(name)
        .args(["-c", script])
        .env("PATH", path)
        .env("FILE", &file)
        .env("HOME", folder.path())
        .env("DALSEGNO_SERVER", world.url())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("{name} is not installed: its completions are not tried");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn shells_offer_what_the_program_offers() {
    let world = World::new();
    world.run("start Wait --id order-1");
    world.run("start Wait --id order-2");
    world.run_until("list --top 2 -o id", "order-2\norder-1\nexit 0");
    let bash = r#"source "$FILE"; COMP_WORDS=(dalsegno get order-); COMP_CWORD=2; COMP_TYPE=9
        _clap_complete_dalsegno dalsegno order- get; printf '%s\n' "${COMPREPLY[@]}""#;
    let told = shell(&world, "bash", bash).expect("bash is here");
    let words: Vec<&str> = told.lines().map(str::trim_end).collect();
    assert_eq!(words, ["order-2", "order-1"]);

    let fish = r#"source "$FILE"; complete -C "dalsegno get order-""#;
    if let Some(told) = shell(&world, "fish", fish) {
        assert!(
            told.contains("order-2\tWait Running") && told.contains("order-1\tWait Running"),
            "{told}"
        );
    }
    // The completion system of zsh needs a terminal, so what it would be given is looked at.
    let zsh = r#"compdef() { true }; _describe() { shift $(($# - 1)); print -l -- "${(P@)1}" }
        source "$FILE"; words=(dalsegno get order-); CURRENT=3; _clap_dynamic_completer_dalsegno"#;
    if let Some(told) = shell(&world, "zsh", zsh) {
        assert!(
            told.contains("order-2:Wait Running") && told.contains("order-1:Wait Running"),
            "{told}"
        );
    }
}
