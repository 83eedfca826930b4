//! Finds the nodes of attention in a graph, and writes the one in their place.

use tract_onnx::pb::GraphProto;

use super::{KEYS, OPERATOR, VALUES};
use crate::engine::tract::operators::pattern::{
    Group, Uses, drop_unread, embed, inputs, integer, list, ours, output, range, replace,
};

/// No model has as much of anything.
const MOST: i64 = 1 << 20;

/// Replaces what can be; how many there were.
pub(in crate::engine::tract::operators) fn fuse(graph: &mut GraphProto) -> usize {
    let count = replace(graph, attention);
    drop_unread(graph, "Split");
    embed(graph, OPERATOR);
    count
}

/// The one node for the `Softmax` at that position and all around it.
fn attention(uses: &Uses<'_>, softmax: usize) -> Option<Group> {
    let node = uses.node(softmax);
    if node.op_type != "Softmax" || !matches!(integer(node, "axis"), Some(-1 | 3)) {
        return None;
    }
    let mut gone = vec![softmax];
    // Takes the node along that makes a value, which nobody else reads.
    let mut maker = |value: &str, kind: &str| {
        let position = uses.private_maker(value, kind)?;
        gone.push(position);
        Some(uses.node(position))
    };

    let [by_content, by_position, mask] = inputs(maker(node.input.first()?, "Sum")?)?;
    let [query, transposed] = inputs(maker(by_content, "MatMul")?)?;
    let transpose = maker(transposed, "Transpose")?;
    let [all_keys] = inputs(transpose)?;
    let keys = maker(all_keys, "Concat")?;
    let [past_keys, new_keys] = inputs(keys)?;

    // The places that no query reaches are cut off, where there are any.
    let (rows, cut) = match uses.maker(by_position, "Slice") {
        Some(_) => {
            let cut = maker(by_position, "Slice")?;
            (cut.input.first()?.as_str(), Some(cut))
        }
        None => (by_position, None),
    };
    let rows = maker(rows, "Reshape")?;
    let [shifted, rows_shape] = inputs(rows)?;
    let shifted = maker(shifted, "Slice")?;
    let flat = maker(shifted.input.first()?, "Reshape")?;
    let [by_distance, flat_shape] = inputs(flat)?;
    let [position_query, positions] = inputs(maker(by_distance, "MatMul")?)?;
    let [same_query, difference] = inputs(maker(position_query, "Add")?)?;

    let mixed = uses.reader(output(node)?, "MatMul")?;
    let [map, all_values] = inputs(uses.node(mixed))?;
    let values = maker(all_values, "Concat")?;
    let [past_values, new_values] = inputs(values)?;
    let by_frame = uses.reader(output(uses.node(mixed))?, "Transpose")?;
    let out = uses.reader(output(uses.node(by_frame))?, "Reshape")?;
    let out_shape = uses.node(out).input.get(1)?;
    gone.extend([mixed, by_frame, out]);

    let &[1, heads, width, distances] = uses.float_dims(positions)? else {
        return None;
    };
    let (start, [batch, _, queries, row]) = (
        uses.integers(shifted.input.get(1)?)?,
        uses.integers(rows_shape)?[..].try_into().ok()?,
    );
    // A file may say anything: no sum or product of these overflows.
    let sensible = 0..=MOST;
    if ![batch, heads, width, distances, queries, row]
        .iter()
        .all(|size| sensible.contains(size))
    {
        return None;
    }
    let keys_count = distances - queries + 1;
    let as_exported = Some(map) == output(node)
        && query == same_query
        && list(transpose, "perm") == [0, 1, 3, 2]
        && list(uses.node(by_frame), "perm") == [0, 2, 1, 3]
        && integer(keys, "axis") == Some(2)
        && integer(values, "axis") == Some(2)
        && uses.float_dims(difference)? == [1, heads, 1, width]
        && start == [queries - 1]
        && row == distances - 1
        && uses.integers(flat_shape)? == [batch, heads, queries * distances]
        && uses.integers(rows_shape)? == [batch, heads, queries, row]
        && range(uses, shifted)? == [2, queries - 1, queries - 1 + queries * row]
        && uses.integers(out_shape)? == [batch * queries, heads * width]
        && match cut {
            Some(cut) => range(uses, cut)? == [3, 0, keys_count],
            None => row == keys_count,
        };
    if !as_exported {
        return None;
    }
    let (cache, keys_at) = row_of_cache(uses, past_keys, heads)?;
    let (same_cache, values_at) = row_of_cache(uses, past_values, heads)?;
    if cache != same_cache {
        return None;
    }
    let positions = &uses.floats(positions)?.name;
    let input = [
        query, positions, new_keys, new_values, cache, mask, difference,
    ];
    let node = ours(
        OPERATOR,
        output(uses.node(out))?,
        input.map(str::to_owned).into(),
        &[(KEYS, keys_at), (VALUES, values_at)],
    );
    Some(Group { gone, node })
}

/// The tensor of which a value is a part, and the row of axis 1 at which the part begins.
fn row_of_cache<'a>(uses: &Uses<'a>, part: &str, heads: i64) -> Option<(&'a str, i64)> {
    let split = uses.node(uses.maker(part, "Split")?);
    let [cache, sizes] = inputs(split)?;
    let place = split.output.iter().position(|output| output == part)?;
    let sizes = uses.integers(sizes)?;
    let fits = integer(split, "axis") == Some(1) && sizes.get(place) == Some(&heads);
    fits.then(|| (cache, sizes[..place].iter().sum()))
}
