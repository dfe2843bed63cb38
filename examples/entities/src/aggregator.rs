//! Readings of many devices become statistics, one entity per device.

use dalsegno::{EntityContext, entity};
use serde::{Deserialize, Serialize};

/// A reading above this is told to the alarms.
const ALARM_ABOVE: f64 = 90.0;

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Readings.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The highest.
    pub highest: Option<f64>,
}

/// Collects the readings of one device.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Aggregator(Statistics);

#[entity]
impl Aggregator {
    /// Takes a reading. An entity may signal others; it never waits for them.
    pub fn report(&mut self, ctx: &EntityContext, value: f64) {
        self.0.count += 1;
        self.0.sum += value;
        self.0.highest = Some(self.0.highest.map_or(value, |highest| highest.max(value)));
        if value > ALARM_ABOVE {
            ctx.entity::<Alarms>("all")
                .raise((ctx.key().to_owned(), value))
                .signal();
        }
    }

    /// What is known so far.
    pub fn statistics(&self) -> Statistics {
        self.0.clone()
    }
}

/// Collects what is out of the ordinary, of all devices.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Alarms(Vec<(String, f64)>);

#[entity]
impl Alarms {
    /// Takes note.
    pub fn raise(&mut self, alarm: (String, f64)) {
        self.0.push(alarm);
    }

    /// What there was.
    pub fn list(&self) -> Vec<(String, f64)> {
        self.0.clone()
    }
}
