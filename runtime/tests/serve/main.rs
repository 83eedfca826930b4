//! `sori serve` as its clients meet it: programs, a browser, and those who mean no good.

#![cfg(feature = "serve")]
#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod batched;
mod browser;
mod churn;
mod client;
mod faults;
mod protocols;
mod shutdown;
