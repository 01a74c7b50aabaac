module github.com/kairos-io/toolkit/kairos-crypt

go 1.26.0

replace github.com/kairos-io/toolkit/lib => ../lib

require github.com/google/go-tpm v0.9.8

require golang.org/x/sys v0.8.0 // indirect
