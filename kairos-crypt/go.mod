module github.com/kairos-io/toolkit/kairos-crypt

go 1.26.0

replace github.com/kairos-io/toolkit/lib => ../lib

require (
	github.com/google/go-tpm v0.9.8
	golang.org/x/sys v0.49.0
	rsc.io/qr v0.2.0
)
