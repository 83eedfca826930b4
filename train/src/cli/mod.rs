//! The subcommands, a file each.

pub(crate) mod average;
mod device;
pub(crate) mod evaluate;
mod hearing;
mod interrupt;
mod job;
pub(crate) mod plot;
pub(crate) mod prepare;
pub(crate) mod shard;
pub(crate) mod table;
pub(crate) mod tokenizer;
pub(crate) mod train;
