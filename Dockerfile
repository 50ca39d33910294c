# syntax=docker/dockerfile:1
# One static binary and nothing else: glibc is linked in, so no musl and no libc in the image.

FROM rust:1.95-bookworm AS build
ARG TARGETARCH=amd64
WORKDIR /build
RUN case "$TARGETARCH" in \
        amd64) echo x86_64-unknown-linux-gnu ;; \
        arm64) echo aarch64-unknown-linux-gnu ;; \
        *) echo "no target for $TARGETARCH" >&2; exit 1 ;; \
    esac > target-triple \
    && rustup target add "$(cat target-triple)"
# Any user can keep its data there: OpenShift chooses one, of group 0.
RUN install -d -m 1777 root/data
# Relocations are packed: a linker that does not know how says so and goes on.
ENV RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"

# The dependencies alone: this layer is built again only when Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
# Cargo wants a file for every bench that Cargo.toml names, so they are stubs too. So is the build script: without one
# its dependencies are not built.
RUN mkdir src benches && touch src/lib.rs && echo 'fn main() {}' > src/main.rs && cp src/main.rs build.rs \
    && sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' Cargo.toml > bench-names \
    && while read -r bench; do echo 'fn main() {}' > "benches/$bench.rs"; done < bench-names \
    && cargo build --locked --release --bin tidings --target "$(cat target-triple)" \
    && rm -r src

# The page as it was built: no Node is needed.
COPY ui/dist ui/dist
COPY build.rs build.rs
COPY src src
# cargo goes by the time of a file, and a copied one may be older than the stub that was built.
RUN touch build.rs src/lib.rs src/main.rs \
    && cargo build --locked --release --bin tidings --target "$(cat target-triple)" \
    && cp "target/$(cat target-triple)/release/tidings" tidings \
    && ./tidings --version

FROM scratch
LABEL org.opencontainers.image.title="tidings" \
      org.opencontainers.image.description="Tells your systems when asynchronous jobs finish" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /build/tidings /tidings
COPY --from=build /build/root/ /
# What a burst of registrations needed goes back to the system.
ENV MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/tidings", "healthcheck"]
ENTRYPOINT ["/tidings"]
CMD ["run"]
