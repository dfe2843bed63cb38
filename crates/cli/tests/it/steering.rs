//! Commands that steer many instances, and those that say what is wrong.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use expect_test::expect;

use crate::world::World;

/// Without the id of a job, which is made up.
fn without_id(text: &str) -> String {
    let cut = text.lines().filter(|line| !line.starts_with("operation "));
    cut.collect::<Vec<_>>().join("\n")
}

#[test]
fn many_are_steered_by_a_filter() {
    let world = World::new();
    let many = |words: &[&str]| without_id(&world.run_with(words, &[]));
    for number in 0..7 {
        world.run(&format!("start Wait --id w{number} --tag team=blue"));
    }
    world.run("start Wait --id other");
    // They are listed once they are committed, newest first.
    world.run_until("list --tag team=blue --top 1 -o id -q", "w6\nexit 0");
    let filter = "tag=team=blue name=Wait since=1h prefix=w";
    expect![[r"
        matched   7
        examples  w6 w5 w4 w3 w2
        exit 0"]]
    .assert_eq(&many(&["suspend", "--where", filter, "--dry-run"]));
    expect![[r"
        2| error[usage]: suspend of many instances, and nobody can be asked
        2|   help: say --yes, or look first with --dry-run
        exit 2"]]
    .assert_eq(&many(&["suspend", "--where", filter]));
    let done = "matched    7\napplied    7\nskipped    0\nfailed     0\nexit 0";
    let yes = |words: &[&str]| many(&[words, &["--yes", "--where", filter]].concat());
    assert_eq!(yes(&["suspend", "--reason", "lunch"]), done);
    world.run_until("list --status suspended --top 1 --prefix w0 -o id", "w0\nexit 0");
    assert_eq!(yes(&["resume"]), done);
    assert_eq!(yes(&["raise", "go", "-d", "1"]), done);
    for number in 0..7 {
        assert_eq!(world.run(&format!("wait w{number}")), "1\nexit 0");
    }
    assert_eq!(yes(&["restart"]), done);
    world.run("start Fail --id f --wait");
    for (verb, state) in [("rewind", "status=failed prefix=f"), ("cancel", "prefix=other")] {
        let told = many(&[verb, "--where", state, "--yes"]);
        assert!(
            told.contains("applied    1") && told.ends_with("exit 0"),
            "{verb}: {told}"
        );
    }
    world.run("start Wait --id last");
    let told = many(&["terminate", "--where", "prefix=last", "--yes", "--recursive"]);
    assert!(told.contains("applied    1"), "{told}");
    world.run("wait last");
    let json = world.run_with(&["purge", "--where", "prefix=last", "-y", "--json"], &[]);
    assert!(
        json.contains(r#""verb":"purge","where":{"prefix":"last"}"#) && json.contains(r#""applied":1"#),
        "{json}"
    );
    assert!(world.run("get last").ends_with("exit 3"));
}

#[test]
fn a_job_goes_on_when_its_caller_leaves_and_is_found_again() {
    let world = World::new();
    for number in 0..3 {
        world.run(&format!("start Wait --id w{number}"));
    }
    world.run_until("list --name Wait --top 3 -o id", "w2\nw1\nw0\nexit 0");
    let line = "suspend --where name=Wait --rate 1/1h --yes -q";
    let left = world.run(&format!("{line} --timeout 500ms"));
    let id = world.run("operation list -o id");
    let id = id.lines().next().unwrap_or_default();
    assert_eq!(
        left,
        format!(
            "2| error[timed_out]: operation {id} goes on at the host\n2|   help: dalsegno operation watch {id}, or end it: dalsegno operation cancel {id}\nexit 6"
        )
    );
    assert_eq!(
        world.run(&format!("operation watch {id} --timeout 300ms -q")),
        left
    );
    let list = world.run("operation list");
    assert!(
        list.starts_with("OPERATION         VERB     STATE    MATCHED  APPLIED  SKIPPED  FAILED  STARTED ")
            && list.contains(&format!(
                "{id}  suspend  running  1        1        0        0       "
            ))
            && list.contains("  1/1h\n"),
        "{list}"
    );
    assert_eq!(
        world.run(&format!("operation cancel {id}")),
        format!("2| ends {id} after the commands under way\nexit 0")
    );
    let ended = world.run(&format!("operation watch {id} -q"));
    assert!(
        ended.contains("applied    1") && ended.ends_with("exit 1"),
        "{ended}"
    );
    assert!(world.run("operation watch nobody").ends_with("exit 3"));
    assert!(world.run("suspend w1 --rate 1/1h").ends_with("exit 2"));
}

#[test]
fn an_interrupt_leaves_a_job_and_says_how_to_see_it() {
    let world = World::new();
    world.run("start Wait --id w0");
    world.run("start Wait --id w1");
    world.run_until("list --name Wait --top 2 -o id", "w1\nw0\nexit 0");
    let line = "suspend --where name=Wait --rate 1/1h --yes -q";
    let mut process = world
        .command(line.split(' '))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let running = || {
        let list = world.run("operation list -o jsonl");
        let line = list.lines().find(|line| line.contains(r#""state":"running""#));
        line.map(|line| line.split('"').nth(3).unwrap_or_default().to_owned())
    };
    let id = loop {
        if let Some(id) = running() {
            break id;
        }
    };
    let pid = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let said = BufReader::new(process.stderr.take().unwrap()).lines();
    let said: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(
        said[0],
        format!("error[timed_out]: operation {id} goes on at the host")
    );
    assert_eq!(process.wait().unwrap().code(), Some(6));
    assert_eq!(running(), Some(id));
}

#[test]
fn a_filter_is_needed_and_read_strictly() {
    let world = World::new();
    expect![[r#"
        2| error[usage]: invalid value 'stauts=Failed' for '--where <FILTER>': "stauts" is no filter: did you mean status?
        2| 
        2| For more information, try '--help'.
        exit 2"#]]
    .assert_eq(&world.run("rewind --where stauts=Failed --yes"));
    for line in [
        "terminate",
        "terminate a --where all",
        "terminate a --dry-run",
        "raise --where all",
        "raise a b --where all",
        "restart --where all --same-id",
    ] {
        assert!(world.run(line).ends_with("exit 2"), "{line}");
    }
    let told = world.run("resume --where status=Failed --yes");
    assert!(
        told.contains("expected Suspended") || told.ends_with("exit 2"),
        "{told}"
    );
}

#[test]
fn an_event_that_nobody_awaits_may_be_mistyped() {
    let world = World::new();
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    expect![[r"
        2| raised goo for w
        2| w does not wait for goo, which is kept: did you mean go?
        exit 0"]]
    .assert_eq(&world.run("raise w goo"));
    assert_eq!(world.run("raise w GO"), "2| raised GO for w\nexit 0");
}

#[test]
fn schedules_are_listed_and_run() {
    let world = World::new();
    let list = world.run("schedule list");
    assert!(
        list.starts_with("NAME     SCHEDULE      ZONE  NEXT")
            && list.contains("\nnightly  0 0 0 29 2 *  UTC   20"),
        "{list}"
    );
    assert_eq!(world.run("schedule run nightly"), "2| began nightly\nexit 0");
    while !world.run("schedule list --json").contains(r#""byHand":true"#) {
        std::thread::yield_now();
    }
    expect![[r"
        2| error[not_found]: there is no timer trigger nigthly: did you mean nightly?
        2|   help: dalsegno list shows what there is
        exit 3"]]
    .assert_eq(&world.run("schedule run nigthly"));
    assert_eq!(world.run("worker list --json"), world.run("workers --json"));
}

#[test]
fn a_doctor_says_which_step_failed() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let own = world.url().trim_start_matches("http://").to_owned();
    let file = folder.path().join("dalsegno.toml");
    std::fs::write(&file, format!("listen = \"{own}\"\n")).unwrap();
    let line = format!("doctor --config {path}/dalsegno.toml --data-dir {path}");
    let told = world.run(&line);
    let words: Vec<String> = told
        .lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    for check in [
        "config ok",
        "dns ok",
        "tcp ok",
        "http ok",
        "clock ok",
        "auth ok",
        "version ok",
        "port ok",
    ] {
        assert!(words.iter().any(|line| line == check), "{check}: {told}");
    }
    assert!(
        told.contains(&format!("{path} has ")) && told.contains("a sync takes "),
        "{told}"
    );
    assert!(told.ends_with("exit 0"), "{told}");
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let closed = world.run(&format!("{line} --server http://127.0.0.1:1 -o csv"));
    assert!(
        closed.contains("tcp,failed,127.0.0.1:1: Connection refused (os error 111)")
            && closed.contains("\nhttp,skipped,\n")
            && closed.ends_with("exit 5"),
        "{closed}"
    );
    std::fs::write(&file, "lisen = 1\n").unwrap();
    let refused = world.run(&line);
    assert!(
        refused.contains("did you mean listen?") && refused.ends_with("exit 78"),
        "{refused}"
    );
}

#[test]
fn a_profile_says_where_to_speak_to() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profiles.toml");
    let text = format!(
        "[here]\nserver = \"{}\"\n[gone]\nserver = \"http://127.0.0.1:1\"\nkey_file = \"/no/key\"\n",
        world.url()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let environment = [("DALSEGNO_PROFILES", file.as_str())];
    let run = |words: &[&str]| world.run_without_server(words, &environment);
    assert_eq!(
        run(&["hub", "list", "--profile", "here", "-o", "id"]),
        "default\nexit 0"
    );
    let named = [environment[0], ("DALSEGNO_PROFILE", "here")];
    assert_eq!(
        world.run_without_server(&["hub", "list", "-o", "id"], &named),
        "default\nexit 0"
    );
    expect![[r"
        2| error[configuration]: key_file of the profile: /no/key cannot be read: No such file or directory (os error 2)
        exit 78"]]
    .assert_eq(&run(&["counts", "--profile", "gone"]));
    // Its key is for its own server alone.
    assert_eq!(
        run(&["hub", "list", "--profile", "gone", "-s", world.url(), "-o", "id"]),
        "default\nexit 0"
    );
    let unknown = run(&["counts", "--profile", "hree"]);
    assert!(
        unknown.contains("there is no profile hree: did you mean here?") && unknown.ends_with("exit 78"),
        "{unknown}"
    );
    // What explains does not need one.
    assert!(run(&["help", "usage", "--profile", "hree"]).ends_with("exit 0"));
}

#[test]
fn codes_commands_and_shells_are_explained() {
    let world = World::new();
    let page = world.run("help wrong_state");
    assert!(
        page.starts_with("wrong_state: The command does not fit the instance's state.\n\nWhen: ")
            && page.contains("\nWhat to do: "),
        "{page}"
    );
    let codes = world.run("help codes");
    assert!(codes.contains("\nusage ") && codes.contains("\nbusy "), "{codes}");
    assert_eq!(world.run("help entity signal"), world.run("entity signal --help"));
    expect![[r"
        2| error[usage]: wrong_stat is neither a command nor a code
        2|   help: did you mean wrong_state?
        exit 2"]]
    .assert_eq(&world.run("help wrong_stat"));
    for (shell, mark) in [
        ("bash", "-F _clap_complete_dalsegno dalsegno"),
        ("zsh", "#compdef dalsegno"),
        ("elvish", "edit:completion:arg-completer[dalsegno]"),
        ("powershell", "Register-ArgumentCompleter"),
        ("fish", "--command dalsegno"),
    ] {
        let script = world.run(&format!("completions {shell}"));
        assert!(
            script.contains(mark) && script.ends_with("exit 0"),
            "{shell}: {script}"
        );
    }
    assert!(world.run("man").contains(".TH dalsegno 1"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        world.run(&format!("man --dir {}", folder.path().display())),
        "exit 0"
    );
    for page in ["dalsegno.1", "dalsegno-start.1", "dalsegno-entity-signal.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
}

/// A listener that takes connections and never answers.
#[test]
fn nobody_waits_in_silence() {
    let world = World::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap());
    let told = world
        .run(&format!("counts --timeout 2500ms -s {url}"))
        .replace(&url, "URL");
    expect![[r"
        2| waiting: URL has not answered for 2 s
        2| error[timed_out]: the host did not answer within 2500ms
        2|   help: dalsegno doctor --server URL
        exit 6"]]
    .assert_eq(&told);
    let wait = world.run(&format!("wait x --timeout 1300ms -s {url}"));
    assert!(
        wait.contains("2| waiting: ")
            && wait.contains("did not answer within 1300ms")
            && wait.ends_with("exit 6"),
        "{wait}"
    );
    assert!(
        !world
            .run(&format!("counts -q --timeout 2500ms -s {url}"))
            .contains("waiting")
    );
}

/// They went on for ever, whatever `--timeout` said.
#[test]
fn what_follows_keeps_to_its_time() {
    let world = World::new();
    world.run("start Wait --id w");
    for line in ["tail", "list --watch -o id", "tail --where all"] {
        let told = world.run(&format!("{line} --timeout 300ms -q"));
        let (_, told) = told.split_at(told.find("2|").unwrap_or_default());
        assert_eq!(
            told,
            "2| error[timed_out]: the 300ms of --timeout are over\n2|   help: without --timeout it goes on until Ctrl-C\nexit 6",
            "{line}"
        );
    }
    let told = world.run("history w --follow --timeout 300ms -q");
    assert!(
        told.ends_with("2| error[timed_out]: w has not ended within 300ms\n2|   help: it goes on: dalsegno wait w\nexit 6"),
        "{told}"
    );
    // Asked twice of the host, told as one time.
    assert!(world.run("wait w --timeout 2s").ends_with(
        "2| error[timed_out]: w has not ended within 2s\n2|   help: it goes on: dalsegno wait w\nexit 6"
    ));
}

#[test]
fn the_code_of_a_refusal_is_the_hosts_own() {
    let world = World::new();
    let told = world.run("counts --hub nowhere");
    assert!(
        told.starts_with("2| error[unknown_hub]: ")
            && told.contains("2|   help: dalsegno hub list shows those that are here")
            && told.ends_with("exit 2"),
        "{told}"
    );
    let told = world.run("stuck --top 100000");
    assert!(
        told.starts_with("2| error[out_of_range]: ") && told.ends_with("exit 2"),
        "{told}"
    );
    assert!(
        world
            .run("help out_of_range")
            .starts_with("out_of_range: A value is out of range.")
    );
    let read_only = World::read_only();
    assert_eq!(
        read_only.run("start Echo"),
        "2| error[read_only]: this host only shows: read_only is set in its configuration\n2|   help: ask a host that is not read-only\nexit 7"
    );
}

#[test]
fn a_reason_is_told_once() {
    let world = World::new();
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    world.run("suspend w");
    world.run_until("stuck -o id", "w\nexit 0");
    let told = world.run("explain w");
    assert!(told.contains("\n  suspended: resume it\n"), "{told}");
}

#[test]
fn a_follower_is_told_what_holds_an_instance() {
    let world = World::new();
    world.run("start Wait --id w");
    let mut follower = world
        .command("history w --follow -o id".split(' '))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(follower.stderr.take().unwrap()).lines();
    // It ends after the event, which is raised when it has said that it waits for it.
    for line in said.map(Result::unwrap) {
        if line == "next: raise the event \"go\"" {
            world.run("raise w go");
        }
    }
    assert!(follower.wait().unwrap().success());
}
