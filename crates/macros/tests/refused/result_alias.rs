use dalsegno::activity;

mod mine {
    pub type Result = std::result::Result<u32, std::fmt::Error>;
}

#[activity]
async fn counts() -> mine::Result {
    Ok(1)
}

fn main() {}
