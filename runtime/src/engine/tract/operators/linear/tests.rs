//! Against the definition.

use super::kernel::Weights;
use super::*;
use crate::engine::tract::operators::sketch::noise;

#[test]
fn products_are_those_of_the_definition() {
    let Some(fma) = Fma::detect() else {
        println!("skipped: this processor has no FMA");
        return;
    };
    // Rows, inputs and outputs that fill tiles, and that do not.
    for (rows, inner, outer) in [(8, 160, 592), (4, 24, 24), (1, 1, 1), (7, 3, 49), (0, 5, 5)] {
        let (x, matrix, bias) = (
            noise(rows * inner, 1),
            noise(inner * outer, 2),
            noise(outer, 3),
        );
        let mut out = vec![f32::NAN; rows * outer];
        Weights::new(&matrix, outer).product(fma, &x, &bias, &mut out);
        for (place, found) in out.iter().enumerate() {
            let (row, column) = (place / outer, place % outer);
            let products = (0..inner)
                .map(|k| f64::from(x[row * inner + k]) * f64::from(matrix[k * outer + column]));
            let expected = products.sum::<f64>() + f64::from(bias[column]);
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{rows} {inner} {outer}: {found} {expected}"
            );
        }
    }
}
