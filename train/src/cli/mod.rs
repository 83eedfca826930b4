//! The subcommands, a file each.

mod device;
pub(crate) mod evaluate;
mod hearing;
mod interrupt;
pub(crate) mod plot;
pub(crate) mod prepare;
pub(crate) mod table;
pub(crate) mod tokenizer;
pub(crate) mod train;
