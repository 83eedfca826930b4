//! Recipes: what is trained, on what, and how, as TOML.
//!
//! A recipe is a list of stages, each a set of loss weights; every method is data, not code:
//!
//! ```toml
//! [[stage]]
//! name = "sam"
//! steps = 20000
//! loss = { sam = 1.0 }
//!
//! [[stage]]
//! name = "guided"
//! steps = 60000
//! loss = { ctc = 1.0, guided = 1.0 }
//! ```
//!
//! `extends = "base.toml"` takes another file's values first; its tables are merged key by key,
//! everything else is replaced. The other file is looked for beside the one that names it; all other
//! paths are relative to the folder that training is started in. [`read`] puts a recipe together and
//! checks it, so that nothing is left to be found wrong after hours of training.

mod error;
mod model;
mod optimiser;
mod read;
mod recipe;
mod stage;

pub use error::RecipeError;
pub use model::{ModelRecipe, Network};
pub use optimiser::{Decay, Method, Optimiser};
pub use read::read;
pub use recipe::{
    Checkpoints, Chunk, Contexts, DataRecipe, Evaluation, FRAME_MS, Metrics, Precision, Recipe,
    TeacherRecipe,
};
pub use stage::{LossWeights, Stage};
