module github.com/kairos-io/toolkit/kairos-root

go 1.26.0

require (
	github.com/kairos-io/toolkit/lib v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	golang.org/x/text v0.14.0 // indirect
)

replace github.com/kairos-io/toolkit/lib => ../lib
