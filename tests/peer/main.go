// Command peer does with Kairos' own library what kairos-config show --json
// does: it collects the configs in directories and merges them. It is a module
// of its own because nothing else shall depend on that library.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kairos-io/kairos-sdk/collector"
)

func main() {
	config, err := collector.Scan(&collector.Options{ScanDir: os.Args[1:], NoLogs: true}, func(d []byte) ([]byte, error) { return d, nil })
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
