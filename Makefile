# The commands a person types. `make demo` and `make test` do their own set-up.

SORI_CACHE ?= $(HOME)/.cache/sori
export SORI_CACHE
# CI starts from a clean clone each time: what is compiled outlives it.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(SORI_CACHE)/target
endif
# Cargo's settings may name another folder, too; the scripts hear of it by this.
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(or $(shell cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'),target)
endif

.PHONY: demo test test-distributed test-arm64 test-armv7 soak fuzz lint bench capi deb android arm64 armv7 student student-smoke train-demo

# One engine is enough to begin with: to compile tract takes longer than all the rest.
demo: ## transcribe a sample on this machine
	scripts/setup runtime
	cargo build --release -p sori --no-default-features --features ort,microphone,serve,tui
	ln -sf "$(SORI_CACHE)"/venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* "$(BUILD)/release/libonnxruntime.so"
	@echo
	"$(SORI)" -v transcribe tests/data/jfk.wav
	"$(SORI)" transcribe --format vtt tests/data/jfk.wav
	@echo
	@echo "What was said: and so my fellow americans ask not what your country can do for you ask what you can do for your country"
	@echo "Into the microphone: $(SORI) listen"
	@echo "This sori has one engine, ONNX Runtime; with tract, too: cargo build --release -p sori"

test: ## run every test
	scripts/setup all
	cargo test --workspace
	bench/check

test-distributed: ## training in several processes; part of `make test`
	scripts/setup all
	cargo test --workspace --test distributed

HOURS ?= 10

soak: ## hours of audio through both engines: memory, results and times stay as they were; HOURS=10
	scripts/setup all
	SORI_SOAK_HOURS=$(HOURS) cargo test --workspace --test soak -- --nocapture

FUZZ_TARGETS = arpa audio c_abi checkpoint grammar lm manifest nemo nemo_config nemo_index package phrases \
  sentencepiece stream subtitles
FUZZ_SECONDS ?= 600

fuzz: ## every fuzz target in turn; needs a nightly Rust and `cargo install cargo-fuzz`; FUZZ_SECONDS=600
	scripts/setup all
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p "$(SORI_CACHE)/fuzz/$$target"; \
	  cargo +nightly fuzz run -s none --target-dir "$(BUILD)/fuzz" $$target "$(SORI_CACHE)/fuzz/$$target" fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=25 -print_final_stats=1 || exit 1; \
	done

lint: ## what CI checks besides the tests
	scripts/setup all
	scripts/check-syntax
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p sori --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	scripts/check-licences

bench: ## Sori against sherpa-onnx on this machine: writes BENCH.md; BENCH="--rounds 1" for a short look
	scripts/setup all
	bench/run $(BENCH)

BUILD = $(CARGO_TARGET_DIR)
SORI = $(BUILD)/release/sori
PREFIX ?= target/capi

capi: ## the C library: header, shared and static library in PREFIX
	cargo rustc --release -p sori-capi --crate-type cdylib,staticlib
	capi/install "$(BUILD)/release" "$(PREFIX)"

deb: ## a Debian package of the command, in target/debian
	scripts/setup runtime
	scripts/deb

android: ## the Android library, target/android/sori.aar; needs an NDK
	android/build

arm64 armv7: ## the command for boards with ARM Linux, 64-bit and 32-bit
	scripts/arm $@

student: ## the English student, from data to package: SHARED=DIR; days on two cores, resumable
	scripts/setup all
	recipes/en-5m/run "$(SHARED)"

student-smoke: ## the same way with little data, in minutes: SHARED=DIR
	scripts/setup all
	recipes/en-5m/run --smoke "$(SHARED)"

test-arm64: ## the command for ARM says what this machine's says, under emulation
	scripts/setup all
	cargo test --workspace --test arm -- --ignored --nocapture on_64_bit

test-armv7: ## the same for 32-bit ARM; needs a Rust with its standard library
	scripts/setup all
	cargo test --workspace --test arm -- --ignored --nocapture on_32_bit

TRAIN_DEMO = target/train-demo

train-demo: ## train and distil a small model on synthetic speech, within minutes
	scripts/setup all
	cargo build --release -p sori-train
	rm -rf $(TRAIN_DEMO)
	SORI_TRAIN="$(BUILD)/release/sori-train" recipes/demo/run $(TRAIN_DEMO)
