//! Operators of our own in place of groups of the file's nodes.
//!
//! A node costs tract about two microseconds whatever it does, and its general products and moves cost more than a chunk's
//! few frames need. Each module has `fuse`, which finds what `sori-export` writes in a parsed file and writes an operator
//! there, and `register`, which teaches tract to run it. What is not found, in somebody else's file, is tract's as ever.

mod attention;
mod depthwise;
mod layer_norm;
#[cfg(target_arch = "x86_64")]
mod linear;
mod operator;
mod pattern;
#[cfg(target_arch = "x86_64")]
mod processor;
#[cfg(target_arch = "x86_64")]
mod quantised;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod sketch;
mod slide;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use tract_onnx::Onnx;
use tract_onnx::pb::GraphProto;

/// Whether this processor has the products by bytes that make int8 the faster precision.
pub(in crate::engine) fn is_fast_on_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return processor::Avx2::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this processor does our products as fast as it can anything: with AVX-512 or VNNI, ONNX Runtime has instructions
/// that they lack.
pub(in crate::engine) fn is_faster_than_ort() -> bool {
    #[cfg(target_arch = "x86_64")]
    return processor::Fma::detect().is_some() && !processor::is_wider_than_avx2();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Writes operators of ours into a graph, where this processor has them, and teaches tract to run them.
pub(super) fn fuse(graph: &mut GraphProto, onnx: &mut Onnx) {
    // What a graph within it reads of this one is not looked for.
    let mut attributes = graph.node.iter().flat_map(|node| &node.attribute);
    if attributes.any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
        return;
    }
    let took = |what: &str, count: usize| {
        tracing::debug!("tract: {count} {what} are computed by Sori's own operator");
    };
    took("attentions", attention::fuse(graph));
    attention::register(&mut onnx.op_register);
    took("convolutions", depthwise::fuse(graph));
    depthwise::register(&mut onnx.op_register);
    took("caches", slide::fuse(graph));
    slide::register(&mut onnx.op_register);
    took("layer norms", layer_norm::fuse(graph));
    layer_norm::register(&mut onnx.op_register);
    #[cfg(target_arch = "x86_64")]
    if processor::Avx2::detect().is_some() {
        took("products of bytes", quantised::fuse(graph));
        quantised::register(&mut onnx.op_register);
    }
    #[cfg(target_arch = "x86_64")]
    if processor::Fma::detect().is_some() {
        took("products", linear::fuse(graph));
        linear::register(&mut onnx.op_register);
    }
}
