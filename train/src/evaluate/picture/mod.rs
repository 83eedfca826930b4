//! Pictures of training, as PNG: learning curves of runs ([`Run`], [`curves`]) and the attention maps
//! of teacher and student side by side ([`AttentionMaps`]).

mod attention;
mod axis;
mod canvas;
mod curves;

pub use attention::AttentionMaps;
pub use canvas::{Picture, PictureError};
pub use curves::{Run, curves};
