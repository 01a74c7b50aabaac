module github.com/kairos-io/toolkit/tests

go 1.26.0

require (
	github.com/kairos-io/toolkit/lib v0.0.0
	github.com/klauspost/compress v1.20.3
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	golang.org/x/sys v0.49.0
)

replace github.com/kairos-io/toolkit/lib => ../lib
