//! Every sequence of choices of a small case, one after the other.
//!
//! A run asks [`ChoiceTree::choose`] wherever several things may happen next; the next run takes
//! the same way up to the last choice that has an alternative left. Knows nothing about what is
//! chosen.

/// A walk through all sequences, depth first.
#[derive(Clone, Debug)]
pub struct ChoiceTree {
    /// What the current run chose, and among how many.
    path: Vec<(usize, usize)>,
    /// How far the current run is.
    position: usize,
    depth_max: usize,
}

impl ChoiceTree {
    /// A tree whose runs differ in their first `depth_max` choices; beyond it the first is taken.
    pub fn new(depth_max: usize) -> Self {
        Self {
            path: Vec::new(),
            position: 0,
            depth_max,
        }
    }

    /// One among `count`, which is at least 1.
    pub fn choose(&mut self, count: usize) -> usize {
        if count <= 1 || self.position >= self.depth_max {
            return 0;
        }
        if self.position == self.path.len() {
            self.path.push((0, count));
        }
        let (chosen, counted) = self.path[self.position];
        assert_eq!(counted, count, "the same choices lead to the same place");
        self.position += 1;
        chosen
    }

    /// Turns to the next sequence; `false` when all were taken.
    pub fn next_run(&mut self) -> bool {
        self.position = 0;
        while let Some((chosen, count)) = self.path.pop() {
            if chosen + 1 < count {
                self.path.push((chosen + 1, count));
                return true;
            }
        }
        false
    }

    /// The choices of the current run.
    pub fn path(&self) -> Vec<usize> {
        self.path.iter().map(|(chosen, _)| *chosen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_taken_once() {
        let mut tree = ChoiceTree::new(10);
        let mut seen = Vec::new();
        loop {
            let first = tree.choose(2);
            // The second choice is there on one way only.
            let second = (first == 1).then(|| tree.choose(3));
            seen.push((first, second));
            if !tree.next_run() {
                break;
            }
        }
        let expected = vec![(0, None), (1, Some(0)), (1, Some(1)), (1, Some(2))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn beyond_the_depth_the_first_is_taken() {
        let mut tree = ChoiceTree::new(1);
        assert_eq!((tree.choose(2), tree.choose(2)), (0, 0));
        assert!(tree.next_run());
        assert_eq!((tree.choose(2), tree.choose(2)), (1, 0));
        assert!(!tree.next_run());
    }
}
