//! Versions, filters in one word, schedules to come, files to begin with, and the verbs of `func durable`.

use expect_test::expect;

use crate::world::World;

#[test]
fn a_version_is_told_of_both_and_of_one_when_the_other_is_away() {
    let world = World::new();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(
        world.run("version"),
        format!("client  {own}\nhost    {own}\nexit 0")
    );
    assert_eq!(
        world.run("version --json"),
        format!("{{\"client\":\"{own}\",\"host\":\"{own}\"}}\nexit 0")
    );
    let alone = world.run("version --server http://127.0.0.1:1");
    assert!(
        alone.starts_with(&format!(
            "client  {own}\n2| http://127.0.0.1:1 does not tell its version: "
        )) && alone.ends_with("exit 0"),
        "{alone}"
    );
}

#[test]
fn a_list_takes_the_filter_of_a_batch() {
    let world = World::new();
    world.run("start Echo --id e-1 --tag team=blue --wait");
    world.run("start Echo --id e-2 --wait");
    world.run("start Fail --id f-1 --tag team=blue --wait");
    for (filter, wanted) in [
        ("tag=team=blue status=Completed", "e-1\nexit 0"),
        ("name=Fail since=1h", "f-1\nexit 0"),
        ("prefix=e- until=2000-01-01", "exit 0"),
        ("all", "f-1\ne-2\ne-1\nexit 0"),
    ] {
        let told = world.run_with(&["list", "-o", "id", "--where", filter], &[]);
        assert_eq!(told, wanted, "{filter}");
        let words = ["purge", "--where", filter, "--dry-run", "--json"];
        assert!(world.run_with(&words, &[]).ends_with("exit 0"), "{filter}");
    }
    let both = world.run("list --where all --name Echo");
    assert!(both.contains("cannot be used with '--name <NAME>'"), "{both}");
    expect![[r#"
        2| error[usage]: invalid value 'stauts=Failed' for '--where <FILTER>': "stauts" is no filter: did you mean status?
        2| 
        2| For more information, try '--help'.
        exit 2"#]]
    .assert_eq(&world.run("list --where stauts=Failed"));
    // Instances outlive their code, so a name that is not known is no error.
    assert_eq!(
        world.run("list --name Ehco -o id"),
        "2| there is none of Ehco: did you mean Echo?\nexit 0"
    );
    assert_eq!(world.run("list --name Wait -o id"), "exit 0");
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn instances_are_found_by_parent_awaited_event_and_failed_activity() {
    let world = World::new();
    world.run("start Hello --id fine -i \"Ada\" --wait");
    world.run("start Hello --id failed -i \"fail\" --wait");
    world.run("start Hello --id tried -i \"retry\"");
    world.run("start Family --id family");
    for number in 0..3 {
        world.run(&format!("start Wait --id w{number}"));
    }
    world.run_until(
        "list --waiting-for GO --prefix w --top 3 -o id -q",
        "w2\nw1\nw0\nexit 0",
    );
    world.run_until("list --failed-activity SayHello -o id", "tried\nfailed\nexit 0");
    for (filter, flags, wanted) in [
        (
            "waiting-for=go prefix=w",
            "--waiting-for go --prefix w",
            "w2\nw1\nw0\nexit 0",
        ),
        ("waiting-for=other", "--waiting-for other", "exit 0"),
        (
            "waiting-for=go status=Failed",
            "--waiting-for go --status failed",
            "exit 0",
        ),
        (
            "failed-activity=SayHello status=Failed",
            "--failed-activity SayHello --status failed",
            "failed\nexit 0",
        ),
        ("failed-activity=sayhello", "--failed-activity sayhello", "exit 0"),
        (
            "failed-activity=SayHello waiting-for=go",
            "--failed-activity SayHello --waiting-for go",
            "exit 0",
        ),
        ("parent=nobody", "--parent nobody", "exit 0"),
    ] {
        let words = ["list", "-o", "id", "--where", filter];
        assert_eq!(world.run_with(&words, &[]), wanted, "{filter}");
        assert_eq!(world.run(&format!("list -o id {flags}")), wanted, "{flags}");
    }
    let children = world.run("list --parent family --json");
    assert_eq!(children.matches("\"name\":\"Wait\"").count(), 1, "{children}");
    // A page begins where the one before ended, also among those that are passed over.
    assert_eq!(
        world.run("list --waiting-for go --prefix w --top 2 -o id"),
        "w2\nw1\n2| there are more: --top 20\nexit 0"
    );
    let told = world.run("raise fine go");
    assert!(
        told.contains("help: dalsegno restart fine, or list the waiting: dalsegno list --waiting-for go")
            && told.ends_with("exit 4"),
        "{told}"
    );
    // Who waits no more is found no more.
    let raised = world.run_with(
        &[
            "raise",
            "--where",
            "waiting-for=go prefix=w",
            "go",
            "-d",
            "1",
            "--yes",
        ],
        &[],
    );
    assert!(raised.contains("applied    3"), "{raised}");
    world.run_until("list --waiting-for go --prefix w -o id", "exit 0");
    let rewound = world.run_with(
        &["rewind", "--where", "failed-activity=SayHello", "--dry-run"],
        &[],
    );
    assert!(rewound.contains("matched   1\nexamples  failed\n"), "{rewound}");
    expect![[r"
        2| error[usage]: --waiting-for is for lists: lines of changes do not tell it
        2|   help: dalsegno list --waiting-for ..., or list --watch on a terminal
        exit 2"]]
    .assert_eq(&world.run("tail --waiting-for go"));
}

#[test]
fn a_schedule_tells_the_times_to_come() {
    let world = World::new();
    let next = world.run("schedule next nightly -o id");
    let years: Vec<&str> = next
        .lines()
        .filter_map(|line| line.strip_suffix("-02-29T00:00:00Z"))
        .collect();
    assert_eq!(years.len(), 5, "{next}");
    assert!(next.ends_with("exit 0"), "{next}");
    expect![[r"
        2| error[not_found]: there is no timer trigger nigthly
        2|   help: did you mean nightly?
        exit 3"]]
    .assert_eq(&world.run("schedule next nigthly"));
}

#[test]
fn what_is_no_retry_cannot_be_hurried() {
    let world = World::new();
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    expect![[r"
        2| error[wrong_state]: no activity of instance w waits for a next attempt
        2|   help: dalsegno explain w
        exit 4"]]
    .assert_eq(&world.run("retry-now w"));
    expect![[r"
        2| error[wrong_state]: task 6 of instance w does not wait for a next attempt
        2|   help: dalsegno explain w
        exit 4"]]
    .assert_eq(&world.run("retry-now w 6"));
    assert!(world.run("retry-now nobody").ends_with("exit 3"));
}

#[test]
fn a_configuration_to_begin_with_is_good_and_written_once() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| world.run_in(folder.path(), line);
    assert_eq!(run("config init"), "2| wrote dalsegno.toml\nexit 0");
    let text = std::fs::read_to_string(folder.path().join("dalsegno.toml")).unwrap();
    assert!(
        text.contains("\n# Address and port of all HTTP.")
            && text.contains("\n#listen = \"127.0.0.1:8080\"\n"),
        "{text}"
    );
    assert_eq!(run("config check --app"), "exit 0");
    // `serve` starts without keys only where that is spelled out, and the check says so.
    let refused = run("config check");
    assert!(
        refused.contains("auth.required = \"never\"") && refused.ends_with("exit 78"),
        "{refused}"
    );
    assert_eq!(
        run("config show --origin"),
        run("config show --origin --config nowhere.toml")
    );
    expect![[r"
        2| error[in_use]: dalsegno.toml is there already
        2|   help: choose another with --config
        exit 4"]]
    .assert_eq(&run("config init"));
}

#[test]
fn the_verbs_of_func_durable_do_the_same_as_ours() {
    let world = World::new();
    let run = |line: &str| world.run(&format!("durable {line}"));
    assert_eq!(
        run("start-new --function-name Wait --id w -o id"),
        "w\n2| started w\nexit 0"
    );
    world.run_until("explain w -o id", "w\nexit 0");
    assert_eq!(
        run("raise-event --id w --event-name go --event-data 1"),
        "2| raised go for w\nexit 0"
    );
    world.run("wait w");
    assert_eq!(run("get-runtime-status --id w --json"), world.run("get w --json"));
    assert_eq!(run("get-history --id w"), world.run("history w"));
    world.run("start Fail --id f --wait");
    assert_eq!(
        run("get-instances --runtime-status failed completed -o id"),
        "f\nw\nexit 0"
    );
    assert_eq!(run("rewind --id f --reason again"), "2| rewound f\nexit 0");
    world.run("start Wait --id x");
    assert_eq!(run("terminate --id x --reason lost"), "2| terminated x\nexit 0");
    world.run("wait f");
    assert_eq!(run("purge-history"), "deleted  3\nexit 0");
    assert!(run("get-runtime-status --id w").ends_with("exit 3"));
    let mistyped = run("get-instance");
    assert!(
        mistyped.contains("get-instances") && mistyped.ends_with("exit 2"),
        "{mistyped}"
    );
    let wrong = run("get-instances --top none");
    assert!(
        wrong.contains("invalid value 'none' for '--top <TOP>'"),
        "{wrong}"
    );
}

#[test]
fn wide_tables_tell_who_waits_and_what_is_offered() {
    let world = World::new();
    assert_eq!(
        world.run("worker list -o wide"),
        "WORKER  TURNS  ACTIVITIES  OPERATIONS  STATE  OFFERS\nexit 0"
    );
    assert_eq!(
        world.run("worker list"),
        "WORKER  TURNS  ACTIVITIES  OPERATIONS  STATE\nexit 0"
    );
    let limiters = world.run("limiter list -o csv");
    assert!(
        limiters.starts_with("name,key,rate,burst,at once,tokens,running,waiting,blocked until,who waits\n"),
        "{limiters}"
    );
}
