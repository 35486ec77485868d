# syntax=docker/dockerfile:1

# The compiler runs on the machine's own platform and cross-compiles, so that no emulation is needed.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
COPY pkg pkg
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags="-s -w" -o /out/ ./cmd/manager ./cmd/agent

# Manager and agent share an image, so that a worker gets the agent of the operator that made it.
FROM scratch
COPY --from=build /out/manager /out/agent /
USER 65532:65532
ENTRYPOINT ["/manager"]
