use dalsegno::{Result, orchestrator};

#[orchestrator]
async fn without(number: u32) -> Result<u32> {
    Ok(number)
}

fn main() {}
