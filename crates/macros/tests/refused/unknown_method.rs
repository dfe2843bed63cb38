use dalsegno::{Result, http_trigger};

#[http_trigger(route = "orders", methods = ["post"])]
async fn start() -> Result<()> {
    Ok(())
}

fn main() {}
