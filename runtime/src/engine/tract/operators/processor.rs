//! What this processor can do.

/// Proof that this processor has AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

/// Proof that this processor has AVX2, multiplies and adds in one, and reads floats of half the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fma(());

impl Fma {
    pub(super) fn detect() -> Option<Self> {
        let found = Avx2::detect().is_some()
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

/// Whether this processor has instructions for products beyond AVX2's.
pub(super) fn is_wider_than_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") || std::arch::is_x86_feature_detected!("avxvnni")
}
