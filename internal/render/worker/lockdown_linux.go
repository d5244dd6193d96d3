package worker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/belaydev/belay/internal/render/wire"
)

// Lockdown takes every right from this process that rendering does not need,
// for good, and describes what it achieved. Standard input, output and error
// stay open. What the kernel does not offer is named in the description; what it
// offers and refuses is an error.
func Lockdown(limits wire.Limits) (string, error) {
	runtime.GOMAXPROCS(2) // one renders, one collects garbage
	if err := common(limits); err != nil {
		return "", err
	}
	closeInherited()
	if err := limit(limits); err != nil {
		return "", err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return "", fmt.Errorf("make the process undumpable: %w", err)
	}
	var in []string
	abi, err := llsys.LandlockGetABIVersion()
	switch {
	case err != nil || abi < 1:
		in = append(in, "no Landlock (this kernel lacks it)")
	default:
		if err := landlock.V11.BestEffort().Restrict(); err != nil {
			return "", fmt.Errorf("landlock: %w", err)
		}
		in = append(in, fmt.Sprintf("Landlock ABI %d (no files, no TCP)", abi))
		if abi < 4 {
			in[len(in)-1] = fmt.Sprintf("Landlock ABI %d (no files)", abi)
		}
	}
	switch err := filterSyscalls(); {
	case errors.Is(err, errNoSeccomp):
		in = append(in, "no seccomp (this kernel or architecture lacks it)")
	case err != nil:
		return "", fmt.Errorf("seccomp: %w", err)
	default:
		in = append(in, "seccomp allowlist (no files, no sockets, no processes)")
	}
	in = append(in, "no environment", fmt.Sprintf("%d MiB of memory", limits.Memory>>20), fmt.Sprintf("%s per render", limits.Deadline))
	return strings.Join(in, ", "), nil
}

// closeInherited closes what an ancestor left open: everything this program
// opened itself is marked close-on-exec.
func closeInherited() {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // no /proc; the filter still allows nothing but reading and writing
	}
	for _, e := range dir {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd) // whatever it says, the descriptor is gone
		}
	}
}

func limit(limits wire.Limits) error {
	set := func(what string, resource int, n uint64) error {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("limit %s: %w", what, err)
		}
		return nil
	}
	if err := set("core files", unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	if err := set("file sizes", unix.RLIMIT_FSIZE, 0); err != nil {
		return err
	}
	if err := set("open files", unix.RLIMIT_NOFILE, 32); err != nil {
		return err
	}
	if raceEnabled {
		return nil // the detector maps far more than it uses
	}
	// The watch on memory looks every few milliseconds; this stops one huge
	// allocation between two looks. It counts address space, and the runtime ends
	// less cleanly here than there, hence the slack.
	return set("memory", unix.RLIMIT_DATA, uint64(2*limits.Memory+256<<20))
}

var errNoSeccomp = errors.New("not supported")

// syscalls are what the Go runtime needs once a program runs, and reading and
// writing what is open. Everything else fails with EPERM.
var syscalls = []string{
	"read", "readv", "pread64", "write", "writev", "close", "fstat", "lseek",
	"brk", "munmap", "mremap", "madvise", "mincore",
	"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday", "sched_yield", "sched_getaffinity",
	"getpid", "gettid", "getrandom", "getrusage", "restart_syscall", "uname",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "timer_create", "timer_settime", "timer_delete", "setitimer",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "pipe2", "fcntl", "poll", "ppoll",
	"set_robust_list", "set_tid_address", "rseq", "membarrier", "arch_prctl", "exit", "exit_group",
}

// filterSyscalls installs the filter on every thread.
func filterSyscalls() error {
	info, err := arch.GetInfo("")
	if err != nil || !seccomp.Supported() {
		return errNoSeccomp
	}
	allow := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	for _, name := range syscalls {
		if _, ok := info.SyscallNames[name]; ok {
			allow.Names = append(allow.Names, name)
		}
	}
	arg := func(n uint32, op seccomp.Operation, v uint64) seccomp.ArgumentConditions {
		return seccomp.ArgumentConditions{{Argument: n, Operation: op, Value: v}}
	}
	allow.NamesWithCondtions = []seccomp.NameWithConditions{
		// Threads, but no processes and no namespaces.
		{Name: "clone", Conditions: append(arg(0, seccomp.BitsSet, unix.CLONE_THREAD), arg(0, seccomp.BitsNotSet, unix.CLONE_NEWUSER)...)},
		// Memory, but no code in it.
		{Name: "mmap", Conditions: arg(2, seccomp.BitsNotSet, unix.PROT_EXEC)},
		{Name: "mprotect", Conditions: arg(2, seccomp.BitsNotSet, unix.PROT_EXEC)},
		// The runtime interrupts its own threads.
		{Name: "tgkill", Conditions: arg(0, seccomp.Equal, uint64(os.Getpid()))},
		// The runtime names its memory.
		{Name: "prctl", Conditions: arg(0, seccomp.Equal, unix.PR_SET_VMA)},
	}
	// A C library starts threads with clone3 and falls back to clone only at ENOSYS.
	const retErrno, retData = 0xffff0000, 0x0000ffff
	enosys := seccomp.SyscallGroup{Names: []string{"clone3"},
		Action: seccomp.Action(uint32(seccomp.ActionErrno)&retErrno | uint32(unix.ENOSYS)&retData)}
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy:     seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{allow, enosys}},
	})
}
