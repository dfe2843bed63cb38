use dalsegno::activity;

#[activity(timeuot = dalsegno::MINUTE)]
async fn nothing() {}

fn main() {}
