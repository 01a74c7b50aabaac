// Command stages is yip, which applies the stages of Kairos' configs, as its own
// project builds it. It is a module of its own because nothing else shall depend
// on it.
package main

import "github.com/mudler/yip/cmd"

func main() { cmd.Execute() }
