//! Relative positions as in Transformer-XL (Dai et al. 2019, arXiv 1901.02860, section 3.3 and
//! appendix B). A chunk has fixed numbers of queries and keys, so all of it is constant.

use tch::{Device, Kind, Tensor};

use super::Writer;
use super::streaming::Streaming;

/// Sinusoids of every distance from a query back to a key: (distances, width). The first row is
/// that of the last query and the first key, `keys - 1`; the last that of the first query and the
/// last key, `1 - queries`.
pub(super) fn sinusoids(streaming: Streaming, width: i64) -> Tensor {
    let double = (Kind::Double, Device::Cpu);
    let distances = Tensor::arange_start_step(streaming.keys() - 1, -streaming.chunk, -1, double);
    let rates =
        Tensor::arange_start_step(0, width, 2, double) * (-(10_000_f64.ln()) / width as f64);
    let angles = distances.unsqueeze(1) * rates.exp();
    Tensor::stack(&[angles.sin(), angles.cos()], 2).reshape([-1, width])
}

impl Writer<'_> {
    /// Turns scores by distance, (B, heads, queries, distances), into scores by key, (B, heads,
    /// queries, keys).
    ///
    /// Key `j` of query `i` stands at distance index `queries - 1 - i + j`: in memory every row
    /// starts one element earlier than the row before it. Dropping the first `queries - 1` elements
    /// and reading on in rows that are one shorter lines them up.
    pub(super) fn scores_by_key(&mut self, path: &str, by_distance: &str) -> String {
        let (batch, heads) = (self.streaming.batch, self.config.heads);
        let (queries, keys) = (self.streaming.chunk, self.streaming.keys());
        let (distances, row) = (keys + queries - 1, keys + queries - 2);
        // A single query is at its place already.
        if queries == 1 {
            return by_distance.to_owned();
        }
        let name = |part: &str| format!("{path}.by_distance_{part}");
        let flat = self.graph.reshape(
            &name("flat"),
            by_distance,
            &[batch, heads, queries * distances],
        );
        let start = queries - 1;
        let flat = self.graph.slice(
            &name("shifted"),
            &flat,
            &[(2, start, start + queries * row)],
        );
        let rows = self
            .graph
            .reshape(&name("rows"), &flat, &[batch, heads, queries, row]);
        if row == keys {
            return rows;
        }
        self.graph
            .slice(&format!("{path}.by_position"), &rows, &[(3, 0, keys)])
    }
}
