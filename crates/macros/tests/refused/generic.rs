use dalsegno::activity;

#[activity]
async fn echo<T: Clone>(value: T) -> T {
    value
}

fn main() {}
