//! Who gets which work, and when it is given to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use dalsegno_core::InstanceId;
use dalsegno_engine::executor::TurnAddress;
use tokio::time::advance;

use super::*;
use crate::proto::work_item::Request;

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn turn(instance: &str, number: u64, name: &str, version: Option<&str>) -> Work {
    let request = proto::OrchestratorRequest {
        instance_id: instance.to_owned(),
        ..Default::default()
    };
    Work {
        asked: Asked::Message(Box::new(Request::OrchestratorRequest(request))),
        name: name.into(),
        version: version.map(Arc::from),
        instance: instance.into(),
        began: Default::default(),
        task: 0,
        execution: Default::default(),
        locks: Vec::new(),
        past: Past::default(),
        parts: Parts::default(),
        bad_answers: 0,
        answer: Pending::Turn(TurnAddress {
            instance: InstanceId::trusted(instance),
            number,
        }),
    }
}

fn activity(instance: &str, task: i32, name: &str) -> (Work, oneshot::Receiver<ActivityAnswer>) {
    let (answer, answered) = oneshot::channel();
    let request = proto::ActivityRequest {
        name: name.to_owned(),
        task_id: task,
        ..Default::default()
    };
    let work = Work {
        asked: Asked::Message(Box::new(Request::ActivityRequest(request))),
        name: name.into(),
        version: None,
        instance: instance.into(),
        began: Default::default(),
        task,
        execution: Default::default(),
        locks: Vec::new(),
        past: Past::default(),
        parts: Parts::default(),
        bad_answers: 0,
        answer: Pending::Activity(answer),
    };
    (work, answered)
}

fn workers() -> Arc<Workers> {
    Workers::new(WorkerLimits {
        in_flight_default: 3,
        turn_timeout: Duration::from_secs(300),
        ..WorkerLimits::default()
    })
}

fn connect(workers: &Workers, most: [i32; 3]) -> u64 {
    let stream = workers.connect("worker".to_owned(), Filter::All, most, Abilities::default());
    stream.expect("it is not draining")
}

fn filtered(workers: &Workers, orchestrations: &[(&str, &[&str])], activities: &[&str]) -> u64 {
    let versions = |list: &[&str]| list.iter().map(|version| (*version).to_owned()).collect();
    let filters = proto::WorkItemFilters {
        orchestrations: orchestrations
            .iter()
            .map(|(name, list)| proto::OrchestrationFilter {
                name: (*name).to_owned(),
                versions: versions(list),
            })
            .collect(),
        activities: activities
            .iter()
            .map(|name| proto::ActivityFilter {
                name: (*name).to_owned(),
                versions: Vec::new(),
            })
            .collect(),
        entities: Vec::new(),
    };
    let filter = Filter::new(Some(filters));
    let stream = workers.connect("filtered".to_owned(), filter, [0; 3], Abilities::default());
    stream.expect("it is not draining")
}

impl Workers {
    /// Takes the work that a token stands for.
    fn finish(&self, token: &str, kind: Kind) -> Result<Work, NoWork> {
        let to = AnswerTo {
            token,
            kind,
            instance: "",
            task: 0,
        };
        // Without a token an answer is found by its instance.
        match token.is_empty() {
            true => Err(NoWork::Unknown),
            false => self.answered(to).map(|answered| answered.work),
        }
    }
}

/// The next item's token and instance or activity, if there is one for the stream.
fn next(workers: &Workers, stream: u64) -> Option<(String, String)> {
    match workers.next(stream, Waker::noop()) {
        Next::Item(item) => {
            let name = match item.request.expect("it has one") {
                Request::OrchestratorRequest(request) => request.instance_id,
                Request::ActivityRequest(request) => format!("{}{}", request.name, request.task_id),
                other => panic!("{other:?} was not offered"),
            };
            Some((item.completion_token, name))
        }
        Next::Nothing => None,
        Next::Ended => panic!("the stream ended"),
    }
}

/// Names of all that a stream can have now.
fn all(workers: &Workers, stream: u64) -> Vec<String> {
    std::iter::from_fn(|| next(workers, stream).map(|(_, name)| name)).collect()
}

fn taken(workers: &Workers, stream: u64) -> String {
    next(workers, stream).expect("there is work").0
}

/// Lets whoever keeps the time look, after so long.
async fn after(duration: Duration) {
    advance(duration).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Turns, activities and operations that the first worker has.
fn in_flight(workers: &Workers) -> [usize; 3] {
    let first = workers.list().remove(0);
    [first.turns, first.activities, first.operations]
}

#[test]
fn what_breaks_two_streams_by_its_size_is_taken_out() {
    let workers = workers();
    let (mut large, _answered) = activity("i", 1, "large");
    if let Asked::Message(message) = &mut large.asked
        && let Request::ActivityRequest(request) = &mut **message
    {
        request.input = Some("x".repeat(RECEIVED_BYTES + 1));
    }
    workers.offer(large);
    let (small, _answered) = activity("i", 2, "small");
    workers.offer(small);
    for broken in [0, 1] {
        let stream = connect(&workers, [0; 3]);
        while let Next::Item(_) = workers.next(stream, Waker::noop()) {}
        assert_eq!(workers.disconnect(stream).len(), broken);
    }
    let stream = connect(&workers, [0; 3]);
    assert!(
        matches!(workers.next(stream, Waker::noop()), Next::Item(_)),
        "the small one goes on"
    );
    assert!(matches!(workers.next(stream, Waker::noop()), Next::Nothing));
}

#[test]
fn a_stream_has_no_more_in_flight_than_its_worker_wants_of_each_kind() {
    let workers = workers();
    let stream = connect(&workers, [2, 1, 0]);
    for number in 0..4 {
        workers.offer(turn(&format!("i{number}"), number, "o", None));
    }
    let (first, _first) = activity("i", 1, "a");
    let (second, _second) = activity("i", 2, "a");
    workers.offer(first);
    workers.offer(second);
    let (token, name) = next(&workers, stream).expect("there is work");
    assert_eq!(name, "i0");
    assert_eq!(all(&workers, stream), ["i1", "a1"]);
    assert_eq!(in_flight(&workers), [2, 1, 0]);
    assert!(workers.finish(&token, Kind::Turn).is_ok());
    assert_eq!(all(&workers, stream), ["i2"], "one ended, one is taken");
}

#[test]
fn a_drained_worker_gets_no_more_and_finishes_what_it_has() {
    let workers = workers();
    let (drained, other) = (connect(&workers, [0; 3]), filtered(&workers, &[("o", &[])], &[]));
    workers.offer(turn("i0", 0, "o", None));
    let (token, _) = next(&workers, drained).expect("there is work");
    let woken = Arc::new(Calls::default());
    assert!(matches!(
        workers.next(other, &Waker::from(woken.clone())),
        Next::Nothing
    ));
    assert_eq!(workers.drain_worker("nobody"), 0);
    assert_eq!(workers.drain_worker("worker"), 1);
    assert!(
        woken.0.load(Ordering::SeqCst) > 0,
        "others look for what it would have had"
    );
    workers.offer(turn("i1", 1, "o", None));
    assert_eq!(next(&workers, drained), None);
    assert_eq!(all(&workers, other), ["i1"]);
    let told: Vec<bool> = workers.list().iter().map(|status| status.is_draining).collect();
    assert_eq!(told, [true, false]);
    assert_eq!(in_flight(&workers), [1, 0, 0]);
    assert!(workers.finish(&token, Kind::Turn).is_ok());
    assert_eq!(in_flight(&workers), [0, 0, 0]);
    // Who connects anew is meant no more.
    assert!(workers.disconnect(drained).is_empty());
    let anew = connect(&workers, [0; 3]);
    workers.offer(turn("i2", 2, "p", None));
    assert_eq!(all(&workers, anew), ["i2"]);
}

#[test]
fn a_worker_that_names_no_limit_gets_the_default_and_not_none() {
    for most in [0, -1, i32::MIN] {
        let workers = workers();
        let stream = connect(&workers, [most; 3]);
        for number in 0..5 {
            workers.offer(turn(&format!("i{number}"), number, "o", None));
        }
        assert_eq!(all(&workers, stream).len(), 3, "{most}");
    }
}

#[test]
fn filters_take_what_they_list_and_nothing_of_a_kind_they_do_not() {
    let workers = workers();
    let any = filtered(&workers, &[("o", &[])], &[]);
    let second = filtered(&workers, &[("o", &["2", "3"]), ("p", &[""])], &["a"]);
    let twice = filtered(&workers, &[("q", &["1"]), ("q", &["2"])], &[]);
    let (work, _answer) = activity("i", 1, "a");
    workers.offer(work);
    for (number, (name, version)) in [
        ("o", None),
        ("o", Some("1")),
        ("o", Some("3")),
        ("p", Some("9")),
        ("q", Some("1")),
        ("q", Some("2")),
        ("q", Some("3")),
        ("O", None),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{name}{}", version.unwrap_or("-"));
        workers.offer(turn(&id, number as u64, name, version));
    }
    assert_eq!(all(&workers, second), ["a1", "o3", "p9"]);
    assert_eq!(all(&workers, any), ["o-", "o1"]);
    assert_eq!(all(&workers, twice), ["q1", "q2"]);
    let why = workers.explain_turn("q3", 6).expect("it waits").text;
    assert!(why.contains("\"q\" version 3"), "{why}");
    assert!(why.contains("none of the 3 connected has that version"), "{why}");
}

#[test]
fn new_work_wakes_the_streams_in_turn() {
    let workers = workers();
    let calls: Vec<Arc<Calls>> = (0..3).map(|_| Arc::default()).collect();
    let streams: Vec<u64> = calls.iter().map(|_| connect(&workers, [0; 3])).collect();
    for round in 0..2 {
        for (stream, calls) in streams.iter().zip(&calls) {
            assert!(matches!(
                workers.next(*stream, &Waker::from(calls.clone())),
                Next::Nothing
            ));
        }
        for number in 0..3 {
            let number = 3 * round + number;
            workers.offer(turn(&format!("i{number}"), number, "o", None));
        }
        for stream in &streams {
            next(&workers, *stream).expect("each was woken for one");
        }
    }
    let woken: Vec<usize> = calls.iter().map(|calls| calls.0.load(Ordering::SeqCst)).collect();
    assert_eq!(woken, [2, 2, 2]);
}

#[test]
fn only_tokens_that_were_given_out_are_known() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    let token = taken(&workers, stream);
    let (head, mark) = token.rsplit_once('.').expect("it has three parts");
    let flipped = match mark.strip_prefix('0') {
        Some(rest) => format!("{head}.1{rest}"),
        None => format!("{head}.0{}", &mark[1..]),
    };
    let other = workers_of_another_process();
    for forged in [
        "",
        ".",
        "1",
        "1.1",
        "1.1.",
        "x.y.z",
        "1.2.3",
        &flipped,
        &token.to_uppercase(),
        &other,
    ] {
        for kind in [Kind::Turn, Kind::Activity, Kind::Entity] {
            let ended = workers.finish(forged, kind).map(|_| ());
            assert!(ended == Err(NoWork::Unknown) || *forged == token, "{forged}");
            assert_eq!(workers.abandon(forged, kind), Err(NoWork::Unknown), "{forged}");
        }
    }
    assert_eq!(
        workers.finish(&token, Kind::Activity).map(|_| ()),
        Err(NoWork::Stale)
    );
    assert!(workers.finish(&token, Kind::Turn).is_ok());
    assert_eq!(workers.finish(&token, Kind::Turn).map(|_| ()), Err(NoWork::Stale));
}

/// A token of the same item and delivery.
fn workers_of_another_process() -> String {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, stream)
}

#[test]
fn the_late_result_of_an_activity_counts_and_that_of_a_turn_does_not() {
    let workers = workers();
    let first = connect(&workers, [0; 3]);
    let (work, _answer) = activity("i", 1, "a");
    workers.offer(work);
    workers.offer(turn("i", 1, "o", None));
    let (late_activity, late_turn) = (taken(&workers, first), taken(&workers, first));
    drop(workers.disconnect(first));
    let second = connect(&workers, [0; 3]);
    let (again_activity, again_turn) = (taken(&workers, second), taken(&workers, second));
    assert_eq!(
        workers.finish(&late_turn, Kind::Turn).map(|_| ()),
        Err(NoWork::Stale)
    );
    assert!(workers.finish(&late_activity, Kind::Activity).is_ok());
    assert_eq!(
        workers.finish(&again_activity, Kind::Activity).map(|_| ()),
        Err(NoWork::Stale)
    );
    assert!(workers.finish(&again_turn, Kind::Turn).is_ok());
    assert_eq!(in_flight(&workers), [0, 0, 0], "there is room again");
}

#[test]
fn what_a_lost_stream_had_goes_to_others_at_once_and_in_order() {
    let workers = workers();
    let lost = connect(&workers, [0; 3]);
    for number in 0..5 {
        workers.offer(turn(&format!("i{number}"), number, "o", None));
    }
    assert_eq!(all(&workers, lost), ["i0", "i1", "i2"]);
    let calls = Arc::<Calls>::default();
    let other = connect(&workers, [9, 0, 0]);
    assert_eq!(all(&workers, other), ["i3", "i4"]);
    assert!(matches!(
        workers.next(other, &Waker::from(calls.clone())),
        Next::Nothing
    ));
    workers.offer(turn("i5", 5, "o", None));
    drop(workers.disconnect(lost));
    assert!(calls.0.load(Ordering::SeqCst) > 0, "it is told");
    assert_eq!(all(&workers, other), ["i0", "i1", "i2", "i5"]);
}

#[test]
fn what_is_withdrawn_is_neither_offered_nor_answered() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    workers.offer(turn("j", 2, "o", None));
    let token = taken(&workers, stream);
    workers.withdraw_turn("i", 1);
    workers.withdraw_turn("j", 2);
    workers.withdraw_turn("unknown", 3);
    assert_eq!(all(&workers, stream), [""; 0]);
    assert_eq!(workers.finish(&token, Kind::Turn).map(|_| ()), Err(NoWork::Stale));
    assert_eq!(in_flight(&workers), [0, 0, 0]);
}

#[test]
fn an_answer_without_a_token_finds_the_work_in_flight() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    let (first, _first) = activity("i", 1, "a");
    let (second, _second) = activity("i", 2, "a");
    workers.offer(first);
    let unnamed = |kind, instance, task| {
        let answered = workers.answered(AnswerTo {
            token: "",
            kind,
            instance,
            task,
        });
        answered.map(|answered| answered.work.task)
    };
    assert_eq!(
        unnamed(Kind::Activity, "i", 1),
        Err(NoWork::Stale),
        "nobody has it"
    );
    workers.offer(second);
    taken(&workers, stream);
    taken(&workers, stream);
    assert_eq!(unnamed(Kind::Turn, "i", 0), Err(NoWork::Stale));
    assert_eq!(unnamed(Kind::Activity, "j", 1), Err(NoWork::Stale));
    assert_eq!(unnamed(Kind::Activity, "i", 2), Ok(2));
    assert_eq!(unnamed(Kind::Activity, "i", 1), Ok(1));
    assert_eq!(workers.stale(), 3);
}

/// Answers a turn without a token, as the SDK of Go does.
fn answer_unnamed(workers: &Workers, instance: &str) -> Result<(), NoWork> {
    let to = AnswerTo {
        token: "",
        kind: Kind::Turn,
        instance,
        task: 0,
    };
    workers.answered(to).map(drop)
}

/// A worker without tokens was still busy with a turn that was taken back, and was sent the next
/// one of the same instance. Its answer to the old turn was taken for that of the new one.
#[test]
fn a_worker_that_names_no_tokens_gets_no_turn_before_it_answers_the_one_taken_back() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, stream);
    workers.withdraw_turn("i", 1);
    workers.offer(turn("i", 2, "o", None));
    workers.offer(turn("j", 3, "o", None));
    assert_eq!(all(&workers, stream), ["j"], "other instances continue");
    let other = connect(&workers, [0; 3]);
    assert_eq!(
        all(&workers, other),
        [""; 0],
        "its answer could be that of the first"
    );
    let why = workers.explain_turn("i", 2).expect("it waits").text;
    assert!(
        why.contains("worker worker answers a turn that was taken back"),
        "{why}"
    );
    let woken = Arc::<Calls>::default();
    let waker = Waker::from(woken.clone());
    assert!(matches!(workers.next(stream, &waker), Next::Nothing));
    assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
    assert_eq!((workers.stale(), woken.0.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(all(&workers, stream), ["i"]);
    assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
}

#[test]
fn a_turn_taken_back_from_a_worker_that_disconnects_is_owed_no_longer() {
    let workers = workers();
    let (gone, other) = (connect(&workers, [1; 3]), connect(&workers, [0; 3]));
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, gone);
    workers.withdraw_turn("i", 1);
    workers.offer(turn("i", 2, "o", None));
    assert_eq!(all(&workers, other), [""; 0]);
    drop(workers.disconnect(gone));
    assert_eq!(all(&workers, other), ["i"]);
    assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
}

#[test]
fn a_worker_that_names_tokens_gets_the_next_turn_at_once() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("j", 1, "o", None));
    workers.offer(turn("i", 2, "o", None));
    let (named, old) = (taken(&workers, stream), taken(&workers, stream));
    workers.withdraw_turn("i", 2);
    workers.offer(turn("i", 3, "o", None));
    assert_eq!(all(&workers, stream), [""; 0], "it has named none so far");
    assert!(workers.finish(&named, Kind::Turn).is_ok());
    let next = taken(&workers, stream);
    assert_eq!(workers.finish(&old, Kind::Turn).map(drop), Err(NoWork::Stale));
    assert_eq!(
        answer_unnamed(&workers, "i"),
        Err(NoWork::Stale),
        "another worker's"
    );
    assert!(workers.finish(&next, Kind::Turn).is_ok());

    // A late answer to what was taken back says as much.
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("k", 4, "o", None));
    let old = taken(&workers, stream);
    workers.withdraw_turn("k", 4);
    workers.offer(turn("k", 5, "o", None));
    assert_eq!(all(&workers, stream), [""; 0]);
    assert_eq!(workers.finish(&old, Kind::Turn).map(drop), Err(NoWork::Stale));
    assert_eq!(all(&workers, stream), ["k"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_taken_back_after_its_time_ran_out_is_owed_too() {
    let workers = workers();
    let time = tokio::spawn(workers.clone().keep_time());
    let slow = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, slow);
    after(Duration::from_secs(300)).await;
    workers.withdraw_turn("i", 1);
    workers.offer(turn("i", 2, "o", None));
    assert_eq!(all(&workers, slow), [""; 0]);
    assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
    assert_eq!(all(&workers, slow), ["i"]);
    time.abort();
}

/// A turn that was not answered in time was sent again, one of the answers was taken, and the other
/// one was taken for that of the next turn.
#[tokio::test(start_paused = true)]
async fn the_second_answer_to_a_turn_that_was_sent_twice_is_not_taken_for_the_next() {
    for is_sent_to_another in [true, false] {
        let workers = workers();
        let time = tokio::spawn(workers.clone().keep_time());
        let slow = connect(&workers, [0; 3]);
        workers.offer(turn("i", 1, "o", None));
        taken(&workers, slow);
        let second = match is_sent_to_another {
            true => connect(&workers, [0; 3]),
            false => slow,
        };
        after(Duration::from_secs(300)).await;
        assert_eq!(all(&workers, second), ["i"]);
        assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
        workers.offer(turn("i", 2, "o", None));
        for stream in [slow, second] {
            assert_eq!(
                all(&workers, stream),
                [""; 0],
                "an answer to the first is to come"
            );
        }
        assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
        assert_eq!(all(&workers, second), ["i"]);
        assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
        time.abort();
    }
}

/// The same, where the answer that was taken could not be used and the turn is offered again.
#[tokio::test(start_paused = true)]
async fn an_answer_owed_for_a_turn_is_owed_although_the_other_one_was_refused() {
    let workers = workers();
    let time = tokio::spawn(workers.clone().keep_time());
    let stream = connect(&workers, [0; 3]);
    let to = AnswerTo {
        token: "",
        kind: Kind::Turn,
        instance: "i",
        task: 0,
    };
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, stream);
    after(Duration::from_secs(300)).await;
    taken(&workers, stream);
    let refused = workers.answered(to).expect("it is in flight").work;
    workers.offer_again(refused);
    after(Duration::from_secs(1)).await;
    taken(&workers, stream);
    assert_eq!(
        answer_unnamed(&workers, "i"),
        Ok(()),
        "one of the second and third"
    );
    workers.offer(turn("i", 2, "o", None));
    assert_eq!(all(&workers, stream), [""; 0]);
    assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
    assert_eq!(all(&workers, stream), ["i"]);
    time.abort();
}

/// Which of two workers answered is not known: the one that disconnects may be it.
#[tokio::test(start_paused = true)]
async fn an_answer_is_owed_until_all_who_may_owe_it_have_disconnected() {
    for is_first_gone in [true, false] {
        let workers = workers();
        let time = tokio::spawn(workers.clone().keep_time());
        let first = connect(&workers, [0; 3]);
        workers.offer(turn("i", 1, "o", None));
        taken(&workers, first);
        let second = connect(&workers, [0; 3]);
        after(Duration::from_secs(300)).await;
        taken(&workers, second);
        assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
        workers.offer(turn("i", 2, "o", None));
        let (gone, left) = match is_first_gone {
            true => (first, second),
            false => (second, first),
        };
        drop(workers.disconnect(gone));
        let third = connect(&workers, [0; 3]);
        assert_eq!(all(&workers, third), [""; 0], "the one left may owe it");
        drop(workers.disconnect(left));
        assert_eq!(all(&workers, third), ["i"]);
        assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
        time.abort();
    }
}

fn part_unnamed(workers: &Workers, instance: &str) -> Result<(), NoWork> {
    let to = AnswerTo {
        token: "",
        kind: Kind::Turn,
        instance,
        task: 0,
    };
    workers.keep_part(to, vec![proto::OrchestratorAction::default()], None)
}

/// The first part paid for what was owed, and the rest was taken for the answer to the next turn.
#[test]
fn all_parts_of_an_answer_to_a_turn_that_was_taken_back_are_dropped() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    taken(&workers, stream);
    assert_eq!(part_unnamed(&workers, "i"), Ok(()));
    workers.withdraw_turn("i", 1);
    workers.offer(turn("i", 2, "o", None));
    for _ in 0..2 {
        assert_eq!(part_unnamed(&workers, "i"), Err(NoWork::Stale));
        assert_eq!(all(&workers, stream), [""; 0], "the last part is to come");
    }
    assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
    assert_eq!(all(&workers, stream), ["i"]);
    assert_eq!(part_unnamed(&workers, "i"), Ok(()));
    assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
}

/// Parts of two answers to one turn would be mixed, or the last part taken for the whole.
#[tokio::test(start_paused = true)]
async fn parts_of_one_of_two_answers_do_not_count() {
    for is_begun in [true, false] {
        let workers = workers();
        let time = tokio::spawn(workers.clone().keep_time());
        let slow = connect(&workers, [0; 3]);
        workers.offer(turn("i", 1, "o", None));
        taken(&workers, slow);
        if is_begun {
            assert_eq!(part_unnamed(&workers, "i"), Ok(()));
        }
        let other = connect(&workers, [0; 3]);
        after(Duration::from_secs(300)).await;
        if is_begun {
            assert_eq!(all(&workers, other), [""; 0], "its answer could be the rest");
        } else {
            assert_eq!(all(&workers, other), ["i"]);
            assert_eq!(part_unnamed(&workers, "i"), Err(NoWork::Stale));
            assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
        }
        assert_eq!(answer_unnamed(&workers, "i"), Err(NoWork::Stale));
        assert_eq!(all(&workers, other), ["i"], "it is asked for again");
        assert_eq!(answer_unnamed(&workers, "i"), Ok(()));
        time.abort();
    }
}

/// After a restart in place the result of the old execution was taken for that of the new one.
#[test]
fn the_result_of_an_activity_does_not_answer_the_task_of_a_later_execution() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    let unnamed = || {
        let to = AnswerTo {
            token: "",
            kind: Kind::Activity,
            instance: "i",
            task: 1,
        };
        workers.answered(to).map(|answered| answered.work.execution)
    };
    let attempt = |execution| {
        let (work, answer) = activity("i", 1, "a");
        // Who waits for it does not matter here.
        drop(answer);
        workers.offer(Work {
            execution: ExecutionId(execution),
            ..work
        })
    };
    let old = attempt(1);
    taken(&workers, stream);
    // The next execution may be there before the old one's work is taken back.
    attempt(2);
    assert_eq!(all(&workers, stream), [""; 0]);
    workers.withdraw(old);
    assert_eq!(all(&workers, stream), [""; 0], "the old result is to come");
    let why = workers.attempts_of("i").remove(&dalsegno_core::TaskId(1));
    let why = format!("{why:?}");
    assert!(
        why.contains("worker worker answers the task of this number in an earlier execution"),
        "{why}"
    );
    assert_eq!(unnamed(), Err(NoWork::Stale));
    assert_eq!(all(&workers, stream), ["a1"]);
    assert_eq!(unnamed(), Ok(ExecutionId(2)));

    // Attempts of one task do not wait for each other: a late result is a result.
    let first = attempt(3);
    taken(&workers, stream);
    workers.withdraw(first);
    attempt(3);
    assert_eq!(all(&workers, stream), ["a1"]);
    assert_eq!(unnamed(), Ok(ExecutionId(3)));
    attempt(4);
    assert_eq!(all(&workers, stream), [""; 0], "one of two results is to come");
    assert_eq!(unnamed(), Err(NoWork::Stale));
    assert_eq!(all(&workers, stream), ["a1"]);
}

#[test]
fn a_token_and_the_instance_and_task_of_an_answer_agree() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    let (work, _answer) = activity("i", 1, "a");
    workers.offer(turn("i", 1, "o", None));
    workers.offer(work);
    let (turn, attempt) = (taken(&workers, stream), taken(&workers, stream));
    let answered = |token: &str, kind, instance, task| {
        let to = AnswerTo {
            token,
            kind,
            instance,
            task,
        };
        workers.answered(to).map(drop)
    };
    for (token, kind, instance, task, said) in [
        (&turn, Kind::Turn, "j", 0, "for instance i, the answer names j"),
        (
            &attempt,
            Kind::Activity,
            "j",
            1,
            "for instance i, the answer names j",
        ),
        (
            &attempt,
            Kind::Activity,
            "i",
            2,
            "for task 1 of instance i, the answer names 2",
        ),
    ] {
        match answered(token, kind, instance, task) {
            Err(NoWork::Another(text)) => assert!(text.contains(said), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(in_flight(&workers), [1, 1, 0], "nothing was taken");
    assert_eq!(answered(&turn, Kind::Turn, "i", 0), Ok(()));
    assert_eq!(answered(&attempt, Kind::Activity, "i", 1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn abandoned_work_comes_back_later_and_later_and_before_newer_work() {
    let workers = workers();
    let time = tokio::spawn(workers.clone().keep_time());
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let token = taken(&workers, stream);
        assert_eq!(workers.abandon(&token, Kind::Turn), Ok(()));
        assert_eq!(workers.abandon(&token, Kind::Turn), Err(NoWork::Stale));
        let why = workers.explain_turn("i", 1).expect("it is there").text;
        assert!(why.contains("abandoned"), "{why}");
        after(Duration::from_millis(seconds * 1_000 - 1)).await;
        assert!(next(&workers, stream).is_none(), "{seconds} s");
        after(Duration::from_millis(1)).await;
    }
    workers.offer(turn("newer", 2, "o", None));
    assert_eq!(all(&workers, stream), ["i", "newer"]);
    time.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_answer_is_offered_again_after_a_pause() {
    let workers = workers();
    let time = tokio::spawn(workers.clone().keep_time());
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    let token = taken(&workers, stream);
    let work = workers.finish(&token, Kind::Turn).expect("it is in flight");
    workers.offer_again(work);
    assert!(next(&workers, stream).is_none());
    after(Duration::from_secs(1)).await;
    let again = taken(&workers, stream);
    assert_ne!(again, token);
    workers.withdraw_turn("i", 1);
    assert_eq!(workers.finish(&again, Kind::Turn).map(|_| ()), Err(NoWork::Stale));
    time.abort();
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_answered_is_given_to_another_and_an_activity_is_not() {
    let workers = workers();
    let time = tokio::spawn(workers.clone().keep_time());
    let silent = connect(&workers, [0; 3]);
    let (work, _answer) = activity("i", 1, "a");
    workers.offer(turn("i", 1, "o", None));
    workers.offer(work);
    let token = taken(&workers, silent);
    let activity_token = taken(&workers, silent);
    let other = connect(&workers, [0; 3]);
    after(Duration::from_secs(299)).await;
    assert_eq!(all(&workers, other), [""; 0]);
    after(Duration::from_secs(1)).await;
    assert_eq!(all(&workers, other), ["i"]);
    assert_eq!(workers.finish(&token, Kind::Turn).map(|_| ()), Err(NoWork::Stale));
    after(Duration::from_secs(100_000)).await;
    assert!(workers.finish(&activity_token, Kind::Activity).is_ok());
    time.abort();
}

#[test]
fn one_that_drains_ends_its_streams_and_takes_answers() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    workers.offer(turn("j", 2, "o", None));
    let token = taken(&workers, stream);
    let calls = Arc::<Calls>::default();
    let idle = filtered(&workers, &[], &[]);
    assert!(matches!(
        workers.next(idle, &Waker::from(calls.clone())),
        Next::Nothing
    ));
    workers.drain();
    assert_eq!(calls.0.load(Ordering::SeqCst), 1);
    assert!(matches!(workers.next(stream, Waker::noop()), Next::Ended));
    assert!(workers.is_draining());
    assert_eq!(
        workers.connect("late".to_owned(), Filter::All, [0; 3], Abilities::default()),
        None
    );
    assert!(workers.finish(&token, Kind::Turn).is_ok());
}

/// Keeps what an outcome says.
fn heard() -> (Outcome, Arc<Mutex<Option<bool>>>) {
    let heard = Arc::<Mutex<Option<bool>>>::default();
    let told = heard.clone();
    let outcome = Outcome::new(move |result| *told.lock().unwrap() = Some(result.is_ok()));
    (outcome, heard)
}

/// A repeat was acknowledged at once, and the answer that it repeats was lost in a crash.
#[test]
fn a_repeated_answer_is_acknowledged_with_the_first() {
    let workers = workers();
    let stream = connect(&workers, [0; 3]);
    workers.offer(turn("i", 1, "o", None));
    let token = taken(&workers, stream);
    let to = |token| AnswerTo {
        token,
        kind: Kind::Turn,
        instance: "i",
        task: 0,
    };
    let answered = workers.answered(to(&token)).expect("it is in flight");
    let (first, first_told) = heard();
    let first = workers.settle(&answered, first);
    let mut repeats = Vec::new();
    for token in [&*token, ""] {
        assert_eq!(workers.answered(to(token)).map(drop), Err(NoWork::Stale));
        let (repeat, told) = heard();
        workers.tell_late(to(token), repeat);
        assert_eq!(*told.lock().unwrap(), None, "the first is not durable");
        repeats.push(told);
    }
    first.tell(Ok(()));
    for told in repeats.iter().chain([&first_told]) {
        assert_eq!(*told.lock().unwrap(), Some(true));
    }
    let (late, told) = heard();
    workers.tell_late(to(&token), late);
    assert_eq!(*told.lock().unwrap(), Some(true), "what it repeats is durable");
}
