//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// On says whether moments are compiled in: guard by it what it costs to name
// one.
const On = true

var state = struct {
	sync.Mutex
	name   string
	left   int
	log    *os.File
	passed map[string]bool
}{passed: map[string]bool{}}

func init() {
	name, n, found := strings.Cut(os.Getenv("LABGATE_FAILPOINT"), "#")
	state.name, state.left = name, 1
	if found {
		k, err := strconv.Atoi(n)
		if err != nil || k < 1 {
			fmt.Fprintf(os.Stderr, "LABGATE_FAILPOINT: %q is not a count\n", n)
			os.Exit(2)
		}
		state.left = k
	}
	if path := os.Getenv("LABGATE_FAILPOINT_LOG"); path != "" {
		var err error
		if state.log, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "LABGATE_FAILPOINT_LOG:", err)
			os.Exit(2)
		}
	}
}

// Here marks a moment.
func Here(name string) {
	state.Lock()
	defer state.Unlock()
	if state.log != nil && !state.passed[name] {
		state.passed[name] = true
		fmt.Fprintln(state.log, name)
	}
	if name != state.name {
		return
	}
	if state.left--; state.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // there is nobody left to tell
		select {}
	}
}
