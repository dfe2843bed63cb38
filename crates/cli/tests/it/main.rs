//! The real binary against a real host.

#![expect(clippy::unwrap_used, reason = "tests may, and their helpers with them")]

#[path = "../../../host/tests/it/app.rs"]
mod app;
mod completing;
mod demo;
mod dev;
mod hubs;
mod looking;
mod service;
mod steering;
mod verbs;
mod world;

use expect_test::{Expect, expect};

use world::World;

/// A start answers before the first turn, so what is expected to run may still be pending.
fn check(world: &World, line: &str, wanted: &Expect) {
    wanted.assert_eq(&world.run(line).replace("is Pending", "is Running"));
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn start_wait_and_look() {
    let world = World::new();
    check(
        &world,
        r#"start Hello -i "Tokyo" --id h --tag team=blue --wait"#,
        &expect![[r#"
        "Hello Tokyo!"
        2| started h
        exit 0"#]],
    );
    check(
        &world,
        "start Wait --id w",
        &expect![[r"
        id  w
        2| started w
        exit 0"]],
    );
    check(
        &world,
        "start Wait --id w --if-exists return --json -q",
        &expect![[r#"
        {"id":"w","existing":"Running"}
        exit 0"#]],
    );
    check(
        &world,
        "start Wait --id w --if-exists return -o id -q",
        &expect![[r"
        w
        exit 0"]],
    );
    check(
        &world,
        "start Wait --id w --json",
        &expect![[r#"
        2| error[instance_exists]: instance w exists and is Running: take another id, terminate it, or say what to do with it
        2|   help: dalsegno get w, or start with --if-exists terminate
        exit 4"#]],
    );
    check(
        &world,
        "wait w --timeout 10ms",
        &expect![[r#"
        2| error[timed_out]: w has not ended within 10ms
        2|   help: it goes on: dalsegno wait w
        exit 6"#]],
    );
    check(
        &world,
        "raise w go -d [1.10]",
        &expect![[r"
        2| raised go for w
        exit 0"]],
    );
    check(
        &world,
        "wait w",
        &expect![[r"
        [1.10]
        exit 0"]],
    );
    check(
        &world,
        "list --name Hello --tag team=blue --prefix h -o id",
        &expect![[r"
        h
        exit 0"]],
    );
    check(
        &world,
        "list --status failed --json",
        &expect![[r"
        []
        exit 0"]],
    );
    check(
        &world,
        "counts -o jsonl",
        &expect![[r#"
            {"status":"Pending","count":0}
            {"status":"Running","count":0}
            {"status":"Suspended","count":0}
            {"status":"Completed","count":2}
            {"status":"Failed","count":0}
            {"status":"Terminated","count":0}
            {"status":"Canceled","count":0}
            exit 0"#]],
    );
    let history = world.run("history h");
    assert!(
        history.contains("TaskCompleted") && history.contains("SayHello(\"Tokyo\")"),
        "{history}"
    );
    let followed = world.run("history h --follow");
    assert!(
        followed.contains("SayHello(\"Tokyo\")")
            && followed.contains("2| h Completed")
            && followed.ends_with("exit 0"),
        "{followed}"
    );
    assert_eq!(
        world
            .run("history h --follow --json")
            .matches("\"kind\":\"TaskCompleted\"")
            .count(),
        1
    );
    let details = world.run("get h");
    assert!(
        details.contains("status         Completed") && details.contains("tags           team=blue"),
        "{details}"
    );
    let json = world.run("get h --json");
    assert!(
        json.starts_with(r#"{"name":"Hello","id":"h","status":"Completed","#),
        "{json}"
    );
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn outcomes_are_exit_codes() {
    let world = World::new();
    check(
        &world,
        "start Fail --id f --wait",
        &expect![[r"
        2| started f
        2| f failed: ValueError: no harp
        exit 10"]],
    );
    world.run("start Wait --id c --at 2100-01-01T00:00:00Z");
    check(
        &world,
        "cancel c --reason enough",
        &expect![[r"
        2| asked c to end
        exit 0"]],
    );
    check(
        &world,
        "wait c",
        &expect![[r#"
        2| c was canceled: "enough"
        exit 11"#]],
    );
    world.run("start Wait --id t");
    check(
        &world,
        "terminate t --reason enough",
        &expect![[r"
        2| terminated t
        exit 0"]],
    );
    check(
        &world,
        "wait t",
        &expect![[r#"
        2| t was terminated: "enough"
        exit 11"#]],
    );
    // It cleared the terminal, and could type into it.
    world.run("start Wait --id e");
    world.run("terminate e --reason \u{1b}[2J\u{7}\u{202e}");
    check(
        &world,
        "wait e",
        &expect![[r#"
        2| e was terminated: "\u001b[2J\u0007\u202e"
        exit 11"#]],
    );
    check(
        &world,
        "restart t --same-id -o id",
        &expect![[r"
        t
        2| started t
        exit 0"]],
    );
    check(
        &world,
        "suspend t",
        &expect![[r"
        2| suspended t
        exit 0"]],
    );
    check(
        &world,
        "resume t",
        &expect![[r"
        2| resumed t
        exit 0"]],
    );
    check(
        &world,
        "purge t",
        &expect![[r#"
        2| error[instance_running]: instance t is Running: terminate it first, or purge with force
        2|   help: dalsegno terminate t, or purge with --force
        exit 4"#]],
    );
    check(
        &world,
        "purge t --force",
        &expect![[r"
        deleted  1
        exit 0"]],
    );
    check(
        &world,
        "get t",
        &expect![[r"
        2| error[not_found]: there is no instance t
        2|   help: dalsegno list shows what there is
        exit 3"]],
    );
    check(
        &world,
        "purge --since 2020-01-01 --yes --json",
        &expect![[r#"
            {"deleted":3}
            exit 0"#]],
    );
}

#[test]
fn what_holds_an_instance_is_said() {
    let world = World::new();
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    let without_times = |line: &str| {
        let said = world.run(line);
        let lines = said
            .lines()
            .filter(|line| !line.trim_start().starts_with("since"));
        let cut = lines.map(|line| line.split(" since ").next().unwrap_or_default());
        cut.collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        w Wait · Running
          event: Wait waits
        next: raise the event "go"
          dalsegno raise w go -d JSON
        exit 0"#]]
    .assert_eq(&without_times("explain w"));
    world.run("suspend w");
    world.run_until("stuck -o id", "w\nexit 0");
    let stuck = world.run("stuck --json");
    assert!(
        stuck.contains(r#""summary":"suspended: resume it; and one more""#)
            && stuck.contains(r#""cli":"dalsegno resume w""#),
        "{stuck}"
    );
    check(
        &world,
        "explain nobody",
        &expect![[r"
        2| error[not_found]: there is no instance nobody
        2|   help: dalsegno list shows what there is
        exit 3"]],
    );
}

#[test]
fn entities_and_limiters() {
    let world = World::new();
    check(
        &world,
        "entity signal counter a add -d 5",
        &expect![[r"
        2| signalled add to @counter@a
        exit 0"]],
    );
    world.run_until("entity get counter a -o id", "@counter@a\nexit 0");
    let list = world.run("entity list Counter --json");
    assert!(
        list.contains(r#""name":"counter","key":"a""#) && list.contains(r#""state":5"#),
        "{list}"
    );
    check(
        &world,
        "entity unlock counter a --holder order-9",
        &expect![[r"
        2| error[wrong_state]: entity @counter@a is not locked
        2|   help: dalsegno entity list shows who has its lock
        exit 4"]],
    );
    check(
        &world,
        "worker drain web-1",
        &expect![[r"
        2| error[not_found]: there is no worker web-1 connected: none is connected
        2|   help: dalsegno worker list shows those that are connected
        exit 3"]],
    );
    check(
        &world,
        "entity delete counter a",
        &expect![[r"
        2| deleted @counter@a
        exit 0"]],
    );
    check(
        &world,
        "entity get counter a",
        &expect![[r"
        2| error[not_found]: there is no entity @counter@a
        2|   help: dalsegno entity list shows what there is
        exit 3"]],
    );
    check(
        &world,
        "limiter set github --rate 5000/1h --burst 10",
        &expect![[r"
        2| changed github
        exit 0"]],
    );
    check(
        &world,
        "limiter list",
        &expect![[r"
        NAME    KEY  RATE     BURST  AT ONCE  TOKENS  RUNNING  WAITING  BLOCKED UNTIL
        github       5000/1h  10     1        10.0    0        0
        exit 0"]],
    );
}

/// What was not named was no limit any more.
#[test]
fn a_limiter_is_changed_in_part() {
    let world = World::new();
    world.run("limiter set github --rate 5000/1h --burst 10");
    for (change, rest) in [
        ("--burst 20", "5000/1h,20,1"),
        ("--concurrency 7", "5000/1h,20,7"),
        ("--burst none --concurrency none", "5000/1h,1,"),
        ("--concurrency 3 --rate none", ",,3"),
    ] {
        assert_eq!(
            world.run(&format!("limiter set github {change}")),
            "2| changed github\nexit 0"
        );
        let list = world.run("limiter list -o csv");
        assert!(list.contains(&format!("\ngithub,,{rest},")), "{change}: {list}");
    }
    for (change, told) in [
        ("--concurrency none", "limits nothing"),
        ("--burst 5", "a burst is of a rate, and it has none"),
        ("--burst 0", "write a whole number from 1, or none"),
        ("--rate often", "write it like 5000/1h, or none"),
    ] {
        let refused = world.run(&format!("limiter set github {change}"));
        assert!(
            refused.contains(told) && refused.ends_with("exit 2"),
            "{change}: {refused}"
        );
    }
}

#[test]
fn mistakes_are_told_in_their_form() {
    let world = World::new();
    check(
        &world,
        "start Ecco",
        &expect![[r#"
        2| error[orchestrator_not_found]: no orchestrator "Ecco" is registered; known: Echo, Fail, Family, Hello, Wait
        2|   help: did you mean Echo?
        exit 3"#]],
    );
    check(
        &world,
        "start Echo -i Ada",
        &expect![[r#"
        2| error[usage]: that is not JSON: expected value at line 1 column 1
        2|   help: a text needs quotes of its own: '"Ada"'
        exit 2"#]],
    );
    check(
        &world,
        "purge --since 2020-01-01",
        &expect![[r"
        2| error[usage]: this deletes many instances and nobody can be asked
        2|   help: say --yes
        exit 2"]],
    );
    check(
        &world,
        "counts --server http://127.0.0.1:1",
        &expect![[r"
        2| error[unreachable]: no host answers at http://127.0.0.1:1: Connection refused (os error 111)
        2|   help: start the host, or say where it is: --server URL, or DALSEGNO_SERVER
        exit 5"]],
    );
    check(
        &world,
        "strat Echo",
        &expect![[r#"
        2| error[usage]: unrecognized subcommand 'strat'
        2| 
        2|   tip: some similar subcommands exist: 'trace', 'terminate', 'restart', 'start'
        2| 
        2| Usage: dalsegno [OPTIONS] <COMMAND>
        2| 
        2| For more information, try '--help'.
        exit 2"#]],
    );
}

#[test]
fn the_configuration_is_shown_or_refused() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dalsegno.toml");
    std::fs::write(
        &file,
        "listen = \"127.0.0.1:9\"\nauth.required = \"never\"\n[http]\npage_max = 5\n",
    )
    .unwrap();
    let path = file.display().to_string();
    let shown = world.run(&format!(
        "config show --origin --config {path} --set limits.tags_max=7"
    ));
    for line in [
        "listen ",
        "127.0.0.1:9",
        "dalsegno.toml:4:1",
        "flag --set",
        "exit 0",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    std::fs::write(&file, "lisen = 1\n[http]\npage_max = 0\n").unwrap();
    let refused = world
        .run(&format!("config check --config {path}"))
        .replace(&path, "FILE");
    expect![[r"
        2| error[configuration]: FILE:1:1: lisen: unknown key: did you mean listen?
        2|   FILE:3:1: http.page_max: got 0, expected a whole number, 1 to 10000
        exit 78"]]
    .assert_eq(&refused);
}

/// All commands that help tells of, from the first to the last.
#[test]
fn help_fits_a_terminal() {
    let world = World::new();
    let mut open = vec![String::new()];
    let mut leaves = 0;
    while let Some(path) = open.pop() {
        let help = world.run(format!("{path} --help").trim_start());
        assert!(help.ends_with("exit 0"), "{path}: {help}");
        let long = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{path}");
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands: Vec<&str> = commands
            .take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        if commands.is_empty() {
            leaves += 1;
            assert!(help.contains("Example: dalsegno "), "{path}: {help}");
        }
        let below = commands
            .iter()
            .map(|name| format!("{path} {name}").trim_start().to_owned());
        open.extend(below);
    }
    assert!(leaves > 40, "only {leaves} commands were found");
}

#[test]
fn a_hub_folder_is_verified() {
    use dalsegno_store_embedded::{EmbeddedStore, Options};

    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let line = format!("verify {}", hub.display());
    let refused = world.run(&line);
    assert!(refused.ends_with("exit 78"), "{refused}");
    let store = EmbeddedStore::open(&hub, Options::default()).unwrap();
    let refused = world.run(&line);
    assert!(
        refused.contains(&format!("error[in_use]: {}: hub is in use by pid", hub.display()))
            && refused.ends_with("exit 4"),
        "{refused}"
    );
    drop(store);
    let sound = world.run(&line);
    assert!(
        sound.starts_with("verdict      sound") && sound.ends_with("exit 0"),
        "{sound}"
    );
    let json = world.run(&format!("{line} --json"));
    assert!(json.contains(r#""sound":true"#), "{json}");
}

/// A closed hub with a row in each table that a start reads, of bytes that occur nowhere else.
fn hub_with_rows(folder: &std::path::Path) {
    use dalsegno_core::store::{Commit, Op, Store};
    use dalsegno_core::{ExecutionKey, PartitionId, TaskId, Timestamp};
    use dalsegno_store_embedded::{EmbeddedStore, Options};

    let store = EmbeddedStore::open(folder, Options::default()).unwrap();
    let (key, partition) = (ExecutionKey(1), PartitionId(0));
    let ops = vec![
        Op::PutMessage {
            partition,
            seq: 7,
            data: b"a waiting message".to_vec(),
        },
        Op::PutTask {
            key,
            task: TaskId(3),
            data: b"an open activity".to_vec(),
        },
        Op::PutTimer {
            due: Timestamp::from_micros(i64::from_be_bytes(*b"\x02a timer")),
            key,
            task: TaskId(4),
        },
        Op::PutLimiter {
            name: "github".into(),
            key: "k".into(),
            data: b"a full bucket".to_vec(),
        },
        Op::PutMeta {
            name: "schedule/nightly".into(),
            data: b"the last occurrence".to_vec(),
        },
    ];
    let epoch = store.load_hub().unwrap().epoch;
    let commit = Commit {
        partition,
        epoch,
        ops,
    };
    store.append(&mut vec![commit]).unwrap();
}

#[test]
fn a_start_on_damaged_rows_ends_with_78_names_the_row_and_the_command_that_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(words)
            .env_clear()
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    for (index, (bytes, name)) in [
        ("a waiting message", "message 7 is damaged"),
        ("an open activity", "task 3 of execution 1 is damaged"),
        ("\u{2}a timer", "timer 4 of execution 1 is damaged"),
        ("a full bucket", "limiter github, key k is damaged"),
        (
            "the last occurrence",
            "the record \"schedule/nightly\" is damaged",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let hub = folder.path().join(index.to_string());
        hub_with_rows(&hub);
        let tables = hub.join("hub.db");
        let mut file = std::fs::read(&tables).unwrap();
        let place = file.windows(bytes.len()).position(|run| run == bytes.as_bytes());
        file[place.expect("the row is in the file") + bytes.len() - 1] ^= 1;
        std::fs::write(&tables, file).unwrap();
        let hub = hub.display().to_string();
        let (code, text) = run(&["dev", "--port", "0", "--no-compat-ports", "--data-dir", &hub]);
        assert_eq!(code, Some(78), "{text}");
        let command = format!("run `dalsegno repair {hub}`");
        assert!(text.contains(name) && text.contains(&command), "{text}");
        assert!(text.contains("error[configuration]"), "{text}");
        assert!(
            !text.contains("is another"),
            "no other host is in the way: {text}"
        );
        let (code, text) = run(&["repair", &hub]);
        assert!(
            code == Some(0) && text.contains("moved to quarantine 1: "),
            "{text}"
        );
    }
}

#[test]
fn a_malformed_database_ends_a_start_and_a_repair_with_78_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    hub_with_rows(&hub);
    let tables = hub.join("hub.db");
    let mut file = std::fs::read(&tables).unwrap();
    // The page of the table that holds this row.
    let page_bytes = usize::from(u16::from_be_bytes([file[16], file[17]]));
    let row = b"the last occurrence";
    let place = file.windows(row.len()).position(|run| run == row);
    let page = place.expect("the row is in the file") / page_bytes * page_bytes;
    file[page] = 0x77;
    std::fs::write(&tables, file).unwrap();
    let hub = hub.display().to_string();
    for words in [
        &["dev", "--port", "0", "--no-compat-ports", "--data-dir", &hub][..],
        &["repair", &hub],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(words)
            .env_clear()
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        for part in [&*hub, "hub.db", "malformed", "restore the hub from a backup"] {
            assert!(text.contains(part), "{words:?}, {part}: {text}");
        }
    }
    let world = World::new();
    let verified = world.run(&format!("verify {hub}"));
    assert!(
        verified.contains("malformed") && verified.contains("restore the hub from a backup"),
        "{verified}"
    );
    assert!(verified.ends_with("exit 1"), "{verified}");
}

#[test]
fn a_new_app_is_made_once() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let made = world.run_in(folder.path(), "init hello");
    expect![[r#"
        2| made hello: cd hello && cargo run
        2| then: dalsegno start hello -i '"Ada"' --wait
        exit 0"#]]
    .assert_eq(&made);
    for file in ["Cargo.toml", "src/main.rs", ".gitignore"] {
        assert!(folder.path().join("hello").join(file).is_file(), "{file}");
    }
    let again = world.run_in(folder.path(), "init hello");
    assert!(
        again.contains("hello is there already") && again.ends_with("exit 2"),
        "{again}"
    );
    let lost = world.run_in(folder.path(), "init other --sdk nowhere");
    assert!(
        lost.contains("--sdk CHECKOUT/crates/sdk") && lost.ends_with("exit 2"),
        "{lost}"
    );
    assert!(!folder.path().join("other").exists());
    let elsewhere = world.run_in(
        folder.path(),
        "init -q far --git https://git.example.com/dalsegno",
    );
    assert_eq!(elsewhere, "exit 0");
    let manifest = std::fs::read_to_string(folder.path().join("far/Cargo.toml")).unwrap();
    assert!(
        manifest.contains("dalsegno = { git = \"https://git.example.com/dalsegno\" }"),
        "{manifest}"
    );
}

/// Builds what `init` made and speaks to it. Slow: it compiles a whole app.
#[test]
fn a_new_app_compiles_and_runs_as_it_is() {
    if !dalsegno_store_tests::is_slow_run() {
        return;
    }
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    world.run_in(folder.path(), "init hello");
    world::NewApp::start(&folder.path().join("hello")).check(&world);
}

#[test]
fn keys_are_created_listed_and_removed() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json").display().to_string();
    let made = world.run(&format!(
        "key create monitor --scope read --scope signal --file {file} -o id"
    ));
    let secret = made.lines().next().unwrap().to_owned();
    assert!(secret.starts_with("dsk_"), "{made}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&secret[4..]));
    // It was ignored, and the key read every hub.
    world.run(&format!(
        "key create orders --hub orders --scope start --file {file} --expires 2999-01-01"
    ));
    world.run(&format!("key create root --all-hubs --scope all --file {file}"));
    let old = std::fs::read_to_string(&file)
        .unwrap()
        .replace("\"hubs\": \"all\",", "");
    std::fs::write(&file, old).unwrap();
    let listed = world.run(&format!("key list --file {file}"));
    expect![[r#"
        KEY      SCOPES                                                        HUB          EXPIRES
        monitor  read,signal                                                   default hub  never
        orders   start                                                         orders       2999-01-01T00:00:00Z
        root     read,start,signal,control,purge,entity,worker,admin,function  all hubs     never
        exit 0"#]]
    .assert_eq(&listed);
    let replaced = world.run(&format!("key create monitor --scope read --file {file} -o id"));
    assert!(
        replaced.contains("2| replaced monitor: its secret before this one is refused within a second"),
        "{replaced}"
    );
    assert!(!made.contains("replaced") && !replaced.contains(&secret));
    let before = std::fs::read_to_string(&file).unwrap();
    let rotated = world.run(&format!("key rotate-link-secret --file {file}"));
    assert!(rotated.ends_with("exit 0"), "{rotated}");
    let differs = |(old, new): &(&str, &str)| old != new;
    let after = std::fs::read_to_string(&file).unwrap();
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(differs).collect();
    assert!(
        changed.len() == 1 && changed[0].0.contains("linkSecret"),
        "{changed:?}"
    );
    let removed = world.run(&format!("key revoke monitor --file {file}"));
    assert!(removed.ends_with("exit 0"), "{removed}");
    for (arguments, wanted) in [
        (format!("key revoke monitor --file {file}"), "has no key monitor"),
        ("key create x --scope root".into(), "must be one of read, start"),
        // Without it everything was granted.
        (format!("key create x --file {file}"), "--scope <SCOPE>"),
        (
            format!("key create x --scope read --expires 1h --all-hubs --hub a --file {file}"),
            "cannot be used with",
        ),
        (
            format!("key create x --scope read --expires 2001-01-01 --file {file}"),
            "must be in the future",
        ),
    ] {
        let refused = world.run(&arguments);
        assert!(
            refused.contains(wanted) && refused.ends_with("exit 2"),
            "{arguments}: {refused}"
        );
    }
    let absent = folder.path().join("absent.json");
    let refused = world.run(&format!("key rotate-link-secret --file {}", absent.display()));
    assert!(refused.ends_with("exit 78") && !absent.exists(), "{refused}");
}

#[test]
fn processes_that_change_a_key_file_together_lose_nothing_of_each_other() {
    // Each wrote what it had read, and so undid what the others did.
    const PROCESSES: usize = 8;
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json").display().to_string();
    let mut create = |number: usize| {
        std::process::Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args([
                "key",
                "create",
                &format!("k{number}"),
                "--scope",
                "read",
                "--file",
                &file,
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(&mut create).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let listed = world.run(&format!("key list --file {file} -o id"));
    let mut names: Vec<&str> = listed.lines().filter(|line| line.starts_with('k')).collect();
    names.sort_unstable();
    let wanted: Vec<String> = (0..PROCESSES).map(|number| format!("k{number}")).collect();
    assert_eq!(names, wanted, "{listed}");
    let told = world.run(&format!("key revoke k0 --file {file}"));
    for wanted in [file.as_str(), "within a second", "LoadCredential", "next start"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}

#[test]
fn a_table_holds_a_large_state_in_one_line() {
    let world = World::new();
    let large = "x".repeat(70_000);
    world.run(&format!("entity signal counter a say -d \"{large}\""));
    world.run_until("entity list -o id", "@counter@a\nexit 0");
    let table = world.run("entity list");
    assert!(
        table.ends_with(&format!("  \"{}…\nexit 0", "x".repeat(59))),
        "{table}"
    );
    assert!(world.run("entity get counter a").contains(&large));
    check(
        &world,
        "entity get counter none",
        &expect![[r"
        2| error[not_found]: there is no entity @counter@none
        2|   help: dalsegno entity list shows what there is
        exit 3"]],
    );
    check(
        &world,
        "limiter set none --rate 5/1h",
        &expect![[r#"
        2| error[not_found]: the hub has no limiter "none"
        2|   help: dalsegno limiter list shows what there is
        exit 3"#]],
    );
}

#[test]
fn a_demonstration_without_a_folder_is_refused_before_anything_is_served() {
    let told = World::new().run("demo --exit --port 0 --data-dir /dev/null/demo");
    assert!(
        told.starts_with("2| error[configuration]: cannot create the folder /dev/null/demo"),
        "{told}"
    );
    assert!(told.ends_with("exit 78"), "{told}");
}
