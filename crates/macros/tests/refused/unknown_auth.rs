use dalsegno::{Result, http_trigger};

#[http_trigger(auth = everybody)]
async fn start() -> Result<()> {
    Ok(())
}

fn main() {}
