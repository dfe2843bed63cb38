//! A stand-in for a storage table: rows of text, a filter with parameters, and all the time it takes.
//!
//! A parameter is a value, whatever is in it: no text of a caller becomes part of the filter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The rows of the table `audit`.
const AUDIT: &str = include_str!("../data/audit.csv");

type Row = BTreeMap<String, String>;

/// A table. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Arc<Vec<Row>>,
    /// Queries wait until this is true.
    ready: Arc<watch::Sender<bool>>,
}

impl Table {
    /// The audit table. It answers when [`Table::answer`] was called: some queries take minutes.
    pub fn audit() -> Self {
        let mut lines = AUDIT.lines();
        let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
        let row = |line: &str| {
            let cells = columns.iter().zip(line.split(','));
            cells
                .map(|(column, cell)| ((*column).to_owned(), cell.to_owned()))
                .collect()
        };
        Self {
            rows: Arc::new(lines.map(row).collect()),
            ready: Arc::default(),
        }
    }

    /// Lets this query and later ones end.
    pub fn answer(&self) {
        self.ready.send_replace(true);
    }

    /// One column of the rows that pass the filter.
    ///
    /// # Errors
    /// When the filter has a parameter without a value.
    pub async fn query(&self, filter: &Filter, column: &str) -> Result<Vec<String>, FilterError> {
        let mut ready = self.ready.subscribe();
        let _ = ready.wait_for(|ready| *ready).await;
        let mut selected = Vec::new();
        for row in self.rows.iter() {
            if filter.passes(row)? {
                selected.push(row.get(column).cloned().unwrap_or_default());
            }
        }
        Ok(selected)
    }
}

/// Comparisons joined by `and`: `Column ge @parameter and Column ne 'text'`.
#[derive(Clone, Debug)]
pub struct Filter {
    comparisons: Vec<Comparison>,
    parameters: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Comparison {
    column: String,
    operator: String,
    operand: Operand,
}

#[derive(Clone, Debug)]
enum Operand {
    Parameter(String),
    Text(String),
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let comparisons: Result<Vec<_>, _> = text.split(" and ").map(Comparison::parse).collect();
        Ok(Self {
            comparisons: comparisons?,
            parameters: BTreeMap::new(),
        })
    }

    /// Gives a parameter its value.
    #[must_use]
    pub fn bind(mut self, parameter: &str, value: &str) -> Self {
        self.parameters.insert(parameter.to_owned(), value.to_owned());
        self
    }

    fn passes(&self, row: &Row) -> Result<bool, FilterError> {
        for comparison in &self.comparisons {
            let cell = row.get(&comparison.column).map_or("", String::as_str);
            if !comparison.holds(cell, self.value(&comparison.operand)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn value<'a>(&'a self, operand: &'a Operand) -> Result<&'a str, FilterError> {
        match operand {
            Operand::Text(text) => Ok(text),
            Operand::Parameter(name) => {
                let value = self.parameters.get(name).map(String::as_str);
                value.ok_or_else(|| FilterError(format!("parameter @{name} has no value")))
            }
        }
    }
}

impl Comparison {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError(format!("{text:?} is no comparison"));
        let [column, operator, operand] = text.split(' ').collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        let literal = operand
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''));
        let operand = match (operand.strip_prefix('@'), literal) {
            (Some(name), _) => Operand::Parameter(name.to_owned()),
            (_, Some(text)) => Operand::Text(text.to_owned()),
            _ => return Err(wrong()),
        };
        match operator {
            "eq" | "ne" | "ge" | "le" => Ok(Self {
                column: column.into(),
                operator: operator.into(),
                operand,
            }),
            _ => Err(wrong()),
        }
    }

    fn holds(&self, cell: &str, value: &str) -> bool {
        match self.operator.as_str() {
            "eq" => cell == value,
            "ne" => cell != value,
            "ge" => cell >= value,
            _ => cell <= value,
        }
    }
}
