//! Commands that look: trace, tail, top, and lists in every form.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use expect_test::expect;

use crate::world::World;

/// A command that goes on. Killed when dropped.
struct Running {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(world: &World, line: &str) -> Self {
        let mut process = world
            .command(line.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Without what stands in brackets at the end of lines: how long it took.
fn without_durations(text: &str) -> String {
    let cut = text.lines().map(|line| match line.rsplit_once(" (") {
        Some((begin, _)) => begin,
        None => line,
    });
    cut.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_trace_shows_tasks_and_what_is_awaited() {
    let world = World::new();
    world.run("start Hello -i \"Tokyo\" --id h --wait");
    expect![[r"
        [ok] Hello h - Completed
        `- [ok] SayHello
        exit 0"]]
    .assert_eq(&without_durations(&world.run("trace h --once")));
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    world.run("raise w other -d 1");
    world.run("suspend w --reason lunch");
    world.run_until("stuck -o id", "w\nexit 0");
    expect![[r#"
        [waits] Wait w - Suspended
        |- [ok] event "other"
        |- [ok] suspended: lunch
        |- [waits] suspended: resume it
        `- [waits] event "go"
        exit 0"#]]
    .assert_eq(&without_durations(&world.run("trace w")));
    let json = world.run("trace h --json");
    assert!(
        json.contains(r#""branches":[{"began":"#) && json.contains(r#""kind":"activity","label":"SayHello""#),
        "{json}"
    );
    expect![[r"
        2| error[not_found]: there is no instance nobody
        2|   help: dalsegno list shows what there is
        exit 3"]]
    .assert_eq(&world.run("trace nobody"));
}

#[test]
fn a_tail_tells_changes_and_filters_them() {
    let world = World::new();
    let mut tail = Running::start(&world, "tail --prefix a --status completed --count 2 -o id");
    // Nobody is told of what was before the stream began, so there are some until it tells.
    let (told, number) = std::thread::scope(|scope| {
        let first = scope.spawn(|| tail.line());
        let mut number = 0;
        while !first.is_finished() {
            number += 1;
            world.run(&format!("start Echo --id b{number}"));
            world.run(&format!("start Echo --id a{number} --wait"));
        }
        (first.join().unwrap(), number)
    });
    assert!(told.starts_with('a'), "{told}");
    let next = number + 1;
    world.run(&format!("start Echo --id a{next}"));
    assert!(tail.line().starts_with('a'));
    assert!(tail.process.wait().unwrap().success());
}

#[test]
fn a_watched_list_goes_on_with_what_changes() {
    let world = World::new();
    world.run("start Wait --id old");
    let mut list = Running::start(&world, "list --watch -o id");
    assert_eq!(list.line(), "old");
    world.run("start Wait --id new");
    while list.line() != "new" {}
}

#[test]
fn a_hub_is_shown_at_a_glance() {
    let world = World::new();
    world.run("start Echo --id e --wait");
    world.run("start Fail --id f --wait");
    world.run("start Wait --id w");
    world.run_until("explain w -o id", "w\nexit 0");
    world.run("suspend w");
    world.run_until("stuck -o id", "w\nexit 0");
    expect![[r"
        default at URL, version 0.1.0
        Pending 0  Running 0  Suspended 1  Completed 1  Failed 1  Terminated 0  Canceled 0
        last minute  3 started, of which 1 completed and 1 failed
        last hour    3 started, of which 1 completed and 1 failed
        stuck        1
          w  suspended: resume it; and one more
        workers      0
        exit 0"]]
    .assert_eq(&world.run("top").replace(world.url(), "URL"));
    let json = world.run("top --once --json");
    assert!(
        json.contains(r#""lastMinute":{"completed":1,"failed":1,"started":3}"#)
            && json.contains(r#""stuck":[{"id":"w""#),
        "{json}"
    );
}

#[test]
fn a_list_has_every_form() {
    let world = World::new();
    world.run("start Echo --id e,1 --tag team=blue --tag a=b --version 2 --wait");
    let fields = |line: &str| world.run(line).lines().map(str::to_owned).collect::<Vec<_>>();
    let csv = fields("list -o csv --time unix --since 1h");
    assert_eq!(
        csv[0],
        "id,name,status,created,updated,version,completed,parent,tags,events,custom"
    );
    assert!(csv[1].starts_with("\"e,1\",Echo,Completed,1"), "{}", csv[1]);
    let wide = fields("list -o wide --time relative");
    assert!(
        wide[0].ends_with("PARENT  TAGS           EVENTS  CUSTOM"),
        "{}",
        wide[0]
    );
    assert!(
        wide[1].contains("ms ago") || wide[1].contains("s ago"),
        "{}",
        wide[1]
    );
    assert!(wide[1].contains("a=b team=blue"), "{}", wide[1]);
    assert_eq!(world.run("list -o id --since 1h --until 59m"), "exit 0");
    expect![[r"
        2| error[usage]: invalid value 'yesterday' for '--since <TIME>': write it like 2026-03-01T09:30:00Z, 2026-03-01 or 2h
        2| 
        2| For more information, try '--help'.
        exit 2"]]
    .assert_eq(&world.run("list --since yesterday"));
}
