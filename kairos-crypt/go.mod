module github.com/kairos-io/toolkit/kairos-crypt

go 1.26.0

replace github.com/kairos-io/toolkit/lib => ../lib
