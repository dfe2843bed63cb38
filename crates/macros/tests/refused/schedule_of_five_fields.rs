use dalsegno::{Result, timer_trigger};

#[timer_trigger("0 7 * * *")]
async fn every_morning() -> Result<()> {
    Ok(())
}

fn main() {}
