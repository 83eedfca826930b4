//! One operator in place of the six in which ONNX writes a product by an 8-bit matrix.
//!
//! tract spells them out, each with all that the general case needs: the file's 774 nodes cost more than
//! the products themselves. [`fuse`] finds
//!
//! ```text
//! x ─ DynamicQuantizeLinear ─┬─ MatMulInteger(weights) ─ Cast ─ Mul ─ (Add bias)
//!                            └─ Mul(weights' scales) ────────────┘
//! ```
//!
//! and writes a `QuantisedLinear` there, which [`register`] teaches tract. The result is the same to the bit.

mod fusion;
mod kernel;
mod operator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub(super) use fusion::fuse;
pub(super) use operator::register;

const OPERATOR: &str = "QuantisedLinear";
