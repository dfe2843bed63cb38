//! Round trips over all kinds, golden bytes, and garbage.

use expect_test::{Expect, expect};

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Two attempts, with all that is known of them.
fn attempts() -> Attempts {
    let failure = AttemptFailure {
        at: at(8),
        kind: "Io".into(),
        message: "reset".into(),
    };
    Attempts {
        count: 2,
        record: Some(Box::new(AttemptRecord {
            started: at(9),
            worker: "host/7".into(),
            failures: vec![failure],
        })),
    }
}

fn instance() -> InstanceId {
    InstanceId::trusted("order-7")
}

fn counter() -> EntityId {
    EntityId::new("counter", "Main").unwrap()
}

fn parent() -> Parent {
    Parent {
        instance: instance(),
        execution: ExecutionKey(9),
        task: TaskId(3),
    }
}

fn caller() -> Caller {
    Caller {
        instance: instance(),
        execution: ExecutionKey(9),
        task: TaskId(3),
    }
}

fn failure() -> Failure {
    Failure {
        kind: "Timeout".into(),
        message: "no answer".into(),
        stack: Some("at line 1".into()),
        cause: Some(Box::new(Failure::new("Io", "reset").permanent())),
        permanent: false,
        properties: None,
    }
}

fn trace() -> Option<TraceContext> {
    TraceContext::parse(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        Some("a=1"),
    )
}

fn input() -> Option<Payload> {
    Some(Payload::from(r#"{"n":1.0}"#))
}

fn parent_name() -> Arc<ParentName> {
    Arc::new(ParentName {
        name: "Shop".into(),
        version: Some("1.2".into()),
        execution_id: ExecutionId(11),
    })
}

fn started() -> StartRequest {
    StartRequest {
        parent_name: Some(parent_name()),
        depth: 3,
        name: "Order".into(),
        version: Some("2".into()),
        input: input(),
        parent: Some(parent()),
        reuse: ReusePolicy::TerminateAndStart,
        tags: Vec::new(),
        trace: None,
    }
}

#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn kinds() -> Vec<EventKind> {
    let task = TaskId(3);
    let fire_at = at(5_000_000);
    let name: Arc<str> = "Charge".into();
    let operation: Arc<str> = "add".into();
    let reason = Some("because".to_owned());
    vec![
        EventKind::OrchestratorStarted,
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            parent_name: None,
            name: "Order".into(),
            version: Some("2".into()),
            execution_id: ExecutionId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            input: input(),
            parent: Some(parent()),
            scheduled_start: Some(fire_at),
            trace: None,
        })),
        EventKind::TaskScheduled {
            task,
            name: name.clone(),
            input: input(),
            options: None,
        },
        EventKind::TaskCompleted {
            task,
            result: input(),
            attempts: attempts(),
        },
        EventKind::TaskFailed {
            task,
            failure: failure(),
            attempts: 5.into(),
        },
        EventKind::TimerCreated { task, fire_at },
        EventKind::TimerFired { task, fire_at },
        EventKind::SubOrchestrationInstanceCreated {
            task,
            name: name.clone(),
            version: None,
            instance: instance(),
            input: None,
            link: ChildLink::Detached,
            parent_close: ParentClosePolicy::Abandon,
            undo: false,
        },
        EventKind::SubOrchestrationInstanceCompleted { task, result: None },
        EventKind::SubOrchestrationInstanceFailed {
            task,
            failure: failure(),
        },
        EventKind::EventSent {
            task,
            instance: instance(),
            name: name.clone(),
            input: input(),
        },
        EventKind::EventRaised {
            name: name.clone(),
            input: input(),
            trace: None,
        },
        EventKind::EntityOperationCalled {
            task,
            entity: counter(),
            operation: operation.clone(),
            input: input(),
            request: None,
        },
        EventKind::EntityOperationSignaled {
            task,
            entity: counter(),
            operation,
            input: None,
            at: Some(fire_at),
            request: None,
        },
        EventKind::EntityOperationCompleted {
            task,
            result: input(),
        },
        EventKind::EntityOperationFailed {
            task,
            failure: failure(),
        },
        EventKind::EntityLockRequested {
            task,
            entities: vec![counter(), EntityId::new("counter", "side").unwrap()],
            request: None,
        },
        EventKind::EntityLockGranted { task },
        EventKind::EntityUnlockSent {
            lock: task,
            only: None,
        },
        EventKind::ExecutionSuspended {
            reason: reason.clone(),
        },
        EventKind::ExecutionResumed { reason: None },
        EventKind::ExecutionRewound {
            reason: reason.clone(),
        },
        EventKind::ExecutionCompleted { result: input() },
        EventKind::ExecutionFailed { failure: failure() },
        EventKind::ExecutionTerminated { reason },
        EventKind::OrchestratorCompleted,
        EventKind::EventRaised {
            name,
            input: None,
            trace: trace(),
        },
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            parent_name: Some(parent_name()),
            name: "Order".into(),
            version: None,
            execution_id: ExecutionId(1),
            input: None,
            parent: None,
            scheduled_start: None,
            trace: trace(),
        })),
        EventKind::CancelRequested {
            reason: Some("enough".into()),
        },
        EventKind::ExecutionCanceled { failure: failure() },
        EventKind::TaskScheduled {
            task,
            name: "Refund".into(),
            input: None,
            options: Some(Box::new(TaskOptions {
                undo: true,
                ..TaskOptions::default()
            })),
        },
        EventKind::SubOrchestrationInstanceCreated {
            task,
            name: "Refund".into(),
            version: None,
            instance: instance(),
            input: None,
            link: ChildLink::Awaited,
            parent_close: ParentClosePolicy::Cancel,
            undo: true,
        },
    ]
}

fn all_events() -> Vec<Event> {
    kinds()
        .into_iter()
        .zip(1_700_000_000_000_000..)
        .map(|(kind, micros)| Event { at: at(micros), kind })
        .collect()
}

#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn all_messages() -> Vec<Message> {
    let execution = ExecutionKey(9);
    let task = TaskId(3);
    let reason = Some("because".to_owned());
    vec![
        Message::TaskDone {
            execution,
            task,
            outcome: Ok(input()),
            attempts: attempts(),
        },
        Message::TaskDone {
            execution,
            task,
            outcome: Err(failure()),
            attempts: 5.into(),
        },
        Message::TimerFired {
            execution,
            task: TaskId::START,
            fire_at: at(5),
        },
        Message::ChildDone {
            execution,
            task,
            outcome: Ok(None),
        },
        Message::EntityAnswered {
            execution,
            task,
            outcome: Err(failure()),
        },
        Message::LockGranted {
            execution,
            task,
            entities: vec![counter()],
        },
        Message::EventRaised {
            name: "Approved".into(),
            input: input(),
            trace: None,
        },
        Message::Start(Box::new(started())),
        Message::Terminate {
            reason: reason.clone(),
            output: None,
            children: ParentClosePolicy::Terminate,
            parent: None,
        },
        Message::Suspend {
            reason: reason.clone(),
        },
        Message::Resume { reason: None },
        Message::Rewind {
            reason,
            parent: Some(parent()),
        },
        Message::Operation {
            operation: "add".into(),
            input: input(),
            caller: Some(caller()),
            at: Some(at(7)),
            trace: None,
        },
        Message::Lock {
            caller: caller(),
            entities: vec![counter()],
            position: 1,
        },
        Message::Unlock { execution, task },
        Message::EventRaised {
            name: "Approved".into(),
            input: None,
            trace: trace(),
        },
        Message::Operation {
            operation: "add".into(),
            input: None,
            caller: None,
            at: None,
            trace: trace(),
        },
        Message::Start(Box::new(StartRequest {
            parent_name: None,
            trace: trace(),
            ..started()
        })),
        Message::Cancel {
            reason: Some("enough".into()),
            parent: None,
        },
        Message::Cancel {
            reason: None,
            parent: Some(parent()),
        },
        Message::Terminate {
            reason: None,
            output: None,
            children: ParentClosePolicy::Abandon,
            parent: Some(parent()),
        },
    ]
}

const KEY: ExecutionKey = ExecutionKey(9);
const TASK: TaskId = TaskId(4);

fn tasks() -> Vec<StoredTask> {
    let retry = RetryPolicy::exponential(5, Duration::from_secs(1)).deadline(Duration::from_secs(60));
    let activity = TaskRecord {
        instance: instance(),
        key: KEY,
        execution_id: ExecutionId(77),
        task: TASK,
        name: "Charge".into(),
        input: input(),
        options: TaskOptions {
            retry: Some(retry),
            timeout: Some(Duration::from_secs(30)),
            labels: None,
            undo: false,
        },
        scheduled: at(1),
        failed_attempts: 2,
        due: Some(at(2)),
        last_heartbeat: input(),
        failures: attempts().record.unwrap().failures,
        kills: 0,
        trace: None,
    };
    let traced = TaskRecord {
        trace: trace(),
        ..activity.clone()
    };
    let child = ChildRecord {
        instance: instance(),
        parent_instance: instance(),
        request: started(),
        options: ChildOptions {
            retry: None,
            parent_close: ParentClosePolicy::Terminate,
            labels: None,
            undo: false,
        },
        scheduled: at(1),
        failed_attempts: 1,
        due: None,
    };
    vec![
        StoredTask::Activity(activity),
        StoredTask::Child(child),
        StoredTask::Activity(traced),
        StoredTask::Told(instance()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    lines.join("\n")
}

fn check_golden(bytes: &[u8], expected: &Expect) {
    expected.assert_eq(&hex(bytes));
}

/// Events none of which has its value elsewhere.
fn all_here(stored: StoredEvents) -> Vec<Event> {
    assert!(stored.apart.is_empty());
    stored.events
}

#[test]
fn every_event_comes_back_as_it_went() {
    let events = all_events();
    assert_eq!(decode_events(&encode_events(&events)).map(all_here), Ok(events));
}

#[test]
fn joined_chunks_of_history_decode_as_one() {
    let events = all_events();
    let (first, second) = events.split_at(7);
    let joined = [encode_events(first), encode_events(second)].concat();
    assert_eq!(decode_events(&joined).map(all_here), Ok(events));
}

#[test]
fn an_event_says_where_its_value_is() {
    let events = all_events();
    let with_value = |event: &Event| event.kind.value().is_some();
    let bytes = encode_events_apart(&events, |place, kind| kind.value().map(|_| 100 + place as u64));
    assert!(
        !String::from_utf8_lossy(&bytes).contains("1.0"),
        "no value is left"
    );
    let stored = decode_events(&bytes).unwrap();
    let expected: Vec<(usize, u64)> = (0..events.len())
        .filter(|place| with_value(&events[*place]))
        .map(|place| (place, 100 + place as u64))
        .collect();
    assert_eq!(stored.apart, expected);
    assert_eq!(expected.len(), 8, "as many as there are events with a value");
    let mut filled = stored.events;
    for (place, _) in stored.apart {
        *filled[place].kind.value_mut().unwrap() = events[place].kind.value().cloned();
    }
    assert_eq!(filled, events);
}

#[test]
fn an_event_that_cannot_have_a_value_cannot_have_it_elsewhere() {
    let record = stored::Event {
        format: FORMAT_APART,
        at: 1,
        kind: Some(StoredEvent::OrchestratorStarted(stored::Empty {})),
        value_number: Some(3),
    };
    assert!(decode_events(&record.encode_length_delimited_to_vec()).is_err());
}

#[test]
fn every_message_comes_back_as_it_went() {
    for target in [Target::Orchestration(instance()), Target::Entity(counter())] {
        for message in all_messages() {
            let bytes = encode_message(&target, &message);
            assert_eq!(decode_message(&bytes), Ok((target.clone(), message)));
        }
    }
}

#[test]
fn the_other_records_come_back_as_they_went() {
    for task in tasks() {
        assert_eq!(decode_task(KEY, TASK, &encode_task(&task)), Ok(task));
    }
    let holder = caller();
    assert_eq!(
        decode_holder(&encode_holder(Some(&holder), 3)),
        Ok((Some(holder), 3))
    );
    assert_eq!(encode_holder(None, 0), Vec::<u8>::new());
    let bucket = BucketRecord {
        tokens: 2.5,
        updated: at(3),
        blocked_until: Some(at(4)),
    };
    assert_eq!(decode_bucket(&encode_bucket(&bucket)), Ok(bucket));
    let rule = LimiterRule {
        rate: Some((5000, Duration::from_secs(3600))),
        burst: Some(10),
        concurrency: Some(4),
    };
    assert_eq!(decode_limiter_rule(&encode_limiter_rule(&rule)), Ok(rule));
}

#[test]
fn a_record_from_a_newer_version_is_refused_by_name() {
    let record = stored::Event {
        format: 3,
        at: 1,
        kind: Some(StoredEvent::OrchestratorStarted(stored::Empty {})),
        value_number: None,
    };
    let error = decode_events(&record.encode_length_delimited_to_vec()).unwrap_err();
    expect![
        "a stored record cannot be read: it has format 3, this version knows up to 2: use a newer version"
    ]
    .assert_eq(&error.to_string());
}

#[test]
fn a_chain_of_causes_is_cut_to_what_can_be_read_back() {
    let mut deep = Failure::new("K", "innermost");
    for level in 0..500 {
        deep = Failure {
            cause: Some(Box::new(deep)),
            ..Failure::new("K", format!("level {level}"))
        };
    }
    let message = Message::ChildDone {
        execution: ExecutionKey(1),
        task: TaskId(1),
        outcome: Err(deep),
    };
    let bytes = encode_message(&Target::Orchestration(instance()), &message);
    assert!(decode_message(&bytes).is_ok());
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let mut originals = vec![encode_events(&all_events())];
    originals.extend(
        all_messages()
            .iter()
            .map(|message| encode_message(&Target::Entity(counter()), message)),
    );
    originals.extend(tasks().iter().map(encode_task));
    let mut refused = 0;
    for original in &originals {
        for position in 0..original.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = original.clone();
                bytes[position] ^= flip;
                refused += usize::from(decode_events(&bytes).is_err());
                refused += usize::from(decode_message(&bytes).is_err());
                let _ = (decode_task(KEY, TASK, &bytes), decode_holder(&bytes));
                let _ = (decode_bucket(&bytes), decode_limiter_rule(&bytes));
            }
            refused += usize::from(decode_events(&original[..position]).is_err());
        }
    }
    assert!(refused > 1_000, "only {refused} damages were noticed");
}

/// What a decoder takes of changed bytes it writes and reads again as the same value: nothing is
/// half understood.
#[test]
fn what_is_taken_of_changed_bytes_reads_the_same_again() {
    let mut random = dalsegno_store_tests::Random::new(7);
    let mut originals = vec![encode_events(&all_events())];
    let target = Target::Entity(counter());
    originals.extend(all_events().chunks(1).map(encode_events));
    originals.push(encode_events_apart(&all_events(), |place, kind| {
        kind.value().map(|_| place as u64)
    }));
    originals.extend(
        all_messages()
            .iter()
            .map(|message| encode_message(&target, message)),
    );
    originals.extend(tasks().iter().map(encode_task));
    let (mut taken, mut refused) = (0, 0);
    let mut count = |is_ok: bool| match is_ok {
        true => taken += 1,
        false => refused += 1,
    };
    for number in 0..20_000 {
        let bytes = random.mutate(&originals[number % originals.len()]);
        let events = decode_events(&bytes);
        count(events.is_ok());
        if let Ok(stored) = events {
            let number = |place, _: &EventKind| {
                let mut apart = stored.apart.iter();
                apart.find(|(at, _)| *at == place).map(|(_, number)| *number)
            };
            let again = encode_events_apart(&stored.events, number);
            assert_eq!(decode_events(&again), Ok(stored), "{bytes:?}");
        }
        let message = decode_message(&bytes);
        count(message.is_ok());
        if let Ok((target, message)) = message {
            let again = decode_message(&encode_message(&target, &message));
            assert_eq!(again, Ok((target, message)), "{bytes:?}");
        }
        let task = decode_task(KEY, TASK, &bytes);
        count(task.is_ok());
        if let Ok(task) = task {
            let again = decode_task(KEY, TASK, &encode_task(&task));
            // A number that is none is not equal to itself.
            assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, RecordError>(task)));
        }
        let _ = (decode_extra(&bytes), decode_holder(&bytes));
        let _ = (decode_bucket(&bytes), decode_limiter_rule(&bytes));
    }
    assert!(
        taken > 1_000 && refused > 20_000,
        "{taken} taken, {refused} refused"
    );
}

/// Once released these bytes never change: an older hub always opens.
#[test]
fn the_bytes_of_events_are_golden() {
    check_golden(
        &encode_events(&all_events()),
        &expect![[r#"
            0b088080f28183898506120046088280f281838985061a3b0a054f7264657212
            01321a100123456789abcdef001122334455667722097b226e223a312e307d2a
            0d0a076f726465722d37100918033080ade20420088480f28183898506221508
            0312064368617267651a097b226e223a312e307d35088680f281838985062a2a
            080312097b226e223a312e307d1802521908121206686f73742f371a0d081012
            02496f1a0572657365743f088880f2818389850632340803122e0a0754696d65
            6f757412096e6f20616e737765721a096174206c696e652031220d0a02496f12
            0572657365742801180512088a80f281838985063a0708031080ade20412088c
            80f28183898506420708031080ade20420088e80f281838985064a1508031206
            43686172676522076f726465722d3730010d089080f28183898506520208033d
            089280f281838985065a320803122e0a0754696d656f757412096e6f20616e73
            7765721a096174206c696e652031220d0a02496f120572657365742801290894
            80f28183898506621e080312076f726465722d371a0643686172676522097b22
            6e223a312e307d1e089680f281838985066a130a0643686172676512097b226e
            223a312e307d2f089880f281838985068201230803120f0a07636f756e746572
            12044d61696e1a0361646422097b226e223a312e307d29089a80f28183898506
            8a011d0803120f0a07636f756e74657212044d61696e1a036164642880ade204
            19089c80f2818389850692010d080312097b226e223a312e307d3e089e80f281
            838985069a01320803122e0a0754696d656f757412096e6f20616e737765721a
            096174206c696e652031220d0a02496f1205726573657428013008a080f28183
            898506a201240803120f0a07636f756e74657212044d61696e120f0a07636f75
            6e7465721204736964650e08a280f28183898506aa010208030e08a480f28183
            898506b2010208031508a680f28183898506ba01090a07626563617573650c08
            a880f28183898506c201001508aa80f28183898506ca01090a07626563617573
            651708ac80f28183898506d2010b0a097b226e223a312e307d3a08ae80f28183
            898506da012e0a0754696d656f757412096e6f20616e737765721a096174206c
            696e652031220d0a02496f1205726573657428011508b080f28183898506e201
            090a07626563617573650b08b280f2818389850672005308b480f28183898506
            6a480a064368617267655a3e0a3730302d346266393266333537376233346461
            36613363653932396430653065343733362d3030663036376161306261393032
            62372d30311203613d31830108b680f281838985061a780a054f726465721a10
            000000000000000000000000000000013a1d0a0453686f701203312e321a1000
            00000000000000000000000000000b523e0a3730302d34626639326633353737
            623334646136613363653932396430653065343733362d303066303637616130
            626139303262372d30311203613d311408b880f281838985069202080a06656e
            6f7567683a08ba80f281838985069a022e0a0754696d656f757412096e6f2061
            6e737765721a096174206c696e652031220d0a02496f12057265736574280118
            08bc80f28183898506220d08031206526566756e64f001012408be80f2818389
            85064a1908031206526566756e6422076f726465722d37f00102f80101"#]],
    );
}

#[test]
fn the_bytes_of_events_with_values_elsewhere_are_golden() {
    let bytes = encode_events_apart(&all_events()[..6], |place, kind| {
        kind.value().map(|_| place as u64)
    });
    check_golden(
        &bytes,
        &expect![[r#"
            0b088080f28183898506120040088280f281838985061a300a054f7264657212
            01321a100123456789abcdef00112233445566772a0d0a076f726465722d3710
            0918033080ade2047802e801011a088480f28183898506220a08031206436861
            7267657802e801022f088680f281838985062a1f08031802521908121206686f
            73742f371a0d08101202496f1a0572657365747802e801033f088880f2818389
            850632340803122e0a0754696d656f757412096e6f20616e737765721a096174
            206c696e652031220d0a02496f120572657365742801180512088a80f2818389
            85063a0708031080ade204"#]],
    );
}

#[test]
fn the_bytes_of_messages_are_golden() {
    let target = Target::Orchestration(instance());
    let bytes: Vec<u8> = all_messages()
        .iter()
        .flat_map(|message| encode_message(&target, message))
        .collect();
    check_golden(
        &bytes,
        &expect![[r#"
            0a076f726465722d371a2c080910031a097b226e223a312e307d280252190812
            1206686f73742f371a0d08101202496f1a0572657365740a076f726465722d37
            1a3608091003222e0a0754696d656f757412096e6f20616e737765721a096174
            206c696e652031220d0a02496f12057265736574280128050a076f726465722d
            37220a080910ffffffff0f180a0a076f726465722d372a04080910030a076f72
            6465722d37323408091003222e0a0754696d656f757412096e6f20616e737765
            721a096174206c696e652031220d0a02496f1205726573657428010a076f7264
            65722d373a15080910031a0f0a07636f756e74657212044d61696e0a076f7264
            65722d3742150a08417070726f76656412097b226e223a312e307d0a076f7264
            65722d374a470a054f726465721201321a097b226e223a312e307d220d0a076f
            726465722d3710091803280430033a1d0a0453686f701203312e321a10000000
            0000000000000000000000000b0a076f726465722d37520b0a07626563617573
            6510010a076f726465722d375a090a07626563617573650a076f726465722d37
            62000a076f726465722d376a180a0762656361757365120d0a076f726465722d
            37100918030a076f726465722d3772210a0361646412097b226e223a312e307d
            1a0d0a076f726465722d3710091803200e0a076f726465722d378201220a0d0a
            076f726465722d3710091803120f0a07636f756e74657212044d61696e18010a
            076f726465722d378a0104080910030a076f726465722d37424a0a0841707072
            6f7665645a3e0a3730302d346266393266333537376233346461366133636539
            32396430653065343733362d303066303637616130626139303262372d303112
            03613d310a076f726465722d3772450a036164642a3e0a3730302d3462663932
            6633353737623334646136613363653932396430653065343733362d30306630
            3637616130626139303262372d30311203613d310a076f726465722d374a680a
            054f726465721201321a097b226e223a312e307d220d0a076f726465722d3710
            09180328043003523e0a3730302d346266393266333537376233346461366133
            63653932396430653065343733362d303066303637616130626139303262372d
            30311203613d310a076f726465722d379202080a06656e6f7567680a076f7264
            65722d3792020f120d0a076f726465722d37100918030a076f726465722d3752
            0f1a0d0a076f726465722d3710091803"#]],
    );
}

fn extra() -> RowExtra {
    let mark = |key, fingerprint| EventMark { key, fingerprint };
    RowExtra {
        kills: 2,
        depth: 6,
        idempotency_key: Some("k".into()),
        start_fingerprint: 5,
        events: vec![mark(1 << 64 | 2, 3), mark(u128::MAX, 4)],
        trace: trace(),
        parent_name: Some(parent_name()),
        webhook: Some(WebhookSubscription {
            url: "https://example.com/hook".into(),
            statuses: vec![dalsegno_core::query::Status::Failed],
            secret: Some("audit".into()),
        }),
        span: None,
        awaited_events: Vec::new(),
        failed_activity: None,
        unconsumed: Default::default(),
    }
}

#[test]
fn what_a_row_holds_beside_its_columns_comes_back() {
    assert_eq!(decode_extra(&encode_extra(&extra())), Ok(extra()));
    assert_eq!(encode_extra(&RowExtra::default()), Vec::<u8>::new());
    let marks_only = RowExtra {
        idempotency_key: None,
        start_fingerprint: 0,
        ..extra()
    };
    assert_eq!(decode_extra(&encode_extra(&marks_only)), Ok(marks_only));
    // As written before events had keys and starts a trace.
    let old = [0x0a, 0x01, b'k', 0x11, 5, 0, 0, 0, 0, 0, 0, 0];
    let (events, trace, webhook) = (Vec::new(), None, None);
    assert_eq!(
        decode_extra(&old),
        Ok(RowExtra {
            events,
            trace,
            webhook,
            kills: 0,
            depth: 0,
            parent_name: None,
            span: None,
            ..extra()
        })
    );
}

#[test]
fn what_lists_look_for_comes_back() {
    let noted = RowExtra {
        awaited_events: vec!["approved".into(), "go".into()],
        failed_activity: Some("charge".into()),
        ..RowExtra::default()
    };
    let bytes = encode_extra(&noted);
    assert_eq!(decode_extra(&bytes), Ok(noted));
    let golden = b"\xd2\x02\x08approved\xd2\x02\x02go\xda\x02\x06charge";
    assert_eq!(bytes, golden);
}

#[test]
fn what_came_too_late_comes_back() {
    let late = RowExtra {
        unconsumed: UnconsumedEvents {
            count: 300,
            names: vec!["approved".into(), "go".into()],
        },
        ..RowExtra::default()
    };
    let bytes = encode_extra(&late);
    assert_eq!(decode_extra(&bytes), Ok(late));
    let golden = b"\xe2\x02\x08approved\xe2\x02\x02go\xe8\x02\xac\x02";
    assert_eq!(bytes, golden);
}

#[test]
fn what_is_told_of_spans_comes_back() {
    use dalsegno_core::span::SpanElsewhere;
    use dalsegno_core::{SpanId, Timestamp};
    let given = trace().expect("valid");
    let traces = [
        given.created_by(SpanId(7), true),
        dalsegno_core::TraceContext::begun(5, SpanId(6), false),
    ];
    for trace in traces {
        let extra = RowExtra {
            trace: Some(trace),
            span: Some(SpanElsewhere {
                id: SpanId(9),
                start: Some(Timestamp::from_micros(3)),
            }),
            ..extra()
        };
        assert_eq!(decode_extra(&encode_extra(&extra)), Ok(extra));
    }
    let extra = RowExtra {
        trace: Some(given.created_by(SpanId(7), true)),
        span: Some(SpanElsewhere {
            id: SpanId(9),
            start: None,
        }),
        ..RowExtra::default()
    };
    check_golden(
        &encode_extra(&extra),
        &expect![[r#"
        22470a3730302d34626639326633353737623334646136613363653932396430
        653065343733362d303030303030303030303030303030372d30311203613d31
        19b702a90baa67f000ca0209090900000000000000"#]],
    );
}

#[test]
fn the_bytes_of_extras_are_golden() {
    check_golden(
        &encode_extra(&extra()),
        &expect![[r#"
            0a016b1105000000000000001a1b090100000000000000110200000000000000
            1903000000000000001a1b09ffffffffffffffff11ffffffffffffffff190400
            000000000000223e0a3730302d34626639326633353737623334646136613363
            653932396430653065343733362d303066303637616130626139303262372d30
            311203613d312806321d0a0453686f701203312e321a10000000000000000000
            0000000000000ba80102c202240a1868747470733a2f2f6578616d706c652e63
            6f6d2f686f6f6b12010b1a056175646974"#]],
    );
}

#[test]
fn the_bytes_of_tasks_are_golden() {
    let bytes: Vec<u8> = tasks().iter().flat_map(encode_task).collect();
    check_golden(
        &bytes,
        &expect![[r#"
            0a5a0a076f726465722d3712064368617267651a097b226e223a312e307d221a
            080510c0843d1900000000000000402080c8ceb40d30808ece1c288087a70e32
            100000000000000000000000000000004d3a097b226e223a312e307d18022002
            2804520d08101202496f1a057265736574125d0a076f726465722d3712470a05
            4f726465721201321a097b226e223a312e307d220d0a076f726465722d371009
            1803280430033a1d0a0453686f701203312e321a100000000000000000000000
            000000000b20012a076f726465722d37180120020a9a010a076f726465722d37
            12064368617267651a097b226e223a312e307d221a080510c0843d1900000000
            000000402080c8ceb40d30808ece1c288087a70e321000000000000000000000
            00000000004d3a097b226e223a312e307d423e0a3730302d3462663932663335
            3737623334646136613363653932396430653065343733362d30306630363761
            6130626139303262372d30311203613d31180220022804520d08101202496f1a
            057265736574f201076f726465722d37"#]],
    );
}
