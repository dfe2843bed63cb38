//! Catch: an activity that answers with what went wrong.
//!
//! Right where a failure is an answer the orchestrator reckons with. Where it is not, let it fail: then
//! it can be retried, and is seen as a failure wherever one looks.

use dalsegno::{OrchestrationContext, Result, activity, orchestrator};
use serde::{Deserialize, Serialize};

/// An answer, good or bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    /// Is it good?
    pub success: bool,
    /// The result, or what went wrong.
    pub value: String,
}

/// Calculates, or says why it did not.
#[orchestrator(name = "Calculate")]
pub async fn calculate(ctx: &OrchestrationContext, input: String) -> Result<String> {
    let answer = ctx.call(phantastic_calculation, input).await?;
    Ok(match answer.success {
        true => format!("the result is {}", answer.value),
        false => format!("there is no result: {}", answer.value),
    })
}

/// Twice the number.
#[activity(name = "PhantasticCalculation")]
pub async fn phantastic_calculation(input: String) -> Answer {
    let doubled = input.parse::<i32>().map(|number| number.saturating_mul(2));
    match doubled {
        Ok(number) => Answer {
            success: true,
            value: number.to_string(),
        },
        Err(error) => Answer {
            success: false,
            value: error.to_string(),
        },
    }
}
