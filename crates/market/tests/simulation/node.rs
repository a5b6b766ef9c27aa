//! What both programs have in common: they die at any point, and what is on disk is all that is left of them.

use crate::world::Shared;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// The program has died.
#[derive(Debug)]
pub(crate) struct Crashed;

/// Burns down at every point where a program may die: before a write, after it, between two effects.
#[derive(Default)]
pub(crate) struct Fuse {
    left: Option<u32>,
    /// How long the program then stays away, in milliseconds.
    down: u64,
}

impl Fuse {
    /// Dies at the `points`th point from now.
    pub(crate) const fn light(&mut self, points: u32, down: u64) {
        *self = Self { left: Some(points), down };
    }

    pub(crate) const fn put_out(&mut self) {
        self.left = None;
    }

    /// How long the program stays away.
    pub(crate) const fn down(&self) -> u64 {
        self.down
    }

    /// One point of the program.
    pub(crate) const fn point(&mut self) -> Result<(), Crashed> {
        match self.left {
            Some(0) => {
                self.left = None;
                Err(Crashed)
            }
            Some(left) => {
                self.left = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What is read back from disk after a crash is what was written.
pub(crate) fn reread<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone>(s: &mut Shared, kept: &T) -> T {
    let text = serde_json::to_string(kept).expect("a machine can be written");
    match serde_json::from_str::<T>(&text) {
        Ok(read) if read == *kept => read,
        other => {
            s.fail(format!("what was written is not what is read: {other:?}"));
            kept.clone()
        }
    }
}
