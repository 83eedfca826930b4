//! Clients of a package with a graph for several streams at once.

use std::time::Instant;

use sori_tests::tone::ToneModel;

use super::client::{PATIENCE, Server};

#[test]
fn clients_that_are_computed_together_get_their_own_words() {
    const CLIENTS: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    ToneModel::default()
        .write_batched_package(directory.path(), 3)
        .unwrap();
    let server = Server::of(directory.path(), &["--precision", "fp32", "--workers", "1"]);
    assert_eq!(server.metric("sori_batched_steps_total"), 0.0);
    let started = Instant::now();
    while server.metric("sori_batched_steps_total") < 2.0 {
        assert!(started.elapsed() < PATIENCE, "never together");
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| server.assert_well());
            }
        });
    }
    assert_eq!(server.open_streams(0), 0);
}
