//go:build !linux

package engine

import "syscall"

func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as}
}

// YieldProcessor does nothing: elsewhere a priority is of a whole process.
func YieldProcessor() {}

func memoryBacked(string) (bool, error) { return false, nil }
