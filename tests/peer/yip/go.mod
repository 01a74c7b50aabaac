// Stands in for yip, which the collector's module requires and the collector
// doesn't use.
module github.com/mudler/yip

go 1.26.0
