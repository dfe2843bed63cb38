//! Commits as the payload of a frame: small integers as varints, everything else with its length.
//!
//! The version of this encoding is in the header of each segment. Tags and orders of fields are
//! part of the format.

use std::sync::Arc;

use dalsegno_core::event::Parent;
use dalsegno_core::query::Status;
use dalsegno_core::store::{Apart, Commit, EntityRow, InstanceRow, Op, Owner};
use dalsegno_core::{
    Divergence, EntityId, Epoch, ExecutionId, ExecutionKey, Failure, Fault, FaultKind, InstanceId,
    PartitionId, Payload, TaskId, Timestamp,
};

/// Causes of a failure that are kept, the outermost first.
const CAUSES_MAX: usize = 64;

/// What is wrong with a payload.
pub(crate) type Damage = &'static str;

/// Writes a batch at the end of `to`.
pub(crate) fn encode_batch(batch: &[Commit], to: &mut Vec<u8>) {
    number(batch.len() as u64, to);
    for commit in batch {
        number(u64::from(commit.partition.0), to);
        number(commit.epoch.0, to);
        number(commit.ops.len() as u64, to);
        for op in &commit.ops {
            encode_op(op, to);
        }
    }
}

/// Reads a batch that fills `bytes` exactly.
pub(crate) fn decode_batch(bytes: &[u8]) -> Result<Vec<Commit>, Damage> {
    let mut reader = Reader { bytes };
    let mut batch = Vec::new();
    for _ in 0..reader.number()? {
        let partition = PartitionId(reader.small()?);
        let epoch = Epoch(reader.number()?);
        let count = reader.number()?;
        let mut ops = Vec::with_capacity(reader.capacity(count));
        for _ in 0..count {
            ops.push(decode_op(&mut reader)?);
        }
        batch.push(Commit {
            partition,
            epoch,
            ops,
        });
    }
    if reader.bytes.is_empty() {
        Ok(batch)
    } else {
        Err("bytes are left over")
    }
}

#[expect(clippy::too_many_lines, reason = "one match over all changes")]
fn encode_op(op: &Op, to: &mut Vec<u8>) {
    match op {
        Op::PutInstance(row) => {
            to.push(1);
            encode_row(row, to);
        }
        Op::TouchInstance { key, updated, events } => {
            to.push(2);
            number(key.0, to);
            time(*updated, to);
            number(*events, to);
        }
        Op::DeleteExecution { key, id } => {
            to.push(3);
            number(key.0, to);
            block(id.as_str().as_bytes(), to);
        }
        Op::AppendHistory {
            key,
            first,
            count,
            data,
        } => {
            to.push(4);
            number(key.0, to);
            number(*first, to);
            number(u64::from(*count), to);
            block(data, to);
        }
        Op::PutMessage { partition, seq, data } => {
            to.push(5);
            number(u64::from(partition.0), to);
            number(*seq, to);
            block(data, to);
        }
        Op::DeleteMessage { partition, seq } => {
            to.push(6);
            number(u64::from(partition.0), to);
            number(*seq, to);
        }
        Op::PutTask { key, task, data } => {
            to.push(7);
            number(key.0, to);
            number(u64::from(task.0), to);
            block(data, to);
        }
        Op::DeleteTask { key, task } => {
            to.push(8);
            number(key.0, to);
            number(u64::from(task.0), to);
        }
        Op::PutTimer { due, key, task } => {
            to.push(9);
            time(*due, to);
            number(key.0, to);
            number(u64::from(task.0), to);
        }
        Op::DeleteTimer { due, key, task } => {
            to.push(10);
            time(*due, to);
            number(key.0, to);
            number(u64::from(task.0), to);
        }
        Op::PutEntity(row) => {
            to.push(11);
            encode_entity(row, to);
        }
        Op::DeleteEntity { id } => {
            to.push(12);
            entity_id(id, to);
        }
        Op::PutLimiter { name, key, data } => {
            to.push(13);
            block(name.as_bytes(), to);
            block(key.as_bytes(), to);
            block(data, to);
        }
        Op::DeleteLimiter { name, key } => {
            to.push(14);
            block(name.as_bytes(), to);
            block(key.as_bytes(), to);
        }
        Op::PutMeta { name, data } => {
            to.push(15);
            block(name.as_bytes(), to);
            block(data, to);
        }
        Op::DeleteMeta { name } => {
            to.push(16);
            block(name.as_bytes(), to);
        }
        Op::PutPayload { owner: of, n, value } => {
            to.push(17);
            owner(of, to);
            number(*n, to);
            block(value.as_str().as_bytes(), to);
        }
        Op::DeletePayload { owner: of, n } => {
            to.push(18);
            owner(of, to);
            number(*n, to);
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one match over all changes")]
fn decode_op(reader: &mut Reader<'_>) -> Result<Op, Damage> {
    Ok(match reader.byte()? {
        1 => Op::PutInstance(Box::new(decode_row(reader)?)),
        2 => Op::TouchInstance {
            key: reader.key()?,
            updated: reader.time()?,
            events: reader.number()?,
        },
        3 => Op::DeleteExecution {
            key: reader.key()?,
            id: reader.instance()?,
        },
        4 => Op::AppendHistory {
            key: reader.key()?,
            first: reader.number()?,
            count: reader.small()?,
            data: reader.block()?.to_vec(),
        },
        5 => Op::PutMessage {
            partition: PartitionId(reader.small()?),
            seq: reader.number()?,
            data: reader.block()?.to_vec(),
        },
        6 => Op::DeleteMessage {
            partition: PartitionId(reader.small()?),
            seq: reader.number()?,
        },
        7 => Op::PutTask {
            key: reader.key()?,
            task: reader.task()?,
            data: reader.block()?.to_vec(),
        },
        8 => Op::DeleteTask {
            key: reader.key()?,
            task: reader.task()?,
        },
        9 => Op::PutTimer {
            due: reader.time()?,
            key: reader.key()?,
            task: reader.task()?,
        },
        10 => Op::DeleteTimer {
            due: reader.time()?,
            key: reader.key()?,
            task: reader.task()?,
        },
        11 => Op::PutEntity(Box::new(decode_entity(reader)?)),
        12 => Op::DeleteEntity {
            id: reader.entity_id()?,
        },
        13 => Op::PutLimiter {
            name: reader.text()?.into(),
            key: reader.text()?.into(),
            data: reader.block()?.to_vec(),
        },
        14 => Op::DeleteLimiter {
            name: reader.text()?.into(),
            key: reader.text()?.into(),
        },
        15 => Op::PutMeta {
            name: reader.text()?.into(),
            data: reader.block()?.to_vec(),
        },
        16 => Op::DeleteMeta {
            name: reader.text()?.into(),
        },
        17 => Op::PutPayload {
            owner: reader.owner()?,
            n: reader.number()?,
            value: reader.payload()?,
        },
        18 => Op::DeletePayload {
            owner: reader.owner()?,
            n: reader.number()?,
        },
        _ => return Err("a change of unknown kind"),
    })
}

// Which of the fields that may be absent are there.
const VERSION: u64 = 1;
const COMPLETED: u64 = 1 << 1;
const SCHEDULED_START: u64 = 1 << 2;
const PARENT: u64 = 1 << 3;
const INPUT: u64 = 1 << 4;
const CUSTOM_STATUS: u64 = 1 << 5;
const OUTPUT: u64 = 1 << 6;
const FAILURE: u64 = 1 << 7;
const PARKED: u64 = 1 << 8;
const APART: u64 = 1 << 9;
const DIVERGENCE: u64 = 1 << 10;

fn encode_row(row: &InstanceRow, to: &mut Vec<u8>) {
    encode_row_at(row, row.updated, row.events, to);
}

/// A row with other numbers in place of those that a touch changes.
pub(crate) fn encode_row_at(row: &InstanceRow, updated: Timestamp, events: u64, to: &mut Vec<u8>) {
    let present = flag(row.version.is_some(), VERSION)
        | flag(row.completed.is_some(), COMPLETED)
        | flag(row.scheduled_start.is_some(), SCHEDULED_START)
        | flag(row.parent.is_some(), PARENT)
        | flag(row.input.is_some(), INPUT)
        | flag(row.custom_status.is_some(), CUSTOM_STATUS)
        | flag(row.output.is_some(), OUTPUT)
        | flag(row.failure.is_some(), FAILURE)
        | flag(row.parked.is_some(), PARKED)
        | flag(row.apart != Apart::default(), APART)
        | flag(divergence(row).is_some(), DIVERGENCE);
    number(present, to);
    number(row.key.0, to);
    number(u64::from(row.partition.0), to);
    block(row.id.as_str().as_bytes(), to);
    to.extend_from_slice(&row.execution_id.0.to_be_bytes());
    block(row.name.as_bytes(), to);
    to.push(row.status.code());
    time(row.created, to);
    time(updated, to);
    number(events, to);
    number(row.tags.len() as u64, to);
    for (name, value) in &row.tags {
        block(name.as_bytes(), to);
        block(value.as_bytes(), to);
    }
    block(&row.extra, to);
    if let Some(version) = &row.version {
        block(version.as_bytes(), to);
    }
    for at in [row.completed, row.scheduled_start].into_iter().flatten() {
        time(at, to);
    }
    if let Some(parent) = &row.parent {
        block(parent.instance.as_str().as_bytes(), to);
        number(parent.execution.0, to);
        number(u64::from(parent.task.0), to);
    }
    for payload in [&row.input, &row.custom_status, &row.output]
        .into_iter()
        .flatten()
    {
        block(payload.as_str().as_bytes(), to);
    }
    if let Some(failure) = &row.failure {
        encode_failure(failure, to);
    }
    if let Some(fault) = &row.parked {
        to.push(fault_code(fault.kind));
        block(fault.message.as_bytes(), to);
    }
    if row.apart != Apart::default() {
        to.push(row.apart.bits());
    }
    if let Some(sides) = divergence(row) {
        encode_divergence(sides, to);
    }
}

fn divergence(row: &InstanceRow) -> Option<&Divergence> {
    row.parked.as_ref()?.divergence.as_deref()
}

fn encode_divergence(divergence: &Divergence, to: &mut Vec<u8>) {
    let sides = [&divergence.recorded, &divergence.asked, &divergence.location];
    let present = (0..)
        .zip(sides)
        .map(|(bit, side)| u8::from(side.is_some()) << bit);
    to.push(present.sum());
    for side in sides.into_iter().flatten() {
        block(side.as_bytes(), to);
    }
}

fn decode_divergence(reader: &mut Reader<'_>) -> Result<Divergence, Damage> {
    let present = reader.byte()?;
    let mut side = |bit: u8| reader.when(present & 1 << bit != 0, |reader| Ok(reader.text()?.to_owned()));
    Ok(Divergence {
        recorded: side(0)?,
        asked: side(1)?,
        location: side(2)?,
    })
}

fn decode_row(reader: &mut Reader<'_>) -> Result<InstanceRow, Damage> {
    let present = reader.number()?;
    let has = |flag: u64| present & flag != 0;
    if present >= DIVERGENCE << 1 {
        return Err("a row with unknown fields");
    }
    let mut row = InstanceRow {
        key: reader.key()?,
        partition: PartitionId(reader.small()?),
        id: reader.instance()?,
        execution_id: reader.execution_id()?,
        name: reader.text()?.into(),
        version: None,
        status: Status::from_code(reader.byte()?).ok_or("an unknown status")?,
        created: reader.time()?,
        updated: reader.time()?,
        completed: None,
        scheduled_start: None,
        parent: None,
        tags: Vec::new(),
        input: None,
        custom_status: None,
        output: None,
        failure: None,
        parked: None,
        events: reader.number()?,
        extra: Vec::new(),
        apart: Apart::default(),
    };
    for _ in 0..reader.number()? {
        row.tags
            .push((reader.text()?.to_owned(), reader.text()?.to_owned()));
    }
    row.extra = reader.block()?.to_vec();
    row.version = reader.when(has(VERSION), |reader| Ok(Arc::from(reader.text()?)))?;
    row.completed = reader.when(has(COMPLETED), Reader::time)?;
    row.scheduled_start = reader.when(has(SCHEDULED_START), Reader::time)?;
    row.parent = reader.when(has(PARENT), Reader::parent)?;
    row.input = reader.when(has(INPUT), Reader::payload)?;
    row.custom_status = reader.when(has(CUSTOM_STATUS), Reader::payload)?;
    row.output = reader.when(has(OUTPUT), Reader::payload)?;
    row.failure = reader.when(has(FAILURE), |reader| decode_failure(reader, CAUSES_MAX))?;
    row.parked = reader.when(has(PARKED), |reader| {
        let kind = fault_kind(reader.byte()?).ok_or("an unknown kind of fault")?;
        Ok(Fault::new(kind, reader.text()?))
    })?;
    if has(APART) {
        row.apart = Apart::from_bits(reader.byte()?).ok_or("a row with unknown values")?;
    }
    if has(DIVERGENCE) {
        let parked = row.parked.as_mut().ok_or("two sides of no fault")?;
        parked.divergence = Some(Box::new(decode_divergence(reader)?));
    }
    Ok(row)
}

fn encode_failure(failure: &Failure, to: &mut Vec<u8>) {
    let mut failure = failure;
    for depth in 0.. {
        let cause = failure.cause.as_deref().filter(|_| depth < CAUSES_MAX);
        let flags = u8::from(failure.permanent)
            | u8::from(failure.stack.is_some()) << 1
            | u8::from(cause.is_some()) << 2
            | u8::from(failure.properties.is_some()) << 3;
        to.push(flags);
        block(failure.kind.as_bytes(), to);
        block(failure.message.as_bytes(), to);
        if let Some(stack) = &failure.stack {
            block(stack.as_bytes(), to);
        }
        if let Some(properties) = &failure.properties {
            block(properties.as_str().as_bytes(), to);
        }
        match cause {
            Some(cause) => failure = cause,
            None => return,
        }
    }
}

fn decode_failure(reader: &mut Reader<'_>, causes: usize) -> Result<Failure, Damage> {
    let flags = reader.byte()?;
    let kind = reader.text()?.to_owned();
    let message = reader.text()?.to_owned();
    let stack = reader.when(flags & 2 != 0, |reader| Ok(reader.text()?.to_owned()))?;
    let properties = reader.when(flags & 8 != 0, |reader| Ok(Payload::from(reader.text()?)))?;
    if flags & 4 != 0 && causes == 0 {
        return Err("a failure with too many causes");
    }
    let cause = reader.when(flags & 4 != 0, |reader| {
        Ok(Box::new(decode_failure(reader, causes - 1)?))
    })?;
    Ok(Failure {
        kind,
        message,
        stack,
        cause,
        permanent: flags & 1 != 0,
        properties,
    })
}

/// Where an entity's state is.
const STATE_ABSENT: u8 = 0;
const STATE_HERE: u8 = 1;
const STATE_APART: u8 = 2;

pub(crate) fn encode_entity(row: &EntityRow, to: &mut Vec<u8>) {
    entity_id(&row.id, to);
    number(u64::from(row.partition.0), to);
    time(row.last_operation, to);
    to.push(match (&row.state, row.is_state_apart) {
        (_, true) => STATE_APART,
        (Some(_), false) => STATE_HERE,
        (None, false) => STATE_ABSENT,
    });
    if let Some(state) = row.state.as_ref().filter(|_| !row.is_state_apart) {
        block(state.as_str().as_bytes(), to);
    }
    block(&row.queue, to);
}

fn decode_entity(reader: &mut Reader<'_>) -> Result<EntityRow, Damage> {
    let id = reader.entity_id()?;
    let partition = PartitionId(reader.small()?);
    let last_operation = reader.time()?;
    let state = reader.byte()?;
    if state > STATE_APART {
        return Err("an entity's state is nowhere known");
    }
    Ok(EntityRow {
        id,
        partition,
        last_operation,
        state: reader.when(state == STATE_HERE, Reader::payload)?,
        is_state_apart: state == STATE_APART,
        queue: reader.block()?.to_vec(),
    })
}

fn flag(is_set: bool, flag: u64) -> u64 {
    if is_set { flag } else { 0 }
}

fn number(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Zigzag, so that times before 1970 stay short too.
fn time(at: Timestamp, to: &mut Vec<u8>) {
    let micros = at.as_micros();
    number(((micros << 1) ^ (micros >> 63)) as u64, to);
}

fn block(bytes: &[u8], to: &mut Vec<u8>) {
    number(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

fn entity_id(id: &EntityId, to: &mut Vec<u8>) {
    block(id.name().as_bytes(), to);
    block(id.key().as_bytes(), to);
}

fn owner(owner: &Owner, to: &mut Vec<u8>) {
    match owner {
        Owner::Execution(key) => {
            to.push(1);
            number(key.0, to);
        }
        Owner::Entity(id) => {
            to.push(2);
            entity_id(id, to);
        }
    }
}

/// Number of a kind of fault in stored records.
fn fault_code(kind: FaultKind) -> u8 {
    FaultKind::ALL
        .iter()
        .position(|known| *known == kind)
        .expect("all kinds are listed") as u8
}

fn fault_kind(code: u8) -> Option<FaultKind> {
    FaultKind::ALL.get(usize::from(code)).copied()
}

/// What is left to read.
struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Result<u8, Damage> {
        let (first, rest) = self.bytes.split_first().ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn small(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn time(&mut self) -> Result<Timestamp, Damage> {
        let value = self.number()?;
        Ok(Timestamp::from_micros(
            (value >> 1) as i64 ^ -((value & 1) as i64),
        ))
    }

    fn block(&mut self) -> Result<&'b [u8], Damage> {
        let len = usize::try_from(self.number()?).map_err(|_| "a length is too large")?;
        let (block, rest) = self.bytes.split_at_checked(len).ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(block)
    }

    fn text(&mut self) -> Result<&'b str, Damage> {
        std::str::from_utf8(self.block()?).map_err(|_| "a text is not UTF-8")
    }

    fn key(&mut self) -> Result<ExecutionKey, Damage> {
        self.number().map(ExecutionKey)
    }

    fn task(&mut self) -> Result<TaskId, Damage> {
        self.small().map(TaskId)
    }

    fn instance(&mut self) -> Result<InstanceId, Damage> {
        self.text().map(InstanceId::trusted)
    }

    fn entity_id(&mut self) -> Result<EntityId, Damage> {
        let (name, key) = (self.text()?, self.text()?);
        EntityId::new(name, key).map_err(|_| "an entity id is malformed")
    }

    fn owner(&mut self) -> Result<Owner, Damage> {
        match self.byte()? {
            1 => self.key().map(Owner::Execution),
            2 => self.entity_id().map(Owner::Entity),
            _ => Err("an owner of unknown kind"),
        }
    }

    fn execution_id(&mut self) -> Result<ExecutionId, Damage> {
        let (id, rest) = self.bytes.split_first_chunk::<16>().ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(ExecutionId(u128::from_be_bytes(*id)))
    }

    fn payload(&mut self) -> Result<Payload, Damage> {
        self.text().map(Payload::from)
    }

    fn parent(&mut self) -> Result<Parent, Damage> {
        Ok(Parent {
            instance: self.instance()?,
            execution: self.key()?,
            task: self.task()?,
        })
    }

    fn when<T>(
        &mut self,
        is_present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Damage>,
    ) -> Result<Option<T>, Damage> {
        if is_present {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Room for so many things, but never more than the bytes could hold.
    fn capacity(&self, count: u64) -> usize {
        usize::try_from(count).unwrap_or(usize::MAX).min(self.bytes.len())
    }
}
