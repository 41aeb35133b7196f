# syntax=docker/dockerfile:1
# The relay's image: one static program on nothing. `docker build .` makes it for this machine,
# `docker buildx build --platform linux/amd64,linux/arm64 .` for both.

# Compiles on the machine that builds, for the one that the image is for.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95.0-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
# The C compiler is needed too: the allocator and the cryptography are C.
RUN <<EOF
  set -eu
  case "$TARGETARCH" in
    amd64) rust=x86_64-unknown-linux-gnu gcc=x86-64-linux-gnu ;;
    arm64) rust=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu ;;
    *) echo "no image is made for $TARGETARCH" >&2; exit 1 ;;
  esac
  cc=gcc
  if [ "$BUILDARCH" != "$TARGETARCH" ]; then
    apt-get update
    apt-get install --yes --no-install-recommends "gcc-$gcc" "libc6-dev-$TARGETARCH-cross"
    cc=$(echo "$rust" | sed s/-unknown//)-gcc
  fi
  rustup target add "$rust"
  name=$(echo "$rust" | tr - _)
  {
    echo "export CARGO_BUILD_TARGET=$rust CC_$name=$cc"
    echo "export CARGO_TARGET_$(echo "$name" | tr a-z A-Z)_LINKER=$cc"
  } >/target
EOF
WORKDIR /src
COPY . .
# With glibc linked in: the image has no libraries.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=handoff-$TARGETARCH,sharing=locked <<EOF
  set -eu
  . /target
  cargo rustc --release --locked --package handoff-relay --bin handoff-relay -- \
    -C target-feature=+crt-static -C strip=symbols
  mkdir /out
  cp "target/$CARGO_BUILD_TARGET/release/handoff-relay" /out/
  cp /etc/ssl/certs/ca-certificates.crt /out/
EOF

# What the image has of its own: the program, and the certificate authorities that it trusts.
FROM scratch AS files
COPY --from=build /out/ /

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="handoff-relay" \
      org.opencontainers.image.description="The relay through which AI agents talk to each other" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=files /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=files /handoff-relay /usr/local/bin/handoff-relay
# Nobody's: it needs no name, no home and no file that it could write.
USER 65532:65532
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/handoff-relay", "health"]
ENTRYPOINT ["/usr/local/bin/handoff-relay"]
CMD ["serve"]
