//go:build unix

package opcua

import "syscall"

// shutdown makes a later close discard unsent bytes, and ends both directions.
func shutdown(fd uintptr) {
	_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	_ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR)
}
