use dalsegno::entity;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

#[entity]
impl Counter {
    fn take(self) -> u64 {
        self.0
    }
}

fn main() {}
