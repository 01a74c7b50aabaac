package confine

import "golang.org/x/sys/unix"

const (
	architecture = unix.AUDIT_ARCH_AARCH64
	otherABI     = 0xffff_ffff // there is none
)

var forbiddenHere []uint32
