package confine

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are the calls that fail with EPERM: those of mounting and
// namespaces, of other processes, and of a kernel that is made to run
// something. What the runtime and its libraries need changes with their
// versions, so that this is no list of what is allowed.
var forbidden = append([]uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_PERSONALITY, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
}, forbiddenHere...)

// namespaces are the flags of clone(2) that make one. clone3(2) hides its flags
// from the filter: it is not there (ENOSYS), and libraries fall back to clone.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Offsets in struct seccomp_data: seccomp(2).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg0   = 16 // its lower half, in little endian
)

// filter is the program in the form of bpf(4), and what keeps it in memory.
func filter() (*unix.SockFprog, []unix.SockFilter) {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	refuse := func(errno uint32) unix.SockFilter {
		return unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ERRNO | errno}
	}
	program := []unix.SockFilter{
		{Code: load, K: offsetArch},
		{Code: equal, Jt: 1, K: architecture}, // a program of another one has other numbers
		{Code: end, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: offsetNumber},
		{Code: least, Jf: 1, K: otherABI},
		refuse(uint32(unix.EPERM)),
		// Only the Internet: by a socket in the file system, root asks the service
		// manager or the bus for anything.
		{Code: equal, Jf: 5, K: unix.SYS_SOCKET},
		{Code: load, K: offsetArg0},
		{Code: equal, Jt: 2, K: unix.AF_INET},
		{Code: equal, Jt: 1, K: unix.AF_INET6},
		refuse(uint32(unix.EAFNOSUPPORT)),
		{Code: load, K: offsetNumber},
		{Code: equal, Jf: 1, K: unix.SYS_CLONE3},
		refuse(uint32(unix.ENOSYS)),
	}
	calls := slices.Clone(forbidden)
	slices.Sort(calls)
	for _, call := range slices.Compact(calls) {
		program = append(program, unix.SockFilter{Code: equal, Jf: 1, K: call}, refuse(uint32(unix.EPERM)))
	}
	program = append(program,
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_CLONE},
		unix.SockFilter{Code: load, K: offsetArg0},
		unix.SockFilter{Code: bits, Jf: 1, K: namespaces},
		refuse(uint32(unix.EPERM)),
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
	)
	return &unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)}, program
}
