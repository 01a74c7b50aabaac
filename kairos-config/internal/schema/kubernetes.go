package schema

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// DecodeKubernetes reads the block of a Kubernetes distribution.
func DecodeKubernetes(n *tree.Node) (Kubernetes, diag.List) {
	var block Kubernetes
	var problems diag.List
	decode(n, &block, "the block", &problems)
	return block, problems
}
