//! Random programs, and what they must come to.
//!
//! A program is a list of statements that one orchestrator interprets. Its result is a sum that
//! the generator knows beforehand, whatever order things happen in and whatever crashes.

use dalsegno_engine::partition::Entropy;

/// One thing a program does.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Calls so many activities at once and waits for all; each gives its argument back.
    Activities(Vec<i64>),
    /// Calls an activity that fails, and goes on.
    Failing,
    /// Waits for a timer, in milliseconds.
    Timer(u64),
    /// Waits for an external event and adds its value.
    Event(i64),
    /// Races an event that never comes against a timer, which wins.
    Race(u64),
    /// Runs another program as a child and adds its result.
    Child(usize),
    /// Calls a counter and ignores the answer.
    CallCounter(u8, i64),
    /// Signals a counter.
    SignalCounter(u8, i64),
    /// Calls an operation that fails after it has changed the state.
    FailingOperation(u8),
    /// Moves an amount from one counter to another while it holds both.
    Transfer(u8, u8, i64),
    /// Calls an activity and does not wait for it.
    Detached(i64),
    /// Signals a counter for later, in milliseconds.
    SignalLater(u8, i64, u64),
    /// Calls an activity that fails while the outside world is broken, and one that gives 1. When
    /// the first fails, so does the program.
    Fragile(i64),
    /// Begins the rest of the program as a new execution.
    ContinueAsNew,
}

/// A program and what it must come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// What it does, in order.
    pub statements: Vec<Statement>,
}

/// How many counters there are.
pub const COUNTERS: u8 = 4;

/// Nesting of children at most.
const LEVELS: usize = 3;

/// Makes programs; the later ones call the earlier ones.
pub fn generate(entropy: &mut Entropy, count: usize) -> Vec<Program> {
    let mut programs = Vec::new();
    for number in 0..count {
        let length = 1 + below(entropy, 6);
        let statements = (0..length).map(|_| statement(entropy, number)).collect();
        programs.push(Program { statements });
    }
    programs
}

/// A number below `most`.
pub fn below(entropy: &mut Entropy, most: usize) -> usize {
    (entropy.next_u64() % most as u64) as usize
}

fn statement(entropy: &mut Entropy, number: usize) -> Statement {
    let amount = 1 + below(entropy, 9) as i64;
    let counter = below(entropy, COUNTERS as usize) as u8;
    match below(entropy, 17) {
        0 | 1 => Statement::Activities((0..=below(entropy, 5)).map(|n| n as i64 + amount).collect()),
        2 => Statement::Failing,
        3 => Statement::Timer(below(entropy, 2_000) as u64),
        4 => Statement::Event(amount),
        5 => Statement::Race(1 + below(entropy, 500) as u64),
        6 if number > 0 => Statement::Child(below(entropy, number.min(LEVELS))),
        7 => Statement::CallCounter(counter, amount),
        8 => Statement::SignalCounter(counter, amount),
        9 => Statement::FailingOperation(counter),
        10 => Statement::ContinueAsNew,
        11 => Statement::Detached(amount),
        12 => Statement::SignalLater(counter, amount, below(entropy, 3_000) as u64),
        13 => Statement::Fragile(amount),
        _ => Statement::Transfer(counter, (counter + 1) % COUNTERS, amount),
    }
}

/// The sum a program comes to, children included.
pub fn result_of(programs: &[Program], number: usize) -> i64 {
    let sum = |statement: &Statement| match statement {
        Statement::Activities(values) => values.iter().sum(),
        Statement::Event(value) => *value,
        Statement::Fragile(value) => value + 1,
        Statement::Child(child) => result_of(programs, *child),
        _ => 0,
    };
    programs[number].statements.iter().map(sum).sum()
}

/// What a program adds to each counter, children included.
pub fn counted(programs: &[Program], number: usize) -> [i64; COUNTERS as usize] {
    let mut counters = [0; COUNTERS as usize];
    for statement in &programs[number].statements {
        match statement {
            Statement::CallCounter(counter, amount)
            | Statement::SignalCounter(counter, amount)
            | Statement::SignalLater(counter, amount, _) => {
                counters[*counter as usize] += amount;
            }
            Statement::Transfer(from, to, amount) => {
                counters[*from as usize] -= amount;
                counters[*to as usize] += amount;
            }
            Statement::Child(child) => {
                for (sum, amount) in counters.iter_mut().zip(counted(programs, *child)) {
                    *sum += amount;
                }
            }
            _ => {}
        }
    }
    counters
}

/// Can it fail, by itself or by a child?
pub fn is_fragile(programs: &[Program], number: usize) -> bool {
    programs[number]
        .statements
        .iter()
        .any(|statement| match statement {
            Statement::Fragile(_) => true,
            Statement::Child(child) => is_fragile(programs, *child),
            _ => false,
        })
}
