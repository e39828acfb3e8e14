# The commands that a change needs. Each is one line of cargo or a script, so that they can be typed without just.

# Lists the commands.
default:
    @just --list

# Compiles everything without building it.
check:
    cargo check --locked --workspace --all-targets

# The tests that need no root and no virtual machine; ARGS go to cargo test.
test *ARGS:
    cargo test --locked --workspace {{ARGS}}

# Form and lints.
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# The documentation of the libraries, without a warning.
docs:
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --exclude gmfs-cli --no-deps
    RUSTDOCFLAGS='-D warnings' cargo doc --locked -p gmfs-cli --no-deps

# Runs each fuzz target for so many seconds.
fuzz SECONDS="10" *TARGETS:
    scripts/fuzz.sh {{SECONDS}} {{TARGETS}}

# Measures what docs/PERFORMANCE.md shows.
bench:
    scripts/bench.sh

# Builds the .deb and the .rpm.
package:
    scripts/package.sh

# What CI runs, which installs packages as root; `just all full` adds what takes many hours.
all *ARGS:
    scripts/test.sh {{ARGS}}
